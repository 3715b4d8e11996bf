"""A folder of raw videos, read as records: labels, methods, people, splits."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.manifest import split_groups, validate_manifest
from datamodules.preprocess.naming import compression_of, people_of, plain_name, short_hash
from datamodules.schema import SPLITS, VideoRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datamodules.schema import Split

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
#: Shares of the videos when no split is given. [ours]
FRACTIONS: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}

_LABELS = {"real": 0, "0": 0, "fake": 1, "1": 1}
_LAYOUT = "genuine videos go into real/, forged ones into fake/<method>/"


@dataclass(frozen=True)
class SourceFolder:
    """The videos of a raw folder.

    Attributes:
        root: The folder.
        records: One for each video, sorted by `video_id`; what decoding tells is still empty.
        notes: What a user should know about how they were read, one line each.
    """

    root: Path
    records: list[VideoRecord]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class _Video:
    """A video as the folder or one row of a CSV describes it."""

    path: PurePosixPath
    label: int
    method: str | None
    groups: tuple[str, ...] = ()
    split: str = ""
    paired_real: str = ""


def read_source(
    root: Path,
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
        DataError: If there is no such folder or no video in it, or a CSV is not as described.
    """
    root = root.resolve()
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder of your videos ({_LAYOUT})")
    notes: list[str] = []
    if manifest is None and (root / "manifest.csv").is_file():
        manifest = root / "manifest.csv"
    videos = _from_folder(root) if manifest is None else _from_csv(manifest)
    if manifest is not None:
        notes += _unlisted(root, manifest, videos)
    if split_file is not None:
        videos = _with_splits(videos, split_file)
    records = _records(_plain(name or root.name, "name of the data set"), videos, notes)
    # What is wrong with the list is said now, not after hours of decoding.
    validate_manifest([replace(record, status="unreadable") for record in records])
    return SourceFolder(root, sorted(records, key=lambda record: record.video_id), notes)


