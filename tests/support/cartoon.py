"""A drawn face that face detectors take for one, at a known place."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SKIN, HAIR, WHITE, DARK = (224, 172, 140), (60, 40, 30), (250, 250, 250), (50, 30, 20)


def blank(height: int, width: int) -> NDArray[np.uint8]:
    """Make a frame without a face, shape (height, width, 3)."""
    return np.full((height, width, 3), (70, 90, 110), np.uint8)


def draw_face(
    frame: NDArray[np.uint8], centre: tuple[float, float], radius: float, tilt: float = 0.0
) -> NDArray[np.uint8]:
    """Draw a head into a copy of a frame.

    Eyes lie 0.35 radii left and right of the centre and 0.12 above it, the mouth 0.65 below.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        centre: Of the face (x, y) in pixels.
        radius: About half the width of the head in pixels.
        tilt: Clockwise rotation of the whole picture about the centre, in degrees.
    """
    picture = frame.copy()

    def at(x: float, y: float) -> tuple[int, int]:
        return round(centre[0] + radius * x), round(centre[1] + radius * y)

    def oval(x: float, y: float, a: float, b: float, colour: tuple[int, int, int]) -> None:
        cv2.ellipse(picture, at(x, y), (int(radius * a), int(radius * b)), 0, 0, 360, colour, -1)

    def stroke(share: float) -> int:
        return int(radius * share) + 1

    cv2.rectangle(picture, at(-1.6, 1.55), at(1.6, 9), (40, 50, 90), -1)
    oval(0, -0.15, 1.0, 1.3, HAIR)
    cv2.rectangle(picture, at(-0.35, 0.7), at(0.35, 1.7), (200, 150, 120), -1)
    oval(0, 0.1, 0.82, 1.12, SKIN)
    for side in (-1, 1):
        oval(side * 0.35, -0.12, 0.17, 0.09, WHITE)
        oval(side * 0.35, -0.12, 0.08, 0.08, DARK)
        brow = (int(radius * 0.22), int(radius * 0.06))
        cv2.ellipse(picture, at(side * 0.35, -0.36), brow, 0, 180, 360, HAIR, stroke(0.07))
    nose = (int(radius * 0.15), int(radius * 0.09))
    cv2.ellipse(picture, at(0, 0.33), nose, 0, 0, 180, (170, 110, 90), stroke(0.05))
    cv2.line(picture, at(-0.05, -0.1), at(-0.1, 0.3), (205, 150, 120), stroke(0.05))
    oval(0, 0.65, 0.3, 0.09, (180, 70, 70))
    cv2.line(picture, at(-0.3, 0.65), at(0.3, 0.65), (110, 30, 30), stroke(0.03))
    picture = cv2.GaussianBlur(picture, (0, 0), max(0.3, radius * 0.025))
    matrix = cv2.getRotationMatrix2D(centre, -tilt, 1.0)
    size = (frame.shape[1], frame.shape[0])
    return np.asarray(
        cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )
