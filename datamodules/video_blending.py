"""Video-level blending: the organs of a real face drift a little from frame to frame.

After Yan et al., "Generalizing Deepfake Video Detection with Plug-and-Play: Video-Level Blending
and Spatiotemporal Adapter Tuning", CVPR 2025 (arXiv 2408.17065). The code was not part of their
release; this follows the class `VideoBlendAPI` of the same author's YZY-stack/temp_40_pangu.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from datamodules.errors import DataError
from datamodules.feature_drift import FeatureDrift, drift_maps
from datamodules.forgery import Forged
from datamodules.limits import check_limits
from datamodules.organ_masks import OrganBands, organ_masks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datamodules.footage import Footage
    from datamodules.forgery import AlignedClip, ClipPlace
    from datamodules.organ_masks import OrganMasks


@dataclass(frozen=True, kw_only=True)
class VideoBlend:
    """Blend every frame with copies of itself whose organs are turned, enlarged and shifted.

    Deviations from the code that this follows: the result is rounded, not cut off, for that
    would darken fakes alone by half a grey level; where a copy reaches beyond the picture its edge
    is repeated, not black. Frames keep their order and their colours, and only real clips are
    blended. Mirror and rotation of the augmentation are part of the alignment, before the blend,
    so that it takes one warp; what else is augmented comes after it.

    Attributes:
        weight: How often it is chosen, in proportion to the other ways. [ours]
        opacity: Share of an organ's drifted copy where its mask is 1. A quarter, for the released
            code takes the mean of four pictures, in each of which one organ has drifted.
        drift: How far, and how alike in neighbouring frames.
        organs: Where.
    """

    weight: float = 0.0
    opacity: float = 0.25
    drift: FeatureDrift = field(default_factory=FeatureDrift)
    organs: OrganBands = field(default_factory=OrganBands)

    def __post_init__(self) -> None:
        limits = {"weight": (0.0, 1e6), "opacity": (0.01, 1.0)}
        check_limits(self, "fake_from_real.video_blend", limits)

    def offsets(
        self, num_frames: int, longest_run: int, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Leave the frames as they are."""
        return np.arange(num_frames)

    def forge(
        self, real: AlignedClip, place: ClipPlace, footage: Footage, rng: np.random.Generator
    ) -> Forged | None:
        """Blend the clip; see `ClipForgery`.

        The mask says where organs drift, whatever the opacity.

        Raises:
            DataError: If a landmark is no finite number; names the video.
        """
        clip = real.clip
        if not np.isfinite(clip.points68).all():
            raise DataError(
                f"{footage.records[place.row].video_id}: landmarks of {place.track} are no finite "
                "numbers; prepare it again, or leave it out of the training split"
            )
        num_frames, height, width = clip.frames.shape[:3]
        drawn = self.drift.draw(num_frames, width, rng)
        maps = drift_maps(clip.points68, drawn)
        frames = clip.frames.copy()
        mask = np.zeros((num_frames, height, width), np.float32)
        for t, points in enumerate(clip.points68):
            organs = organ_masks(points, (height, width), self.organs)
            blend_organs(frames[t], organs, maps[t], self.opacity)
            mask[t][organs.place] = np.minimum(organs.values.sum(axis=0), 1)
        return Forged(frames, mask)


def blend_organs(
    frame: NDArray[np.uint8], organs: OrganMasks, maps: NDArray[np.float64], opacity: float
) -> None:
    """Blend a frame with copies of itself, in place.

    Args:
        frame: RGB, shape (H, W, 3), uint8; the result is written into it.
        organs: Masks.
        maps: Map pixels of the result to those of the frame, for each organ, shape (4, 2, 3).
        opacity: Share of an organ's copy where its mask is 1.
    """
    import cv2

    part = frame[organs.place]
    blended = part.astype(np.float32)
    for mask, box, matrix in zip(organs.values, organs.boxes, maps, strict=True):
        weight = opacity * mask[box]
        if not weight.size:  # OpenCV takes no empty pictures
            continue
        corner = np.add(organs.corner, (box[1].start, box[0].start))
        copy = cv2.warpAffine(
            frame,
            np.column_stack([matrix[:, :2], matrix[:, :2] @ corner + matrix[:, 2]]),
            weight.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        blended[box] += weight[..., None] * cv2.subtract(copy, part[box], dtype=cv2.CV_32F)
    np.clip(np.rint(blended, out=blended), 0, 255, out=blended)
    part[...] = blended
