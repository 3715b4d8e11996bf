"""The root of a data set or a store: a listing of files, and local copies of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from datamodules.errors import DataError


class DataRoot(Protocol):
    """A tree of files, local or remote; may be pickled.

    Paths are relative to it, in POSIX form. `str()` gives what a user would type.
    """

    def files(self, below: str = "") -> list[str]:
        """List all files below a folder.

        Args:
            below: The folder; the whole root unless given.

        Returns:
            Sorted paths relative to the root; empty if there is no such folder.
        """

    def size(self, path: str) -> int:
        """Tell the size of a file in bytes, -1 if there is none."""

    def local(self, path: str) -> Path:
        """Give a local copy of a file, or of a folder with all files below it.

        Args:
            path: The file or folder; the root itself if empty.

        Returns:
            Where it lies; not necessarily there, if the root does not hold it either.

        Raises:
            DataError: If it cannot be fetched.
        """


class LocalRoot:
    """A folder of this machine.

    Args:
        path: The folder.

    Raises:
        DataError: If it is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not self.path.is_dir():
            raise DataError(f"{path} is no folder; give the folder of your videos")

    def __str__(self) -> str:
        return str(self.path)

    def files(self, below: str = "") -> list[str]:
        """List all files below a folder, as `DataRoot.files` says; links are followed."""
        found = []
        for folder, _, names in os.walk(self.path / below, followlinks=True):
            start = Path(folder).relative_to(self.path).as_posix()
            found += names if start == "." else [f"{start}/{name}" for name in names]
        return sorted(found)

    def size(self, path: str) -> int:
        """Tell the size of a file in bytes, -1 if there is none."""
        file = self.path / path
        return file.stat().st_size if file.is_file() else -1

    def local(self, path: str) -> Path:
        """Give the file itself."""
        return self.path / path


def open_root(place: str | Path) -> DataRoot:
    """Open a root by what a user typed.

    Args:
        place: A folder.

    Returns:
        The root.

    Raises:
        DataError: If there is nothing there.
    """
    return LocalRoot(Path(place))
