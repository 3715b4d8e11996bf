"""Fakes that are wrong in space: a face blended into a real clip, alike in all its frames.

After AltFreezing (Wang et al., CVPR 2023): one alignment, one shape of the mask and one transfer
of colours for a clip, so that nothing flickers that does not flicker in the real clips. The
paper's parameters are not public; all numbers are ours.

`python -m datamodules.blending --preview --root <prepared> --out sheet.png` draws what every way of
making fakes does to a real video.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.blend_mask import contains, face_masks
from datamodules.faces.landmarks import points81
from datamodules.forgery import Forged
from datamodules.limits import check_limits
from datamodules.preprocess.align import similarity_transform, transform_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datamodules.blend_mask import ClipMask, MaskDraw
    from datamodules.footage import Footage
    from datamodules.forgery import AlignedClip, ClipPlace
    from datamodules.schema import FaceTrack

#: Every which row and column counts for means and deviations of colours: the figures of a clip
#: then rest on some 10^5 pixels. [ours]
_COLOUR_STEP = 4
#: Limits of the factor on a colour's contrast: beyond, noise is stretched or detail lost. [ours]
_CONTRAST = (0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class CrossBlend:
    """Blend the face of somebody else into the clip.

    The other clip is laid onto the five points of this one by one similarity transform, and takes
    over mean and deviation of its colours inside the mask, over all frames.

    Attributes:
        weight: How often it is chosen, in proportion to the other ways. [ours]
        candidates: Clips of other people that are drawn; the one whose landmarks fit best is
            taken. [ours]
        max_distance: Root mean square distance of the landmarks, in the frame where it is
            largest, from which on nobody fits, in radii of the face: a face in another pose would
            bring its background along, one that moves otherwise would slip. The best of 24 drawn
            clips is nearer than 0.25 in three cases of four (131 videos). [ours]
    """

    weight: float = 0.5
    candidates: int = 24
    max_distance: float = 0.25

    def __post_init__(self) -> None:
        limits = {"weight": (0.0, 1e6), "candidates": (1.0, 1000.0)}
        check_limits(self, "fake_from_real.cross_blend", limits)

    def offsets(
        self, num_frames: int, longest_run: int, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Leave the frames as they are."""
        return np.arange(num_frames)

    def forge(
        self, real: AlignedClip, place: ClipPlace, footage: Footage, rng: np.random.Generator
    ) -> Forged | None:
        """Blend a clip of somebody else; None where no face fits, or none that is wholly stored."""
        drawn = footage.mask.draw(rng)
        others = footage.others(place.row, len(real.matrices), self.candidates, rng)
        for other in footage.nearest(place, others, self.max_distance):
            faces = footage.cutter.faces(*other[1:])
            matrices = _laid_onto(faces.points5, real)
            corners = footage.cutter.crop_corners(*other[1:], matrices)
            if contains(corners, real.clip.points68):
                break
        else:
            return None
        points = transform_points(_outer_points(faces, drawn), matrices)
        mask = face_masks(real.clip, drawn, (real.crop_corners, corners), points)
        matrices[:, :, 2] -= mask.corners
        face = footage.cutter.warp(*other[1:], matrices, mask.size)
        colours = colour_transfer(face, real.clip.frames, mask)
        return blend(real.clip.frames, face, mask, colours)


