"""Faces that were found elsewhere: boxes and landmarks read from files."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError
from datamodules.faces.detect import Face, five_points

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: Shape of one row of every array.
_ROWS: dict[str, tuple[int, ...]] = {
    "frame_index": (),
    "box": (4,),
    "points68": (68, 2),
    "points81": (81, 2),
    "score": (),
}
#: What a file may lack.
_OPTIONAL = ("points81", "score")
_KINDS = ("npz", "json")


class GivenBackend:
    """Reads the faces of `clip.mp4` from `clip.faces.npz` or `clip.mp4.faces.npz` (or .json).

    The file holds one row per face, several rows for a frame with several faces: `frame_index`
    (N,), `box` (N, 4) x0 y0 x1 y1, `points68` (N, 68, 2) or `points81` (N, 81, 2), and, if known,
    `score` (N,) in 0..1 (1 where absent); coordinates in pixels of the frame as decoded. Other
    arrays are ignored.

    Args:
        folder: Where the files lie; beside the videos unless given.
        root: Root of the videos; files in `folder` mirror the paths below it. Only names count
            unless given.
    """

    name = "given"
    version = "1"

    def __init__(self, folder: Path | None = None, root: Path | None = None) -> None:
        self._folder = folder
        self._root = root
        self._faces: dict[int, list[Face]] = {}
        self._numbers: Sequence[int] | None = None
        self._next = 0

    def begin(self, video: Path) -> None:
        """Read the file of a video.

        Args:
            video: The source file.

        Raises:
            DataError: If there is no file for it, or it is not as described.
        """
        file = find_faces(video, self._folder, self._root)
        if file is None:
            place = _place(video, self._folder, self._root)
            raise DataError(
                f"{video} has no file of given faces: put {video.name}.faces.npz into {place}, "
                "or choose another backend"
            )
        self._faces = _read(file)
        self._numbers = None
        self._next = 0

    def expect(self, numbers: Sequence[int], files: Sequence[Path]) -> None:
        """Hear which frames will be shown: all of them, from the first on, unless told.

        Args:
            numbers: Their positions in the video, which the file counts as well.
            files: Not looked at.
        """
        self._numbers = numbers

    def faces(self, frame_rgb: NDArray[np.uint8]) -> list[Face]:
        """Give the faces of the next frame.

        Args:
            frame_rgb: Shape (H, W, 3), uint8; not looked at.

        Returns:
            The faces of the file, the surest first.
        """
        number = self._next if self._numbers is None else self._numbers[self._next]
        faces = self._faces.get(number, [])
        self._next += 1
        return faces


def find_faces(video: Path, folder: Path | None, root: Path | None) -> Path | None:
    """Find the file of given faces that belongs to a video.

    Args:
        video: The video.
        folder: Where such files lie; beside the videos if None.
        root: Root of the videos, if the folder mirrors the paths below it.

    Returns:
        The file, or None if there is none.
    """
    place = _place(video, folder, root)
    names = face_names(video)
    return next((place / name for name in names if (place / name).is_file()), None)


def face_names(video: Path) -> list[str]:
    """List the names that the file of a video's given faces may have, the first one goes first."""
    return [f"{stem}.faces.{kind}" for stem in (video.name, video.stem) for kind in _KINDS]


def _place(video: Path, folder: Path | None, root: Path | None) -> Path:
    if folder is None:
        return video.parent
    return folder / video.parent.relative_to(root) if root else folder


def _read(path: Path) -> dict[int, list[Face]]:
    """Read one file: the faces of each frame, the surest first."""
    arrays = _check(_load(path), path)
    faces = defaultdict(list)
    for row in np.argsort(-arrays["score"], kind="stable"):
        points68 = arrays["points68"][row].astype(np.float32)
        points81 = arrays.get("points81")
        faces[int(arrays["frame_index"][row])].append(
            Face(
                box=arrays["box"][row].astype(np.float32),
                score=float(arrays["score"][row]),
                points68=points68,
                points5=five_points(points68),
                forehead=None if points81 is None else points81[row, 68:].astype(np.float32),
            )
        )
    return dict(faces)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"))
            return {name: np.asarray(values[name], float) for name in _ROWS if name in values}
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name], float) for name in _ROWS if name in file}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as given faces ({error})") from error


def _check(arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, NDArray[Any]]:
    """Refuse arrays that are absent, of a wrong shape, or hold no numbers."""
    if "points68" not in arrays and arrays.get("points81", np.empty(0)).ndim == 3:
        arrays = {**arrays, "points68": arrays["points81"][:, :68]}
    missing = [name for name in _ROWS if name not in arrays and name not in _OPTIONAL]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    num_rows = len(np.atleast_1d(arrays["frame_index"]))
    arrays = {"score": np.ones(num_rows), **arrays}
    for name, shape in _ROWS.items():
        if name not in arrays:
            continue
        if arrays[name].shape != (num_rows, *shape):
            raise DataError(
                f"{path}: {name} has shape {arrays[name].shape}, wanted {(num_rows, *shape)}"
            )
        if not np.isfinite(arrays[name]).all():
            raise DataError(f"{path}: {name} holds values that are no numbers")
    return arrays
