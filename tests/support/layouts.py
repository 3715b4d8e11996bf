"""Miniatures of data sets in their true folders: empty files, as only names are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamodules.datasets.adapter import LayoutOptions
from datamodules.datasets.layouts import read_layout
from datamodules.datasets.records import SourceFolder
from datamodules.schema import VideoRecord
from datamodules.storage.root import open_root


def make_files(root: Path, paths: Iterable[str]) -> Path:
    """Make empty files below a folder."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write(path: Path, text: str) -> None:
    """Write a text, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(layout: str, root: Path, **options: Any) -> SourceFolder:
    """Read a data set by the name of its layout."""
    return read_layout(layout, open_root(root), LayoutOptions(**options))


def by_path(source: SourceFolder) -> dict[str, VideoRecord]:
    """Find records by path."""
    return {record.path: record for record in source.records}


def splits(source: SourceFolder) -> dict[str, str]:
    """Find splits by path."""
    return {record.path: record.split for record in source.records}


def note(source: SourceFolder, words: str) -> str:
    """Find the one note that holds some words."""
    found = [line for line in source.notes if words in line]
    assert len(found) == 1, (words, source.notes)
    return found[0]
