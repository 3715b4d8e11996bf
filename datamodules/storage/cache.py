"""A folder of bounded size that holds copies of far files; any number of processes share it.

A file is leased while it is in use: leases are shared locks on small files, which the system drops
when a process ends in any way. Who needs room removes what was used longest ago and is not leased.
All changes of the books happen under one lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Environment variables: the folder, and its size in 10^9 bytes.
FOLDER_VARIABLE = "FORGERY_CACHE"
SIZE_VARIABLE = "FORGERY_CACHE_GB"
#: About FaceForensics++ c23 with all methods. [ours]
DEFAULT_GB = 50.0
#: Share of the bound that is left in use when room is made, so that it is made rarely. [ours]
_KEPT = 0.9
#: Files that share a lock while they are fetched; few collide. [ours]
_NUM_LOCKS = 256


class FileCache:
    """Files by name below one folder, together no larger than a bound.

    Only leased files may exceed it: a file larger than the whole cache stays while it is in use.

    Args:
        folder: Made if it is missing.
        max_bytes: The bound.

    Raises:
        DataError: If the folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder.expanduser().resolve()
        self.max_bytes = max_bytes
        self.files = self.folder / "files"
        try:
            for name in ("files", "about", "parts", "leases", "locks", "work"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"the cache folder {self.folder} cannot be made ({error}); "
                f"name another one in {FOLDER_VARIABLE}"
            ) from error

    @contextmanager
    def lease(self, name: str) -> Iterator[Path]:
        """Keep a file, or a folder of files, from being removed while the block runs.

        Args:
            name: Of the file or folder, in POSIX form; it need not be there yet.

        Yields:
            Its path.
        """
        target = self.files / name
        with self._books():
            # Not closed by `with`: a forked process shares the lock and goes on holding it.
            lease = os.open(self._lease(name), os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(lease, fcntl.LOCK_SH)
        try:
            with suppress(OSError):
                # The time of access is that of the last lease; file systems often do not keep it.
                os.utime(target, ns=(time.time_ns(), target.stat().st_mtime_ns))
            yield target
        finally:
            os.close(lease)
            # The holder may live longer than the folder, which a user is free to remove.
            with suppress(FileNotFoundError), self._books():
                if self._total() > self.max_bytes:
                    self._make_room(0)

    @contextmanager
    def fetching(self, name: str) -> Iterator[None]:
        """Let one process at a time fetch a file; the next one finds it there."""
        number = int(_digest(name), 16) % _NUM_LOCKS
        with (self.folder / "locks" / f"fetch{number:03d}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def part(self, name: str) -> Path:
        """Tell where the bytes of a file go until all are there."""
        return self.folder / "parts" / _digest(name)

    def allot(self, name: str, num_bytes: int) -> None:
        """Begin a part of a leased file: make room and give it its full length.

        Raises:
            OSError: If the disk refuses.
        """
        part = self.part(name)
        with self._books():
            part.unlink(missing_ok=True)
            total = self._total() + num_bytes
            if total > self.max_bytes:
                total = self._make_room(num_bytes) + num_bytes
            # Noted first: after a crash the books may tell too much, never too little.
            self._note_total(total)
            with part.open("wb") as file:
                file.truncate(num_bytes)

    def accept(self, name: str, modified_ns: int, about: dict[str, Any]) -> None:
        """Turn a whole part into the file.

        Args:
            name: Of the file, which is leased.
            modified_ns: Its time of modification.
            about: What to know of it later, as JSON values.
        """
        part, target = self.part(name), self.files / name
        # In this order: a file of which nothing is known is fetched again, a wrong one is not.
        self._about(name).unlink(missing_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.utime(part, ns=(time.time_ns(), modified_ns))
        # Else whoever counts at this moment may find it in neither place.
        with self._books():
            part.replace(target)
        self.note(name, about)

    def note(self, name: str, about: dict[str, Any]) -> None:
        """Note what to know of a file later, as JSON values."""
        write_text_atomically(self._about(name), json.dumps(about))

    def about(self, name: str) -> dict[str, Any]:
        """Tell what was noted of a file; empty if it is not there."""
        try:
            found = json.loads(self._about(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and (self.files / name).is_file() else {}

    def discard(self, name: str) -> None:
        """Remove a file, or what was a folder of files; open handles go on reading."""
        target = self.files / name
        self._about(name).unlink(missing_ok=True)
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            with suppress(NotADirectoryError):
                target.unlink(missing_ok=True)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give an empty folder for what is about to be sent away; removed after the block."""
        folder = Path(mkdtemp(dir=self.folder / "work"))
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)

    def clean(self) -> None:
        """Remove the workspaces of processes that were killed."""
        for folder in (self.folder / "work").iterdir():
            with _if_unused(folder) as unused:
                if unused:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _books(self) -> Iterator[None]:
        with (self.folder / "locks" / "books").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _total(self) -> int:
        """Read how many bytes there are at most."""
        try:
            return int((self.folder / "total").read_text())
        except (OSError, ValueError):
            return self._make_room(0)

    def _note_total(self, total: int) -> None:
        (self.folder / "total").write_text(str(total))

    def _make_room(self, num_bytes: int) -> int:
        """Remove what was used longest ago, until so many more bytes fit in.

        Returns:
            Bytes that are there now.
        """
        leased = self._leased()
        found = []
        for path in [*self.files.rglob("*"), *(self.folder / "parts").iterdir()]:
            with suppress(OSError):
                if path.is_file() and not path.is_symlink():
                    state = path.stat()
                    found.append((state.st_atime_ns, state.st_size, path))
        total = sum(size for _, size, _ in found)
        goal = max(0, int(_KEPT * self.max_bytes) - num_bytes)
        for _, size, path in sorted(found):
            if total <= goal:
                break
            if not self._is_leased(path, leased):
                with suppress(OSError):
                    path.unlink()
                    total -= size
                if path.is_relative_to(self.files):
                    self._about(path.relative_to(self.files).as_posix()).unlink(missing_ok=True)
        self._note_total(total)
        return total

    def _leased(self) -> set[str]:
        """List the leases that somebody holds; remove the files of the others."""
        held = set()
        for path in (self.folder / "leases").iterdir():
            with _if_unused(path) as unused:
                if unused:
                    path.unlink(missing_ok=True)
                else:
                    held.add(path.name)
        return held

    def _is_leased(self, path: Path, leased: set[str]) -> bool:
        """Tell whether a file, or a folder that it lies in, is leased."""
        if path.parent == self.folder / "parts":
            return path.name.partition(".")[0] in leased
        name = path.relative_to(self.files)
        return any(_digest(part.as_posix()) in leased for part in (name, *name.parents))

    def _lease(self, name: str) -> Path:
        return self.folder / "leases" / _digest(name)

    def _about(self, name: str) -> Path:
        return self.folder / "about" / f"{_digest(name)}.json"


def shared_cache() -> FileCache:
    """Open the cache that the environment names.

    Raises:
        DataError: If its folder cannot be made, or its size is no positive number.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get(FOLDER_VARIABLE) or f"{home}/face-forgery-suite"
    text = os.environ.get(SIZE_VARIABLE) or str(DEFAULT_GB)
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < float("inf"):
        raise DataError(f"{SIZE_VARIABLE} is '{text}'; it takes a number of gigabytes above 0")
    return FileCache(Path(folder), int(size * 1e9))


@contextmanager
def _if_unused(path: Path) -> Iterator[bool]:
    """Tell whether nobody holds a lock on a file or folder, and hold it meanwhile."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
