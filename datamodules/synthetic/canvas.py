"""Draw a face on its flat canvas: skin, hair and brows once, eyes and mouth for each frame.

All of it is our own invention ([ours]). Colours are RGB in 0..255, lengths eye distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.synthetic.face import (
    CANVAS_SPAN,
    Expression,
    FaceLook,
    FaceShape,
    FloatArray,
    brow_lines,
    canvas_grid,
    depth,
    face_landmarks,
    jaw_line,
    to_canvas,
)

ByteArray = NDArray[np.uint8]

#: Bits of sub-pixel precision in OpenCV's drawing functions.
_SHIFT = 5


@dataclass(frozen=True)
class FaceCanvas:
    """The flat picture of a face, before expression, light and pose. C is the canvas side.

    Attributes:
        shape: The shape that it was drawn with.
        look: The look that it was drawn with.
        colour: Picture without eyes and mouth, shape (C, C, 3), uint8.
        alpha: Silhouette of head and hair, shape (C, C), uint8.
        normal: Surface direction x, y, z, shape (3, C, C), float32.
    """

    shape: FaceShape
    look: FaceLook
    colour: ByteArray
    alpha: ByteArray
    normal: FloatArray


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> FloatArray:
    """Make blurred noise of zero mean and unit deviation.

    Args:
        rng: Source of the noise.
        shape: Height and width of the result.
        sigma: Size of the blobs in pixels.

    Returns:
        Noise of `shape`, float32.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), dtype=np.float32)
    noise -= noise.mean()
    noise /= np.float32(noise.std() + 1e-6)
    return noise


def draw_canvas(shape: FaceShape, look: FaceLook, side: int) -> FaceCanvas:
    """Draw a face without eyes and mouth.

    Args:
        shape: Where the parts lie.
        look: Colours and textures.
        side: Pixels along a side of the canvas.

    Returns:
        The canvas; the same arguments give the same pixels.
    """
    rng = np.random.default_rng(look.texture_seed)
    x, y = canvas_grid(side)
    unit = side / CANVAS_SPAN
    colour = _skin(shape, look, (x, y), unit, rng)
    face = soft_polygon(_outline(shape, look), side, 0.035 * unit)
    hair = _hair_mask(shape, look, side)
    colour *= face[..., None]
    colour += (1 - face[..., None]) * _hair_colour(look, side, rng)
    _add_brows(colour, shape, look, side)
    alpha = np.maximum(face, hair)
    return FaceCanvas(
        shape=shape,
        look=look,
        colour=np.clip(colour, 0, 255).astype(np.uint8),
        alpha=(255 * alpha).astype(np.uint8),
        normal=_normals(x, y, unit),
    )


def paint_expression(canvas: FaceCanvas, expression: Expression) -> ByteArray:
    """Draw eyes and mouth on a copy of the canvas.

    Returns:
        The face, shape (C, C, 3), uint8 RGB.
    """
    picture: ByteArray = canvas.colour.copy()
    side = len(picture)
    points = to_canvas(face_landmarks(canvas.shape, expression), side)
    for first, centre_x in ((36, -0.5), (42, 0.5)):
        centre = to_canvas(np.add((centre_x, 0.0), expression.gaze), side)
        _paint_eye(picture, points[first : first + 6], centre, canvas)
    _fill(picture, points[48:60], canvas.look.lips)
    if expression.opening > 0.02:
        _fill(picture, points[60:68], (58, 22, 24))
        teeth = points[60:65].copy()
        teeth[:, 1] += 0.25 * (points[66, 1] - points[62, 1])
        _fill(picture, np.concatenate([points[60:65], teeth[::-1]]), (214, 206, 196))
    else:
        _line(picture, points[60:65], [0.6 * value for value in canvas.look.lips], 1)
    return picture


def _outline(shape: FaceShape, look: FaceLook) -> NDArray[Any]:
    """Contour of the visible skin: the jaw, closed above by the hair line."""
    jaw = jaw_line(shape)
    angle = np.linspace(0, np.pi, 15)
    top = np.stack(
        [
            0.97 * shape.jaw_width * np.cos(angle),
            -0.1 - (look.hair_line - 0.1) * np.sin(angle) ** 0.8,
        ],
        axis=1,
    )
    return np.concatenate([jaw, top])


def _hair_mask(shape: FaceShape, look: FaceLook, side: int) -> FloatArray:
    angle = np.linspace(np.pi, 2 * np.pi, 21)
    wide, high = shape.jaw_width + 0.14, 1.52
    dome = np.stack([wide * np.cos(angle), high * np.sin(angle)], axis=1)
    foot = np.array([[wide, look.hair_length], [-wide, look.hair_length]])
    # Short hair ends where the dome's sides are cut; the face's own mask covers the rest.
    outline = np.concatenate([dome, foot])
    outline[:, 1] = np.minimum(outline[:, 1], max(look.hair_length, -0.1))
    return soft_polygon(outline, side, 0.05 * side / CANVAS_SPAN)


def soft_polygon(points: NDArray[Any], side: int, sigma: float) -> FloatArray:
    """Fill a polygon on a canvas and blur its edge.

    Args:
        points: Corners (x, y) in eye distances, shape (K, 2).
        side: Pixels along a side of the canvas.
        sigma: Softness of the edge in pixels.

    Returns:
        1 inside, 0 outside, shape (side, side), float32.
    """
    mask = np.zeros((side, side), np.uint8)
    _fill(mask, to_canvas(points, side), (255,))
    blurred = np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), dtype=np.float32)
    blurred /= np.float32(255)
    return blurred


