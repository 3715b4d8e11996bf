"""Render the footage of a synthetic talking head frame by frame, forged or not.

The face is a flat canvas that is bent (turn, nod, dropping jaw), lit, and laid into the frame by
one warp. The landmarks are the inverse of that very warp, hence exact. All of it is our own
invention ([ours]).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.synthetic.canvas import ByteArray, FaceCanvas, paint_expression
from datamodules.synthetic.face import (
    CANVAS_ORIGIN,
    CANVAS_SPAN,
    Expression,
    FloatArray,
    canvas_grid,
    depth,
    face_landmarks,
)
from datamodules.synthetic.footage import Footage, Motion
from datamodules.synthetic.forgery import Forgery

#: How far the chin drops when the mouth opens, in eye distances.
_JAW_DROP = 0.16


@dataclass(frozen=True)
class Rendering:
    """One rendered video of N frames.

    Attributes:
        frames: RGB, shape (N, H, W, 3), uint8.
        points68: Landmarks (x, y) in pixels, shape (N, 68, 2), float32.
        box: Face box x0 y0 x1 y1 in pixels, shape (N, 4), float32.
        mask: Share of forged picture in each pixel, 0..255, shape (N, H, W), uint8.
    """

    frames: ByteArray
    points68: FloatArray
    box: FloatArray
    mask: ByteArray


def render(footage: Footage, forgery: Forgery | None, rng: np.random.Generator) -> Rendering:
    """Render footage, forged or not.

    Args:
        footage: The scene.
        forgery: What to lay over the face, or None for a real video.
        rng: Source of the sensor's noise alone.

    Returns:
        Frames with exact landmarks, boxes and masks.
    """
    pairs = list(_render_frames(footage, forgery, rng))
    points = _landmarks(footage)
    return Rendering(
        frames=np.stack([frame for frame, _ in pairs]),
        points68=points,
        box=_boxes(points),
        mask=np.stack([mask for _, mask in pairs]),
    )


def _render_frames(
    footage: Footage, forgery: Forgery | None, rng: np.random.Generator
) -> Iterator[tuple[ByteArray, ByteArray]]:
    size = len(footage.backdrop)
    fields = _displacements(len(footage.face.alpha))
    for index in range(len(footage.motion.angle)):
        picture = _backdrop(footage, index)
        where = _backward_map(footage, fields, index)
        colour, alpha = _head(footage, footage.face, where, index)
        mask = np.zeros((size, size), np.float32)
        if forgery is not None:
            colour, mask = _lay_over(footage, forgery, where, colour, index)
        picture += alpha[..., None] * (colour - picture)
        picture *= footage.tint * footage.motion.exposure[index]
        noise = rng.standard_normal((size, size), dtype=np.float32)
        if forgery is not None and forgery.generator_scale > 1:
            noise *= 1 - mask
        picture += (np.float32(footage.noise) * noise)[..., None]
        np.clip(picture, 0, 255, out=picture)
        yield np.rint(picture).astype(np.uint8), np.rint(255 * mask * alpha).astype(np.uint8)


def _backdrop(footage: Footage, index: int) -> FloatArray:
    """Wall and body of one frame, shape (H, W, 3), float32."""
    motion = footage.motion
    follow = 0.4 * (motion.centre[index] - motion.centre[0]) + motion.shake[index]
    wall = _moved(footage.backdrop, motion.shake[index], cv2.BORDER_REFLECT)
    body = _moved(footage.body, follow, cv2.BORDER_REPLICATE).astype(np.float32)
    picture = wall.astype(np.float32)
    picture += body[..., 3:] / np.float32(255) * (body[..., :3] - picture)
    return picture


def _moved(image: ByteArray, shift: FloatArray, border: int) -> ByteArray:
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    size = (image.shape[1], image.shape[0])
    moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(moved)


def _displacements(side: int) -> tuple[FloatArray, FloatArray]:
    """Depth and share of the jaw's drop on the canvas, each of shape (C, C)."""
    x, y = canvas_grid(side)
    return depth(x, y), _jaw_share(y)


