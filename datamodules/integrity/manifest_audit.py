"""Manifests read to the end, whatever is wrong with them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.integrity.findings import Finding, error, warning
from datamodules.manifest import parse_record, record_faults

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datamodules.schema import VideoRecord

_CHECK = "manifest"


def read_for_audit(path: Path) -> tuple[list[VideoRecord], list[Finding]]:
    """Read a manifest and list everything that is wrong with it.

    Args:
        path: The `*.jsonl` file.

    Returns:
        The records that can be read, each id once, and what is wrong. Leaks between splits are
        not looked for; see `datamodules.integrity.leaks`.

    Raises:
        DataError: If there is no such file, or nothing in it is a record.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as reason:
        raise DataError(
            f"{path} cannot be read ({reason}); give MANIFEST=<prepared>/manifest.jsonl"
        ) from reason
    records: list[VideoRecord] = []
    findings: list[Finding] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(parse_record(line, f"line {number}"))
        except DataError as reason:
            findings.append(error(_CHECK, str(reason)))
    if not records:
        first = f", the first because: {findings[0].line}" if findings else ""
        raise DataError(f"{path} holds no record of a video ({len(findings)} bad lines{first})")
    unique = list({record.video_id: record for record in records}.values())
    return unique, findings + _faults(records)


def _faults(records: Sequence[VideoRecord]) -> list[Finding]:
    """List what is wrong with the records, one by one and among each other."""
    found = [
        error(_CHECK, f"{record.video_id}: {reason}")
        for record in records
        for reason in record_faults(record)
    ]
    repeated = [name for name, n in Counter(r.video_id for r in records).items() if n > 1]
    if repeated:
        found.append(error(_CHECK, "video_id is not unique, the last one counts", *repeated))
    owners = defaultdict(set)
    for record in records:
        for track in record.tracks:
            owners[track].add(record.video_id)
    shared = [track for track, ids in owners.items() if len(ids) > 1]
    if shared:
        found.append(error(_CHECK, "tracks that belong to several videos", *shared))
    return found + _pair_faults(records)


def _pair_faults(records: Sequence[VideoRecord]) -> list[Finding]:
    """Check that pairs point at real videos that are there."""
    labels = {record.video_id: record.label for record in records}
    paired = [record for record in records if record.paired_real is not None]
    wrong = [r.video_id for r in paired if labels.get(r.paired_real or "") == 1]
    lost = [r.video_id for r in paired if r.paired_real not in labels]
    found = [error(_CHECK, "paired_real names a fake video in", *wrong)] if wrong else []
    if lost:
        found.append(warning(_CHECK, "paired_real names a video that is not listed in", *lost))
    return found
