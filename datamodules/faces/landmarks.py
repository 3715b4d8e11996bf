"""Landmarks beyond the 68: the forehead of the 81-point scheme, measured or estimated.

Points 68 to 80 of the scheme (dlib's 81-point predictor, by which DeepfakeBench and others draw
their blending masks) lie along the hairline. In the order of their numbers they jump to and fro;
`FOREHEAD_LEFT_TO_RIGHT` puts them in a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Places among the 13 from the left to the right end of the forehead, as seen in the picture
#: (points 77 75 76 68 69 70 71 80 72 73 79 74 78 of the 81-point scheme).
FOREHEAD_LEFT_TO_RIGHT = np.array((77, 75, 76, 68, 69, 70, 71, 80, 72, 73, 79, 74, 78)) - 68
#: Height of an estimated forehead above the line between the ends of the jaw, as a share of the
#: chin's distance from it: median over 727 meshes of 246 videos. It then lies 8 % of the distance
#: of the outer eye corners beside the mesh's (median). [ours]
_FOREHEAD_HEIGHT = 0.34


def _mirrored_forehead() -> NDArray[np.int64]:
    """Say which of the 13 takes the place of which in a mirror."""
    order = np.empty(13, np.int64)
    order[FOREHEAD_LEFT_TO_RIGHT] = FOREHEAD_LEFT_TO_RIGHT[::-1]
    return order


#: Forehead point of a mirrored face by forehead point of the face.
FLIP_FOREHEAD = _mirrored_forehead()


def forehead_from_outline(outline: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Spread 13 points evenly over the points of an outline that a backend has.

    Args:
        outline: K points (x, y) over the forehead, left to right, shape (K, 2).

    Returns:
        Points 68 to 80 of the 81-point scheme, shape (13, 2), float32.
    """
    place = np.linspace(0, len(outline) - 1, 13)
    left = np.minimum(place.astype(int), len(outline) - 2)
    share = (place - left)[:, None]
    forehead = np.empty((13, 2), np.float32)
    forehead[FOREHEAD_LEFT_TO_RIGHT] = outline[left] * (1 - share) + outline[left + 1] * share
    return forehead


def estimate_forehead(points68: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Guess the forehead where only 68 points are known: half an ellipse over the jaw's ends.

    Args:
        points68: Landmarks (x, y), shape (..., 68, 2).

    Returns:
        Points 68 to 80 of the 81-point scheme, shape (..., 13, 2), float32.
    """
    left, right, chin = (points68[..., i, None, :] for i in (0, 16, 8))
    centre = (left + right) / 2
    angle = np.pi * np.arange(1, 14)[:, None] / 14
    up = (centre - chin) * _FOREHEAD_HEIGHT
    arc = centre - (right - left) / 2 * np.cos(angle) + up * np.sin(angle)
    forehead = np.empty(arc.shape, np.float32)
    forehead[..., FOREHEAD_LEFT_TO_RIGHT, :] = arc
    return forehead


def points81(
    points68: NDArray[np.floating[Any]], forehead: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.float32]:
    """Join face and forehead; their convex hull is the region that forgeries are blended into.

    Args:
        points68: Landmarks (x, y), shape (..., 68, 2).
        forehead: As `FaceTrack` and `Clip` hold it, shape (..., 13, 2); estimated where None.

    Returns:
        All points (x, y) in the order of the 81-point scheme, shape (..., 81, 2), float32.
    """
    if forehead is None:
        forehead = estimate_forehead(points68)
    return np.concatenate([points68, forehead], axis=-2, dtype=np.float32)
