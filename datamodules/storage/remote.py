"""A root behind a URL: files come through a local cache, and are written as whole objects."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from datamodules.atomic import write_text_atomically
from datamodules.errors import DataError
from datamodules.storage.cache import FOLDER_VARIABLE, SIZE_VARIABLE, FileCache, shared_cache
from datamodules.storage.output import hash_of, lock_or_refuse
from datamodules.storage.service import MAX_TRIES, Entry, Service, at_once

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence
    from pathlib import Path

_T = TypeVar("_T")

#: Bytes asked for at once: what an interrupted transfer loses at most. [ours]
PIECE_BYTES = 8 * 2**20
#: Up to so many files are looked up one by one; more of them by a listing of their folder. [ours]
_FEW = 8


class RemoteRoot:
    """A tree of files behind a URL, to be read and written; may be pickled.

    Args:
        url: As `s3://bucket/prefix`.

    Raises:
        DataError: If a package for it is absent, or the cache cannot be used.
    """

    def __init__(self, url: str) -> None:
        protocol, _, path = url.partition("://")
        if not path.strip("/"):
            raise DataError(f"{url} names no bucket; give s3://bucket/prefix")
        # Some type S3://.
        self.url = f"{protocol.lower()}://{path}".rstrip("/")
        self._listed: dict[str, dict[str, Entry]] = {}
        self._odd: set[str] = set()
        self._kept: dict[str, Path] = {}
        self._leases = ExitStack()
        # What is missing is said now, and not in the workers.
        self._pid = os.getpid()
        self._open = Service(self.url)
        _ = self._cache

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def folder(self) -> Path:
        """Where the copies of files that are held lie."""
        return self._cache.files / self._place

    def files(self, below: str = "") -> list[str]:
        """List all files below a folder, as `DataRoot.files` says; remembered from then on."""
        below = below.strip("/")
        self._listed[below] = self._list(below)
        return sorted(self._listed[below])

    @property
    def notes(self) -> list[str]:
        """What the listings so far left out, as `DataRoot.notes` says."""
        if not self._odd:
            return []
        return [
            f"{len(self._odd)} object(s) are left out whose names cannot be those of files "
            f"(an empty part, or below another object), as {min(self._odd)}"
        ]

    def size(self, path: str) -> int:
        """Tell the size of a file in bytes, -1 if there is none."""
        entry = self._entry(path)
        return -1 if entry is None else entry.num_bytes

    def modified_ns(self, path: str) -> int:
        """Tell when a file was last written, in ns since 1970, -1 if there is none."""
        entry = self._entry(path)
        return -1 if entry is None else entry.modified_ns

    def local(self, path: str) -> Path:
        """Give a local copy, as `DataRoot.local` says."""
        if path not in self._kept:
            self._kept[path] = self._leases.enter_context(self.hold(path))
        return self._kept[path]

    @contextmanager
    def hold(self, path: str, sha256: str = "") -> Iterator[Path]:
        """Give a local copy for a while, as `DataRoot.hold` says."""
        name = self._name(path)
        with self._cache.lease(name) as target:
            # A file of known content need not be looked up.
            if not sha256 or self._cache.about(name).get("sha256") != sha256:
                self._bring(path, sha256)
            yield target

    def read(self, path: str) -> bytes | None:
        """Read a small file, as `DataRoot.read` says."""
        return self._service.read(path)

    def write(self, path: str, content: bytes) -> None:
        """Write a file, as `OutputRoot.write` says."""
        self._service.write(path, content)
        self._forget()

    def read_all(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Read many small files, as `OutputRoot.read_all` says."""
        there = self._existing(paths)
        contents = zip(there, at_once(self._service.read, there), strict=True)
        return {path: content for path, content in contents if content is not None}

    def has_content(self, path: str, sha256: str) -> bool:
        """Compare the hash of a file, as `OutputRoot.has_content` says."""
        with self.hold(path) as copy:
            if hash_of(copy) == sha256:
                return True
        # Perhaps only the copy is damaged.
        self._cache.discard(self._name(path))
        with self.hold(path) as copy:
            return hash_of(copy) == sha256

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files, as `OutputRoot.remove` says."""
        there = self._existing(list(paths))
        at_once(self._service.remove, there)
        if there:
            self._forget()

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give a folder whose files are sent to the service at the end of the block."""
        with self._cache.workspace() as folder:
            yield folder
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                self._service.send(file, file.relative_to(folder).as_posix())
                self._forget()

    @contextmanager
    def only_run(self) -> Iterator[None]:
        """Keep a second run of this machine out; those of others are not known of."""
        with lock_or_refuse(self._cache.folder / "locks" / f"run-{self._place}", self.url):
            yield

    def clean(self) -> None:
        """Remove what killed runs of this machine had not sent yet."""
        self._cache.clean()

    @property
    def _service(self) -> Service:
        # Connections do not survive a fork.
        if self._pid != os.getpid():
            self._pid, self._open = os.getpid(), Service(self.url)
        return self._open

    @cached_property
    def _cache(self) -> FileCache:
        return shared_cache()

    @cached_property
    def _place(self) -> str:
        """Name the folder of this root in the cache."""
        # The same bucket may be another one elsewhere.
        whole = f"{os.environ.get('AWS_ENDPOINT_URL', '')} {self.url}"
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.url)[-60:]
        return f"{plain}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"

    def _name(self, path: str) -> str:
        if ".." in path.split("/"):
            raise DataError(f"{self.url}/{path}: names with '..' are not read")
        return f"{self._place}/{path}" if path else self._place

    def _list(self, below: str) -> dict[str, Entry]:
        """List a folder; what could not be copied into a tree of files is left out."""
        found = self._service.list(below)
        odd = {path for path in found if _is_odd(path, found)}
        self._odd |= odd
        return {path: entry for path, entry in found.items() if path not in odd}

    def _forget(self) -> None:
        """Drop what was known before something was written."""
        self._listed.clear()
        self._kept.clear()

    def _entry(self, path: str) -> Entry | None:
        for below, entries in self._listed.items():
            if not below or path.startswith(f"{below}/"):
                return entries.get(path)
        return self._service.entry(path)

    def _existing(self, paths: Sequence[str]) -> list[str]:
        """Leave out files that are not there, where that saves calls."""
        if len(paths) <= _FEW:
            return list(paths)
        folders = {path.rpartition("/")[0] for path in paths}
        there = {path for folder in folders for path in self._service.list(folder)}
        return [path for path in paths if path in there]

    def _bring(self, path: str, sha256: str) -> None:
        """Make the local copy what the service has."""
        entry = self._entry(path)
        if entry is not None:
            self._bring_file(path, entry, sha256)
            return
        files = self._list(path)
        folder = self._cache.files / self._name(path)
        if not files:
            self._cache.discard(self._name(path))
        elif folder.is_dir():
            for copy in folder.rglob("*"):
                name = copy.relative_to(self.folder).as_posix()
                if copy.is_file() and name not in files:
                    self._cache.discard(self._name(name))
        at_once(lambda name: self._bring_file(name, files[name], ""), files)

    def _bring_file(self, path: str, entry: Entry, sha256: str) -> None:
        name = self._name(path)
        with self._cache.lease(name) as target, self._cache.fetching(name):
            about = self._cache.about(name)
            if about.get("version") != entry.version or target.stat().st_size != entry.num_bytes:
                entry = self._fetch(path, entry)
                part = self._cache.part(name)
                about = {"version": entry.version, "sha256": self._checked(path, part, sha256)}
                self._cache.accept(name, entry.modified_ns, about)
            elif sha256:
                about["sha256"] = self._checked(path, target, sha256)
                self._cache.note(name, about)

    def _checked(self, path: str, copy: Path, sha256: str) -> str:
        """Compare the hash of a copy with what it must be; one that differs is removed."""
        if not sha256:
            return ""
        found = hash_of(copy)
        if found != sha256:
            copy.unlink()
            raise DataError(
                f"{self.url}/{path} has changed: its sha256 is {found[:16]}..., "
                f"recorded was {sha256[:16]}...; put the old file back, or run `make data` "
                "again with ARGS=--verify"
            )
        return sha256

    def _fetch(self, path: str, entry: Entry) -> Entry:
        """Fetch a file piece by piece; go on where an earlier process stopped.

        Returns:
            What was fetched: a newer version, if it changed meanwhile.
        """
        part = self._cache.part(self._name(path))
        while True:
            done = _bytes_done(part, entry)
            if not done:
                self._allot(path, entry.num_bytes)
            with part.open("r+b") as file:
                file.seek(done)
                while done < entry.num_bytes:
                    piece = self._piece(path, done, entry.num_bytes)
                    file.write(piece)
                    file.flush()
                    # Else a power cut could leave a note on bytes that are not there.
                    os.fsync(file.fileno())
                    done += len(piece)
                    if done < entry.num_bytes:
                        _note_bytes(part, entry, done)
            # A file of one piece is of one version; pieces may be of several.
            now = entry if entry.num_bytes <= PIECE_BYTES else self._service.entry(path)
            _note_file(part).unlink(missing_ok=True)
            if now == entry:
                return entry
            entry = self._not_gone(path, now)

    def _piece(self, path: str, start: int, end: int) -> bytes:
        """Fetch the next bytes of a file, at least one; connections may be cut at any place."""
        end = min(end, start + PIECE_BYTES)
        for _ in range(MAX_TRIES):
            piece = self._not_gone(path, self._service.read(path, start, end))
            if len(piece) > end - start:
                raise DataError(f"{self.url}/{path}: the service does not give parts of files")
            if piece:
                return piece
        raise DataError(f"{self.url}/{path} ends after {start} bytes, before its time; try again")

    def _not_gone(self, path: str, found: _T | None) -> _T:
        if found is None:
            raise DataError(f"{self.url}/{path} was removed while it was fetched")
        return found

    def _allot(self, path: str, num_bytes: int) -> None:
        try:
            self._cache.allot(self._name(path), num_bytes)
        except OSError as error:
            raise DataError(
                f"the cache {self._cache.folder} does not take {self.url}/{path} ({error}); name "
                f"a roomier folder in {FOLDER_VARIABLE}, or less than the disk in {SIZE_VARIABLE}"
            ) from error


def _is_odd(path: str, found: Container[str]) -> bool:
    """Tell whether an object has a name that no file could have, beside the others found."""
    parts = path.split("/")
    nested = any("/".join(parts[:end]) in found for end in range(1, len(parts)))
    return nested or not {"", ".", ".."}.isdisjoint(parts)


def _note_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note_bytes(part: Path, entry: Entry, done: int) -> None:
    """Note how much of which version of a file has arrived."""
    about = {"version": entry.version, "num_bytes": entry.num_bytes, "done": done}
    write_text_atomically(_note_file(part), json.dumps(about))


def _bytes_done(part: Path, entry: Entry) -> int:
    """Tell how much of this version of a file an earlier transfer has brought."""
    try:
        about = json.loads(_note_file(part).read_text(encoding="utf-8"))
        same = (about["version"], about["num_bytes"]) == (entry.version, entry.num_bytes)
        return int(about["done"]) if same and part.stat().st_size == entry.num_bytes else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