def limited(source: SourceFolder, limit: int) -> SourceFolder:
    """Keep only some videos, spread over the list.

    Args:
        source: The videos.
        limit: How many; 0 for all.

    Returns:
        The folder with at most so many records.
    """
    count = len(source.records)
    if not limit or count <= limit:
        return source
    chosen = [source.records[i * count // limit] for i in range(limit)]
    ids = {record.video_id for record in chosen}
    # A pair whose genuine video is left out is none.
    chosen = [r if r.paired_real in ids else replace(r, paired_real=None) for r in chosen]
    notes = [*source.notes, f"{limit} of {count} videos are taken"]
    return SourceFolder(source.root, chosen, notes)


def _from_folder(root: Path) -> list[_Video]:
    """Read `real/**` and `fake/<method>/**`."""
    if not (root / "real").is_dir():
        raise DataError(f"{root} has no folder real/ and no manifest.csv; {_LAYOUT}")
    paths = [path for kind in ("real", "fake") for path in _videos_below(root, kind)]
    if not paths:
        raise DataError(
            f"{root} holds no video ({' '.join(VIDEO_SUFFIXES)}) in real/ or fake/; {_LAYOUT}"
        )
    if not any(path.parts[0] == "real" for path in paths):
        raise DataError(f"{root / 'real'} holds no video ({' '.join(VIDEO_SUFFIXES)}); {_LAYOUT}")
    real_of = {_stem(path): str(path) for path in paths if path.parts[0] == "real"}
    return [
        _Video(
            path=path,
            label=int(path.parts[0] == "fake"),
            method=_method_of(path),
            paired_real=_footage(path, real_of) if path.parts[0] == "fake" else "",
        )
        for path in paths
    ]


def _from_csv(manifest: Path) -> list[_Video]:
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
            _Video(
                path=path,
                label=label,
                method=_plain(method, f"{where}: method") if label == 1 else None,
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


def _with_splits(videos: list[_Video], split_file: Path) -> list[_Video]:
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


def _records(dataset: str, videos: list[_Video], notes: list[str]) -> list[VideoRecord]:
    """Give every video its id, people and split."""
    ids = _video_ids(dataset, videos)
    groups = [_groups(dataset, video) for video in videos]
    splits = _splits(videos, groups, notes)
    reals = {str(video.path): ids[str(video.path)] for video in videos if video.label == 0}
    _note_classes(videos, splits, notes)
    return [
        VideoRecord(
            video_id=ids[str(video.path)],
            path=str(video.path),
            label=video.label,
            dataset=dataset,
            split=split,
            group_ids=names,
            method=video.method,
            compression=compression_of(video.path),
            paired_real=reals.get(video.paired_real),
        )
        for video, names, split in zip(videos, groups, splits, strict=True)
    ]


def _video_ids(dataset: str, videos: list[_Video]) -> dict[str, str]:
    """Make `dataset/compression/method/name` for every path, each once."""
    ids = {}
    for video in videos:
        compression = compression_of(video.path) or "unknown"
        kind = f"{dataset}/{compression}/{video.method or 'real'}"
        ids[str(video.path)] = f"{kind}/{_stem(video.path)}"
    # Equal but for the suffix, or for letters that some file systems do not tell apart.
    count = Counter(value.casefold() for value in ids.values())
    return {
        path: value if count[value.casefold()] == 1 else f"{value}~{short_hash(path)}"
        for path, value in ids.items()
    }


def _groups(dataset: str, video: _Video) -> tuple[str, ...]:
    """Name the people of a video; where nobody is known, its own footage."""
    if video.groups:
        return video.groups
    people = people_of(video.path)
    return tuple(f"{dataset}/{name}" for name in people or (_stem(video.path),))


def _splits(
    videos: list[_Video], groups: list[tuple[str, ...]], notes: list[str]
) -> Sequence[Split]:
    """Take the given splits, or make some; say which."""
    given: list[Split] = [split for video in videos for split in SPLITS if video.split == split]
    if len(given) == len(videos):
        notes.append("splits: as given")
        return given
    if given:
        lacking = next(video.path for video in videos if not video.split)
        raise DataError(
            f"{len(videos) - len(given)} video(s) have no split, the first is {lacking}; "
            "give every video one, or none"
        )
    known = sum(bool(video.groups or people_of(video.path)) for video in videos)
    by_file = len(videos) - known
    notes.append(
        f"splits: made here, {' / '.join(f'{100 * f:.0f} % {s}' for s, f in FRACTIONS.items())}, "
        f"by person for {known} video(s)"
        + (f", by file name for {by_file} whose people are not known" if by_file else "")
    )
    return split_groups(groups, [video.label for video in videos], FRACTIONS, seed=0)


def _note_classes(videos: list[_Video], splits: Sequence[Split], notes: list[str]) -> None:
    """Say which split lacks a class."""
    held = defaultdict(set)
    for video, split in zip(videos, splits, strict=True):
        held[split].add(video.label)
    lacks = [
        f"{split} has no {name} video"
        for split in SPLITS
        for label, name in enumerate(("real", "fake"))
        if label not in held[split]
    ]
    if lacks:
        notes.append("; ".join(lacks))


def _unlisted(root: Path, manifest: Path, videos: list[_Video]) -> list[str]:
    """Say how many videos of the folder a CSV leaves out."""
    listed = {str(video.path) for video in videos}
    on_disk = {str(path) for kind in ("real", "fake") for path in _videos_below(root, kind)}
    extra = sorted(on_disk - listed)
    if not extra:
        return []
    return [f"{len(extra)} video(s) are not in {manifest.name} and left out, as {extra[0]}"]


def _videos_below(root: Path, kind: str) -> list[PurePosixPath]:
    """List the videos of `real/` or `fake/`, sorted; hidden files are none."""
    return sorted(
        PurePosixPath(path.relative_to(root).as_posix())
        for path in (root / kind).rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and not path.is_dir()
    )


def _method_of(path: PurePosixPath) -> str | None:
    """Read the method off `fake/<method>/...`."""
    if path.parts[0] != "fake":
        return None
    return path.parts[1] if len(path.parts) > 2 else "unknown"


def _stem(path: PurePosixPath) -> str:
    """Name the footage: the path below `real/` or `fake/<method>/`, without suffix."""
    depth = {"real": 1, "fake": 2}.get(path.parts[0], 0)
    return plain_name(PurePosixPath(*path.parts[min(depth, len(path.parts) - 1) :]))


def _footage(path: PurePosixPath, real_of: Mapping[str, str]) -> str:
    """Find the genuine video that a fake was made of: of the same name, or its first person's."""
    same = real_of.get(_stem(path)) if len(path.parts) > 2 else None
    return same or next((real_of[name] for name in people_of(path)[:1] if name in real_of), "")


def _inside(text: str, where: str) -> PurePosixPath:
    """Read a path of a CSV, which has to stay below the root."""
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}: path {text!r} is absolute, empty or leaves the folder")
    return path


def _plain(text: str, what: str) -> str:
    """Refuse names that cannot be one folder."""
    if text in ("", ".", "..") or any(character in text for character in "/\\\0"):
        raise DataError(f"{what} {text!r} cannot be the name of a folder")
    return text


def _split_of(text: str, where: str) -> str:
    if text not in ("", *SPLITS):
        raise DataError(f"{where}: split {text!r} is none of {', '.join(SPLITS)}")
    return text


def _refuse_repeats(paths: Sequence[str], file: Path) -> None:
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise DataError(f"{file} lists {repeated[0]} more than once")
