"""Changes of single frames after DeeperForensics-1.0 (Jiang et al., CVPR 2020, arXiv 2001.03024).

The arithmetic follows its released perturbation code (`perturbation/distortions.py` of
EndlessSora/DeeperForensics-1.0, commit 4f6ecff). Three deviations: results are rounded and clipped,
where that code cuts fractions off and lets what leaves 0..255 wrap around; random numbers come
from a generator that the caller seeds; pictures below 256 pixels get as many blocks as one of 256,
where that code gives them none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Frame = NDArray[np.uint8]
    Change = Callable[[Frame, float, np.random.Generator], Frame]

#: Weights of red, green and blue in the luma (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: What a unit of Cb and Cr adds to red, green and blue (ITU-R BT.601, as OpenCV rounds it).
_FROM_CB = np.array([0.0, -0.344, 1.773], np.float32)
_FROM_CR = np.array([1.403, -0.714, 0.0], np.float32)
#: Levels between black and white, and those of a colour difference, in video range (BT.601).
_LUMA_RANGE, _CHROMA_RANGE = 219, 224
#: Side of a block in pixels and its grey level (the released code).
_BLOCK_PX, _BLOCK_GREY = 8, 128
#: Pictures count their blocks in units of this side (the released code).
_BLOCK_UNIT_PX = 256


def saturation(frame: Frame, factor: float, rng: np.random.Generator) -> Frame:
    """Scale the colour differences of a frame; 0 leaves grey.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        factor: Share of the colour that stays.
        rng: Not used.

    Returns:
        The same shape and type.
    """
    pixels = frame.astype(np.float32)
    grey = (pixels @ _LUMA)[..., None]
    return _whole(grey + np.float32(factor) * (pixels - grey))


def contrast(frame: Frame, factor: float, rng: np.random.Generator) -> Frame:
    """Scale all values towards black, which is what the released code calls contrast.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        factor: Share of the brightness that stays.
        rng: Not used.

    Returns:
        The same shape and type.
    """
    return _whole(frame.astype(np.float32) * np.float32(factor))


def blocks(frame: Frame, count: float, rng: np.random.Generator) -> Frame:
    """Cover random places by grey blocks of 8 pixels.

    Args:
        frame: RGB, shape (H, W, 3), uint8, at least 9 pixels a side.
        count: Blocks for each 256 pixels of the shorter side, rounded down but at least once.
        rng: Draws the places; a larger count adds places to those of a smaller one.

    Returns:
        The same shape and type.
    """
    covered: Frame = frame.copy()
    height, width = frame.shape[:2]
    number = int(count) * max(1, min(height, width) // _BLOCK_UNIT_PX)
    places = rng.random((number, 2)) * (height - _BLOCK_PX, width - _BLOCK_PX)
    for top, left in places.astype(np.int64).tolist():
        covered[top : top + _BLOCK_PX, left : left + _BLOCK_PX] = _BLOCK_GREY
    return covered


def noise(frame: Frame, variance: float, rng: np.random.Generator) -> Frame:
    """Add white Gaussian noise to luma and colour differences.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        variance: Of the noise, where 1 is the span of 8 bits.
        rng: Draws it; the same draw, larger, for a larger variance.

    Returns:
        The same shape and type.
    """
    deviation = 255 * float(np.sqrt(variance))
    drawn = rng.standard_normal((*frame.shape[:2], 3), np.float32)
    luma = drawn[..., :1] * np.float32(deviation * 255 / _LUMA_RANGE)
    chroma = drawn[..., 1:] * np.float32(deviation * 255 / _CHROMA_RANGE)
    added = luma + chroma[..., :1] * _FROM_CB + chroma[..., 1:] * _FROM_CR
    return _whole(np.asarray(frame + added))


def blur(frame: Frame, kernel_px: float, rng: np.random.Generator) -> Frame:
    """Blur by a Gaussian kernel whose deviation is a sixth of its side.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        kernel_px: Side of the kernel in pixels, odd.
        rng: Not used.

    Returns:
        The same shape and type.
    """
    side = int(kernel_px)
    return np.asarray(cv2.GaussianBlur(frame, (side, side), side / 6), np.uint8)


def pixelation(frame: Frame, factor: float, rng: np.random.Generator) -> Frame:
    """Shrink and enlarge again, both by bilinear interpolation.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        factor: How many times smaller the picture is in between.
        rng: Not used.

    Returns:
        The same shape and type.
    """
    height, width = frame.shape[:2]
    small = cv2.resize(frame, (max(1, width // int(factor)), max(1, height // int(factor))))
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


#: By name.
PIXEL_CHANGES: dict[str, Change] = {
    "saturation": saturation,
    "contrast": contrast,
    "blocks": blocks,
    "noise": noise,
    "blur": blur,
    "pixelation": pixelation,
}


def _whole(values: NDArray[Any]) -> Frame:
    whole: Frame = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return whole
