"""A folder of raw videos, read as records: labels, methods, people, splits.

    <root>/real/**/<video>           genuine videos (mp4, avi, mov, mkv, webm, m4v)
    <root>/fake/<method>/**/<video>  forged ones
    <root>/manifest.csv              if any: path, label, method, identity_group, split, paired_real

A fake belongs to the genuine video of the same name, or of its first person where the name tells
people (033_097, id0_id16_0007, 01_02__walk__AB12). Without a manifest or a split CSV the splits
are made by people, and by file name where nobody is known.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import absent
from datamodules.datasets.naming import people_of
from datamodules.datasets.records import (
    VIDEO_SUFFIXES,
    SourceFolder,
    SourceVideo,
    as_folder_name,
    footage_name,
    source_folder,
)
from datamodules.datasets.tables import (
    inside,
    read_csv,
    refuse_repeats,
    split_named,
    with_splits,
)
from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.storage.root import DataRoot

_LABELS = {"real": 0, "0": 0, "fake": 1, "1": 1}
_LAYOUT = "genuine videos go into real/, forged ones into fake/<method>/"


def read_folder(
    root: DataRoot,
    name: str | None = None,
    manifest: Path | None = None,
    split_file: Path | None = None,
    all_test: bool = False,
) -> SourceFolder:
    """Read a folder of raw videos.

    Args:
        root: Holds `real/**` and `fake/<method>/**`, and perhaps a `manifest.csv`.
        name: Of the data set; that of the folder unless given.
        manifest: CSV with the columns path, label and, as far as known, method,
            identity_group, split and paired_real; `root/manifest.csv` unless given, if there
            is one. Other columns are ignored.
        split_file: CSV with the columns path and split, for every video; goes before all others.
        all_test: Put every video into test.

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
        notes += _absent(root, manifest, videos)
    if split_file is not None:
        videos = with_splits(videos, split_file)
    if all_test:
        videos = [replace(video, split="test") for video in videos]
    return source_folder(root, name or PurePosixPath(str(root)).name, videos, notes)


def read_plain(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read a folder of raw videos as one of the layouts; see `read_folder`."""
    return read_folder(root, options.name, options.manifest, options.split_file, options.all_test)


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
    for where, row in read_csv(manifest, ("path", "label")):
        label = _LABELS.get(row["label"].lower())
        if label is None:
            raise DataError(f"{where}: label {row['label']!r} is neither real nor fake")
        path = inside(row["path"], where)
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
                split=split_named(row.get("split", ""), where),
                paired_real=row.get("paired_real", ""),
            )
        )
    refuse_repeats([str(video.path) for video in videos], manifest)
    if not videos:
        raise DataError(f"{manifest} lists no video")
    return videos


def _unlisted(root: DataRoot, manifest: Path, videos: list[SourceVideo]) -> list[str]:
    """Say how many videos of the folder a CSV leaves out."""
    listed = {str(video.path) for video in videos}
    on_disk = {str(path) for kind in ("real", "fake") for path in _videos_below(root, kind)}
    extra = sorted(on_disk - listed)
    if not extra:
        return []
    return [f"{len(extra)} video(s) are not in {manifest.name} and left out, as {extra[0]}"]


def _absent(root: DataRoot, manifest: Path, videos: list[SourceVideo]) -> list[str]:
    """Say how many videos of a CSV are not there; they stay, to be told of in the report."""
    on_disk = set(map(PurePosixPath, root.files()))
    # What is listed under another name, or is a folder, is there as well.
    folders = {folder for path in on_disk for folder in path.parents}
    gone = [v.path for v in videos if v.path not in on_disk and v.path not in folders]
    return absent([str(path) for path in gone if root.size(str(path)) < 0], [], f"{manifest.name}")


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
