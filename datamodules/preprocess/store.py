"""A prepared folder on disk: manifest, how it was made, and the face tracks.

Its layout: `manifest.jsonl`, `prepared.json`, `report.csv`, `tracks/<video_id>/<k>.zip` (see
`track_file`) and the ledger of the preparation.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from datamodules.errors import DataError
from datamodules.manifest import manifest_hash, read_manifest, validate_manifest
from datamodules.preprocess.track_file import (
    FORMAT_VERSION,
    READABLE_VERSIONS,
    REMEDY,
    TrackMeta,
    TrackReader,
    wrong_version,
)
from datamodules.preprocess.track_writer import TrackWriter

if TYPE_CHECKING:
    from pathlib import Path

    from datamodules.schema import VideoRecord

__all__ = ["PreparedInfo", "PreparedStore", "TrackMeta", "TrackReader", "TrackWriter"]
__all__ += ["INFO_NAME", "MANIFEST_NAME", "write_prepared_info"]

MANIFEST_NAME = "manifest.jsonl"
INFO_NAME = "prepared.json"
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
        root: The folder.

    Raises:
        DataError: If the folder is none, is of another format, or its manifest is invalid.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        _check_is_store(root)
        self.info = _read_info(root / INFO_NAME)
        self.records: list[VideoRecord] = read_manifest(root / MANIFEST_NAME)
        validate_manifest(self.records)
        self.manifest_hash = manifest_hash(self.records)
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
            DataError: If it is missing, damaged, or made by another face backend than the store.
        """
        reader = self._readers.get(track)
        if reader is None:
            reader = TrackReader(self.root / track)
            self._check_backend(reader)
            self._readers[track] = reader
            while len(self._readers) > MAX_OPEN_TRACKS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(track)
        return reader

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


def _check_is_store(root: Path) -> None:
    """Refuse what is no prepared folder, with the command that makes one."""
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give ROOT=<prepared folder>, made by `make data`")
    missing = [name for name in (MANIFEST_NAME, INFO_NAME) if not (root / name).is_file()]
    if not missing:
        return
    raw = (root / "real").is_dir() or (root / "fake").is_dir()
    what = "holds raw videos, not prepared ones" if raw else f"has no {missing[0]}"
    raise DataError(
        f"{root} {what}; run `make data ROOT=<raw videos> OUT=<prepared>` first, "
        "then give ROOT=<prepared>"
    )


def _read_info(path: Path) -> PreparedInfo:
    """Read `prepared.json`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); run `make data` again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version not in READABLE_VERSIONS:
        raise wrong_version(path, version)
    try:
        return PreparedInfo(**{field.name: values[field.name] for field in fields(PreparedInfo)})
    except KeyError as error:
        raise DataError(f"{path} lacks {error}; run `make data` again") from error
