"""Soft masks of a face's organs: bands along the landmarks of eyes, nose, mouth and brows.

After video-level blending (Yan et al., CVPR 2025, arXiv 2408.17065). Its code was not part of the
release; the recipe and its numbers are those of the same author's class `VideoBlendAPI`
(YZY-stack/temp_40_pangu), which takes the components of DeepFaceLab's masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datamodules.limits import check_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: In the order in which the released code draws for them.
ORGANS = ("eyes", "nose", "mouth", "brows")

#: Lines through landmarks of the iBUG 68-point scheme, closed ones back at their first point.
_LEFT_EYE = (42, 43, 44, 45, 46, 47, 42)
_RIGHT_EYE = (36, 37, 38, 39, 40, 41, 36)
_LEFT_BROW = (22, 23, 24, 25, 26)
_RIGHT_BROW = (17, 18, 19, 20, 21)
_BRIDGE = (27, 28, 29, 30, 33)
_NOSTRILS = (31, 32, 33, 34, 35)
_MOUTH = (*range(48, 60), 48)
#: What is drawn of each organ: parts by themselves, each of lines that flow into each other.
_PARTS: dict[str, tuple[tuple[tuple[int, ...], ...], ...]] = {
    "eyes": ((_LEFT_EYE,), (_RIGHT_EYE,)),
    "nose": ((_BRIDGE, _NOSTRILS),),
    "mouth": ((_MOUTH,),),
    "brows": ((_LEFT_BROW,), (_RIGHT_BROW,)),
}
#: How far bridge and nostrils flow into each other, in thicknesses (released code).
_FLOW = 3.0


@dataclass(frozen=True, kw_only=True)
class Band:
    """A band along the lines of an organ, in shares of the picture's width.

    Attributes:
        thickness: Distance from the line up to which the mask is 1; rounded down to whole
            pixels, and at least 1.
        fall: Further distance on which it falls to 0; at least a pixel. [The released code rounds
            down that of all organs but the nose: at widths that are multiples of 32, the same.]
    """

    thickness: float
    fall: float = 1 / 32

    def __post_init__(self) -> None:
        check_limits(self, "fake_from_real.video_blend.organs", {"thickness": (0, 0.25)})

    def pixels(self, width: int) -> tuple[float, float]:
        """Tell thickness and fall in pixels of a picture."""
        return float(max(int(self.thickness * width), 1)), max(self.fall * width, 1.0)


@dataclass(frozen=True, kw_only=True)
class OrganBands:
    """The bands of all organs; defaults are those of the released code.

    Attributes:
        eyes: Along the lids.
        nose: Along its bridge and its lower edge, which flow into each other.
        mouth: Along the outer edge of the lips.
        brows: Along the brows.
    """

    eyes: Band = field(default_factory=lambda: Band(thickness=1 / 64))
    nose: Band = field(default_factory=lambda: Band(thickness=1 / 96, fall=1 / 12))
    mouth: Band = field(default_factory=lambda: Band(thickness=1 / 64))
    brows: Band = field(default_factory=lambda: Band(thickness=1 / 256))


class OrganMasks(NamedTuple):
    """Masks of one frame, in the part of the picture that holds them all.

    Attributes:
        values: Of each of `ORGANS`, shape (4, h, w), float32 in 0..1.
        corner: Left and top of the part, in pixels of the picture.
        boxes: Rows and columns of the part that hold each organ.
    """

    values: NDArray[np.float32]
    corner: tuple[int, int]
    boxes: tuple[tuple[slice, slice], ...]

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the part in the picture."""
        (left, top), (height, width) = self.corner, self.values.shape[1:]
        return slice(top, top + height), slice(left, left + width)


def organ_masks(
    points68: NDArray[np.floating[Any]], size: tuple[int, int], bands: OrganBands
) -> OrganMasks:
    """Draw the masks of one frame; no pixel belongs wholly to two organs.

    Distances are exact, and taken only where a mask can be.

    Args:
        points68: Landmarks (x, y) in pixels, shape (68, 2); they may lie outside of the picture.
        size: Height and width of the picture.
        bands: Of all organs.
    """
    points = np.asarray(points68, np.float32)
    drawn: dict[str, list[_Part]] = {}
    for organ, parts in _PARTS.items():
        thickness, fall = getattr(bands, organ).pixels(size[1])
        drawn[organ] = [
            _part([points[list(line)] for line in lines], thickness, fall, size) for lines in parts
        ]
    whole = _union([part.where for parts in drawn.values() for part in parts])
    values = np.zeros((len(ORGANS), *whole.shape), np.float32)
    for organ, value in zip(ORGANS, values, strict=True):
        for part in drawn[organ]:
            if not min(part.where.shape):
                continue
            place = value[part.where.slices(whole.low)]
            np.maximum(place, _band(part), out=place)
    _remove_overlaps(*values)
    boxes = [_union([part.where for part in drawn[organ]]).slices(whole.low) for organ in ORGANS]
    return OrganMasks(values, whole.low, tuple(boxes))


