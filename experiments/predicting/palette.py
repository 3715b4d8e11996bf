"""Colours and letters of pictures that show scores."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Blue, near-white and vermilion: told apart with any colour vision (Okabe and Ito, "Color
#: Universal Design", 2008), and in grey by their distance from the middle.
REAL, MIDDLE, FAKE = (0, 114, 178), (240, 240, 240), (213, 94, 0)
#: For faces without a score.
UNKNOWN = (150, 150, 150)
DARK, LIGHT = (18, 21, 25), (235, 238, 240)
#: From this luma on letters on a colour are dark. [ours]
_BRIGHT = 140
_FONT = "fonts/ttf/DejaVuSans.ttf"

Colour = tuple[int, int, int]


def score_colours(score: NDArray[np.floating[Any]], threshold: float) -> NDArray[np.uint8]:
    """Colour scores: blue below the threshold, near-white at it, vermilion above.

    Args:
        score: In 0..1, any shape S; NaN becomes grey.
        threshold: Where the middle of the scale lies.

    Returns:
        RGB, shape (*S, 3), uint8.
    """
    value = np.asarray(score, np.float64)
    below = np.clip(value / max(threshold, 1e-6), 0, 1)
    above = np.clip((value - threshold) / max(1 - threshold, 1e-6), 0, 1)
    real, middle, fake = (np.array(colour, np.float64) for colour in (REAL, MIDDLE, FAKE))
    # The root keeps colours away from white nearly up to the middle, so that sides are seen.
    towards_real = np.sqrt(1 - below)[..., None]
    towards_fake = np.sqrt(above)[..., None]
    mixed = middle + towards_real * (real - middle) + towards_fake * (fake - middle)
    mixed = np.where(np.isnan(value)[..., None], np.array(UNKNOWN, np.float64), mixed)
    return np.asarray(mixed.round(), np.uint8)


def letters_on(colour: Colour) -> Colour:
    """Choose dark or light letters for a background."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return DARK if luma >= _BRIGHT else LIGHT


@lru_cache(maxsize=8)
def font(size: int) -> Any:
    """Load the letters, of a height of `size` pixels."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / _FONT), size)


def draw_text(text: str, size: int, colour: Colour, background: Colour) -> NDArray[np.uint8]:
    """Draw a line of text.

    Args:
        text: What it says.
        size: Height of its letters in pixels.
        colour: Of the letters.
        background: Of the rest.

    Returns:
        RGB, as large as the text needs with a small border, shape (h, w, 3), uint8.
    """
    from PIL import Image, ImageDraw

    letters = font(size)
    border = max(2, size // 4)
    width = int(np.ceil(letters.getlength(text))) + 2 * border
    ascent, descent = letters.getmetrics()
    picture = Image.new("RGB", (width, ascent + descent + 2 * (border // 2)), background)
    ImageDraw.Draw(picture).text((border, border // 2), text, font=letters, fill=colour)
    return np.asarray(picture, np.uint8)


def paste(picture: NDArray[np.uint8], part: NDArray[np.uint8], left: int, top: int) -> None:
    """Put a part into a picture, cut off at its borders.

    Args:
        picture: RGB, shape (H, W, 3), uint8; changed.
        part: RGB, shape (h, w, 3), uint8.
        left: Column of its first column.
        top: Row of its first row.
    """
    height, width = picture.shape[:2]
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + part.shape[0]), min(width, left + part.shape[1])
    if y1 > y0 and x1 > x0:
        picture[y0:y1, x0:x1] = part[y0 - top : y1 - top, x0 - left : x1 - left]
