"""What a data set holds, as a table: the answer to `--list`, which writes nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from datamodules.datasets.records import SourceFolder
    from datamodules.schema import VideoRecord


def listing(source: SourceFolder) -> str:
    """Count the videos by method, compression and split.

    Args:
        source: The videos.

    Returns:
        A table, and below it what was said about the reading; ends in a line break.
    """
    kinds = sorted({_kind(record) for record in source.records}, key=_real_first)
    counts = Counter((_kind(record), record.split) for record in source.records)
    rows = [("class", "method", "compression", *SPLITS, "all")]
    for kind in kinds:
        cells = [counts[kind, split] for split in SPLITS]
        rows.append((*kind, *map(str, [*cells, sum(cells)])))
    totals = [sum(record.split == split for record in source.records) for split in SPLITS]
    rows.append(("all", "", "", *map(str, [*totals, sum(totals)])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    people = len({group for record in source.records for group in record.group_ids})
    pairs = sum(record.paired_real is not None for record in source.records)
    lines = [_line(row, widths) for row in rows]
    lines += ["", f"{people} people or sources; {pairs} fakes with the genuine video of their own"]
    return "\n".join([*lines, *source.notes]) + "\n"


def _kind(record: VideoRecord) -> tuple[str, str, str]:
    """Name class, method and compression."""
    kind = "fake" if record.label else "real"
    return (kind, record.method or "-", record.compression or "-")


def _real_first(kind: tuple[str, str, str]) -> tuple[bool, tuple[str, str, str]]:
    return kind[0] != "real", kind


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """Set names to the left and numbers to the right."""
    cells = [
        cell.ljust(width) if i < 3 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
