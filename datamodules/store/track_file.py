"""One face track in one stored zip: crops, points and where they came from.

A zip holds `frames/<frame>.jpg` (the generous crop of the face, not aligned, named by the
frame of the source video), `points.npz` (what `FaceTrack` holds, and where the crops lie) and
`track.json` (source, backend, settings, and a checksum of every other member).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datamodules.errors import DataError
from datamodules.schema import FaceTrack
from datamodules.store.jpeg_rows import some_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Of what is written: 2 may hold a forehead, and knows person, rank and pose of a track.
FORMAT_VERSION = 2
#: What is read. Version 1 lacks what 2 added; `make data` brings a store of it up to date.
READABLE_VERSIONS = (1, 2)

#: 46.9 dB, and 0.974 correlation of the high-pass residual with that of the source, at a ninth
#: of the raw size: the traces that detectors live on survive. [ours, measured on six real tracks]
JPEG_QUALITY = 95

ImageFormat = Literal["jpg", "png"]
#: Name, shape of one frame's row and dtype of everything in `points.npz`.
ARRAYS: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "frame_index": ((), np.int64),
    "box": ((4,), np.float32),
    "points5": ((5, 2), np.float32),
    "points68": ((68, 2), np.float32),
    "score": ((), np.float32),
    "crop_box": ((4,), np.int32),
}
#: The same of what only some face backends give; in all frames of a track or in none.
OPTIONAL_ARRAYS: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "forehead": ((13, 2), np.float32),
}
#: Bytes of a zip member's own header, and where in it the lengths of name and extra field lie.
_LOCAL_HEADER, _LOCAL_NAME_LENGTH = 30, 26
#: What to do about a damaged file.
REMEDY = "run `make data` again with ARGS=--verify"


@dataclass(frozen=True, kw_only=True)
class TrackMeta:
    """Where a track came from.

    Attributes:
        source_sha256: Of the video file.
        backend: Face backend that found the points.
        backend_version: Its version.
        fps: Frames a second of the video.
        height: Height of the video in pixels, as decoded.
        width: Width of the video in pixels, as decoded.
        image_format: `jpg` (4:4:4) or `png` (lossless).
        quality: JPEG quality in 0..100; 0 for png.
    """

    source_sha256: str
    backend: str
    backend_version: str
    fps: float
    height: int
    width: int
    image_format: ImageFormat = "jpg"
    quality: int = JPEG_QUALITY


class TrackReader:
    """Read one track. Opened at first use and again in every process; may be pickled.

    Args:
        path: The zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_zip": None, "_pid": 0}

    @cached_property
    def meta(self) -> TrackMeta:
        """Where the track came from."""
        about = self._about
        try:
            return TrackMeta(**{field.name: about[field.name] for field in fields(TrackMeta)})
        except KeyError as error:
            raise self._damage(f"track.json lacks {error}") from error

    @property
    def figures(self) -> dict[str, float]:
        """Quality of the track by name, as its writer was told."""
        return dict(self._about.get("figures", {}))

    @cached_property
    def track(self) -> FaceTrack:
        """The faces of all kept frames."""
        arrays = self._arrays
        return FaceTrack(**{name: arrays[name] for name in arrays if name != "crop_box"})

    @cached_property
    def crop_boxes(self) -> NDArray[np.int32]:
        """Where the crops lie: x0 y0 x1 y1 in source pixels, shape (N, 4), int32."""
        return self._arrays["crop_box"]

    def __len__(self) -> int:
        return len(self._arrays["frame_index"])

    def crops(self, positions: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Decode whole crops, as `each_crop` does, all at once."""
        return [pixels for pixels, _ in self.each_crop(positions)]

    def each_crop(
        self, positions: Sequence[int], rows: Sequence[tuple[int, int]] | None = None
    ) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Decode crops one by one: who uses each at once finds it in the processor's cache.

        Args:
            positions: Positions in the track, in 0..N - 1, in any order, repeats allowed.
            rows: Of each crop, the first row of pixels that is needed and the row after the
                last one. All rows unless given.

        Yields:
            A band of the crop, RGB, shape (h, w, 3), uint8, which may hold more rows than were
            asked for, and the row of the crop that its first one is. Repeats are one object.

        Raises:
            DataError: If the file is missing or damaged.
            IndexError: If a position is not in the track.
        """
        each_rows = repeat(None, len(positions)) if rows is None else rows
        wanted = list(zip(positions, each_rows, strict=True))
        left = Counter(wanted)
        kept: dict[tuple[int, tuple[int, int] | None], tuple[NDArray[np.uint8], int]] = {}
        for key in wanted:
            if not 0 <= key[0] < len(self):
                raise IndexError(f"{self.path}: position {key[0]} of {len(self)}")
            left[key] -= 1
            band = kept.pop(key, None) or self._decode(*key)
            if left[key]:
                kept[key] = band
            yield band

    def verify(self) -> None:
        """Compare every member with its checksum.

        Raises:
            DataError: If a member is missing, additional or changed; names it.
        """
        expected = self._about.get("members", {})
        found = set(self._open().namelist()) - {"track.json"}
        if found != set(expected):
            raise self._damage(f"members differ: {sorted(found ^ set(expected))[:3]}")
        for name, checksum in expected.items():
            if hashlib.sha256(self._read(name)).hexdigest() != checksum:
                raise self._damage(f"{name} has changed")

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        handle, self._zip = self._zip, None
        if handle is not None:
            handle.close()

    @cached_property
    def _about(self) -> dict[str, Any]:
        try:
            about = json.loads(self._read("track.json"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._damage(f"track.json: {error}") from error
        version = about.get("format_version") if isinstance(about, dict) else None
        if version not in READABLE_VERSIONS:
            raise wrong_version(self.path, version)
        return dict(about)

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(io.BytesIO(self._read("points.npz")), allow_pickle=False) as file:
                arrays = {name: file[name] for name in ARRAYS}
                arrays |= {name: file[name] for name in OPTIONAL_ARRAYS if name in file}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise self._damage(f"points.npz: {error}") from error
        n = len(arrays["frame_index"])
        for name, array in arrays.items():
            shape, dtype = {**ARRAYS, **OPTIONAL_ARRAYS}[name]
            if array.shape != (n, *shape) or array.dtype != dtype or n == 0:
                raise self._damage(f"points.npz: {name} is {array.shape}")
        return arrays

    def _decode(self, position: int, rows: tuple[int, int] | None) -> tuple[NDArray[np.uint8], int]:
        import cv2

        frame = int(self._arrays["frame_index"][position])
        name = frame_name(frame, self.meta)
        content, first = self._read(name), 0
        x0, y0, x1, y1 = self.crop_boxes[position].tolist()
        if rows is not None and self.meta.image_format == "jpg":
            content, first = some_rows(content, *rows)
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        wanted = min(rows[1], y1 - y0) if rows else y1 - y0
        if (
            image is None
            or image.shape[1:] != (x1 - x0, 3)
            or not wanted <= first + len(image) <= y1 - y0
        ):
            raise self._damage(f"{name} is not the picture of its box")
        return np.asarray(image, np.uint8), first

    def _read(self, name: str) -> bytes:
        """Read a stored member: one system call, where `zipfile` takes a tenth of the decoding."""
        try:
            file = self._open()
            info = file.getinfo(name)
            assert file.fp is not None
            handle = file.fp.fileno()
            # The local header repeats the name, and may hold more bytes than the table says.
            lengths = os.pread(handle, 4, info.header_offset + _LOCAL_NAME_LENGTH)
            start = info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", lengths))
            content = os.pread(handle, info.file_size, start)
        except (zipfile.BadZipFile, KeyError, OSError, struct.error) as error:
            raise self._damage(f"{name}: {error}") from error
        if info.compress_type != zipfile.ZIP_STORED or zlib.crc32(content) != info.CRC:
            raise self._damage(f"{name}: its checksum is another one")
        return content

    def _open(self) -> zipfile.ZipFile:
        """Give this process its own handle: a forked one shares its file position."""
        if self._zip is None or self._pid != os.getpid():
            try:
                self._zip = zipfile.ZipFile(self.path)
            except FileNotFoundError as error:
                raise DataError(f"{self.path} is missing; run `make data` again") from error
            except (OSError, zipfile.BadZipFile) as error:
                raise self._damage(str(error)) from error
            self._pid = os.getpid()
        return self._zip

    def _damage(self, reason: str) -> DataError:
        return DataError(f"{self.path} is damaged ({reason}); {REMEDY}")


def wrong_version(path: Path | str, version: object) -> DataError:
    """Make the error for a file of another format."""
    readable = " and ".join(map(str, READABLE_VERSIONS))
    return DataError(
        f"{path} is of format {version}, this program reads {readable}; "
        "prepare the videos again with `make data`"
    )


def frame_name(frame_index: int, meta: TrackMeta) -> str:
    """Name the member that holds the crop of a frame."""
    return f"frames/{frame_index:06d}.{meta.image_format}"
