"""A prepared folder on disk: manifest, how it was made, and the face tracks.

Its layout: `manifest.jsonl`, `prepared.json`, `report.csv`, `SHA256SUMS` (of all tracks),
`tracks/<video_id>/<k>.zip` (see `track_file`) and the ledger of the preparation.
"""

from __future__ import annotations

import json
import weakref
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from datamodules.errors import DataError
from datamodules.manifest import manifest_hash, read_manifest, validate_manifest
from datamodules.storage.output import hash_of
from datamodules.storage.root import is_url, open_root
from datamodules.store.track_file import (
    FORMAT_VERSION,
    READABLE_VERSIONS,
    REMEDY,
    TrackMeta,
    TrackReader,
    wrong_version,
)
from datamodules.store.track_writer import TrackWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datamodules.schema import VideoRecord
    from datamodules.storage.root import DataRoot

__all__ = ["PreparedInfo", "PreparedStore", "TrackMeta", "TrackReader", "TrackWriter"]
__all__ += ["INFO_NAME", "MANIFEST_NAME", "read_prepared_info"]
__all__ += ["CHECKSUMS_NAME", "write_checksums", "write_prepared_info"]

MANIFEST_NAME = "manifest.jsonl"
INFO_NAME = "prepared.json"
CHECKSUMS_NAME = "SHA256SUMS"
#: Open files a process keeps, far below the usual limit of 1024. [ours]
MAX_OPEN_TRACKS = 32


@dataclass(frozen=True, kw_only=True)
class PreparedInfo:
    """How a store was made; the contents of `prepared.json`.

    Attributes:
        backend: Face backend of all its tracks.
        backend_version: Its version.
        parameters: Settings of the preparation by name.
        libraries: Versions of the libraries that decoded and detected, by name.
        counts: What was found: videos, tracks, dropped frames and the like, by name.
        format_version: Of the store's layout.
    """

    backend: str
    backend_version: str
    parameters: dict[str, Any]
    libraries: dict[str, str]
    counts: dict[str, int]
    format_version: int = FORMAT_VERSION


