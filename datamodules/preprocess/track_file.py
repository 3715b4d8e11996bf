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
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from datamodules.atomic import atomic_open
from datamodules.errors import DataError
from datamodules.schema import FaceTrack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

#: Raised when older readers can no longer read what is written.
FORMAT_VERSION = 1

#: 46.9 dB, and 0.974 correlation of the high-pass residual with that of the source, at a ninth
#: of the raw size: the traces that detectors live on survive. [ours, measured on six real tracks]
JPEG_QUALITY = 95

ImageFormat = Literal["jpg", "png"]
#: Name, shape of one frame's row and dtype of everything in `points.npz`.
_ARRAYS: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "frame_index": ((), np.int64),
    "box": ((4,), np.float32),
    "points5": ((5, 2), np.float32),
    "points68": ((68, 2), np.float32),
    "score": ((), np.float32),
    "crop_box": ((4,), np.int32),
}
#: What to do about a damaged file.
REMEDY = "delete it and run `make data` again"


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


class TrackWriter:
    """Write one track, frame by frame, in flat memory; the file appears only when it is whole.

    Equal input gives equal bytes. Use it as a context manager: leaving it by an exception leaves
    nothing behind.

    Args:
        path: The zip to write; its folder is made if it is missing.
        meta: Where the track came from, and how to encode its frames.

    Attributes:
        figures: Quality of the track by name, to be filled in before the end.
    """

    def __init__(self, path: Path, meta: TrackMeta) -> None:
        self.figures: dict[str, float] = {}
        self._path = path
        self._meta = meta
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in _ARRAYS}
        self._checksums: dict[str, str] = {}
        self._context: AbstractContextManager[IO[bytes]] | None = None
        self._zip: zipfile.ZipFile | None = None

    def __enter__(self) -> TrackWriter:
        self._context = atomic_open(self._path)
        self._zip = zipfile.ZipFile(self._context.__enter__(), "w", zipfile.ZIP_STORED)
        return self

    def __len__(self) -> int:
        return len(self._rows["frame_index"])

    def add(
        self,
        frame_index: int,
        crop: NDArray[np.uint8],
        crop_box: ArrayLike,
        *,
        box: ArrayLike,
        points5: ArrayLike,
        points68: ArrayLike,
        score: float,
    ) -> None:
        """Append one frame.

        Args:
            frame_index: Frame of the source video; larger than the one before.
            crop: RGB, shape (h, w, 3), uint8.
            crop_box: Where it lies: x0 y0 x1 y1 in source pixels, whole numbers, x1 and y1
                exclusive, shape (4,).
            box: Detector box x0 y0 x1 y1 in source pixels, shape (4,).
            points5: Eyes, nose, mouth corners (x, y) in source pixels, shape (5, 2).
            points68: 68 landmarks (x, y) in source pixels, shape (68, 2).
            score: Detector score in 0..1.

        Raises:
            ValueError: If the frames do not ascend, a shape is wrong, a number is not finite,
                or the crop has another size than its box.
        """
        given = {
            "frame_index": frame_index,
            "box": box,
            "points5": points5,
            "points68": points68,
            "score": score,
            "crop_box": crop_box,
        }
        rows = {name: _row(name, value) for name, value in given.items()}
        x0, y0, x1, y1 = rows["crop_box"].tolist()
        if crop.shape != (y1 - y0, x1 - x0, 3) or crop.dtype != np.uint8 or crop.size == 0:
            raise ValueError(f"a {crop.dtype} crop of shape {crop.shape} for box {x0, y0, x1, y1}")
        if len(self) and frame_index <= self._rows["frame_index"][-1]:
            raise ValueError(f"frame {frame_index} follows {self._rows['frame_index'][-1]}")
        self._put(_frame_name(frame_index, self._meta), _encode(crop, self._meta))
        for name, row in rows.items():
            self._rows[name].append(row)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        context, self._context = self._context, None
        if context is None or self._zip is None:
            return
        try:
            if kind is None:
                self._finish()
            else:
                # Closed all the same, else its finaliser writes to a closed file later.
                with suppress(OSError, ValueError):
                    self._zip.close()
        except BaseException as failure:
            with suppress(OSError, ValueError):
                self._zip.close()
            context.__exit__(type(failure), failure, failure.__traceback__)
            raise
        context.__exit__(kind, error, trace)

    def _finish(self) -> None:
        """Write what describes the frames, and the table of contents."""
        if not len(self):
            raise ValueError(f"{self._path}: a track without frames")
        points = io.BytesIO()
        arrays: dict[str, Any] = {name: np.stack(rows) for name, rows in self._rows.items()}
        np.savez(points, **arrays)
        self._put("points.npz", points.getvalue())
        about = {"format_version": FORMAT_VERSION, **asdict(self._meta), "figures": self.figures}
        about["members"] = self._checksums
        self._put("track.json", json.dumps(about, indent=1, sort_keys=True).encode())
        assert self._zip is not None
        self._zip.close()

    def _put(self, name: str, content: bytes) -> None:
        """Append a member with a fixed date, so that equal tracks are equal files."""
        if self._zip is None:
            raise ValueError("a TrackWriter is a context manager: write inside `with`")
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o644 << 16
        info.create_system = 3
        self._zip.writestr(info, content)
        self._checksums[name] = hashlib.sha256(content).hexdigest()


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
        return FaceTrack(**{name: arrays[name] for name in _ARRAYS if name != "crop_box"})

    @cached_property
    def crop_boxes(self) -> NDArray[np.int32]:
        """Where the crops lie: x0 y0 x1 y1 in source pixels, shape (N, 4), int32."""
        return self._arrays["crop_box"]

    def __len__(self) -> int:
        return len(self._arrays["frame_index"])

    def crops(self, positions: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Decode crops.

        Args:
            positions: Positions in the track, in 0..N - 1, in any order, repeats allowed.

        Returns:
            RGB crops, each of shape (h, w, 3) of its own size, uint8. Repeats are one object.

        Raises:
            DataError: If the file is missing or damaged.
            IndexError: If a position is not in the track.
        """
        decoded: dict[int, NDArray[np.uint8]] = {}
        for position in positions:
            if not 0 <= position < len(self):
                raise IndexError(f"{self.path}: position {position} of {len(self)}")
            if position not in decoded:
                decoded[position] = self._decode(position)
        return [decoded[position] for position in positions]

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
        if version != FORMAT_VERSION:
            raise wrong_version(self.path, version)
        return dict(about)

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(io.BytesIO(self._read("points.npz")), allow_pickle=False) as file:
                arrays = {name: file[name] for name in _ARRAYS}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise self._damage(f"points.npz: {error}") from error
        n = len(arrays["frame_index"])
        for name, (shape, dtype) in _ARRAYS.items():
            if arrays[name].shape != (n, *shape) or arrays[name].dtype != dtype or n == 0:
                raise self._damage(f"points.npz: {name} is {arrays[name].shape}")
        return arrays

    def _decode(self, position: int) -> NDArray[np.uint8]:
        import cv2

        frame = int(self._arrays["frame_index"][position])
        name = _frame_name(frame, self.meta)
        image = cv2.imdecode(np.frombuffer(self._read(name), np.uint8), cv2.IMREAD_COLOR)
        x0, y0, x1, y1 = self.crop_boxes[position].tolist()
        if image is None or image.shape != (y1 - y0, x1 - x0, 3):
            raise self._damage(f"{name} is not the picture of its box")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def _read(self, name: str) -> bytes:
        try:
            return self._open().read(name)
        except (zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError) as error:
            raise self._damage(f"{name}: {error}") from error

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


def wrong_version(path: Path, version: object) -> DataError:
    """Make the error for a file of another format."""
    return DataError(
        f"{path} is of format {version}, this program reads {FORMAT_VERSION}; "
        "prepare the videos again with `make data`"
    )


def _frame_name(frame_index: int, meta: TrackMeta) -> str:
    return f"frames/{frame_index:06d}.{meta.image_format}"


def _row(name: str, value: object) -> NDArray[Any]:
    """Check one frame's entry of one array."""
    shape, dtype = _ARRAYS[name]
    row: NDArray[Any] = np.asarray(value)
    if row.shape != shape or not np.isfinite(row).all():
        raise ValueError(f"{name} has shape {row.shape} or holds no numbers, wanted {shape}")
    if np.issubdtype(dtype, np.integer) and not np.array_equal(row, row.astype(dtype)):
        raise ValueError(f"{name} holds fractions: {row.tolist()}")
    return row.astype(dtype)


def _encode(crop: NDArray[np.uint8], meta: TrackMeta) -> bytes:
    """Compress a crop (RGB, shape (h, w, 3), uint8)."""
    import cv2

    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if meta.image_format == "jpg":
        options = [
            *(cv2.IMWRITE_JPEG_QUALITY, meta.quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ]
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(f".{meta.image_format}", bgr, options)
    if not done:
        raise ValueError(f"a crop of shape {crop.shape} cannot be stored as {meta.image_format}")
    return content.tobytes()
