"""Calls to a storage service: tried again where that helps, one line where it does not."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

#: How often a call is made before it fails, and the seconds before the second one; each wait is
#: twice the one before, 16 s together. [ours]
MAX_TRIES = 7
FIRST_WAIT_S = 0.25
#: Calls at once for many small files: each mostly waits for the network. [ours]
_THREADS = 16
#: Arguments by protocol: botocore would wait a minute for a host that does not answer, and try
#: everything again by itself.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 0}}
    }
}
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}
#: Parts of names of errors and of their texts that no second try mends.
_REFUSED = ("Credential", "AccessDenied", "Forbidden", "InvalidAccessKey", "SignatureDoesNotMatch")
_SIGN_IN = (
    "set the service's credentials in the environment (of S3: AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY or AWS_PROFILE; FSSPEC_S3_ANON=true for a public bucket)"
)

#: What services call the time of the last change, and the mark of a content.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")


@dataclass(frozen=True)
class Entry:
    """A file of a service.

    Attributes:
        num_bytes: Its size.
        version: Changes with the content: the ETag where the service has one.
        modified_ns: When it was last written, in ns since 1970.
    """

    num_bytes: int
    version: str
    modified_ns: int


class Service:
    """A file system by its URL, through fsspec.

    Args:
        url: As `s3://bucket/prefix`.

    Raises:
        DataError: If the package for it is absent, or there is none.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        protocol = url.partition("://")[0]
        try:
            import fsspec

            self._fs, path = fsspec.url_to_fs(url, **_ARGUMENTS.get(protocol, {}))
        except ImportError as error:
            package = _PACKAGES.get(protocol, "its fsspec package")
            raise DataError(
                f"{url} needs a package that is absent ({error}); "
                f"run pip install -e '.[s3]'{'' if package == 's3fs' else f' and {package}'}"
            ) from error
        except ValueError as error:
            raise DataError(
                f"{url} cannot be opened ({error}); S3 is s3://bucket/prefix"
            ) from error
        # Its own tries would multiply with ours.
        if hasattr(self._fs, "retries"):
            self._fs.retries = 1
        self._path = str(path).rstrip("/")
        #: Whether the bucket is known to be there.
        self._seen = False

    def list(self, below: str) -> dict[str, Entry]:
        """List all files below a folder: their entries by path relative to the URL.

        Raises:
            DataError: If the service cannot be reached or refuses, or there is no such bucket.
        """
        start = self._full(below)
        found = self._call(lambda: self._fresh().find(start, detail=True), {})
        if not found and not self._seen:
            self._check_bucket(start.partition("/")[0])
        self._seen = True
        prefix = f"{self._path}/" if self._path else ""
        return {
            str(name)[len(prefix) :]: _entry(info)
            for name, info in found.items()
            # Some consoles make "folders": empty objects whose names end in a slash.
            if str(name).startswith(f"{start}/") and info["type"] == "file" and str(name)[-1] != "/"
        }

    def _check_bucket(self, bucket: str) -> None:
        """Tell an empty bucket from one that is absent, whose listing is empty as well."""
        if not self._call(lambda: self._fresh().exists(bucket), False):
            raise DataError(f"{self.url}: there is no bucket {bucket}")

    def entry(self, path: str) -> Entry | None:
        """Look at one file; None if there is none."""
        info = self._call(lambda: self._fresh().info(self._full(path)), None)
        return _entry(info) if info is not None and info["type"] == "file" else None

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """Read bytes of a file, from `start` to before `end`; None if there is none."""
        full = self._full(path)
        content = self._call(lambda: self._fs.cat_file(full, start=start, end=end), None)
        return None if content is None else bytes(content)

    def write(self, path: str, content: bytes) -> None:
        """Write a file; it appears when it is whole."""
        self._call(lambda: self._fs.pipe_file(self._full(path), content))

    def send(self, file: Path, path: str) -> None:
        """Write a file with the content of one of this machine; it appears when it is whole."""
        self._call(lambda: self._fs.put_file(str(file), self._full(path)))

    def remove(self, path: str) -> None:
        """Remove a file, if there is one."""
        self._call(lambda: self._fs.rm_file(self._full(path)), None)

    def _full(self, path: str) -> str:
        return "/".join(part for part in (self._path, path) if part)

    def _fresh(self) -> Any:
        # fsspec remembers listings, and would not see what others wrote.
        self._fs.invalidate_cache()
        return self._fs

    def _call(self, call: Callable[[], Any], *absent: Any) -> Any:
        """Make a call; give `absent`, if there is one, where the file is not there."""
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                return call()
            except FileNotFoundError as error:
                if absent:
                    return absent[0]
                raise DataError(f"{self.url} cannot be used ({_text(error)})") from error
            except Exception as error:
                # Each service has its own kinds of errors; most of them are about the network.
                self._give_up(error, tries_left)
            time.sleep(FIRST_WAIT_S * 2 ** (MAX_TRIES - 1 - tries_left))
        raise AssertionError

    def _give_up(self, error: Exception, tries_left: int) -> None:
        """Raise what a user can do about an error, unless another try may help."""
        text = _text(error)
        if isinstance(error, PermissionError) or any(word in text for word in _REFUSED):
            raise DataError(f"{self.url} refuses access ({text}); {_SIGN_IN}") from error
        if isinstance(error, TypeError | AttributeError | NotImplementedError):
            raise error
        if not tries_left:
            raise DataError(
                f"{self.url} cannot be reached after {MAX_TRIES} tries ({text}); see to the "
                "network and to AWS_ENDPOINT_URL, then run the same command again: it goes on "
                "where it was"
            ) from error


def at_once(call: Callable[[str], Any], paths: Iterable[str]) -> list[Any]:
    """Make a call for each of many paths, several at once.

    Args:
        call: Takes a path.
        paths: The paths.

    Returns:
        What the calls returned, in the order of the paths.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(call, paths))


def _entry(info: dict[str, Any]) -> Entry:
    """Read the entry of a listing; every service names things its own way."""
    modified = next((info[name] for name in _TIMES if name in info), 0)
    modified_ns = _nanoseconds(modified)
    tag = next((info[name] for name in _TAGS if info.get(name)), None)
    size = int(info["size"])
    return Entry(size, str(tag or f"{size} {modified_ns}").strip('"'), modified_ns)


def _nanoseconds(moment: Any) -> int:
    """Turn a time, however it is told, into whole microseconds since 1970, in ns."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    if isinstance(moment, datetime):
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        past: timedelta = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (past.days * 86400 + past.seconds) * 10**9 + past.microseconds * 1000
    return int(float(moment) * 1e6) * 1000


def _text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
