"""How the organs of a face drift from frame to frame: the draws of video-level blending.

After Yan et al., CVPR 2025 (arXiv 2408.17065), with the ranges of the same author's class
`VideoBlendAPI` (YZY-stack/temp_40_pangu).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from datamodules.errors import DataError
from datamodules.limits import check_limits
from datamodules.organ_masks import ORGANS

if TYPE_CHECKING:
    from numpy.typing import NDArray

DriftKind = Literal["independent", "correlated"]
#: Width of the pictures that shifts in pixels are meant for (released code).
_WIDTH_PX = 224
#: First of the landmarks whose mean is the centre of every turn; before it is the jaw.
_FIRST_INNER = 17


@dataclass(frozen=True, kw_only=True)
class FeatureDrift:
    """How far each organ is turned, enlarged and shifted in each frame.

    Attributes:
        kind: `independent` draws all anew in each frame, as the released code does: organs
            tremble. `correlated` draws the ranges once for the clip and lets organs wander inside
            them, so that neighbouring frames resemble each other: a first-order autoregressive
            process, whose values are spread as evenly as the independent ones. [ours]
        correlation_frames: After so many frames the correlation of `correlated` has fallen to
            1/e. [ours]
        rotation_deg: Least and highest range of turns; angles lie evenly in -range to range.
        scaling: The same of changes of size, in shares.
        shift_px: The same of shifts along x and y, in pixels of a picture of 224; in others they
            grow with its width. [at 224 as released]
    """

    kind: DriftKind = "independent"
    correlation_frames: float = 4.0
    rotation_deg: tuple[float, float] = (1.0, 5.0)
    scaling: tuple[float, float] = (0.01, 0.05)
    shift_px: tuple[float, float] = (0.5, 2.5)

    def __post_init__(self) -> None:
        limits = {
            "correlation_frames": (0.1, 1e4),
            "rotation_deg": (0.0, 45.0),
            "scaling": (0.0, 0.5),
            "shift_px": (0.0, 32.0),
        }
        check_limits(self, "fake_from_real.video_blend.drift", limits)
        if self.kind not in get_args(DriftKind):
            raise DataError(
                f"fake_from_real.video_blend.drift.kind is {self.kind!r}; "
                f"choose one of {', '.join(get_args(DriftKind))}"
            )

    def draw(self, num_frames: int, width: int, rng: np.random.Generator) -> DriftDraw:
        """Draw for all frames of a clip.

        Args:
            num_frames: Frames in the clip (T).
            width: Of its pictures in pixels.
            rng: Source of the draws.
        """
        limits = np.array([self.rotation_deg, self.scaling, self.shift_px]).T
        limits[:, 2] *= width / _WIDTH_PX
        correlated = self.kind == "correlated"
        ranges = rng.uniform(limits[0], limits[1], (1 if correlated else num_frames, 1, 3))
        shape = (num_frames, len(ORGANS), 4)
        if correlated:
            share = _wandering(shape, math.exp(-1 / self.correlation_frames), rng)
        else:
            share = rng.uniform(-1, 1, shape)
        return DriftDraw(
            angle_deg=ranges[..., 0] * share[..., 0],
            scale=1 + ranges[..., 1] * share[..., 1],
            shift_px=ranges[..., 2:] * share[..., 2:],
        )


class DriftDraw(NamedTuple):
    """What is drawn for each frame and each of `ORGANS`.

    Attributes:
        angle_deg: Turn against the clock, shape (T, 4).
        scale: Factor on the size, shape (T, 4).
        shift_px: Along x and y, shape (T, 4, 2).
    """

    angle_deg: NDArray[np.float64]
    scale: NDArray[np.float64]
    shift_px: NDArray[np.float64]


def drift_maps(points68: NDArray[np.floating[Any]], drawn: DriftDraw) -> NDArray[np.float64]:
    """Tell where the pixels of the drifted organs come from.

    The landmarks without the jaw are turned and enlarged about their mean, then shifted. The
    released code maps the perturbed points back to the originals, which is to say that the
    picture at the originals is taken from the perturbed ones.

    Args:
        points68: Landmarks (x, y) in pixels, shape (T, 68, 2).
        drawn: For each frame and organ.

    Returns:
        Map pixels of the result to those of the frame, shape (T, 4, 2, 3).
    """
    centre = np.asarray(points68, np.float64)[:, _FIRST_INNER:].mean(axis=1)[:, None]
    angle = np.deg2rad(drawn.angle_deg)
    cos, sin = drawn.scale * np.cos(angle), drawn.scale * np.sin(angle)
    # y points down, so that this turns against the clock.
    turn = np.stack([cos, sin, -sin, cos], axis=-1).reshape(*angle.shape, 2, 2)
    moved = centre + drawn.shift_px - np.squeeze(turn @ centre[..., None], -1)
    return np.concatenate([turn, moved[..., None]], axis=-1)


def _wandering(
    shape: tuple[int, ...], correlation: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw evenly spread values in -1..1 that stay near those of the frame before."""
    normal = rng.standard_normal(shape)
    for before, now in pairwise(normal):
        now *= math.sqrt(1 - correlation**2)
        now += correlation * before
    # Twice the distribution function less 1, which spreads the normal draw evenly.
    even = [math.erf(value / math.sqrt(2)) for value in normal.ravel().tolist()]
    return np.array(even).reshape(shape)
