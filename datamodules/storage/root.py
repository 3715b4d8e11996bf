"""The root of a data set or a store: a listing of files, and local copies of them."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


class DataRoot(Protocol):
    """A tree of files, local or remote; may be pickled.

    Paths are relative to it, in POSIX form. `str()` gives what a user would type.
    """

    @property
    def folder(self) -> Path:
        """Folder of this machine in which files lie; of a remote root only those that are held."""

    def files(self, below: str = "") -> list[str]:
        """List all files below a folder.

        Args:
            below: The folder; the whole root unless given.

        Returns:
            Sorted paths relative to the root; empty if there is no such folder. Every file is
            listed once, whatever links lead to it; `notes` says what is left out.
        """

    @property
    def notes(self) -> list[str]:
        """What the listings so far left out, and why, one line each."""

    def size(self, path: str) -> int:
        """Tell the size of a file in bytes, -1 if there is none."""

    def modified_ns(self, path: str) -> int:
        """Tell when a file was last written, in ns since 1970, -1 if there is none."""

    def local(self, path: str) -> Path:
        """Give a local copy of a file, or of a folder with all files below it.

        It stays for as long as this object does; for many large files, one after the other, take
        `hold`.

        Args:
            path: The file or folder; the root itself if empty.

        Returns:
            Where it lies; not necessarily there, if the root does not hold it either.

        Raises:
            DataError: If it cannot be fetched.
        """

    def hold(self, path: str, sha256: str = "") -> AbstractContextManager[Path]:
        """Give a local copy of a file, or of a folder, that stays until the block ends.

        Args:
            path: The file or folder.
            sha256: What a remote file must have, 64 hexadecimal digits; not checked if empty.

        Returns:
            A context of where it lies; not necessarily there, if the root does not hold it either.

        Raises:
            DataError: If it cannot be fetched, or has another hash.
        """

    def read(self, path: str) -> bytes | None:
        """Read a small file.

        Args:
            path: The file.

        Returns:
            Its content; None if there is no such file.

        Raises:
            DataError: If it cannot be read.
        """


class LocalRoot:
    """A folder of this machine.

    Args:
        path: The folder.

    Raises:
        DataError: If it is none.
    """

    #: Links that listings came upon and left out; relative to the folder.
    _repeats: frozenset[str] = frozenset()

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not self.path.is_dir():
            raise DataError(f"{path} is no folder; give one that is there")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.path

    def files(self, below: str = "") -> list[str]:
        """List all files below a folder, as `DataRoot.files` says; links are followed."""
        found, repeats = _walk(self.path / below)
        start = self.path.as_posix().rstrip("/") + "/"
        self._repeats |= {path.removeprefix(start) for path in repeats}
        return sorted(path.removeprefix(start) for path in found)

    @property
    def notes(self) -> list[str]:
        """What the listings so far left out, as `DataRoot.notes` says."""
        if not self._repeats:
            return []
        return [
            f"{len(self._repeats)} link(s) are left out that lead to what is listed anyway, as "
            f"{min(self._repeats)}"
        ]

    def size(self, path: str) -> int:
        """Tell the size of a file in bytes, -1 if there is none."""
        file = self.path / path
        return file.stat().st_size if file.is_file() else -1

    def modified_ns(self, path: str) -> int:
        """Tell when a file was last written, in ns since 1970, -1 if there is none."""
        file = self.path / path
        return file.stat().st_mtime_ns if file.is_file() else -1

    def local(self, path: str) -> Path:
        """Give the file itself."""
        return self.path / path

    @contextmanager
    def hold(self, path: str, sha256: str = "") -> Iterator[Path]:
        """Give the file itself."""
        yield self.path / path

    def read(self, path: str) -> bytes | None:
        """Read a small file, as `DataRoot.read` says."""
        try:
            return (self.path / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise DataError(f"{self.path / path} cannot be read ({error})") from error


def _walk(top: Path) -> tuple[list[str], list[str]]:
    """List all files below a folder once; links lead to others, but not in circles.

    Returns:
        Paths of the files, and of links that lead to a file or folder that is listed anyway.
    """
    found: list[str] = []
    links: list[str] = []
    repeats: list[str] = []
    seen: set[str] = set()
    _enter(str(top), found, links, seen)
    # Links wait until all that is there without them is listed: it keeps its own name.
    while links:
        waiting, links = sorted(links), []
        for link in waiting:
            real = Path(os.path.realpath(link))
            listed = str(real.parent) in seen and real.exists()
            if str(real) in seen or listed or top.resolve().is_relative_to(real):
                repeats.append(link)
            elif real.is_dir():
                _enter(link, found, links, seen)
            else:
                seen.add(str(real))
                # A broken link stays in the list, so that it is told of.
                found.append(link)
    return found, repeats


def _enter(top: str, found: list[str], links: list[str], seen: set[str]) -> None:
    """List a folder and all below it, but for what links lead to; unreadable ones are empty."""
    folders = [top]
    while folders:
        folder = folders.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        seen.add(real)
        for entry in entries:
            if entry.is_symlink():
                links.append(entry.path)
            elif entry.is_dir():
                folders.append(entry.path)
            else:
                found.append(entry.path)


def is_url(place: str | Path) -> bool:
    """Tell whether a user typed a URL, as `s3://bucket/prefix`, and not a folder."""
    return isinstance(place, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


def open_root(place: str | Path) -> DataRoot:
    """Open a root by what a user typed.

    Args:
        place: A folder, or a URL as `s3://bucket/prefix`.

    Returns:
        The root.

    Raises:
        DataError: If there is nothing there, or the bucket cannot be reached.
    """
    if is_url(place):
        # Imported here: reading a folder needs no network library.
        from datamodules.storage.remote import RemoteRoot

        return RemoteRoot(str(place))
    return LocalRoot(Path(place))
