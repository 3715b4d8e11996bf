"""CSV files of a user about videos: rows, paths, splits, and the line of every mistake."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.schema import SPLITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.datasets.records import SourceVideo


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Read a CSV file.

    Args:
        path: The file.
        columns: Columns that have to be there.

    Returns:
        (file:line, row) of every row, without spaces around the values.

    Raises:
        DataError: If it cannot be read, or lacks a column.
    """
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


def with_splits(videos: Sequence[SourceVideo], split_file: Path) -> list[SourceVideo]:
    """Take the split of every video from a CSV.

    Args:
        videos: Of a data set.
        split_file: CSV with the columns path and split.

    Returns:
        The same videos, with these splits.

    Raises:
        DataError: If the file is not as described, or leaves a video out.
    """
    rows = read_csv(split_file, ("path", "split"))
    split_of = {str(inside(row["path"], w)): split_named(row["split"], w) for w, row in rows}
    refuse_repeats([str(inside(row["path"], where)) for where, row in rows], split_file)
    missing = [str(video.path) for video in videos if not split_of.get(str(video.path))]
    if missing:
        raise DataError(
            f"{split_file} gives no split for {len(missing)} video(s), the first is {missing[0]}"
        )
    return [replace(video, split=split_of[str(video.path)]) for video in videos]


def inside(text: str, where: str) -> PurePosixPath:
    """Read a path, which has to stay below the root.

    Args:
        text: What is written.
        where: file:line, for the error.

    Returns:
        The path; either separator is understood.

    Raises:
        DataError: If it is absolute, empty or leaves the root.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where}: path {text!r} is absolute, empty or leaves the folder")
    return path


def split_named(text: str, where: str) -> str:
    """Read the name of a split.

    Args:
        text: What is written; empty for none.
        where: file:line, for the error.

    Returns:
        The name.

    Raises:
        DataError: If it is no split.
    """
    if text not in ("", *SPLITS):
        raise DataError(f"{where}: split {text!r} is none of {', '.join(SPLITS)}")
    return text


def refuse_repeats(paths: Sequence[str], file: Path) -> None:
    """Refuse a list that names a video twice.

    Args:
        paths: What it lists.
        file: The list, for the error.

    Raises:
        DataError: If one occurs more than once.
    """
    repeated = [path for path, count in Counter(paths).items() if count > 1]
    if repeated:
        raise DataError(f"{file} lists {repeated[0]} more than once")
