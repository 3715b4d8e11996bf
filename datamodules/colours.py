"""Changes of colour, each one draw for all frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datamodules.limits import check_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: RGB to luma and two colour axes (NTSC's YIQ).
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
#: Every which row and column counts for means and deviations of colours. [ours]
_STEP = 8


@dataclass(frozen=True, kw_only=True)
class Tones:
    """One of three changes, equally likely, as DeepfakeBench draws them.

    Defaults are those of its configurations and of albumentations, which it leaves the rest to.
    One draw for the clip is one change for it: where the library would find the main colours of
    each frame anew, those of the clip count.

    Attributes:
        brightness: Largest change, in shares of 255, of the first; its contrast has as much, about
            black.
        contrast: Largest change of contrast, in shares.
        main_colours: Standard deviation of the second, a shift along the main axes of the clip's
            colours in shares of their variances (Krizhevsky et al., 2012; albumentations'
            FancyPCA).
        hue_deg: Largest turn of the hue of the third, in degrees of 360.
        saturation: Its largest change of saturation, in shares.
        value: Its largest change of the value, in shares.
    """

    brightness: float = 0.1
    contrast: float = 0.1
    main_colours: float = 0.1
    hue_deg: float = 40.0
    saturation: float = 30 / 255
    value: float = 20 / 255

    def __post_init__(self) -> None:
        check_limits(self, "augmentation.tones", {"hue_deg": (0.0, 180.0)})

    def apply(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw one of the changes and make it.

        Args:
            frames: RGB, shape (T, H, W, 3), uint8; not changed.
            rng: Source of the draws.

        Returns:
            Frames of the same shape and type.
        """
        change = (self._brighter, self._along_main_colours, self._other_hue)[int(rng.integers(3))]
        return change(frames, rng)

    def _brighter(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        contrast = 1 + rng.uniform(-self.contrast, self.contrast)
        brightness = 255 * rng.uniform(-self.brightness, self.brightness)
        return _mapped(frames, np.column_stack([np.eye(3) * contrast, np.full(3, brightness)]))

    def _along_main_colours(
        self, frames: NDArray[np.uint8], rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        some = frames[:, ::_STEP, ::_STEP].reshape(-1, 3) / 255
        variances, axes = np.linalg.eigh(np.cov(some.T))
        shift = 255 * axes @ (variances * rng.normal(0, self.main_colours, 3))
        return _mapped(frames, np.column_stack([np.eye(3), shift]))

    def _other_hue(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        import cv2

        turn, saturation, value = rng.uniform(-1, 1, 3) * (
            self.hue_deg / 2,  # OpenCV keeps hue in bytes of two degrees
            255 * self.saturation,
            255 * self.value,
        )
        scale = np.arange(256.0)
        table = np.stack([np.rint(scale + turn) % 180, scale + saturation, scale + value], axis=1)
        table = np.clip(np.rint(table), 0, (179, 255, 255)).astype(np.uint8)[None]
        changed = np.empty_like(frames)
        for frame, place in zip(frames, changed, strict=True):
            hsv = cv2.LUT(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV), table)
            cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=place)
        return changed


def recoloured(
    frames: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue by one affine map of RGB.

    All four are affine, so that together they cost one pass over the pixels; the four passes of
    a library's colour jitter took 30 times as long, longer than decoding the clip.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    turn = 2 * np.pi * rng.uniform(-strength / 4, strength / 4)
    # Hue and saturation turn and stretch the two colour axes, and leave the luma alone.
    chroma = saturation * np.array(
        [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], np.float64
    )
    in_yiq = np.eye(3)
    in_yiq[1:, 1:] = chroma
    linear = brightness * contrast * (np.linalg.inv(_YIQ) @ in_yiq @ _YIQ)
    # Contrast is about the mean luma of the clip: frames keep their brightness to each other.
    thumbnail = frames[:, ::_STEP, ::_STEP].reshape(-1, 3).mean(axis=0)
    shift = brightness * (1 - contrast) * float(_YIQ[0] @ thumbnail)
    matrix = np.column_stack([linear, np.full(3, shift)])
    return _mapped(frames, matrix)


def _mapped(frames: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Change all colours by one affine map of shape (3, 4)."""
    import cv2

    height, width = frames.shape[1:3]
    changed = cv2.transform(frames.reshape(-1, width, 3), matrix)
    return np.asarray(changed, np.uint8).reshape(-1, height, width, 3)
