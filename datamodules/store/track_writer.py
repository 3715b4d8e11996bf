"""Write one face track into one stored zip (see `track_file`)."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.atomic import atomic_open
from datamodules.store.jpeg_rows import restart_interval
from datamodules.store.track_file import (
    ARRAYS,
    FORMAT_VERSION,
    JPEG_QUALITY,
    OPTIONAL_ARRAYS,
    frame_name,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from datamodules.store.track_file import ImageFormat, TrackMeta

_ROWS = {**ARRAYS, **OPTIONAL_ARRAYS}


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
        self._rows: dict[str, list[NDArray[Any]]] = {name: [] for name in _ROWS}
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
        forehead: ArrayLike | None = None,
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
            forehead: Points 68 to 80 of the 81-point scheme (x, y) in source pixels, shape
                (13, 2); None in all frames where the backend has none.

        Raises:
            ValueError: If the frames do not ascend, a shape is wrong, a number is not finite,
                the crop has another size than its box, or only some frames have a forehead.
        """
        given = {
            "frame_index": frame_index,
            "box": box,
            "points5": points5,
            "points68": points68,
            "score": score,
            "crop_box": crop_box,
            **({} if forehead is None else {"forehead": forehead}),
        }
        rows = {name: _row(name, value) for name, value in given.items()}
        x0, y0, x1, y1 = rows["crop_box"].tolist()
        if crop.shape != (y1 - y0, x1 - x0, 3) or crop.dtype != np.uint8 or crop.size == 0:
            raise ValueError(f"a {crop.dtype} crop of shape {crop.shape} for box {x0, y0, x1, y1}")
        if len(self) and frame_index <= self._rows["frame_index"][-1]:
            raise ValueError(f"frame {frame_index} follows {self._rows['frame_index'][-1]}")
        if len(self) and ("forehead" in rows) != bool(self._rows["forehead"]):
            raise ValueError("a track has a forehead in all of its frames or in none")
        self._put(frame_name(frame_index, self._meta), self._encoded(crop))
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
        arrays: dict[str, Any] = {name: np.stack(rows) for name, rows in self._rows.items() if rows}
        np.savez(points, **arrays)
        self._put("points.npz", points.getvalue())
        about = {"format_version": FORMAT_VERSION, **asdict(self._meta), "figures": self.figures}
        about["members"] = self._checksums
        self._put("track.json", json.dumps(about, indent=1, sort_keys=True).encode())
        assert self._zip is not None
        self._zip.close()

    def _encoded(self, crop: NDArray[np.uint8]) -> bytes:
        return encode_crop(crop, self._meta.image_format, self._meta.quality)

    def _put(self, name: str, content: bytes) -> None:
        """Append a member with a fixed date, so that equal tracks are equal files."""
        if self._zip is None:
            raise ValueError("a TrackWriter is a context manager: write inside `with`")
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o644 << 16
        info.create_system = 3
        self._zip.writestr(info, content)
        self._checksums[name] = hashlib.sha256(content).hexdigest()


def _row(name: str, value: object) -> NDArray[Any]:
    """Check one frame's entry of one array."""
    shape, dtype = _ROWS[name]
    row: NDArray[Any] = np.asarray(value)
    if row.shape != shape or not np.isfinite(row).all():
        raise ValueError(f"{name} has shape {row.shape} or holds no numbers, wanted {shape}")
    if np.issubdtype(dtype, np.integer) and not np.array_equal(row, row.astype(dtype)):
        raise ValueError(f"{name} holds fractions: {row.tolist()}")
    return row.astype(dtype)


def encode_crop(
    crop: NDArray[np.uint8], image_format: ImageFormat = "jpg", quality: int = JPEG_QUALITY
) -> bytes:
    """Compress a crop as a store does.

    Args:
        crop: RGB, shape (h, w, 3), uint8.
        image_format: `jpg` (4:4:4) or `png`.
        quality: JPEG quality in 0..100.

    Returns:
        The file; `cv2.imdecode` reads it.

    Raises:
        ValueError: If the crop has a shape that the format does not take.
    """
    import cv2

    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if image_format == "jpg":
        options = [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
            # So that a reader need decode only the rows that it shows.
            *(cv2.IMWRITE_JPEG_RST_INTERVAL, restart_interval(crop.shape[1])),
        ]
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(f".{image_format}", bgr, options)
    if not done:
        raise ValueError(f"a crop of shape {crop.shape} cannot be stored as {image_format}")
    return content.tobytes()