def _jaw_share(y: NDArray[Any]) -> FloatArray:
    """How much of the jaw's drop a point follows: nothing at the nose, all at the chin."""
    share = np.clip((y - 0.95) / 0.8, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _backward_map(
    footage: Footage, fields: tuple[FloatArray, FloatArray], index: int
) -> FloatArray:
    """Tell for each pixel of the frame where on the canvas it comes from, shape (H, W, 2)."""
    motion, side = footage.motion, len(footage.face.alpha)
    unit = np.float32(side / CANVAS_SPAN)
    line = np.arange(side, dtype=np.float32)
    place = np.empty((side, side, 2), np.float32)
    place[..., 0] = line - unit * motion.turn[index, 0] * fields[0]
    place[..., 1] = line[:, None] - unit * motion.turn[index, 1] * fields[0]
    place[..., 1] -= unit * np.float32(_JAW_DROP) * motion.opening[index] * fields[1]
    inverse = _frame_to_canvas(motion, index, unit)
    size = len(footage.backdrop)
    moved = cv2.warpAffine(
        place,
        inverse,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(-1e4, -1e4),
    )
    return np.asarray(moved, dtype=np.float32)


def _frame_to_canvas(motion: Motion, index: int, unit: np.float32) -> FloatArray:
    """Similarity from frame pixels to canvas pixels of the undistorted face, shape (2, 3)."""
    cosine, sine = np.cos(motion.angle[index]), np.sin(motion.angle[index])
    turn = np.array([[cosine, sine], [-sine, cosine]]) * unit / motion.eye_distance[index]
    centre = motion.centre[index] + motion.shake[index]
    shift = np.array(CANVAS_ORIGIN) * unit - turn @ centre
    return np.column_stack([turn, shift]).astype(np.float32)


def _head(
    footage: Footage, canvas: FaceCanvas, where: FloatArray, index: int
) -> tuple[FloatArray, FloatArray]:
    """Head of one frame: lit colour (H, W, 3) in 0..255 and alpha (H, W) in 0..1."""
    motion = footage.motion
    gaze = (float(motion.gaze[index, 0]), float(motion.gaze[index, 1]))
    expression = Expression(float(motion.blink[index]), float(motion.opening[index]), gaze)
    flat = np.dstack([paint_expression(canvas, expression), canvas.alpha])
    picture = _remap(flat, where)
    light = motion.light[index].copy()
    light[:2] -= motion.turn[index]  # the light stays where it is when the head turns
    normal = canvas.normal
    lit = light[0] * normal[0] + light[1] * normal[1] + light[2] * normal[2]
    lit = np.float32(footage.ambient) + np.float32(1.3 - footage.ambient) * np.maximum(lit, 0)
    shade = _remap(lit.astype(np.float32), where)
    return picture[..., :3] * shade[..., None], picture[..., 3] / np.float32(255)


def _remap(image: NDArray[Any], where: FloatArray) -> FloatArray:
    """Look an image up at `where` (H, W, 2); nothing (0) outside of it."""
    x, y = cv2.split(where)
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR), dtype=np.float32)


def _lay_over(
    footage: Footage, forgery: Forgery, where: FloatArray, colour: FloatArray, index: int
) -> tuple[FloatArray, FloatArray]:
    """Blend the forged face over the head: colour (H, W, 3) and mask (H, W)."""
    mask = _remap(forgery.mask, where)
    errors = forgery.errors
    if errors is None:
        forged, _ = _head(footage, forgery.canvas, where, index)
        forged = _enlarged(forged, forgery.generator_scale)
        return colour + mask[..., None] * (forged - colour), mask
    side = len(forgery.mask)
    unit = np.float32(side / CANVAS_SPAN)
    centre = (np.array(CANVAS_ORIGIN, np.float32) + np.array([0, 0.6], np.float32)) * unit
    astray = (where - centre) * (1 - errors.size[index]) + centre - unit * errors.shift[index]
    forged, _ = _head(footage, forgery.canvas, astray, index)
    field = np.zeros((side, side), np.float32)
    for texture, (y, x) in zip(errors.texture, errors.texture_at[index], strict=True):
        field += texture[y : y + side, x : x + side]
    field = _remap(field, where)
    forged *= 1 + errors.gain[index]
    forged += field[..., None]
    forged = _enlarged(forged, forgery.generator_scale)
    return colour + mask[..., None] * (forged - colour), mask


def _enlarged(picture: FloatArray, scale: float) -> FloatArray:
    """Make a picture (H, W, 3) as soft as one made at 1/`scale` of its size and enlarged."""
    if scale == 1:
        return picture
    size = picture.shape[1::-1]
    small = cv2.resize(picture, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _landmarks(footage: Footage) -> FloatArray:
    """Landmarks of all frames in pixels, by inverting the backward map exactly."""
    motion = footage.motion
    flat = np.stack(
        [
            face_landmarks(footage.face.shape, Expression(float(blink), float(opening), (0, 0)))
            for blink, opening in zip(motion.blink, motion.opening, strict=True)
        ]
    )
    place = flat.copy()
    # The displacements are contractions (slopes below 0.7), so that the iteration converges.
    for _ in range(24):
        drop = _JAW_DROP * motion.opening[:, None] * _jaw_share(place[..., 1])
        shift = depth(place[..., 0], place[..., 1])[..., None] * motion.turn[:, None]
        place = flat + shift
        place[..., 1] += drop
    cosine, sine = np.cos(motion.angle), np.sin(motion.angle)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], axis=-2)
    turned = np.einsum("nij,nkj->nki", turn * motion.eye_distance[:, None, None], place)
    points: FloatArray = turned.astype(np.float32)
    points += (motion.centre + motion.shake)[:, None]
    return points


def _boxes(points: FloatArray) -> FloatArray:
    """Boxes as a detector draws them: ear to ear, middle of the forehead to the chin."""
    low, high = points.min(axis=1), points.max(axis=1)
    height = high[:, 1:] - low[:, 1:]
    low[:, 1:] -= 0.16 * height
    return np.concatenate([low, high], axis=1).astype(np.float32)
