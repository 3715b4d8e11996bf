"""A drawn face: shape, look, the flat picture of it (canvas) and its 68 landmarks.

Everything here is our own invention ([ours]); the proportions follow the five target points of
FTCN's alignment table (eyes, nose tip, mouth corners), so that an aligned synthetic face lies
where an aligned real one does. Lengths are in eye distances; the origin is the middle between
the eyes, x to the right and y down. Image left is the person's right, as in the 300-W order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

#: Side of the square that a canvas shows, and where the eyes' middle lies in it.
CANVAS_SPAN = 4.0
CANVAS_ORIGIN = (2.0, 1.7)


@dataclass(frozen=True)
class FaceShape:
    """Where the parts of a face lie, in eye distances.

    Attributes:
        jaw_width: Half the width of the face at the ears.
        jaw_power: Exponent of the contour; smaller is squarer.
        chin: Height of the chin below the eyes.
        brow: Height of the brows above the eyes.
        eye_width: Half the width of an eye.
        eye_height: Half the height of an open eye.
        nose_length: Height of the nose tip below the eyes.
        nose_width: Half the width of the nose.
        mouth: Height of the mouth below the eyes.
        mouth_width: Half the width of the mouth.
        lip: Thickness of a lip.
    """

    jaw_width: float
    jaw_power: float
    chin: float
    brow: float
    eye_width: float
    eye_height: float
    nose_length: float
    nose_width: float
    mouth: float
    mouth_width: float
    lip: float


@dataclass(frozen=True)
class FaceLook:
    """Colours (RGB, 0..255) and textures of a face.

    Attributes:
        skin: Colour of the skin.
        hair: Colour of hair and brows.
        iris: Colour of the eyes.
        lips: Colour of the lips.
        mottle: Strength of the skin's texture, in grey levels.
        hair_line: Height of the hair line above the eyes.
        hair_length: How far the hair reaches down beside the face; negative is short.
        texture_seed: Seed of all textures of this face.
    """

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    lips: tuple[float, float, float]
    mottle: float
    hair_line: float
    hair_length: float
    texture_seed: int


@dataclass(frozen=True)
class Expression:
    """The moving parts of a face in one frame.

    Attributes:
        blink: 0 open eyes, 1 closed.
        opening: 0 closed mouth, 1 wide open.
        gaze: Shift of the irises (x, y) in eye distances.
    """

    blink: float
    opening: float
    gaze: tuple[float, float]


def draw_shape(rng: np.random.Generator) -> FaceShape:
    """Draw the shape of a person."""
    uniform = rng.uniform
    return FaceShape(
        jaw_width=uniform(0.98, 1.16),
        jaw_power=uniform(0.62, 0.85),
        chin=uniform(1.70, 1.95),
        brow=uniform(0.27, 0.36),
        eye_width=uniform(0.19, 0.235),
        eye_height=uniform(0.06, 0.09),
        nose_length=uniform(0.58, 0.68),
        nose_width=uniform(0.18, 0.26),
        mouth=uniform(1.03, 1.13),
        mouth_width=uniform(0.40, 0.52),
        lip=uniform(0.055, 0.10),
    )


def draw_look(rng: np.random.Generator) -> FaceLook:
    """Draw the look of a person."""
    tone = rng.uniform(0.0, 1.0)
    # From light to dark skin along a line in RGB, with a personal tint beside it.
    skin = (1 - tone) * np.array([228, 188, 164]) + tone * np.array([118, 78, 58])
    skin = skin + rng.normal(0, 5, 3)
    hair = np.array([[28, 24, 22], [72, 48, 32], [150, 112, 66], [122, 118, 114], [110, 52, 30]])
    iris = np.array([[70, 45, 28], [60, 85, 110], [70, 90, 55], [40, 30, 24]])
    lips = skin * rng.uniform(0.72, 0.9) * np.array([1.08, 0.78, 0.82])
    return FaceLook(
        skin=_colour(skin),
        hair=_colour(hair[rng.integers(len(hair))] + rng.normal(0, 8, 3)),
        iris=_colour(iris[rng.integers(len(iris))] + rng.normal(0, 6, 3)),
        lips=_colour(lips),
        mottle=float(rng.uniform(5, 11)),
        hair_line=float(rng.uniform(0.72, 1.0)),
        hair_length=float(rng.uniform(-0.4, 1.6)),
        texture_seed=int(rng.integers(2**31)),
    )


def mix_shapes(first: FaceShape, second: FaceShape, share: float) -> FaceShape:
    """Take `share` of the second shape and the rest of the first."""
    return replace(
        first,
        **{
            name: (1 - share) * value + share * getattr(second, name)
            for name, value in vars(first).items()
        },
    )


def mix_looks(first: FaceLook, second: FaceLook, share: float) -> FaceLook:
    """Take `share` of the second look, but keep the hair and, as swaps do, most of the tone."""

    def mix(name: str, part: float) -> tuple[float, float, float]:
        one, other = np.array(getattr(first, name)), np.array(getattr(second, name))
        return _colour((1 - part) * one + part * other)

    return replace(
        first,
        skin=mix("skin", 0.35 * share),
        iris=mix("iris", share),
        lips=mix("lips", share),
        mottle=(1 - share) * first.mottle + share * second.mottle,
        texture_seed=second.texture_seed,
    )


def face_landmarks(shape: FaceShape, expression: Expression) -> FloatArray:
    """Place the 68 points of the 300-W order on the flat face.

    Returns:
        Points (x, y) in eye distances, shape (68, 2), float32.
    """
    points = np.concatenate(
        [
            jaw_line(shape),
            brow_lines(shape),
            _nose(shape),
            _eye(-0.5, shape, expression.blink),
            _eye(0.5, shape, expression.blink),
            _mouth(shape, expression.opening),
        ]
    )
    return points.astype(np.float32)


def to_canvas(points: NDArray[Any], side: int) -> FloatArray:
    """Turn eye distances into canvas pixels; points have shape (..., 2)."""
    scaled = (np.asarray(points) + CANVAS_ORIGIN) * (side / CANVAS_SPAN)
    return scaled.astype(np.float32)


def canvas_grid(side: int) -> tuple[FloatArray, FloatArray]:
    """Give x and y of each canvas pixel in eye distances, each of shape (side, side)."""
    line = np.arange(side, dtype=np.float32) * np.float32(CANVAS_SPAN / side)
    x, y = np.meshgrid(line - CANVAS_ORIGIN[0], line - CANVAS_ORIGIN[1])
    return x.astype(np.float32), y.astype(np.float32)


def depth(x: NDArray[Any], y: NDArray[Any]) -> FloatArray:
    """Tell how far the face stands out at (x, y): a smooth head with a nose on it."""
    bowl = np.maximum(0.0, 1.0 - (x / 1.45) ** 2 - ((y - 0.3) / 2.0) ** 2)
    nose = np.exp(-((x / 0.2) ** 2) - ((y - 0.48) / 0.3) ** 2)
    return (0.85 * bowl + 0.16 * nose).astype(np.float32)


def _colour(values: NDArray[Any]) -> tuple[float, float, float]:
    red, green, blue = np.clip(values, 5, 250)
    return float(red), float(green), float(blue)


def jaw_line(shape: FaceShape) -> NDArray[Any]:
    """Place points 0 to 16, from ear to ear over the chin, shape (17, 2)."""
    angle = np.linspace(-0.5, 0.5, 17) * np.pi * 1.04
    x = shape.jaw_width * np.sign(angle) * np.abs(np.sin(angle)) ** 0.95
    drop = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** shape.jaw_power
    return np.stack([x, 0.05 + (shape.chin - 0.05) * drop], axis=1)


def brow_lines(shape: FaceShape) -> NDArray[Any]:
    """Place points 17 to 26, from image left to image right, shape (10, 2)."""
    x = np.linspace(0.2, 0.84, 5)
    y = -shape.brow - np.array([0.0, 0.06, 0.08, 0.06, -0.02])
    right = np.stack([x, y], axis=1)
    return np.concatenate([right[::-1] * (-1, 1), right])


def _nose(shape: FaceShape) -> NDArray[Any]:
    bridge = np.stack([np.zeros(4), np.linspace(0.04, shape.nose_length, 4)], axis=1)
    x = shape.nose_width * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    y = shape.nose_length + np.array([0.11, 0.145, 0.165, 0.145, 0.11])
    return np.concatenate([bridge, np.stack([x, y], axis=1)])


def _eye(centre: float, shape: FaceShape, blink: float) -> NDArray[Any]:
    x = shape.eye_width * np.array([-1.0, -0.36, 0.36, 1.0, 0.36, -0.36])
    upper, lower = shape.eye_height, 0.8 * shape.eye_height
    # The upper lid comes down onto the lower one.
    upper = (1 - blink) * upper - blink * 0.9 * lower
    y = np.array([0.0, -upper, -upper, 0.0, lower, lower])
    return np.stack([centre + x, y], axis=1)


def _mouth(shape: FaceShape, opening: float) -> NDArray[Any]:
    wide, lip, gap = shape.mouth_width * (1 - 0.12 * opening), shape.lip, 0.30 * opening
    up = np.stack(
        [
            wide * np.array([-1, -0.6, -0.2, 0, 0.2, 0.6, 1]),
            lip * np.array([0, -0.75, -1.05, -0.85, -1.05, -0.75, 0]),
        ],
        axis=1,
    )
    down = np.stack(
        [
            wide * np.array([0.6, 0.22, 0, -0.22, -0.6]),
            lip * np.array([0.8, 1.15, 1.2, 1.15, 0.8]) + gap * np.array([0.7, 0.96, 1, 0.96, 0.7]),
        ],
        axis=1,
    )
    inner_x = wide * np.array([-0.86, -0.3, 0, 0.3, 0.86, 0.3, 0, -0.3])
    inner_y = gap * np.array([0, 0, 0, 0, 0, 0.95, 1, 0.95]) - 0.1 * lip * (1 - opening)
    inner_y[[0, 4]] = 0.0
    points = np.concatenate([up, down, np.stack([inner_x, inner_y], axis=1)])
    points[:, 1] += shape.mouth
    return points
