"""Forgeries of known kind and strength on a synthetic face ([ours], synthetic).

Each replaces the inner face through a soft mask that moves with the head. What is laid over is
kept as a second canvas and goes through the very same light, warp, noise and encoding as the
rest of the frame; only what a kind's name says differs from the real video:

* `temporal`: the person's own face, drawn with a new small error of place, size, brightness and
  texture in each frame. Every frame alone looks real; together they tremble.
* `spatial`: another person's skin, eyes and partly shape, still in time.
* `both`: another person's face that trembles.

By default a forged face is as sharp as the frame around it. With a `generator_scale` above 1 it is
what networks that make faces leave: a picture of fewer pixels, enlarged, and without the noise of
the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.synthetic.canvas import FaceCanvas, draw_canvas, smooth_noise, soft_polygon
from datamodules.synthetic.face import (
    Expression,
    FloatArray,
    draw_look,
    draw_shape,
    face_landmarks,
    mix_looks,
    mix_shapes,
)

ForgeryKind = Literal["temporal", "spatial", "both"]
FORGERY_KINDS: tuple[ForgeryKind, ...] = ("temporal", "spatial", "both")

#: Deviation of the errors of a `temporal` forgery at strength 1: shift in eye distances, size
#: and brightness as a share, texture in grey levels.
SHIFT_ERROR = 0.022
SIZE_ERROR = 0.015
GAIN_ERROR = 0.02
TEXTURE_ERROR = 4.0
#: Share of the errors' variance that wanders slowly (drift); the rest is new in each frame.
DRIFT_SHARE = 0.3
_DRIFT_MEMORY = 0.9


@dataclass(frozen=True)
class FrameErrors:
    """What goes wrong in each of the N frames.

    Attributes:
        shift: Misplacement (x, y) in eye distances, shape (N, 2), float32.
        size: Relative error of size, shape (N,), float32.
        gain: Relative error of brightness, shape (N,), float32.
        texture: Two fields of blurred noise in grey levels, shape (2, 2C, 2C), float32.
        texture_at: Where each frame cuts its (C, C) window out of both, shape (N, 2, 2), int64.
    """

    shift: FloatArray
    size: FloatArray
    gain: FloatArray
    texture: FloatArray
    texture_at: np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Forgery:
    """A forged inner face.

    Attributes:
        kind: Which of the three it is.
        canvas: The face that is laid over.
        mask: How much of it shows, 0..1, shape (C, C), float32.
        errors: Errors of the frames, or None for a forgery that is still in time.
        generator_scale: Pixels of the frame for each that the face was made of, along a side; above
            1 it lacks the camera's noise, too.
    """

    kind: ForgeryKind
    canvas: FaceCanvas
    mask: FloatArray
    errors: FrameErrors | None
    generator_scale: float


def make_forgery(
    kind: ForgeryKind,
    target: FaceCanvas,
    num_frames: int,
    temporal_strength: float,
    spatial_strength: float,
    generator_scale: float,
    rng: np.random.Generator,
) -> Forgery:
    """Forge a face.

    The other person of a `spatial` or `both` forgery is made up for it and appears nowhere else,
    so that a swap ties no two identities together.

    Args:
        kind: Kind of the forgery.
        target: The real face.
        num_frames: Frames of the video.
        temporal_strength: Factor on all errors of `temporal` and `both`.
        spatial_strength: How much of the other person shows in `spatial` and `both`, 0..1.
        generator_scale: As in `Forgery`.
        rng: Source of everything random.

    Returns:
        The forgery.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in FORGERY_KINDS:
        raise ValueError(f"no forgery {kind!r}; there are: {', '.join(FORGERY_KINDS)}")
    side = len(target.alpha)
    canvas = target if kind == "temporal" else _swap(target, spatial_strength, rng)
    errors = None if kind == "spatial" else _draw_errors(num_frames, side, temporal_strength, rng)
    return Forgery(kind, canvas, _inner_face(target), errors, generator_scale)


def _swap(target: FaceCanvas, strength: float, rng: np.random.Generator) -> FaceCanvas:
    donor_shape, donor_look = draw_shape(rng), draw_look(rng)
    # A swap keeps the target's proportions in the main; eyes and mouth must stay in place.
    shape = mix_shapes(target.shape, donor_shape, 0.5 * strength)
    look = mix_looks(target.look, donor_look, strength)
    return draw_canvas(shape, look, len(target.alpha))


def _inner_face(target: FaceCanvas) -> FloatArray:
    points = face_landmarks(target.shape, Expression(0.0, 0.4, (0.0, 0.0)))
    jaw = points[2:15] * np.array([0.86, 0.95], np.float32)
    brows = points[17:27][::-1] + np.array([0.0, -0.12], np.float32)
    side = len(target.alpha)
    return soft_polygon(np.concatenate([jaw, brows]), side, 0.025 * side)


def _draw_errors(
    num_frames: int, side: int, strength: float, rng: np.random.Generator
) -> FrameErrors:
    errors = _trembling(rng, (num_frames, 4)) * np.float32(strength)
    texture = np.stack(
        [
            smooth_noise(rng, (2 * side, 2 * side), 0.06 * side),
            smooth_noise(rng, (2 * side, 2 * side), 0.02 * side),
        ]
    )
    return FrameErrors(
        shift=SHIFT_ERROR * errors[:, :2],
        size=SIZE_ERROR * errors[:, 2],
        gain=GAIN_ERROR * errors[:, 3],
        texture=texture * np.float32(strength * TEXTURE_ERROR / np.sqrt(2)),
        texture_at=rng.integers(0, side, (num_frames, 2, 2)),
    )


def _trembling(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    fresh = rng.standard_normal(shape, dtype=np.float32)
    drift = rng.standard_normal(shape, dtype=np.float32)
    for step in range(1, shape[0]):
        drift[step] *= np.float32(np.sqrt(1 - _DRIFT_MEMORY**2))
        drift[step] += np.float32(_DRIFT_MEMORY) * drift[step - 1]
    fresh *= np.float32(np.sqrt(1 - DRIFT_SHARE))
    fresh += np.float32(np.sqrt(DRIFT_SHARE)) * drift
    return fresh
