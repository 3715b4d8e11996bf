"""Augmentation that respects time: one draw for all frames of a clip, noise for each its own."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

# LightningCLI reads the types of the option block while the program runs.
from datamodules.colours import Tones, recoloured
from datamodules.limits import check_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _mirrored_order() -> list[int]:
    """Say which of the 68 landmarks takes the place of which in a mirror."""
    order = list(range(68))
    # (first, last) of runs that mirror onto themselves backwards.
    for first, last in ((0, 16), (17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67)):
        order[first : last + 1] = range(last, first - 1, -1)
    # Eyes run clockwise from their outer (right) and inner (left) corner in the iBUG scheme.
    for right, left in zip(range(36, 42), (45, 44, 43, 42, 47, 46), strict=True):
        order[right], order[left] = left, right
    return order


#: Landmark of a mirrored face by landmark of the face, iBUG 68-point scheme.
FLIP_68 = np.array(_mirrored_order())


@dataclass(frozen=True, kw_only=True)
class ClipAugmentation:
    """What training clips undergo. All is off by default, as in FTCN's released configuration.

    Attributes:
        flip_prob: Probability of a horizontal mirror.
        rotate_prob: Probability of a rotation about the middle of the picture. It is part of the
            alignment, so that what comes in at the edges is the video's own, and costs nothing.
        rotate_deg: Largest angle, either way, in degrees (DeepfakeBench).
        landmark_jitter_px: Uniform error, up to this many pixels of the source video, on each
            of the five points before the alignment is fitted (4 in the official helper).
        erase_prob: Probability that one rectangle is black throughout the clip.
        erase_size: Least and largest side of the rectangle, in shares of the image. [ours]
        colour_prob: Probability of a change of brightness, contrast, saturation and hue.
        colour_strength: Largest change of the first three, in shares; hue turns by up to a
            quarter of it, in whole turns. [ours]
        tone_prob: Probability of one of the changes of `tones`.
        tones: How large they are.
        jpeg_prob: Probability of JPEG compression.
        jpeg_quality: Least and highest quality.
        blur_prob: Probability of a Gaussian blur.
        blur_sigma_px: Least and largest standard deviation, in pixels of the clip. [ours]
        noise_prob: Probability of Gaussian noise, drawn anew for each frame.
        noise_std: Least and largest standard deviation, in grey levels of 255. [ours]
    """

    flip_prob: float = 0.0
    rotate_prob: float = 0.0
    rotate_deg: float = 10.0
    landmark_jitter_px: float = 0.0
    erase_prob: float = 0.0
    erase_size: tuple[float, float] = (0.1, 0.4)
    colour_prob: float = 0.0
    colour_strength: float = 0.2
    tone_prob: float = 0.0
    tones: Tones = field(default_factory=Tones)
    jpeg_prob: float = 0.0
    jpeg_quality: tuple[int, int] = (50, 100)
    blur_prob: float = 0.0
    blur_sigma_px: tuple[float, float] = (0.3, 1.5)
    noise_prob: float = 0.0
    noise_std: tuple[float, float] = (1.0, 6.0)

    def __post_init__(self) -> None:
        check_limits(self, "augmentation", _LIMITS)


#: What each parameter may be; 0 to 1 where nothing is said.
_LIMITS = {
    "rotate_deg": (0.0, 180.0),
    "landmark_jitter_px": (0.0, 64.0),
    "jpeg_quality": (1.0, 100.0),
    "blur_sigma_px": (0.1, 64.0),
    "noise_std": (0.0, 255.0),
}


class ClipTransform:
    """Draw and apply an augmentation; every draw comes from the generator that is given.

    Args:
        augmentation: What to do.
    """

    def __init__(self, augmentation: ClipAugmentation) -> None:
        self.augmentation = augmentation

    def jitter(self, points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Move points at random before an alignment is fitted to them.

        Args:
            points: Five points (x, y) in source pixels, shape (T, 5, 2), float32.
            rng: Source of the draw.

        Returns:
            Points of the same shape.
        """
        size = self.augmentation.landmark_jitter_px
        if size == 0:
            return points
        return points + rng.uniform(-size, size, points.shape).astype(np.float32)

    def draw_flip(self, rng: np.random.Generator) -> bool:
        """Decide whether a clip is mirrored.

        Args:
            rng: Source of the draw.
        """
        return bool(rng.random() < self.augmentation.flip_prob)

    def draw_rotation(self, rng: np.random.Generator) -> float:
        """Decide how far a clip is rotated, in degrees against the clock.

        Args:
            rng: Source of the draw.
        """
        a = self.augmentation
        if a.rotate_prob == 0 or rng.random() >= a.rotate_prob:
            return 0.0
        return float(rng.uniform(-a.rotate_deg, a.rotate_deg))

    def pixels(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Change the pixels, not where things are.

        Args:
            frames: RGB, shape (T, H, W, 3), uint8; not changed.
            rng: Source of the draws.

        Returns:
            Frames of the same shape and type.
        """
        seed = int(rng.integers(2**31))
        if rng.random() < self.augmentation.colour_prob:
            frames = recoloured(frames, self.augmentation.colour_strength, rng)
        if self._same_for_all_frames:
            # Compose has a generator of its own, which neither seed_everything nor a fork knows.
            self._compose.set_random_seed(seed)
            frames = self._compose(images=frames)["images"]
        tone_prob = self.augmentation.tone_prob
        if tone_prob and rng.random() < tone_prob:
            frames = self.augmentation.tones.apply(frames, rng)
        return self._with_noise(self._compressed(frames, rng), rng)

    @property
    def _same_for_all_frames(self) -> bool:
        a = self.augmentation
        return max(a.erase_prob, a.blur_prob) > 0

    @cached_property
    def _compose(self) -> Any:
        """Build the pixel operations; imported here because it takes seconds."""
        # Its import asks the package index for news otherwise, and waits for the answer.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        import albumentations

        a = self.augmentation
        return albumentations.Compose(
            [
                albumentations.GaussianBlur(
                    blur_limit=0, sigma_limit=a.blur_sigma_px, p=a.blur_prob
                ),
                albumentations.CoarseDropout(
                    num_holes_range=(1, 1),
                    hole_height_range=a.erase_size,
                    hole_width_range=a.erase_size,
                    fill=0,
                    p=a.erase_prob,
                ),
            ]
        )

    def _compressed(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Compress as JPEG (4:2:0), every frame with the same quality.

        Done here, at two thirds of the cost of the library's: it is the dearest operation.
        """
        import cv2

        a = self.augmentation
        if rng.random() >= a.jpeg_prob:
            return frames
        options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*a.jpeg_quality, endpoint=True))]
        compressed = np.empty_like(frames)
        for frame, place in zip(frames, compressed, strict=True):
            _, content = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)
            place[:] = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        return compressed

    def _with_noise(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Add noise that flickers as a sensor's does; albumentations would freeze it in time."""
        a = self.augmentation
        if rng.random() >= a.noise_prob:
            return frames
        noise = rng.standard_normal(frames.shape, dtype=np.float32)
        noise *= rng.uniform(*a.noise_std)
        noise += frames
        return np.clip(np.rint(noise), 0, 255).astype(np.uint8)


def flip_matrix(matrix: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Compose a horizontal mirror behind an affine map.

    Args:
        matrix: Maps source pixels to the picture, shape (..., 2, 3).
        width: Of the picture in pixels; column x becomes width - 1 - x.

    Returns:
        The map into the mirrored picture, of the same shape, float64.
    """
    flipped = np.array(matrix, np.float64)
    flipped[..., 0, :] = -flipped[..., 0, :]
    flipped[..., 0, 2] += width - 1
    return flipped


def rotation_matrix(matrix: NDArray[Any], width: int, degrees: float) -> NDArray[np.float64]:
    """Compose a rotation about the middle of a picture behind an affine map.

    Args:
        matrix: Maps source pixels to the picture, shape (..., 2, 3).
        width: And height of the picture in pixels.
        degrees: Against the clock.

    Returns:
        The map into the rotated picture, of the same shape, float64.
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[cos, sin], [-sin, cos]])
    rotated = turn @ np.asarray(matrix, np.float64)
    middle = np.full(2, (width - 1) / 2)
    rotated[..., 2] += middle - turn @ middle
    return np.asarray(rotated)
