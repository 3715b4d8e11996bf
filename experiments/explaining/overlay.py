"""Lay maps over pictures, and take them from aligned clips back to frames of the video."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: From violet over green to yellow: of even steps to the eye, readable with any colour vision (van
#: der Walt and Smith, matplotlib), and unlike skin.
COLOURS = "viridis"
#: Strength below which nothing is laid over, and from which on most is hidden: the strongest places
#: of a clip that the network is unsure of are plain to see. [ours]
CLEAR, _DENSE = 0.2, 0.45
#: Least of the picture that stays visible. [ours]
_LEAST_SEEN = 0.35


def strengths(maps: NDArray[np.float32], score: float) -> NDArray[np.float32]:
    """Scale the maps of a clip for the eye.

    Args:
        maps: Evidence, at least 0, shape (T, h, w), float32.
        score: Of the clip, 0..1: what little speaks for fake in a clip that looks real must not
            look like much.

    Returns:
        Share of the strongest place times the score, 0..1, same shape.
    """
    top = float(maps.max(initial=0))
    if not top > 0:
        return np.zeros_like(maps)
    return np.asarray(maps * (score / top), np.float32)


def enlarge(strength: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Enlarge a map smoothly to the size of a picture.

    Args:
        strength: Shape (h, w), float32.
        height: Of the picture in pixels.
        width: Of the picture in pixels.

    Returns:
        Shape (height, width), float32, within the range of the map.
    """
    import cv2

    large = cv2.resize(strength, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(large, strength.min(), strength.max()), np.float32)


def to_frame(
    strength: NDArray[np.float32],
    matrix: NDArray[np.floating[Any]],
    image_size: int,
    frame_size: tuple[int, int],
) -> NDArray[np.float32]:
    """Take a map from an aligned picture back to the frame that it was cut of.

    Args:
        strength: Shape (h, w), float32.
        matrix: Maps pixels of the frame to the aligned picture, shape (2, 3).
        image_size: Height and width of the aligned picture in pixels.
        frame_size: Height and width of the frame in pixels.

    Returns:
        Shape (height, width), float32; 0 outside of the aligned picture.
    """
    import cv2

    large = enlarge(strength, image_size, image_size)
    height, width = frame_size
    # The matrix leads from the frame to the picture, which is the way this asks for.
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = np.asarray(matrix, np.float64)
    return np.asarray(cv2.warpAffine(large, matrix, (width, height), flags=flags), np.float32)


def lay_over(picture: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour a picture where a map is strong.

    Args:
        picture: RGB, shape (H, W, 3), uint8.
        strength: 0..1, shape (H, W), float32.

    Returns:
        The picture; unchanged where the map is weak.
    """
    share = opacity(strength)[..., None]
    step = np.rint(255 * strength.clip(0, 1)).astype(np.uint8)
    mixed = picture * (1 - share) + _palette()[step] * share
    return np.asarray(np.rint(mixed), np.uint8)


def opacity(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tell how much of a picture a map hides.

    Args:
        strength: 0..1, any shape.

    Returns:
        0..1, float32, same shape.
    """
    rise = ((strength - CLEAR) / (_DENSE - CLEAR)).clip(0, 1)
    return np.asarray((1 - _LEAST_SEEN) * rise, np.float32)


@cache
def _palette() -> NDArray[np.float32]:
    import matplotlib

    colours = matplotlib.colormaps[COLOURS](np.arange(256))
    return np.asarray(255 * colours[:, :3], np.float32)
