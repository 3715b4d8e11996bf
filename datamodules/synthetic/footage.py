"""Footage of a synthetic talking head: what moves, the light, the wall behind, the clothes.

All of it is our own invention ([ours]). A `Footage` is everything that a real video and its
forgery share; only the forged region and the sensor's noise differ between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.synthetic.canvas import ByteArray, FaceCanvas, smooth_noise
from datamodules.synthetic.face import FloatArray

#: Frames a second of every synthetic video.
FPS = 25
#: Eye distance as a share of the frame: the doubled face box just fits into the frame.
EYE_DISTANCE = 0.185


@dataclass(frozen=True)
class Motion:
    """What moves, for each of N frames.

    Attributes:
        centre: Middle between the eyes (x, y) in pixels, shape (N, 2).
        angle: Rotation in the picture plane in radians, shape (N,).
        eye_distance: Distance of the eyes in pixels, shape (N,).
        turn: Turn to the side and nod, as the shift of a point one unit deep, shape (N, 2).
        blink: 0 open, 1 closed, shape (N,).
        opening: 0 mouth closed, 1 open, shape (N,).
        gaze: Shift of the irises in eye distances, shape (N, 2).
        light: Direction from which light comes, unit vectors, shape (N, 3).
        shake: Shift of the whole picture in pixels, shape (N, 2).
        exposure: Factor on the brightness of the whole picture, shape (N,).
    """

    centre: FloatArray
    angle: FloatArray
    eye_distance: FloatArray
    turn: FloatArray
    blink: FloatArray
    opening: FloatArray
    gaze: FloatArray
    light: FloatArray
    shake: FloatArray
    exposure: FloatArray


@dataclass(frozen=True)
class Footage:
    """A scene and what happens in it; H = W = frame side.

    Attributes:
        face: The person.
        backdrop: Wall behind the person, shape (H, W, 3), uint8.
        body: Neck and shoulders, RGB and alpha, shape (H, W, 4), uint8.
        motion: What moves.
        tint: Factor on red, green and blue, shape (3,), float32.
        ambient: Share of the light that comes from everywhere.
        noise: Deviation of the sensor's noise in grey levels.
    """

    face: FaceCanvas
    backdrop: ByteArray
    body: ByteArray
    motion: Motion
    tint: FloatArray
    ambient: float
    noise: float


def draw_footage(
    face: FaceCanvas, num_frames: int, frame_size: int, rng: np.random.Generator
) -> Footage:
    """Put a person into a scene and let things happen.

    Args:
        face: The person.
        num_frames: Frames of the video.
        frame_size: Side of the square frame in pixels.
        rng: Source of everything random.

    Returns:
        The footage.
    """
    return Footage(
        face=face,
        backdrop=_draw_backdrop(frame_size, rng),
        body=_draw_body(face, frame_size, rng),
        motion=_draw_motion(num_frames, frame_size, rng),
        tint=(rng.uniform(0.8, 1.1) * rng.uniform(0.94, 1.06, 3)).astype(np.float32),
        ambient=float(rng.uniform(0.35, 0.6)),
        noise=float(rng.uniform(1.0, 4.5)),
    )


def _wander(
    rng: np.random.Generator, times: NDArray[Any], scale: float, low: float, high: float
) -> NDArray[Any]:
    """Sum four slow waves with frequencies `low`..`high` Hz to a deviation of about `scale`."""
    frequency = rng.uniform(low, high, 4)[:, None]
    phase = rng.uniform(0, 2 * np.pi, 4)[:, None]
    weight = rng.uniform(0.4, 1.0, 4)[:, None]
    weight *= scale * np.sqrt(2.0) / np.linalg.norm(weight)
    waves: NDArray[Any] = weight * np.sin(2 * np.pi * frequency * times + phase)
    return np.asarray(waves.sum(axis=0))


def _draw_motion(num_frames: int, frame_size: int, rng: np.random.Generator) -> Motion:
    times = np.arange(num_frames) / FPS
    eyes = EYE_DISTANCE * frame_size * rng.uniform(0.92, 1.08)
    lively = rng.uniform(0.4, 1.6)

    def pair(scale: float, low: float, high: float) -> NDArray[Any]:
        return np.stack([_wander(rng, times, scale, low, high) for _ in range(2)], axis=1)

    start = frame_size * np.array([0.5, 0.43]) + frame_size * rng.uniform(-0.03, 0.03, 2)
    speech = _wander(rng, times, 0.5, 1.5, 4.0) + rng.uniform(-0.4, 0.4)
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.7, 0.1), 0.8])
    light = light + np.column_stack([pair(0.25, 0.1, 0.6), np.zeros(num_frames)])
    exposure = 1 + _wander(rng, times, 0.02, 0.1, 0.8)
    exposure = exposure + rng.uniform(0, 0.006) * rng.standard_normal(num_frames)
    values = {
        "centre": start + pair(0.07 * lively * eyes, 0.15, 0.9),
        "angle": _wander(rng, times, 0.05 * lively, 0.15, 0.8),
        "eye_distance": eyes * (1 + _wander(rng, times, 0.015 * lively, 0.15, 0.6)),
        "turn": rng.uniform(-0.12, 0.12, 2) + pair(0.07 * lively, 0.15, 1.1) * (1.0, 0.7),
        "blink": _blinks(num_frames, rng),
        "opening": np.clip(speech, 0, 1),
        "gaze": pair(0.02, 0.2, 1.0),
        "light": light / np.linalg.norm(light, axis=1, keepdims=True),
        "shake": pair(0.004 * frame_size * rng.uniform(0, 1), 0.5, 4.0),
        "exposure": exposure,
    }
    return Motion(**{name: value.astype(np.float32) for name, value in values.items()})


def _blinks(num_frames: int, rng: np.random.Generator) -> NDArray[Any]:
    """Close the eyes for about seven frames, every one to three seconds."""
    blink = np.zeros(num_frames)
    frames = np.arange(num_frames)
    middle = rng.uniform(0, 2 * FPS)
    while middle < num_frames + 4:
        near = np.clip(1 - np.abs(frames - middle) / 3.5, 0, 1)
        blink = np.maximum(blink, np.sin(near * np.pi / 2) ** 2)
        middle += rng.uniform(1.0, 3.0) * FPS
    return blink


def _draw_backdrop(size: int, rng: np.random.Generator) -> ByteArray:
    wall = np.empty((size, size, 3), np.float32)
    wall[:] = rng.uniform(60, 190) + rng.normal(0, 18, 3)
    for sigma, strength in ((0.2, 18.0), (0.05, 7.0), (0.008, 3.0)):
        for channel in range(3):
            wall[..., channel] += strength * smooth_noise(rng, (size, size), sigma * size) * 0.5
        wall += 0.8 * strength * smooth_noise(rng, (size, size), sigma * size)[..., None]
    for _ in range(int(rng.integers(1, 5))):  # furniture: plain rectangles
        start = rng.integers(-size // 4, size, 2)
        y0, x0 = np.maximum(start, 0)
        y1, x1 = np.maximum(start + rng.integers(size // 8, size // 2, 2), 0)
        box = wall[y0:y1, x0:x1]
        box += rng.normal(0, 28, 3).astype(np.float32)
    blurred = cv2.GaussianBlur(np.clip(wall, 0, 255), (0, 0), rng.uniform(0.5, 2.0))
    return np.asarray(blurred).astype(np.uint8)


def _draw_body(face: FaceCanvas, size: int, rng: np.random.Generator) -> ByteArray:
    unit = EYE_DISTANCE * size
    middle, chin = 0.5 * size, 0.43 * size + face.shape.chin * unit
    neck = 0.62 * face.shape.jaw_width * unit
    shirt, skin = rng.uniform(20, 220, 3), 0.72 * np.array(face.look.skin)
    body = np.zeros((size, size, 4), np.uint8)
    slope = rng.uniform(0.25, 0.55) * unit
    wide = rng.uniform(1.9, 2.5) * unit
    shoulders = [
        (middle - wide, 2 * size),
        (middle - wide, chin + slope + 0.6 * unit),
        (middle - neck, chin + 0.28 * unit),
        (middle + neck, chin + 0.28 * unit),
        (middle + wide, chin + slope + 0.6 * unit),
        (middle + wide, 2 * size),
    ]
    column = [(-1, -1.0), (1, -1.0), (1, 0.38), (0, 0.62), (-1, 0.38)]
    throat = [(middle + side * neck, chin + down * unit) for side, down in column]
    for outline, paint in ((shoulders, shirt), (throat, skin)):
        corners = np.round(np.array(outline) * 16).astype(np.int32)
        cv2.fillPoly(body, [corners], (*paint.tolist(), 255.0), cv2.LINE_AA, 4)
    weave = 5 * smooth_noise(rng, (size, size), 0.8)[..., None]
    body[..., :3] = np.clip(body[..., :3] + weave, 0, 255).astype(np.uint8)
    return body
