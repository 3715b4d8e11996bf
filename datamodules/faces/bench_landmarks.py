"""Faces of DeepfakeBench crops: the landmarks that come with them, so that no detector is needed.

Beside a folder `frames/<video>/000.png` lies `landmarks/<video>/000.npy`: 81 points (x, y) in
pixels of the picture, of which the first 68 are the usual ones and the rest the forehead.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError
from datamodules.faces.detect import Face, five_points
from datamodules.video.frames_reader import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Name of a folder of frames -> name of the folder of their landmarks (DeepfakeBench; DF40).
_TWINS = {"frames": "landmarks", "frames_all": "landmarks_all"}
_POINTS = 81


class BenchBackend:
    """Reads the landmarks that DeepfakeBench and DF40 hand out with their crops.

    The box is that of the 68 points; the score is 1. The five points are the suite's own means and
    corners of the 68, as for every other backend, not the parts (37, 44, 30, 49, 55) that
    DeepfakeBench aligned its crops by.
    """

    name = "bench"
    version = "1"

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._next = 0

    def begin(self, video: Path) -> None:
        """Hear which video is next.

        Args:
            video: Its folder of frames, or a lone picture.

        Raises:
            DataError: If there is no folder of landmarks for it.
        """
        folder = landmark_file(video)
        if not (folder.is_file() if folder.suffix == ".npy" else folder.is_dir()):
            raise DataError(f"{video} has no landmarks: {folder} is missing; use another backend")
        self._files = []
        self._next = 0

    def expect(self, numbers: Sequence[int], files: Sequence[Path]) -> None:
        """Hear which pictures will be shown.

        Args:
            numbers: Positions among the pictures, in the order in which they are shown.
            files: The pictures of the video; empty for a video file.

        Raises:
            DataError: If it is a video file.
        """
        if not files:
            raise DataError("landmarks of DeepfakeBench belong to pictures, not to a video file")
        self._files = [landmark_file(files[number]) for number in numbers]

    def faces(self, frame_rgb: NDArray[np.uint8]) -> list[Face]:
        """Give the face of the next frame.

        Args:
            frame_rgb: Shape (H, W, 3), uint8; not looked at.

        Returns:
            The face; none where there are no landmarks for the frame.

        Raises:
            DataError: If landmarks are damaged.
        """
        file = self._files[self._next]
        self._next += 1
        if not file.is_file():
            return []
        points = read_landmarks(file)
        points68 = points[:68]
        return [
            Face(
                box=np.concatenate([points68.min(axis=0), points68.max(axis=0)]),
                score=1.0,
                points68=points68,
                points5=five_points(points68),
                forehead=points[68:],
            )
        ]


def landmark_file(path: Path) -> Path:
    """Tell where the landmarks of a picture, or of a folder of frames, lie.

    Only the folder that is named for its frames is another one, wherever else in the path the
    word occurs.

    Args:
        path: `.../frames/<video>/000.png` or `.../frames/<video>`.

    Returns:
        `.../landmarks/<video>/000.npy` or `.../landmarks/<video>`.

    Raises:
        DataError: If no folder of the path is called `frames`.
    """
    parts = list(path.parts)
    place = next((i for i in range(len(parts) - 1, -1, -1) if parts[i] in _TWINS), None)
    if place is None:
        raise DataError(f"{path} lies below no folder 'frames', beside which landmarks would be")
    parts[place] = _TWINS[parts[place]]
    twin = Path(*parts)
    return twin.with_suffix(".npy") if path.suffix.lower() in PICTURE_SUFFIXES else twin


def read_landmarks(file: Path) -> NDArray[np.float32]:
    """Read the landmarks of one picture.

    Args:
        file: Array of shape (81, 2), whole numbers or fractions; or the raw bytes of one, 4-byte
            integers, as they lie in the bench's LMDB.

    Returns:
        Points (x, y) in pixels of the picture, shape (81, 2), float32.

    Raises:
        DataError: If it is none of them.
    """
    try:
        points = _parse(file.read_bytes())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} cannot be read as landmarks ({error})") from error
    if points.shape != (_POINTS, 2) or points.dtype.kind not in "iuf":
        raise DataError(f"{file} holds {points.dtype}{points.shape}, wanted 81 points (x, y)")
    if not np.isfinite(points).all():
        raise DataError(f"{file} holds values that are no numbers")
    return points.astype(np.float32)


def _parse(content: bytes) -> NDArray[Any]:
    if content.startswith(b"\x93NUMPY"):
        array: NDArray[Any] = np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
        # points outside the picture wrap around where they were stored without a sign
        return array.view(np.int32) if array.dtype == np.uint32 else array
    if len(content) != _POINTS * 2 * 4:
        raise ValueError(f"{len(content)} bytes are neither a .npy file nor 81 points")
    return np.frombuffer(content, "<i4").reshape(_POINTS, 2)
