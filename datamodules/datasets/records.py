"""From what a data set tells about its videos to records of a manifest: ids, people, splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.naming import compression_of, people_of, plain_name, short_hash
from datamodules.errors import DataError
from datamodules.manifest import split_groups, validate_manifest
from datamodules.schema import SPLITS, VideoRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datamodules.schema import Split
    from datamodules.storage.root import DataRoot

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")
#: Shares of the videos when no split is given. [ours]
FRACTIONS: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True, kw_only=True)
class SourceVideo:
    """A video as the folders or the lists of its data set describe it.

    Attributes:
        path: Relative to the root: a video file, or a folder of frames.
        label: 0 real, 1 fake.
        method: Forgery method; None for a real video.
        name: The last part of its id, unique within method and compression; from the path
            unless given.
        compression: For example `c23`, or empty if there is none; from the path unless given.
        groups: Identities or source videos; from the name of the file unless given.
        split: `train`, `val`, `test`, or empty if the data set does not say.
        paired_real: Path of the real video of the same footage, or empty.
        footage: What stands for `groups` where footage alone is to be kept apart, not people.
        decoder: How it is read; `frames` for a folder of frames.
        dataset: Name of the subset that it belongs to; that of the data set unless given.
        frames: Names of the pictures that belong to the video, where `path` is a folder that
            holds others as well.
    """

    path: PurePosixPath
    label: int
    method: str | None
    name: str = ""
    compression: str | None = None
    groups: tuple[str, ...] = ()
    split: str = ""
    paired_real: str = ""
    footage: str = ""
    decoder: str = "decord"
    dataset: str = ""
    frames: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceFolder:
    """The videos of a raw data set.

    Attributes:
        root: Where they lie.
        records: One for each video, sorted by `video_id`; what decoding tells is still empty.
        notes: What a user should know about how they were read, one line each.
        reading: The layout, and what the user chose of it, as words of a command line.
    """

    root: DataRoot
    records: list[VideoRecord]
    notes: list[str]
    reading: str = ""

    @property
    def dataset(self) -> str:
        """Name of the data set; names of several joined by a plus sign."""
        return "+".join(sorted({record.dataset for record in self.records}))


def source_folder(
    root: DataRoot,
    dataset: str,
    videos: Sequence[SourceVideo],
    notes: Sequence[str] = (),
    given: str = "as given",
) -> SourceFolder:
    """Give every video its id, people and split.

    Args:
        root: Where the videos lie.
        dataset: Name of the data set.
        videos: All of them.
        notes: What the reading of the data set has to say.
        given: Where the splits that videos have come from; empty if the notes say it.

    Returns:
        The records and what to say about them.

    Raises:
        DataError: If only some videos have a split, or the list is no valid manifest.
    """
    told = [*notes, *root.notes]
    records = _records(as_folder_name(dataset, "name of the data set"), list(videos), told, given)
    # What is wrong with the list is said now, not after hours of decoding.
    validate_manifest([replace(record, status="unreadable") for record in records])
    return SourceFolder(root, sorted(records, key=lambda record: record.video_id), told)


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
    return replace(source, records=chosen, notes=notes)


def footage_name(path: PurePosixPath) -> str:
    """Name the footage: the path below `real/` or `fake/<method>/`, without suffix.

    Args:
        path: Of a video.

    Returns:
        A name of one part.
    """
    depth = {"real": 1, "fake": 2}.get(path.parts[0], 0)
    return plain_name(PurePosixPath(*path.parts[min(depth, len(path.parts) - 1) :]))


def as_folder_name(text: str, what: str) -> str:
    """Refuse a name that cannot be one folder.

    Args:
        text: The name.
        what: What is named, for the error.

    Returns:
        The name.

    Raises:
        DataError: If it is empty or holds a separator.
    """
    if text in ("", ".", "..") or any(character in text for character in "/\\\0"):
        raise DataError(f"{what} {text!r} cannot be the name of a folder")
    return text


def _records(
    dataset: str, videos: list[SourceVideo], notes: list[str], origin: str
) -> list[VideoRecord]:
    """Give every video its id, people and split."""
    ids = _video_ids(dataset, videos)
    groups = [_groups(dataset, video) for video in videos]
    splits = _splits(videos, groups, notes, origin)
    reals = {
        (video.dataset, str(video.path)): video_id
        for video, video_id in zip(videos, ids, strict=True)
        if video.label == 0
    }
    _note_classes(videos, splits, notes)
    return [
        VideoRecord(
            video_id=video_id,
            path=str(video.path),
            label=video.label,
            dataset=video.dataset or dataset,
            split=split,
            group_ids=names,
            method=video.method,
            compression=_compression(video),
            paired_real=reals.get((video.dataset, video.paired_real)),
            decoder=video.decoder,
            frames=video.frames,
        )
        for video, video_id, names, split in zip(videos, ids, groups, splits, strict=True)
    ]


def _video_ids(dataset: str, videos: list[SourceVideo]) -> list[str]:
    """Make `dataset/compression/method/name` for every video, each once."""
    ids = []
    for video in videos:
        compression = _compression(video) or "unknown"
        kind = f"{video.dataset or dataset}/{compression}/{video.method or 'real'}"
        ids.append(f"{kind}/{video.name or footage_name(video.path)}")
    # Equal but for the suffix, or for letters that some file systems do not tell apart.
    count = Counter(value.casefold() for value in ids)
    return [
        value if count[value.casefold()] == 1 else f"{value}~{short_hash(str(video.path))}"
        for video, value in zip(videos, ids, strict=True)
    ]


def _compression(video: SourceVideo) -> str | None:
    return compression_of(video.path) if video.compression is None else video.compression or None


def _groups(dataset: str, video: SourceVideo) -> tuple[str, ...]:
    """Name the people of a video; where nobody is known, its own footage."""
    if video.groups:
        return video.groups
    people = people_of(video.path)
    return tuple(f"{dataset}/{name}" for name in people or (footage_name(video.path),))


def _splits(
    videos: list[SourceVideo], groups: list[tuple[str, ...]], notes: list[str], origin: str
) -> Sequence[Split]:
    """Take the given splits, or make some; say which."""
    given: list[Split] = [split for video in videos for split in SPLITS if video.split == split]
    if len(given) == len(videos):
        notes += [f"splits: {origin}"] if origin else []
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


def _note_classes(videos: list[SourceVideo], splits: Sequence[Split], notes: list[str]) -> None:
    """Say which split lacks a class, unless all is meant for a test."""
    held = defaultdict(set)
    for video, split in zip(videos, splits, strict=True):
        held[split].add(video.label)
    lacks = [
        f"{split} has no {name} video"
        for split in (SPLITS if set(held) != {"test"} else held)
        for label, name in enumerate(("real", "fake"))
        if label not in held[split]
    ]
    if lacks:
        notes.append("; ".join(lacks))
