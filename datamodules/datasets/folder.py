"""A folder of raw videos, read as records: labels, methods, people, splits."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.naming import people_of
from datamodules.datasets.records import (
    VIDEO_SUFFIXES,
    SourceFolder,
    SourceVideo,
    as_folder_name,
    footage_name,
    source_folder,
)
from datamodules.errors import DataError
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datamodules.storage.root import DataRoot

_LABELS = {"real": 0, "0": 0, "fake": 1, "1": 1}
_LAYOUT = "genuine videos go into real/, forged ones into fake/<method>/"


def read_folder(
    root: DataRoot,
    name: str | None = None,
    manifest: Path | None = None,
    split_file: Path | None = None,
) -> SourceFolder:
    """Read a folder of raw videos.

    Args:
        root: Holds `real/**` and `fake/<method>/**`, and perhaps a `manifest.csv`.
        name: Of the data set; that of the folder unless given.
        manifest: CSV with the columns path, label and, as far as known, method,
            identity_group, split and paired_real; `root/manifest.csv` unless given, if there
            is one. Other columns are ignored.
        split_file: CSV with the columns path and split, for every video; goes before all others.

    Returns:
        The records and what to say about them.

    Raises:
        DataError: If there is no video in it, or a CSV is not as described.
    """
    notes: list[str] = []
    if manifest is None and root.size("manifest.csv") >= 0:
        manifest = root.local("manifest.csv")
    videos = _from_folder(root) if manifest is None else _from_csv(manifest)
    if manifest is not None:
        notes += _unlisted(root, manifest, videos)
    if split_file is not None:
        videos = _with_splits(videos, split_file)
    return source_folder(root, name or PurePosixPath(str(root)).name, videos, notes)


def _from_folder(root: DataRoot) -> list[SourceVideo]:
    """Read `real/**` and `fake/<method>/**`."""
    paths = [path for kind in ("real", "fake") for path in _videos_below(root, kind)]
    if not any(path.parts[0] == "real" for path in paths):
        raise DataError(
            f"{root} holds no video ({' '.join(VIDEO_SUFFIXES)}) in a folder real/, and no "
            f"manifest.csv; {_LAYOUT}"
        )
    real_of = {footage_name(path): str(path) for path in paths if path.parts[0] == "real"}
    return [
        SourceVideo(
            path=path,
            label=int(path.parts[0] == "fake"),
            method=_method_of(path),
            paired_real=_footage(path, real_of) if path.parts[0] == "fake" else "",
        )
        for path in paths
    ]


def _from_csv(manifest: Path) -> list[SourceVideo]:
    """Read a manifest.csv."""
    videos = []
    for where, row in _read_csv(manifest, ("path", "label")):
        label = _LABELS.get(row["label"].lower())
        if label is None:
            raise DataError(f"{where}: label {row['label']!r} is neither real nor fake")
        path = _inside(row["path"], where)
        method = row.get("method", "")
        if label == 1 and method in ("", "none"):
            method = _method_of(path) or "unknown"
        group = row.get("identity_group") or row.get("identity")
        videos.append(
            SourceVideo(
                path=path,
                label=label,
                method=as_folder_name(method, f"{where}: method") if label == 1 else None,
                groups=(group,) if group else (),
                split=_split_of(row.get("split", ""), where),
                paired_real=row.get("paired_real", ""),
            )
        )
    _refuse_repeats([str(video.path) for video in videos], manifest)
    if not videos:
        raise DataError(f"{manifest} lists no video")
    return videos


def _read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Read a CSV: (file:line, row) of every row, without spaces around the values."""
    try:
        # utf-8-sig: spreadsheets put a mark before the first column's name
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} lacks the column(s) {', '.join(missing)}")
            return [
                (f"{path}:{reader.line_num}", {k: (v or "").strip() for k, v in row.items() if k})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file ({error})") from error


def _with_splits(videos: list[SourceVideo], split_file: Path) -> list[SourceVideo]:
    """Take the split of every video from a CSV."""
    rows = _read_csv(split_file, ("path", "split"))
    split_of = {str(_inside(row["path"], w)): _split_of(row["split"], w) for w, row in rows}
    _refuse_repeats([str(_inside(row["path"], where)) for where, row in rows], split_file)
    missing = [str(video.path) for video in videos if not split_of.get(str(video.path))]
    if missing:
        raise DataError(
            f"{split_file} gives no split for {len(missing)} video(s), the first is {missing[0]}"
        )
    return [replace(video, split=split_of[str(video.path)]) for video in videos]


def _unlisted(root: DataRoot, manifest: Path, videos: list[SourceVideo]) -> list[str]:
    """Say how many videos of the folder a CSV leaves out."""
    listed = {str(video.path) for video in videos}
    on_disk = {str(path) for kind in ("real", "fake") for path in _videos_below(root, kind)}
    extra = sorted(on_disk - listed)
    if not extra:
        return []
    return [f"{len(extra)} video(s) are not in {manifest.name} and left out, as {extra[0]}"]


def _videos_below(root: DataRoot, kind: str) -> list[PurePosixPath]:
    """List the videos of `real/` or `fake/`, sorted; hidden files are none."""
    return sorted(
        path
        for path in map(PurePosixPath, root.files(kind))
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in path.parts)
    )


def _method_of(path: PurePosixPath) -> str | None:
    """Read the method off `fake/<method>/...`."""
    if path.parts[0] != "fake":
        return None
    return path.parts[1] if len(path.parts) > 2 else "unknown"


def _footage(path: PurePosixPath, real_of: Mapping[str, str]) -> str:
    """Find the genuine video that a fake was made of: of the same name, or its first person's."""
    same = real_of.get(footage_name(path)) if len(path.parts) > 2 else None
    return same or next((real_of[name] for name in people_of(path)[:1] if name in real_of), "")


def _inside(text: str, where: str) -> PurePosixPath:
    """Read a path of a CSV, which has to stay below the root."""
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}: path {text!r} is absolute, empty or leaves the folder")
    return path


def _split_of(text: str, where: str) -> str:
    if text not in ("", *SPLITS):
        raise DataError(f"{where}: split {text!r} is none of {', '.join(SPLITS)}")
    return text


def _refuse_repeats(paths: Sequence[str], file: Path) -> None:
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise DataError(f"{file} lists {repeated[0]} more than once")
