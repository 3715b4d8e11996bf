"""How a clip is aligned: one map of source pixels to the picture for each of its frames.

* `clip`: one similarity transform for all frames, fitted to the five points of all of them (FTCN,
  AltFreezing; see `align`). Keeps every motion; the default of the suite.
* `bench`: a similarity transform for each frame, which turns the face upright, as the crops of
  DeepfakeBench and DF40 are made.
* `box`: a square of 1.3 times the face box, cut out of each frame and resized, as is done with
  FaceForensics++ (the two-stream detector of Luo et al., CVPR 2021, among others).

Figures of detectors that were trained on different alignments do not compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from datamodules.errors import DataError
from datamodules.preprocess.align import clip_transform

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from datamodules.schema import FaceTrack

    Jitter = Callable[[NDArray[np.float32]], NDArray[np.float32]]

Alignment = Literal["clip", "bench", "box"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)

#: Landmarks that `bench` fits. The upper lids and points beside the corners of the mouth, not the
#: points that their places in the table are meant for (DeepfakeBench's preprocessing).
_BENCH_PARTS = (37, 44, 30, 49, 55)
#: Where they go in a picture of 112 pixels: ArcFace's table, 8 pixels to the right (the same).
_BENCH_TARGET = np.array(
    [
        [30.2946 + 8, 51.6963],
        [65.5318 + 8, 51.5014],
        [48.0252 + 8, 71.7366],
        [33.5493 + 8, 92.3655],
        [62.7299 + 8, 92.2041],
    ]
)
_BENCH_SIZE = 112
#: How much wider than its table, and than the face box, a picture is (DeepfakeBench; FF++).
_BENCH_MARGIN = 1.3
_BOX_MARGIN = 1.3
#: A face smaller than this share of a pixel is no face but points that coincide. [ours]
_LEAST_SPREAD_PX = 1e-3


def frame_matrices(
    alignment: Alignment,
    faces: FaceTrack,
    positions: NDArray[np.int64],
    frame_size: tuple[int, int],
    image_size: int,
    jitter: Jitter | None = None,
) -> NDArray[np.float64]:
    """Fit the maps of a clip.

    Args:
        alignment: How.
        faces: The track.
        positions: Positions in the track of the clip's T frames.
        frame_size: Height and width of the source video in pixels.
        image_size: Height and width of the aligned picture in pixels.
        jitter: Moves points (x, y) in source pixels, shape (..., 2), before the fit. For `bench`
            and `box` all frames are moved alike: a face that trembles would be a cue.

    Returns:
        Map source pixels to the aligned picture, shape (T, 2, 3), float64.

    Raises:
        DataError: If landmarks coincide, or are not finite.
    """
    if alignment == "clip":
        points5 = faces.points5[positions]
        matrix = clip_transform(jitter(points5) if jitter else points5, image_size)
        return np.repeat(matrix[None], len(positions), axis=0)
    corners = faces.box[positions].reshape(-1, 2, 2)
    points = faces.points68[positions][:, list(_BENCH_PARTS)] if alignment == "bench" else corners
    if jitter:
        points = points + jitter(np.zeros((1, *points.shape[1:]), np.float32))
    if alignment == "bench":
        return _upright(points, image_size)
    return _squares(points, *frame_size, image_size)


def check_alignment(name: str) -> Alignment:
    """Refuse a name that is none.

    Args:
        name: Of an alignment.

    Returns:
        The name.

    Raises:
        DataError: If there is no such alignment.
    """
    for known in ALIGNMENTS:
        if known == name:
            return known
    raise DataError(f"no alignment is called {name!r}; there are {', '.join(ALIGNMENTS)}")


def bench_target(image_size: int) -> NDArray[np.float64]:
    """Tell where `bench` puts its five landmarks.

    Args:
        image_size: Height and width of the aligned picture in pixels.

    Returns:
        Points (x, y), shape (5, 2), float64.
    """
    border = (_BENCH_MARGIN - 1) / 2 * image_size
    return np.asarray(
        (_BENCH_TARGET * image_size / _BENCH_SIZE + border) / _BENCH_MARGIN, np.float64
    )


def _upright(points: NDArray[np.floating[Any]], image_size: int) -> NDArray[np.float64]:
    """Fit a similarity transform to each frame, with the squares of distances in the picture."""
    source = np.asarray(points, np.float64) @ (1, 1j)
    target = bench_target(image_size) @ (1, 1j)
    centre, goal = source.mean(axis=1, keepdims=True), target.mean()
    spread = (np.abs(source - centre) ** 2).sum(axis=1)
    if not (spread > _LEAST_SPREAD_PX**2).all():  # also where they are no numbers
        raise DataError("landmarks coincide or are not finite numbers; find them again")
    # A complex factor is a rotation with a scale: never a mirror image.
    turn = ((source - centre).conj() * (target - goal)).sum(axis=1) / spread
    shift = goal - turn * centre[:, 0]
    rows = [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
    return np.asarray(np.array(rows).transpose(2, 0, 1), np.float64)


def _squares(
    corners: NDArray[np.floating[Any]], height: int, width: int, image_size: int
) -> NDArray[np.float64]:
    """Cut a square out of each frame; where it would leave the frame it is moved and shrunk."""
    low, high = np.asarray(corners, np.float64).transpose(1, 0, 2)
    side = np.floor(_BOX_MARGIN * (high - low).max(axis=1))
    start = np.floor((low + high) / 2 - side[:, None] / 2)
    start = np.clip(start, 0, np.array([width, height]) - 1)
    side = np.minimum(side, (np.array([width, height]) - start).min(axis=1)).clip(min=1)
    zoom = image_size / side
    matrices = np.zeros((len(side), 2, 3))
    matrices[:, 0, 0] = matrices[:, 1, 1] = zoom
    # Borders, not centres, of the outer pixels meet those of the picture, as in any resizing.
    matrices[:, :, 2] = (0.5 - start) * zoom[:, None] - 0.5
    return matrices
