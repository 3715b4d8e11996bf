"""Fakes made of real videos while training: which ways there are, and who chooses one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

# LightningCLI reads the types of the option block while the program runs.
from datamodules.blend_mask import MaskShape
from datamodules.blending import CrossBlend, SelfBlend
from datamodules.errors import DataError
from datamodules.footage import Footage
from datamodules.limits import check_limits
from datamodules.temporal_forgery import TemporalDropout, TemporalRepeat
from datamodules.video_blending import VideoBlend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datamodules.clip_dataset import ClipCutter
    from datamodules.forgery import AlignedClip, ClipForgery, ClipPlace
    from datamodules.kept_frames import KeptFrames
    from datamodules.schema import Clip, VideoRecord


@dataclass(frozen=True, kw_only=True)
class FakeFromReal:
    """Fakes that are made of real training videos, besides those of the data set or instead.

    After AltFreezing (Wang et al., CVPR 2023), whose parameters are not public; numbers are ours.
    By default a third of them leave out frames, a third repeat some, and a third are blended.
    `video_blend` is that of StA (Yan et al., CVPR 2025), and off unless it is given a weight.

    Attributes:
        real_fakes: Share of the training fakes that are fake videos of the data set; the others
            are made. It counts as 0 where the data set has no fakes. [ours; 0 is how the class
            goes that video-level blending is known by]
        pair: Show every made fake right beside the real clip that it is made of: the same frames,
            mirrored, turned, recoloured and compressed by the same draws, in one batch. Fakes that
            choose frames themselves show the same video at another time. Needs `balance`, and
            batches of an even size.
        temporal_dropout: Leave out frames.
        temporal_repeat: Show frames several times.
        cross_blend: Blend in the face of somebody else.
        self_blend: Blend in the clip's own face, moved and recoloured.
        mask: Shape of the masks of both.
        video_blend: Let the clip's own organs drift, by landmarks (video-level blending).
    """

    real_fakes: float = 0.5
    pair: bool = False
    temporal_dropout: TemporalDropout = field(default_factory=TemporalDropout)
    temporal_repeat: TemporalRepeat = field(default_factory=TemporalRepeat)
    cross_blend: CrossBlend = field(default_factory=CrossBlend)
    self_blend: SelfBlend = field(default_factory=SelfBlend)
    mask: MaskShape = field(default_factory=MaskShape)
    video_blend: VideoBlend = field(default_factory=VideoBlend)

    def __post_init__(self) -> None:
        check_limits(self, "fake_from_real", {})
        if not any(forgery.weight for forgery in self.forgeries().values()):
            raise DataError(
                "fake_from_real: all weights are 0, so that no fake can be made; "
                "give one of them a weight, or leave fake_from_real out"
            )

    def forgeries(self) -> dict[str, ClipForgery]:
        """List the ways of making fakes by name."""
        return {
            "temporal_dropout": self.temporal_dropout,
            "temporal_repeat": self.temporal_repeat,
            "cross_blend": self.cross_blend,
            "self_blend": self.self_blend,
            "video_blend": self.video_blend,
        }


#: What is tried instead, in turn, where something is not possible.
_STAND_INS = {
    "temporal_dropout": ("temporal_repeat", "self_blend"),
    "temporal_repeat": ("self_blend",),
    "cross_blend": ("self_blend", "temporal_repeat"),
    "self_blend": ("temporal_repeat",),
    # Who chose it alone wants no other: that would hide what is wrong with the video.
    "video_blend": (),
}
#: Largest value of a mask below which nothing is forged, and the clip is no fake. [ours]
_LEAST_MASK = 0.5


class Made(NamedTuple):
    """A fake that was made.

    Attributes:
        clip: Its frames and landmarks, augmented as real ones are.
        mask: How much of each pixel is forged, shape (T, H, W), float32; None where none is.
        window: Number of the window of the real video, among those of as many frames.
        kind: How it was made.
        real: The real clip that it was made of.
        place: Where that comes from.
    """

    clip: Clip
    mask: NDArray[np.float32] | None
    window: int
    kind: str
    real: AlignedClip
    place: ClipPlace


class ClipForger:
    """Make fake clips of real videos; pure functions of the generator that is given.

    Args:
        options: How.
        cutter: Cuts and augments the clips.
        records: The videos of the dataset; real ones are the material.
        num_frames: Frames in a clip (T).
        kept: The frames of a track that clips are cut of; None for all.
    """

    def __init__(
        self,
        options: FakeFromReal,
        cutter: ClipCutter,
        records: Sequence[VideoRecord],
        num_frames: int,
        kept: KeptFrames | None = None,
    ) -> None:
        self.footage = Footage(cutter, records, options.mask, kept)
        self.num_frames = num_frames
        self.forgeries = options.forgeries()
        self.weights = {name: forgery.weight for name, forgery in self.forgeries.items()}

    def make(
        self, row: int, rng: np.random.Generator, clip_seed: Sequence[int] | None = None
    ) -> Made:
        """Make a fake of a real video.

        Where the video is too short to leave out frames, some are repeated; where nobody's face
        fits, or the clip has one frame only, it is blended with itself; and where its landmarks
        lie outside of the picture, so that nothing can be blended, frames are repeated.

        Args:
            row: Of the video in the dataset.
            rng: Source of all draws.
            clip_seed: Of those that a real clip needs too, its frames and augmentation, so that
                `real` gives the very clip that this is made of; None to take them from `rng`.

        Returns:
            The fake.

        Raises:
            DataError: If a track is missing or damaged, or no way that is chosen is possible; names
                the video.
        """
        shares = np.array([self.weights[name] for name in self.forgeries], np.float64)
        drawn = list(self.forgeries)[int(rng.choice(len(shares), p=shares / shares.sum()))]
        for name in (drawn, *_STAND_INS[drawn]):
            made = self.try_to_make(name, row, rng, clip_seed)
            if made is not None:
                return made
        raise DataError(
            f"{self.footage.records[row].video_id}: no fake can be made of it, for its landmarks "
            "lie outside of the picture; prepare it again, or leave it out of the training split"
        )

    def real(self, row: int, clip_seed: Sequence[int]) -> tuple[Clip, int]:
        """Cut and augment the real clip that a fake is made of.

        Args:
            row: Of the video in the dataset.
            clip_seed: As it is given to `make`.

        Returns:
            The clip, and the number of its window.
        """
        clip_rng = np.random.default_rng([*clip_seed])
        place, window = self.footage.draw(row, self.num_frames, clip_rng)
        return self.footage.cutter.cut(place.track, place.positions, clip_rng), window

    def try_to_make(
        self,
        name: str,
        row: int,
        rng: np.random.Generator,
        clip_seed: Sequence[int] | None = None,
    ) -> Made | None:
        """Make a fake in one way; None if that is not possible.

        Args:
            name: Of the way.
            row: Of the video in the dataset.
            rng: Source of all draws.
            clip_seed: See `make`.

        Raises:
            DataError: If a track is missing or damaged.
            RuntimeError: If the fake fails for another reason; names the video.
        """
        # Seeded anew for each way that is tried, so that all start at the same clip.
        clip_rng = rng if clip_seed is None else np.random.default_rng([*clip_seed])
        forgery = self.forgeries[name]
        offsets = forgery.offsets(self.num_frames, self.footage.longest_run(row), rng)
        if offsets is None:
            return None
        place, window = self.footage.draw(row, int(offsets[-1]) + 1, clip_rng)
        place = place._replace(positions=tuple(place.positions[i] for i in offsets))
        cutter = self.footage.cutter
        real = cutter.align(place.track, place.positions, clip_rng)
        try:
            forged = forgery.forge(real, place, self.footage, rng)
        except DataError:
            raise
        except Exception as error:
            video, first = self.footage.records[row].video_id, real.clip.frame_index[0]
            raise RuntimeError(f"{video}, frame {first} on: {name} failed: {error}") from error
        if forged is None or (forged.mask is not None and forged.mask.max() < _LEAST_MASK):
            return None
        clip = replace(real.clip, frames=cutter.finish(forged.frames, clip_rng))
        return Made(clip, forged.mask, window, name, real, place)