def _skin(
    shape: FaceShape,
    look: FaceLook,
    grid: tuple[FloatArray, FloatArray],
    unit: float,
    rng: np.random.Generator,
) -> FloatArray:
    x = grid[0]
    skin = np.empty((*x.shape, 3), np.float32)
    skin[:] = look.skin
    for sigma, share in ((0.5, 1.0), (0.13, 0.8), (0.04, 0.5)):
        skin += share * look.mottle * smooth_noise(rng, x.shape, sigma * unit)[..., None]
    red = np.float32(0.5) * smooth_noise(rng, x.shape, 0.25 * unit)
    for centre in (-0.62, 0.62):
        red += 2.0 * _blob(grid, (centre, 0.72), 0.3)
    red += 1.2 * _blob(grid, (0, shape.nose_length), 0.14)
    skin += red[..., None] * np.array([5, -3, -3], np.float32)
    shade = np.zeros_like(x)
    for centre in (-0.5, 0.5):  # eye sockets, nostrils, sides of the nose
        shade += 0.22 * _blob(grid, (centre * 0.92, -0.04), 0.26)
        shade += 0.55 * _blob(grid, (centre * shape.nose_width, shape.nose_length + 0.09), 0.045)
        shade += 0.12 * _blob(grid, (centre * 0.5, 0.15), 0.15)
    shade += 0.16 * _blob(grid, (0, shape.nose_length + 0.2), 0.1)
    shade += 0.16 * _blob(grid, (0, shape.mouth + 0.28), 0.12)
    skin *= 1 - shade[..., None]
    return skin


def _blob(
    grid: tuple[FloatArray, FloatArray], centre: tuple[float, float], size: float
) -> FloatArray:
    square = (grid[0] - np.float32(centre[0])) ** 2 + (grid[1] - np.float32(centre[1])) ** 2
    return np.asarray(np.exp(-square / np.float32(2 * size**2)), dtype=np.float32)


def _hair_colour(look: FaceLook, side: int, rng: np.random.Generator) -> FloatArray:
    noise = rng.standard_normal((side, side), dtype=np.float32)
    streaks = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigmaX=0.8, sigmaY=5), dtype=np.float32)
    streaks /= np.float32(streaks.std())
    colour = np.empty((side, side, 3), np.float32)
    colour[:] = look.hair
    colour += 14 * streaks[..., None]
    return colour


def _add_brows(colour: FloatArray, shape: FaceShape, look: FaceLook, side: int) -> None:
    points = to_canvas(brow_lines(shape), side)
    mask = np.zeros((side, side), np.uint8)
    for brow in (points[:5], points[5:]):
        _line(mask, brow, (255, 255, 255), max(1, round(0.085 * side / CANVAS_SPAN)))
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.02 * side / CANVAS_SPAN))
    share = 0.8 * mask[..., None].astype(np.float32) / 255
    colour += share * (np.array(look.hair, np.float32) - colour)


def _normals(x: FloatArray, y: FloatArray, unit: float) -> FloatArray:
    surface = depth(x, y)
    for centre in (-0.5, 0.5):
        surface -= 0.05 * _blob((x, y), (centre, 0.0), 0.24)
    surface += 0.04 * _blob((x, y), (0.0, 1.1), 0.2)
    slope_y, slope_x = np.gradient(surface, 1 / unit)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(surface)]).astype(np.float32)
    normal /= np.sqrt(np.square(normal).sum(axis=0))
    return normal


def _paint_eye(
    picture: ByteArray, outline: FloatArray, iris: FloatArray, canvas: FaceCanvas
) -> None:
    unit = len(picture) / CANVAS_SPAN
    margin = 0.4 * unit
    x0, y0 = np.floor(outline.mean(axis=0) - margin).astype(int)
    x1, y1 = np.ceil(outline.mean(axis=0) + margin).astype(int)
    window = picture[y0:y1, x0:x1]
    eye = np.empty_like(window)
    eye[:] = (216, 212, 206)
    local = outline - np.array([x0, y0], np.float32)
    centre = _fixed(iris - np.array([x0, y0], np.float32))
    for radius, paint in ((0.105, canvas.look.iris), (0.05, (16, 14, 14))):
        size = round(radius * unit * 2**_SHIFT)
        cv2.circle(eye, centre.tolist(), size, paint, -1, cv2.LINE_AA, _SHIFT)
    mask = np.zeros(window.shape[:2], np.uint8)
    _fill(mask, local, (255,))
    share = mask[..., None].astype(np.float32) / 255
    window[:] = (share * eye + (1 - share) * window).astype(np.uint8)
    _line(window, local[:4], [0.35 * value for value in canvas.look.skin], 1)


def _fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    return np.asarray(np.round(points * 2**_SHIFT), dtype=np.int32)


def _fill(image: ByteArray, points: NDArray[Any], paint: Sequence[float]) -> None:
    cv2.fillPoly(image, [_fixed(points)], tuple(paint), cv2.LINE_AA, _SHIFT)


def _line(image: ByteArray, points: NDArray[Any], paint: Sequence[float], width: int) -> None:
    cv2.polylines(image, [_fixed(points)], False, tuple(paint), width, cv2.LINE_AA, _SHIFT)