class PreparedStore:
    """A folder written by `make data`: its videos and its tracks. May be pickled.

    Args:
        root: The folder, or its URL as `s3://bucket/prefix`.

    Attributes:
        files: Where its files lie.
        info: How it was made.
        records: Its videos, sorted by `video_id`.
        manifest_hash: Names its videos, 64 hexadecimal digits.

    Raises:
        DataError: If there is no store, it is of another format, its manifest is invalid, or the
            bucket cannot be reached.
    """

    def __init__(self, root: str | Path) -> None:
        self.files = _open_store(root)
        _check_is_store(self.files)
        self.info = _read_info(self.files)
        self.records: list[VideoRecord] = read_manifest(self.files.local(MANIFEST_NAME))
        validate_manifest(self.records)
        self.manifest_hash = manifest_hash(self.records)
        self._checksums = _read_checksums(self.files)
        self._readers: OrderedDict[str, TrackReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": OrderedDict()}

    def reader(self, track: str) -> TrackReader:
        """Open a track, or find it among those opened last.

        Args:
            track: Path relative to the root, as in `VideoRecord.tracks`.

        Returns:
            The reader; it is closed when many others were opened after it.

        Raises:
            DataError: If it is missing, damaged, or made by another face backend than the store;
                if it comes from a bucket, also if it is not the file that was prepared.
        """
        reader = self._readers.get(track)
        if reader is None:
            reader = self._opened(track)
            self._check_backend(reader)
            self._readers[track] = reader
            while len(self._readers) > MAX_OPEN_TRACKS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(track)
        return reader

    def _opened(self, track: str) -> TrackReader:
        # The copy of a far file has to stay for as long as anybody may open it again.
        stack = ExitStack()
        path = stack.enter_context(self.files.hold(track, self._checksums.get(track, "")))
        reader = TrackReader(path)
        weakref.finalize(reader, stack.close).atexit = False
        return reader

    def checksum(self, track: str) -> str:
        """Tell the SHA-256 of a track, 64 hexadecimal digits: as listed, else of the file itself.

        Raises:
            DataError: If there is no such list and the track cannot be fetched.
        """
        listed = self._checksums.get(track)
        if listed:
            return listed
        with self.files.hold(track) as path:
            return hash_of(path)

    def close(self) -> None:
        """Close all tracks; they are opened again when needed."""
        while self._readers:
            self._readers.popitem()[1].close()

    def _check_backend(self, reader: TrackReader) -> None:
        made = f"{reader.meta.backend} {reader.meta.backend_version}"
        wanted = f"{self.info.backend} {self.info.backend_version}"
        if made != wanted:
            raise DataError(
                f"{reader.path} was made by the face backend {made}, the rest of the store by "
                f"{wanted}; {REMEDY}, or prepare into another folder"
            )


def write_prepared_info(root: Path, info: PreparedInfo) -> None:
    """Write `prepared.json`, wholly or not at all.

    Args:
        root: The store.
        info: What to record.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    text = json.dumps(asdict(info), indent=1, sort_keys=True, ensure_ascii=False)
    write_text_atomically(root / INFO_NAME, text + "\n")


def write_checksums(root: Path, checksums: Mapping[str, str]) -> None:
    """Write the hashes of all tracks, as `sha256sum --check` reads them.

    Args:
        root: The store.
        checksums: SHA-256, 64 hexadecimal digits, by path relative to the root.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    lines = [f"{checksum}  {path}\n" for path, checksum in sorted(checksums.items())]
    write_text_atomically(root / CHECKSUMS_NAME, "".join(lines))


def read_prepared_info(root: str | Path) -> PreparedInfo:
    """Read how a store was made.

    Args:
        root: The store, a folder or a URL.

    Raises:
        DataError: If there is no store, or it is of another format.
    """
    files = _open_store(root)
    _check_is_store(files)
    return _read_info(files)


def _open_store(root: str | Path) -> DataRoot:
    if not is_url(root) and not Path(root).is_dir():
        raise DataError(f"{root} is no folder; give ROOT=<prepared folder>, made by `make data`")
    return open_root(root)


def _check_is_store(files: DataRoot) -> None:
    """Refuse what is no prepared folder, with the command that makes one."""
    missing = [name for name in (MANIFEST_NAME, INFO_NAME) if files.size(name) < 0]
    if not missing:
        return
    if files.size(INFO_NAME) >= 0:
        raise DataError(
            f"{files} is unfinished, it has no {MANIFEST_NAME}: run `make data` again with the "
            "options of before"
        )
    raw = any(files.files(kind) for kind in ("real", "fake"))
    what = "holds raw videos, not prepared ones" if raw else f"has no {missing[0]}"
    raise DataError(
        f"{files} {what}; run `make data ROOT=<raw videos> OUT=<prepared>` first, "
        "then give ROOT=<prepared>"
    )


def _read_checksums(files: DataRoot) -> dict[str, str]:
    """Read the hashes of the tracks by path; none where the store has no such list."""
    lines = (files.read(CHECKSUMS_NAME) or b"").decode().splitlines()
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {path: checksum for checksum, path in pairs}


def _read_info(files: DataRoot) -> PreparedInfo:
    """Read `prepared.json`."""
    place = f"{files}/{INFO_NAME}"
    try:
        values = json.loads(files.read(INFO_NAME) or b"")
    except ValueError as error:
        raise DataError(f"{place} cannot be read ({error}); run `make data` again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in READABLE_VERSIONS:
        raise wrong_version(place, version)
    try:
        return PreparedInfo(**{field.name: values[field.name] for field in fields(PreparedInfo)})
    except KeyError as error:
        raise DataError(f"{place} lacks {error}; run `make data` again") from error