@dataclass(frozen=True, kw_only=True)
class SelfBlend:
    """Blend the clip's own face into it, a little later or earlier, moved and recoloured.

    Always possible; nothing more is decoded.

    Attributes:
        weight: How often it is chosen, in proportion to the other ways. [ours]
        rotation_deg: Least and largest turn in degrees, either way. [ours]
        zoom: Least and largest change of size, in shares, either way. [ours]
        shift: Least and largest shift, in shares of the picture's side, in any direction. [ours]
        colour: Largest change of brightness, in shares of 255, and of contrast, in shares, alike
            for red, green and blue. [ours]
        tint: The same for each of them by itself; more than a little is no colour of skin. [ours]
        max_delay: Largest shift in time, in frames, either way; the ends are mirrored. [ours]
    """

    weight: float = 0.5
    rotation_deg: tuple[float, float] = (0.5, 4.0)
    zoom: tuple[float, float] = (0.01, 0.05)
    shift: tuple[float, float] = (0.01, 0.03)
    colour: float = 0.05
    tint: float = 0.015
    max_delay: int = 3

    def __post_init__(self) -> None:
        limits = {
            "weight": (0.0, 1e6),
            "rotation_deg": (0.0, 45.0),
            "zoom": (0.0, 0.5),
            "shift": (0.0, 0.5),
            "max_delay": (0.0, 1000.0),
        }
        check_limits(self, "fake_from_real.self_blend", limits)

    def offsets(
        self, num_frames: int, longest_run: int, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Leave the frames as they are."""
        return np.arange(num_frames)

    def forge(
        self, real: AlignedClip, place: ClipPlace, footage: Footage, rng: np.random.Generator
    ) -> Forged | None:
        """Blend the clip with itself; see `ClipForgery`."""
        clip = real.clip
        drawn = footage.mask.draw(rng)
        source = _delayed(len(clip.frames), int(rng.integers(-self.max_delay, self.max_delay + 1)))
        warp = self._warp(clip.points68, source, clip.frames.shape[1], rng)
        colours = self._recolour(rng)
        corners = _moved(real.crop_corners[source], warp)
        mask = face_masks(clip, drawn, (real.crop_corners, corners))
        face = _warped(clip.frames, source, warp, mask)
        return blend(clip.frames, face, mask, colours)

    def _warp(
        self,
        points68: NDArray[np.float32],
        source: NDArray[np.int64],
        size: int,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Draw the one map of a clip: what the delay moved is put back, then all moves a bit."""
        angle, zoom = (
            float(rng.choice((-1, 1)) * rng.uniform(*limits))
            for limits in (np.deg2rad(self.rotation_deg), self.zoom)
        )
        direction = rng.uniform(0, 2 * np.pi)
        shift = np.array([np.cos(direction), np.sin(direction)]) * rng.uniform(*self.shift) * size
        back = similarity_transform(points68[source].reshape(-1, 2), points68.reshape(-1, 2))
        turn = (1 + zoom) * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        centre = points68.reshape(-1, 2).mean(axis=0)
        moved = turn @ (back[:, 2] - centre) + centre + shift
        return np.column_stack([turn @ back[:, :2], moved])

    def _recolour(self, rng: np.random.Generator) -> NDArray[np.float64]:
        contrast, brightness = (
            rng.uniform(-self.colour, self.colour) + rng.uniform(-self.tint, self.tint, 3)
            for _ in range(2)
        )
        contrast, brightness = 1 + contrast, 255 * brightness
        # Contrast is about the middle of the scale, so that it does not change brightness too.
        return _colour_map(contrast, brightness + 127.5 * (1 - contrast))


def blend(
    frames: NDArray[np.uint8],
    face: NDArray[np.uint8],
    mask: ClipMask,
    colours: NDArray[np.float64],
) -> Forged:
    """Lay a face into a clip: mask * face + (1 - mask) * clip.

    Args:
        frames: RGB, shape (T, H, W, 3), uint8; not changed.
        face: What comes into the mask's parts, RGB, shape (T, h, w, 3), uint8.
        mask: Where.
        colours: Affine map of the face's red, green and blue, shape (3, 4).

    Returns:
        The clip; its pixels are the same wherever the mask is zero.
    """
    import cv2

    forged = frames.copy()
    parts = zip(face, mask.parts(mask.values), mask.parts(forged), strict=True)
    for source, weight, place in parts:
        # Values beyond 0 and 255 are cut off.
        recoloured = cv2.transform(source, colours)
        # OpenCV divides by the sum of the weights, which is 1.
        cv2.blendLinear(recoloured, place, weight, 1 - weight, dst=place)
    return Forged(forged, mask.values)


def colour_transfer(
    face: NDArray[np.uint8], frames: NDArray[np.uint8], mask: ClipMask
) -> NDArray[np.float64]:
    """Give a face the mean and deviation of each colour of what it covers, over the whole clip.

    Args:
        face: What comes into the mask's parts, RGB, shape (T, h, w, 3), uint8.
        frames: What it is laid into, RGB, shape (T, H, W, 3), uint8.
        mask: Where; pixels count that are forged by more than half.

    Returns:
        Affine map of red, green and blue, shape (3, 4); the colours do not mix.
    """
    import cv2

    some = (slice(None, None, _COLOUR_STEP), slice(None, None, _COLOUR_STEP))
    inside = np.concatenate([part[some] > 0.5 for part in mask.parts(mask.values)])
    if not inside.any():
        return _colour_map(np.ones(3), np.zeros(3))
    covered = np.concatenate([part[some] for part in mask.parts(frames)])
    laid = np.concatenate([picture[some] for picture in face])
    (mean, spread), (goal_mean, goal_spread) = (
        np.array(cv2.meanStdDev(pixels, mask=inside.astype(np.uint8)))[..., 0]
        for pixels in (laid, covered)
    )
    contrast = np.clip(goal_spread / np.maximum(spread, 1e-3), *_CONTRAST)
    return _colour_map(contrast, goal_mean - contrast * mean)


def _colour_map(contrast: NDArray[Any], brightness: NDArray[Any]) -> NDArray[np.float64]:
    return np.column_stack([np.diag(contrast), brightness]).astype(np.float64)


def _outer_points(faces: FaceTrack, drawn: MaskDraw) -> NDArray[np.float32]:
    """Choose the landmarks that say how far a face reaches, with the mask's forehead if any."""
    if drawn.forehead and faces.forehead is not None:
        return points81(faces.points68, faces.forehead)
    return faces.points68


def _laid_onto(points5: NDArray[np.float32], real: AlignedClip) -> NDArray[np.float64]:
    """Map source pixels of another clip to the pictures of a real one, frame by frame."""
    onto = similarity_transform(points5.reshape(-1, 2), real.points5.reshape(-1, 2))
    square = np.vstack([onto, [0, 0, 1]])
    return np.asarray(real.matrices @ square, np.float64)


def _delayed(num_frames: int, delay: int) -> NDArray[np.int64]:
    """Tell which frame of a clip is shown at each place, delayed and mirrored at the ends."""
    period = max(1, 2 * num_frames - 2)
    shown = (np.arange(num_frames) + delay) % period
    return np.minimum(shown, period - shown) if num_frames > 1 else shown


def _moved(points: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def _warped(
    frames: NDArray[np.uint8],
    source: NDArray[np.int64],
    matrix: NDArray[np.float64],
    mask: ClipMask,
) -> NDArray[np.uint8]:
    """Warp pictures by one map, and keep the mask's part of each."""
    import cv2

    height, width = mask.size
    warped = np.empty((len(source), height, width, 3), np.uint8)
    for shown, corner, place in zip(source, mask.corners, warped, strict=True):
        cv2.warpAffine(
            frames[shown],
            np.column_stack([matrix[:, :2], matrix[:, 2] - corner]),
            (width, height),
            dst=place,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return warped


if __name__ == "__main__":
    from datamodules.forgery_preview import main

    sys.exit(main())
