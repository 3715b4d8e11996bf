"""Where a prepared store is written: whole files, one run at a time."""

from __future__ import annotations

import fcntl
import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from datamodules.atomic import atomic_open
from datamodules.errors import DataError
from datamodules.storage.root import DataRoot, LocalRoot, is_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager


class OutputRoot(DataRoot, Protocol):
    """A root that can be written to; may be pickled. Files appear under their names when whole."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file, wholly or not at all.

        Args:
            path: Relative to the root.
            content: All of it.

        Raises:
            OSError: If the disk refuses the bytes.
            DataError: If the network or the bucket does.
        """

    def read_all(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Read many small files.

        Args:
            paths: Relative to the root.

        Returns:
            Contents of those that exist, by path.
        """

    def has_content(self, path: str, sha256: str) -> bool:
        """Tell whether a file is there with this content; reads all of it.

        Args:
            path: Relative to the root.
            sha256: 64 hexadecimal digits.
        """

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files; those that do not exist are no error."""

    def workspace(self) -> AbstractContextManager[Path]:
        """Give a folder that stands for the root while the block runs; what it holds may be little.

        What is written there is in the root at the end of the block, file by file in the order
        of their names. If the block raises, the root is as it was, but for files that were whole.
        """

    def only_run(self) -> AbstractContextManager[None]:
        """Keep a second run on this machine out of the same store.

        Raises:
            DataError: If another run is writing.
        """

    def clean(self) -> None:
        """Remove what killed runs had begun to write."""


class LocalOutput(LocalRoot):
    """A folder of this machine, or a shared one; made when it is first written to.

    Args:
        path: The folder.

    Raises:
        DataError: If there is a file of this name.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_dir():
            raise DataError(f"{path} is a file; give a folder for the prepared videos")
        self.path = path.resolve()

    def write(self, path: str, content: bytes) -> None:
        """Write a file, as `OutputRoot.write` says."""
        with atomic_open(self.path / path) as file:
            file.write(content)

    def read_all(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Read many small files, as `OutputRoot.read_all` says."""
        contents = {path: self.read(path) for path in paths}
        return {path: content for path, content in contents.items() if content is not None}

    def has_content(self, path: str, sha256: str) -> bool:
        """Compare the hash of a file, as `OutputRoot.has_content` says."""
        return hash_of(self.path / path) == sha256

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files."""
        for path in paths:
            (self.path / path).unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give the folder itself: its files are written atomically one by one."""
        yield self.path

    @contextmanager
    def only_run(self) -> Iterator[None]:
        """Keep a second run out, as `OutputRoot.only_run` says."""
        with lock_or_refuse(self.path / "ledger" / "lock", str(self)):
            yield

    def clean(self) -> None:
        """Remove hidden neighbours that were never renamed; nobody else may be writing."""
        for partial in self.path.rglob(".*.partial"):
            partial.unlink(missing_ok=True)


def hash_of(path: Path) -> str:
    """Give the SHA-256 of a file, 64 hexadecimal digits; empty if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


@contextmanager
def lock_or_refuse(lock: Path, store: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        lock: The file that stands for the store; made if it is missing.
        store: What is locked, for the message.

    Raises:
        DataError: If another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another process is writing into {store}; wait for it, then run the same command "
                "again"
            ) from error
        yield


def open_output(place: str | Path) -> OutputRoot:
    """Open a place to write a store to, by what a user typed.

    Args:
        place: A folder, or a URL as `s3://bucket/prefix`. It need not exist.

    Returns:
        The root.

    Raises:
        DataError: If it is a file, or the bucket cannot be reached.
    """
    if is_url(place):
        from datamodules.storage.remote import RemoteRoot

        return RemoteRoot(str(place))
    return LocalOutput(Path(place))