class _Rectangle(NamedTuple):
    """Pixels (x, y) from `low` on and before `high`."""

    low: tuple[int, int]
    high: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.high[1] - self.low[1], self.high[0] - self.low[0]

    def slices(self, origin: tuple[int, int]) -> tuple[slice, slice]:
        """Tell rows and columns, counted from an origin (x, y)."""
        return (
            slice(self.low[1] - origin[1], self.high[1] - origin[1]),
            slice(self.low[0] - origin[0], self.high[0] - origin[0]),
        )


class _Part(NamedTuple):
    """A part of an organ: its lines, their band in pixels, and where that can lie."""

    lines: list[NDArray[np.float32]]
    thickness: float
    fall: float
    where: _Rectangle


def _part(
    lines: list[NDArray[np.float32]], thickness: float, fall: float, size: tuple[int, int]
) -> _Part:
    points = np.concatenate(lines)
    # Two lines flow into each other by a quarter of the flow at most.
    reach = thickness + fall + (_FLOW / 4 * thickness if len(lines) > 1 else 0.0)
    ends = (size[1], size[0])
    (left, top), (right, bottom) = (
        np.clip(corner, 0, ends).astype(int).tolist()
        for corner in (
            np.floor(points.min(axis=0) - reach),
            np.ceil(points.max(axis=0) + reach) + 1,
        )
    )
    return _Part(lines, thickness, fall, _Rectangle((left, top), (right, bottom)))


def _union(boxes: Sequence[_Rectangle]) -> _Rectangle:
    """Find the rectangle that holds all that are not empty."""
    filled = [box for box in boxes if min(box.shape) > 0]
    if not filled:
        return _Rectangle((0, 0), (0, 0))
    left, top = np.min([box.low for box in filled], axis=0).tolist()
    right, bottom = np.max([box.high for box in filled], axis=0).tolist()
    return _Rectangle((left, top), (right, bottom))


def _band(part: _Part) -> NDArray[np.float32]:
    """Draw a part in its rectangle."""
    (left, top), (right, bottom) = part.where
    x, y = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)
    distance = _distance(part.lines[0], x, y)
    for line in part.lines[1:]:
        flow = np.float32(_FLOW * part.thickness)
        distance = _smooth_minimum(_distance(line, x, y), distance, flow)
    # The smooth minimum may be negative.
    beyond = (np.abs(distance) - part.thickness) / part.fall
    return np.asarray(1 - np.clip(beyond, 0, 1), np.float32)


def _distance(
    line: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Measure how far each pixel is from the nearest segment, shape (len(y), len(x))."""
    start, along = line[:-1], np.diff(line, axis=0)
    # Landmarks that coincide make a point of a segment.
    square = np.maximum((along * along).sum(axis=1), np.float32(1e-6))
    (from_x, from_y), (along_x, along_y) = start.T[:, :, None, None], along.T[:, :, None, None]
    beside, below = x - from_x, y[:, None] - from_y
    share = beside * (along_x / square[:, None, None]) + below * (along_y / square[:, None, None])
    np.clip(share, 0, 1, out=share)
    far_x = beside - share * along_x
    share *= -along_y
    share += below
    far_x *= far_x
    share *= share
    far_x += share
    return np.asarray(np.sqrt(far_x.min(axis=0)), np.float32)


def _smooth_minimum(
    one: NDArray[np.float32], other: NDArray[np.float32], width: np.float32
) -> NDArray[np.float32]:
    """Take the minimum, rounded off where both are alike (released code)."""
    share = np.clip(0.5 + 0.5 * (other - one) / width, 0, 1)
    return np.asarray((one - other) * share + other - width * share * (1 - share), np.float32)


def _remove_overlaps(
    eyes: NDArray[np.float32],
    nose: NDArray[np.float32],
    mouth: NDArray[np.float32],
    brows: NDArray[np.float32],
) -> None:
    """Take from an organ what belongs to another one, in the order of the released code."""
    eyes *= 1 - mouth
    nose *= 1 - eyes
    mouth *= 1 - nose
    brows *= (1 - nose) * (1 - eyes)
