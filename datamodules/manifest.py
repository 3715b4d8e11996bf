"""Manifests: read, write, check and split lists of videos."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from dataclasses import MISSING, asdict, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from datamodules.atomic import write_text_atomically
from datamodules.errors import DataError
from datamodules.schema import SPLITS, VideoRecord, VideoStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from datamodules.schema import Split

_FIELDS = {field.name: field for field in fields(VideoRecord)}
_REQUIRED = [
    name
    for name, field in _FIELDS.items()
    if field.default is MISSING and field.default_factory is MISSING
]
_TUPLES = ("group_ids", "tracks", "frames")
_NUMBERS: dict[str, tuple[type, ...]] = {
    "label": (int,),
    "num_frames": (int,),
    "fps": (int, float),
    "height": (int,),
    "width": (int,),
}
_NULLABLE = ("method", "compression", "paired_real")
#: How many offenders an error names, so that it stays one line. [ours]
_MAX_NAMED = 5


def read_manifest(path: Path) -> list[VideoRecord]:
    """Read a manifest, one JSON object a line.

    Args:
        path: The `*.jsonl` file.

    Returns:
        Records in the order of the file. Contents are not judged; see `validate_manifest`.

    Raises:
        DataError: If the file is missing, or a line is no record; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a manifest ({error})") from error
    return [
        parse_record(line, f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def write_manifest(records: Iterable[VideoRecord], path: Path) -> None:
    """Write a manifest, sorted by `video_id`, wholly or not at all.

    Args:
        records: The videos, in any order.
        path: The `*.jsonl` file.

    Raises:
        OSError: If the disk refuses the bytes; an older manifest stays as it was.
    """
    write_text_atomically(path, "".join(f"{line}\n" for line in _lines(records)))


def manifest_hash(records: Iterable[VideoRecord]) -> str:
    """Name a manifest by its contents.

    Args:
        records: The videos, in any order.

    Returns:
        SHA-256 of the sorted lines, 64 hexadecimal digits; equal to that of the written file.
    """
    return hashlib.sha256("".join(f"{line}\n" for line in _lines(records)).encode()).hexdigest()


def validate_manifest(records: Sequence[VideoRecord]) -> None:
    """Check what every program relies on.

    Args:
        records: The videos of one manifest.

    Raises:
        DataError: If an id occurs twice, a label, split, status or hash is not one, a path is
            absolute or leaves its root, a video marked `ok` has no track, a pair points at a
            fake, or a group lies in two splits; names the offenders.
    """
    repeated = [name for name, n in Counter(r.video_id for r in records).items() if n > 1]
    if repeated:
        raise DataError(f"manifest: video_id is not unique: {_some(repeated)}")
    for record in records:
        for reason in record_faults(record):
            raise DataError(f"manifest: {record.video_id}: {reason}")
    fakes = {record.video_id for record in records if record.label == 1}
    wrong_pairs = [record.video_id for record in records if record.paired_real in fakes]
    if wrong_pairs:
        raise DataError(f"manifest: paired_real names a fake video in: {_some(wrong_pairs)}")
    check_no_leak(records)


def check_no_leak(records: Iterable[VideoRecord]) -> None:
    """Check that no identity or source lies in two splits.

    Args:
        records: The videos of one manifest.

    Raises:
        DataError: If a group does; names the groups and their splits.
    """
    splits_of: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for group in record.group_ids:
            splits_of[group].add(record.split)
    leaks = [
        f"{group} ({' and '.join(s for s in SPLITS if s in splits)})"
        for group, splits in sorted(splits_of.items())
        if len(splits) > 1
    ]
    if leaks:
        raise DataError(
            f"manifest: {len(leaks)} group(s) lie in two splits: {_some(leaks)}; "
            "give all videos of a group one split, or leave the split to `make data`"
        )


def split_groups(
    groups: Sequence[Sequence[str]],
    labels: Sequence[int],
    fractions: Mapping[Split, float],
    seed: int,
) -> list[Split]:
    """Split videos so that no identity or source lies in two splits.

    Videos that share a group stay together, and so do groups that share a video: the unit is
    a connected component. Large components are placed first, each where most is missing; then
    a split that lacks a class gets the smallest component that another one can spare.

    Args:
        groups: The group ids of each video; a video without any stands alone.
        labels: 0 real or 1 fake, one for each video.
        fractions: Share of the videos that each split should get; they need not add up to 1.
        seed: Decides between components of equal size. The order of the videos does not.

    Returns:
        One split for each video. A split can stay empty if there are too few components.

    Raises:
        ValueError: If the lengths differ, or no fraction is positive.
    """
    if len(groups) != len(labels):
        raise ValueError(f"{len(groups)} lists of groups for {len(labels)} labels")
    splits = [split for split in SPLITS if fractions.get(split, 0.0) > 0]
    if not splits:
        raise ValueError(f"no split has a positive fraction: {dict(fractions)}")
    parts = _components(groups, seed)
    counts = [[sum(labels[i] == c for i in part) for c in (0, 1)] for part in parts]
    total = sum(fractions[split] for split in splits)
    place = _place(counts, [fractions[split] / total for split in splits])
    _give_every_class(counts, place, len(splits))
    result: list[Split] = [splits[0]] * len(groups)
    for part, where in zip(parts, place, strict=True):
        for i in part:
            result[i] = splits[where]
    return result


def _lines(records: Iterable[VideoRecord]) -> list[str]:
    """Give the lines of the file, without line ends, sorted by id."""
    ordered = sorted(records, key=lambda record: record.video_id)
    return [json.dumps(_values(r), sort_keys=True, ensure_ascii=False) for r in ordered]


def _values(record: VideoRecord) -> dict[str, Any]:
    """Give the values of a line; most videos have no list of frames, and need not say so."""
    values = asdict(record)
    if not record.frames:
        del values["frames"]
    return values


def parse_record(line: str, where: str) -> VideoRecord:
    """Turn one line of a manifest into a record.

    Args:
        line: A JSON object.
        where: File and line number, for the error.

    Returns:
        The record. Its contents are not judged; see `record_faults`.

    Raises:
        DataError: If it is no record.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not a JSON object ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{where}: not a JSON object but a {type(values).__name__}")
    missing = [name for name in _REQUIRED if name not in values]
    unknown = [name for name in values if name not in _FIELDS]
    if missing or unknown:
        faults = [f"missing {_some(missing)}"] * bool(missing)
        faults += [f"unknown {_some(unknown)}"] * bool(unknown)
        raise DataError(f"{where}: {' and '.join(faults)}")
    for name, value in values.items():
        if not _is_valid(name, value):
            raise DataError(f"{where}: {name} is {value!r}, which is of the wrong type")
    for name in _TUPLES:
        values[name] = tuple(values.get(name, ()))
    return VideoRecord(**values)


def _is_valid(name: str, value: Any) -> bool:
    """Tell whether a JSON value has the type of its field."""
    if name in _TUPLES:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if name in _NUMBERS:
        return isinstance(value, _NUMBERS[name]) and not isinstance(value, bool)
    return isinstance(value, str) or (value is None and name in _NULLABLE)


def record_faults(record: VideoRecord) -> list[str]:
    """Say what is wrong with one record on its own.

    Args:
        record: The record.

    Returns:
        One line for each fault; empty if there is none.
    """
    checks = [
        (record.label in (0, 1), f"label {record.label} is neither 0 (real) nor 1 (fake)"),
        (record.split in SPLITS, f"split {record.split!r} is none of {', '.join(SPLITS)}"),
        (record.status in get_args(VideoStatus), f"unknown status {record.status!r}"),
        # A file that cannot be opened has no bytes to name.
        (
            record.status == "unreadable" or re.fullmatch("[0-9a-f]{64}", record.sha256),
            f"sha256 {record.sha256!r} is not 64 hexadecimal digits",
        ),
        (record.status != "ok" or record.tracks, "status is ok, but there is no track"),
    ]
    checks += [
        (is_inside(path), f"path {path!r} is absolute or leaves its root")
        for path in (record.video_id, record.path, *record.tracks, *record.frames)
    ]
    return [reason for fine, reason in checks if not fine]


def is_inside(path: str) -> bool:
    """Tell whether a path of a record is relative and stays below its root."""
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts


def _some(names: Sequence[str]) -> str:
    """List names, the first few of many."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _components(groups: Sequence[Sequence[str]], seed: int) -> list[list[int]]:
    """Collect videos that are tied by groups, the largest collection first."""
    parent = list(range(len(groups)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, names in enumerate(groups):
        for name in names:
            parent[find(i)] = find(first.setdefault(name, i))
    parts: dict[int, list[int]] = defaultdict(list)
    for i in range(len(groups)):
        parts[find(i)].append(i)

    def rank(part: list[int]) -> tuple[int, str]:
        names = sorted({name for i in part for name in groups[i]}) or [f"#{part[0]}"]
        return -len(part), hashlib.sha256(json.dumps([seed, *names]).encode()).hexdigest()

    return sorted(parts.values(), key=rank)


def _place(counts: list[list[int]], shares: list[float]) -> list[int]:
    """Put each component where most videos of its classes are missing."""
    totals = [max(1, sum(count[c] for count in counts)) for c in (0, 1)]
    # Missing part of each class, in shares of the whole class, so that a rare one counts too.
    lack = [[share, share] for share in shares]
    place = []
    for count in counts:
        part = [count[c] / totals[c] for c in (0, 1)]
        want = [part[0] * here[0] + part[1] * here[1] for here in lack]
        best = want.index(max(want))
        place.append(best)
        lack[best] = [lack[best][c] - part[c] for c in (0, 1)]
    return place


def _give_every_class(counts: list[list[int]], place: list[int], num_splits: int) -> None:
    """Move single components, in place, into splits that lack a class, where one can be spared."""
    for split in range(num_splits):
        for label in (0, 1):
            held = [[0, 0] for _ in range(num_splits)]
            for count, where in zip(counts, place, strict=True):
                held[where] = [held[where][c] + count[c] for c in (0, 1)]
            if held[split][label]:
                continue
            spare = [
                i
                for i, count in enumerate(counts)
                if count[label] and _can_give(held[place[i]], count)
            ]
            if spare:
                # The list is sorted by size, so the last one is the smallest.
                place[spare[-1]] = split


def _can_give(held: list[int], count: list[int]) -> bool:
    """Tell whether a split keeps every class that it has without a component."""
    return all(held[c] > count[c] or not count[c] for c in (0, 1))
