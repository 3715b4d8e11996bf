"""API keys: shown once, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.atomic import write_text_atomically
from experiments.errors import UsageError

_PREFIX = "ffs_"


@dataclass(frozen=True)
class Key:
    """What is kept of a key.

    Attributes:
        name: Who has it.
        sha256: Of the key. It has 256 random bits, so that a slow hash would add nothing.
        created: Unix time in seconds.
    """

    name: str
    sha256: str
    created: float

    @property
    def identity(self) -> str:
        """What stands for the key in jobs, rates and logs."""
        return self.sha256[:16]


class KeyFile:
    """The keys of a server; what another process changes is seen at the next request.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int] | None, tuple[Key, ...]] = (None, ())

    def read(self) -> tuple[Key, ...]:
        """Read the keys.

        Raises:
            UsageError: The file cannot be read.
        """
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return ()
        version = (stat.st_mtime_ns, stat.st_ino)
        with self._lock:
            if self._read[0] != version:
                self._read = (version, self._load())
            return self._read[1]

    def find(self, given: str) -> Key | None:
        """Find the key that was given; all are compared, so that time tells nothing."""
        digest = _digest(given)
        found = None
        for key in self.read():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found

    def add(self, name: str) -> str:
        """Make a key.

        Args:
            name: Who is to have it.

        Returns:
            The key; nobody can read it again.

        Raises:
            UsageError: The name is taken.
        """
        if any(key.name == name for key in self.read()):
            raise UsageError(f"--new-key: there is a key '{name}' already; revoke it first")
        given = _PREFIX + secrets.token_urlsafe(32)
        self._write((*self.read(), Key(name, _digest(given), time.time())))
        return given

    def revoke(self, name: str) -> None:
        """Take a key back.

        Raises:
            UsageError: There is none of this name.
        """
        left = tuple(key for key in self.read() if key.name != name)
        if len(left) == len(self.read()):
            known = ", ".join(key.name for key in left) or "none"
            raise UsageError(f"--revoke-key: there is no key '{name}'; there are: {known}")
        self._write(left)

    def _load(self) -> tuple[Key, ...]:
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            return tuple(Key(**row) for row in rows)
        except (ValueError, TypeError, OSError) as error:
            raise UsageError(f"{self._path}: is no file of keys ({error}); remove it") from error

    def _write(self, keys: tuple[Key, ...]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        rows = json.dumps([asdict(key) for key in keys], indent=1)
        write_text_atomically(self._path, rows + "\n")
        self._path.chmod(0o600)


def _digest(given: str) -> str:
    return hashlib.sha256(given.encode()).hexdigest()
