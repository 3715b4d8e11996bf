"""Faces of one frame: what a face is, and the interface that every detector fulfils."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Names that `face_backend` takes.
BACKENDS = ("mesh", "fan", "given", "bench")


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame, in pixels of that frame.

    Attributes:
        box: x0 y0 x1 y1, shape (4,), float32; may reach over the border of the frame.
        score: How sure the detector is, 0..1.
        points68: Landmarks (x, y) in the usual order of 68, shape (68, 2), float32.
        points5: Eyes, nose, mouth corners (x, y), shape (5, 2), float32.
        forehead: Points 68 to 80 of the 81-point scheme (x, y), shape (13, 2), float32; None where
            the backend has none.
    """

    box: NDArray[np.float32]
    score: float
    points68: NDArray[np.float32]
    points5: NDArray[np.float32]
    forehead: NDArray[np.float32] | None = None


class FaceBackend(Protocol):
    """Finds faces and their landmarks.

    Name and version go into every track. Landmarks of two backends lie on different contours, so
    tracks of different backends, or versions, are never mixed in one store.

    Attributes:
        name: Of the backend.
        version: Changes whenever the same frame may give other numbers.
    """

    name: str
    version: str

    def begin(self, video: Path) -> None:
        """Hear which video the next frames come from, its first frame first.

        Args:
            video: The source file.
        """

    def faces(self, frame_rgb: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of a frame, the surest first.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.

        Returns:
            The faces; empty if there are none.
        """


@runtime_checkable
class PlacesPoints(Protocol):
    """What a backend offers whose detector need not run where faces are known to lie."""

    def points(self, frame_rgb: NDArray[np.uint8], known: Sequence[Face]) -> list[Face | None]:
        """Find the landmarks of faces that lie where they lie in another picture.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.
            known: Faces of the same frame of the genuine video.

        Returns:
            For each the face at its place, with the score of the known one; None where there is
            none.
        """


@runtime_checkable
class ReadsFaces(Protocol):
    """What a backend offers that reads faces from files, and so has to know the frames."""

    def expect(self, numbers: Sequence[int], files: Sequence[Path]) -> None:
        """Hear which frames of the video will be shown; called after `begin`.

        Args:
            numbers: Their positions in the video, in the order in which they are shown.
            files: The pictures of the video, if it is a folder of frames; otherwise empty.
        """


def face_backend(name: str, **options: Any) -> FaceBackend:
    """Make a face backend.

    Args:
        name: `mesh` (two small networks on the CPU, the default of the suite), `fan`
            (face-alignment, an extra), `given` (reads boxes and landmarks from files) or `bench`
            (reads the landmarks that come with the crops of DeepfakeBench and DF40).
        **options: Arguments of the backend's class.

    Returns:
        The backend, ready for `begin`.

    Raises:
        DataError: If there is no such backend, or a package or file that it needs is absent.
        WeightsError: If its weight files are absent or damaged.
    """
    # Imported here, so that one backend does not pull in the libraries of the others.
    if name == "mesh":
        from datamodules.faces.mesh import MeshBackend

        return MeshBackend(**options)
    if name == "fan":
        from datamodules.faces.fan import FanBackend

        return FanBackend(**options)
    if name == "given":
        from datamodules.faces.given import GivenBackend

        return GivenBackend(**options)
    if name == "bench":
        from datamodules.faces.bench_landmarks import BenchBackend

        return BenchBackend(**options)
    raise DataError(f"no face backend is called {name!r}; there are {', '.join(BACKENDS)}")


def five_points(points68: NDArray[np.float32]) -> NDArray[np.float32]:
    """Derive the five points of the alignment from 68.

    Means of the two eyes' outlines, tip of the nose, corners of the mouth (FTCN, official
    inference code, for detectors that give no five points).

    Args:
        points68: Landmarks (x, y), shape (..., 68, 2), float32.

    Returns:
        Points (x, y), shape (..., 5, 2), float32.
    """
    eyes = [points68[..., first : first + 6, :].mean(axis=-2) for first in (36, 42)]
    rest = [points68[..., index, :] for index in (30, 48, 54)]
    return np.stack([*eyes, *rest], axis=-2).astype(np.float32)
