"""The whole check of a prepared folder: list, bytes, splits, duplicates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError
from datamodules.integrity.card import CARD_NAME, card_findings
from datamodules.integrity.counts import Table, count_findings, count_tables
from datamodules.integrity.findings import Finding, error, warning
from datamodules.integrity.leaks import Component, components, leak_findings, leaks
from datamodules.integrity.manifest_audit import read_for_audit
from datamodules.integrity.pool import run_all
from datamodules.integrity.video_check import VideoCheck, VideoTask, check_video
from datamodules.storage.root import is_url, open_root
from datamodules.store.prepared import INFO_NAME, MANIFEST_NAME
from datamodules.store.track_file import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from datamodules.schema import VideoRecord
    from datamodules.storage.root import DataRoot


@dataclass(frozen=True)
class Audit:
    """What a check found.

    Attributes:
        num_videos: Videos of the manifest.
        num_tracks: Tracks of the manifest.
        checked: What was looked at, and what was left out, one line each.
        tables: Counts.
        findings: What is wrong, errors first.
        num_components: Groups of videos that hang together.
        leaks: Those that lie in several splits.
    """

    num_videos: int
    num_tracks: int
    checked: list[str]
    tables: list[Table]
    findings: list[Finding]
    num_components: int
    leaks: list[Component]

    @property
    def num_errors(self) -> int:
        """Number of findings that are errors."""
        return sum(finding.level == "error" for finding in self.findings)


@dataclass(frozen=True)
class _Found:
    """The videos, what their bytes told, and how they hang together."""

    records: list[VideoRecord]
    results: list[VideoCheck]
    parts: list[list[int]]
    leaks: list[Component]

    @property
    def digests(self) -> list[str]:
        """Digests of all tracks that can be read."""
        return [digest for result in self.results for digest in result.digests]

    @property
    def all_read(self) -> bool:
        """Whether every track could be read; of others there is no digest."""
        return len(self.digests) == sum(len(record.tracks) for record in self.records)


def audit(
    manifest: str,
    raw: str | None = None,
    *,
    fast: bool = False,
    num_workers: int = 1,
    max_distance: int | None = None,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Audit:
    """Check a prepared folder.

    Args:
        manifest: Its manifest, or the folder; a manifest without a prepared folder around it is
            checked on its own.
        raw: The raw videos, to compare them with what the manifest says; left out if None.
        fast: Whether to leave out checksums and decoding.
        num_workers: Processes at once.
        max_distance: Bits by which near-duplicates may differ; the measured limit unless given.
        tell: Called with the number of videos done, and of all.

    Returns:
        What was found.

    Raises:
        DataError: If there is no such manifest or folder, or nothing in it can be read.
    """
    folder, name = split_place(manifest)
    root = open_root(folder)
    raw_root = None if raw is None else open_root(raw)
    records, findings = read_for_audit(root.local(name))
    info, more = _read_info(root)
    findings += more
    has_tracks = info is not None and any(record.tracks for record in records)
    tasks = [
        VideoTask(record, root if has_tracks else None, raw_root, _backend(info), fast)
        for record in records
    ]
    results = _run(tasks, num_workers, tell)
    parts = components(records)
    found = _Found(records, results, parts, leaks(records, parts))
    findings += _judged(found, root if has_tracks else None, max_distance)
    return Audit(
        num_videos=len(records),
        num_tracks=sum(len(record.tracks) for record in records),
        checked=_checked(has_tracks, raw is not None, fast),
        tables=count_tables(records),
        findings=sorted(findings, key=lambda finding: finding.level != "error"),
        num_components=len(parts),
        leaks=found.leaks,
    )


def split_place(manifest: str) -> tuple[str, str]:
    """Split what a user typed into the folder and the name of the manifest.

    Args:
        manifest: The manifest (`*.jsonl`), or the prepared folder.

    Returns:
        The folder, and the name of the manifest in it.

    Raises:
        DataError: If it is another file.
    """
    place = manifest.rstrip("/")
    if not place.endswith(".jsonl"):
        if not is_url(place) and Path(place).is_file():
            raise DataError(f"{place} is no manifest; give <prepared>/{MANIFEST_NAME}")
        return place or "/", MANIFEST_NAME
    folder, _, name = place.rpartition("/")
    return folder or ("/" if place.startswith("/") else "."), name


def _read_info(root: DataRoot) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Read how the store was made; None if its tracks cannot be read."""
    path = root.local(INFO_NAME)
    if not path.is_file():
        note = f"no {INFO_NAME} beside the manifest, so no track is checked"
        return None, [warning("store", note)]
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = info["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as reason:
        return None, [error("store", f"{INFO_NAME} is damaged ({reason}); no track is checked")]
    if version != FORMAT_VERSION:
        note = f"is of format {version}, this program reads {FORMAT_VERSION}; no track is checked"
        return None, [error("store", f"{note}: run `make data` again")]
    return dict(info), []


def _backend(info: Mapping[str, Any] | None) -> str:
    return "" if info is None else f"{info.get('backend')} {info.get('backend_version')}"


def _run(
    tasks: Sequence[VideoTask], num_workers: int, tell: Callable[[int, int], None]
) -> list[VideoCheck]:
    """Check all videos; one that breaks its worker is a fault of its own."""
    if all(task.store is None and task.raw is None for task in tasks):
        return [VideoCheck([], [], []) for _ in tasks]
    results: dict[int, VideoCheck] = {}
    tell(0, len(tasks))
    for position, result in run_all(check_video, tasks, num_workers):
        if isinstance(result, str):
            result = VideoCheck([f"cannot be checked ({result})"], [], [])
        results[position] = result
        tell(len(results), len(tasks))
    return [results[position] for position in range(len(tasks))]


def _judged(found: _Found, store: DataRoot | None, max_distance: int | None) -> list[Finding]:
    """Say what is wrong with the files, the splits, the counts and what lies in the store."""
    files = [
        error("files", f"{record.video_id}: {fault}")
        for record, result in zip(found.records, found.results, strict=True)
        for fault in result.faults
    ]
    return [
        *files,
        *leak_findings(found.records, found.leaks),
        *_near_findings(found, max_distance),
        *count_findings(found.records),
        *([] if store is None else _orphans(store, found.records)),
        *([] if store is None or not found.all_read else card_findings(store, found.digests)),
    ]


def _near_findings(found: _Found, max_distance: int | None) -> list[Finding]:
    """Find near-duplicates across splits that are not tied, and so told of, already."""
    import numpy as np

    from datamodules.integrity.fingerprint import MAX_DISTANCE, near_pairs

    limit = MAX_DISTANCE if max_distance is None else max_distance
    owner = [i for i, result in enumerate(found.results) for _ in result.prints]
    if not owner:
        return []
    prints = np.stack([bits for result in found.results for bits in result.prints])
    splits = [found.records[i].split for i in owner]
    names = sorted(set(splits))
    home = {i: number for number, part in enumerate(found.parts) for i in part}
    nearest: dict[tuple[int, int], Finding] = {}
    for pair in near_pairs(prints, [names.index(split) for split in splits], limit):
        i, j = owner[pair.first], owner[pair.second]
        if home[i] == home[j] or (i, j) in nearest:
            continue
        how = f"{pair.distance} of 255 bits differ{', mirrored' if pair.mirrored else ''}"
        ids = [f"{r.video_id} ({r.split})" for r in (found.records[i], found.records[j])]
        nearest[i, j] = error("near-duplicate", f"nearly the same pictures ({how})", *ids)
    return list(nearest.values())


def _orphans(root: DataRoot, records: Sequence[VideoRecord]) -> list[Finding]:
    """Find tracks that no record names."""
    known = {track for record in records for track in record.tracks}
    found = [path for path in root.files("tracks") if path.endswith(".zip")]
    extra = [path for path in found if path not in known]
    if not extra:
        return []
    return [warning("orphans", f"{len(extra)} track(s) that the manifest does not name", *extra)]


def _checked(has_tracks: bool, has_raw: bool, fast: bool) -> list[str]:
    """Say what was looked at."""
    lines = ["manifest: every line, groups, pairs and splits"]
    if has_tracks:
        lines.append(
            f"tracks: origin, points{'' if fast else ', checksums, every crop decoded'}, "
            "near-duplicates across splits"
        )
    else:
        lines.append("tracks: not checked")
    if not has_raw:
        lines.append("raw videos: not checked; RAW=<raw videos> does")
    else:
        lines.append(f"raw videos: sha256{'' if fast else ', every frame decoded'}")
    return [*lines, f"data card: {CARD_NAME} compared"] if has_tracks else lines
