"""Which video belongs to which split, by the user's own word: a table, forgeries to leave out."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datamodules.schema import Split, VideoRecord

_COLUMNS = ("video_id", "path")


def apply_split_csv(records: Sequence[VideoRecord], path: Path) -> list[VideoRecord]:
    """Replace the split of videos by that of a table.

    Args:
        records: The videos of a manifest.
        path: CSV file with the columns `split` and `video_id` or `path` (relative to the raw
            videos, as in the manifest); other columns are not read.

    Returns:
        The videos that the table names, in the order of `records`.

    Raises:
        DataError: If the file or a column is missing, or a line names an unknown split, an
            unknown video, or one that was named before; says which line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            column = _key_column(reader.fieldnames or [], path)
            lines = [(reader.line_num, row[column], row["split"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a split table ({error})") from error
    by_name = {getattr(record, column): record for record in records}
    known = {str(split): split for split in SPLITS}
    splits: dict[str, Split] = {}
    for number, name, split in lines:
        reason = ""
        if name not in by_name:
            reason = f"the store has no video with {column} {name!r}"
        elif split not in known:
            reason = f"split {split!r} is none of {', '.join(known)}"
        elif name in splits:
            reason = f"{column} {name!r} occurs twice"
        if reason:
            raise DataError(f"{path}:{number}: {reason}")
        splits[name] = known[split]
    return [
        replace(record, split=splits[getattr(record, column)])
        for record in records
        if getattr(record, column) in splits
    ]


def without_methods(records: Sequence[VideoRecord], methods: Sequence[str]) -> list[VideoRecord]:
    """Leave forgeries out of training and validation; the test keeps them.

    Args:
        records: The videos of a manifest.
        methods: How the fakes were made, as the manifest has it.
    """
    return [
        record
        for record in records
        if record.split == "test" or record.label == 0 or record.method not in methods
    ]


def check_methods(records: Sequence[VideoRecord], methods: Sequence[str]) -> None:
    """Refuse forgeries that no video is of: a slip of the pen would leave nothing out.

    Args:
        records: The videos of a manifest.
        methods: Those that are to be left out.

    Raises:
        DataError: If one is none; says which there are.
    """
    known = sorted({record.method for record in records if record.label == 1 and record.method})
    for method in methods:
        if method not in known:
            raise DataError(
                f"data: exclude_methods: no video is forged by {method!r}; there are: "
                f"{', '.join(known) or 'none with a name'}"
            )


def _key_column(columns: Sequence[str], path: Path) -> str:
    """Choose the column that names the videos."""
    found = [name for name in _COLUMNS if name in columns]
    if not found or "split" not in columns:
        raise DataError(
            f"{path}: has the columns {', '.join(columns) or 'none'}; "
            "it needs split, and video_id or path"
        )
    return found[0]
