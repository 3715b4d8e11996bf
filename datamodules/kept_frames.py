"""Clips of the frames that DeepfakeBench keeps of a video, beside those of all its frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from datamodules.clip_sampling import (
    consecutive_runs,
    mirror_padding_index,
    num_windows,
    window_positions,
)
from datamodules.errors import DataError
from datamodules.preprocess.frame_choice import frame_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.clip_sampling import FrameIndex

Spacing = Literal["dense", "spread"]


@dataclass(frozen=True, kw_only=True)
class KeptFrames:
    """Cut clips one behind the other out of some frames of each track.

    The rule of DeepfakeBench's clips, which StA (Yan et al., CVPR 2025) is trained on: n frames
    are kept and make n // T clips (4 of 8 frames out of 32); the first starts at 0, and each
    (n - T) // (clips - 1) behind the one before. In training a clip starts anywhere before the
    next one. Deviations: clips are fixed in evaluation, as in the bench, where StA's own code
    draws them; a track of fewer than T frames is mirrored, not left out; and each track of a
    video has its own clips, where the bench knows one face.

    Attributes:
        spacing: `dense` keeps the first consecutive frames (of the first run that has as many, or
            of the longest); `spread` keeps frames in equal steps over the whole track, gaps or
            not, as the public frames of DeepfakeBench are: its clips show motion about ten times
            as fast.
        count: Frames that are kept, at most.
    """

    spacing: Spacing = "dense"
    count: int = 32

    def __post_init__(self) -> None:
        if self.spacing not in get_args(Spacing):
            raise DataError(
                f"kept_frames.spacing is {self.spacing!r}; choose one of "
                f"{', '.join(get_args(Spacing))}"
            )
        if self.count < 1:
            raise DataError(f"kept_frames.count is {self.count}; it must be at least 1")

    def positions(self, frame_index: FrameIndex) -> Sequence[int]:
        """Tell which positions of a track are kept.

        Args:
            frame_index: Source frame of each position, ascending, shape (N,).
        """
        if self.spacing == "spread":
            return frame_numbers(f"spread:{self.count}", len(frame_index))
        runs = consecutive_runs(frame_index)
        long = (run for run in runs if len(run) >= self.count)
        return next(long, max(runs, key=len, default=range(0)))[: self.count]


def longest_clip(frame_index: FrameIndex, kept: KeptFrames | None) -> int:
    """Count the frames of the longest clip that a track gives without being mirrored.

    Args:
        frame_index: Source frame of each position, ascending, shape (N,).
        kept: Which frames clips are cut of; None for all.
    """
    if kept is None:
        return max(map(len, consecutive_runs(frame_index)), default=0)
    return len(kept.positions(frame_index))


def num_clips(frame_index: FrameIndex, clip_frames: int, kept: KeptFrames | None) -> int:
    """Count the clips of a track: all windows, or those of the frames that are kept.

    Args:
        frame_index: Source frame of each position, ascending, shape (N,).
        clip_frames: Frames of a clip (T).
        kept: Which frames clips are cut of; None for all.

    Returns:
        At least 1 unless the track is empty.
    """
    if kept is None:
        return num_windows(frame_index, clip_frames)
    return len(_starts(len(kept.positions(frame_index)), clip_frames))


def clip_positions(
    frame_index: FrameIndex,
    clip_frames: int,
    number: int,
    kept: KeptFrames | None,
    rng: np.random.Generator | None = None,
) -> tuple[int, ...]:
    """Tell which positions of a track make a clip.

    Args:
        frame_index: Source frame of each position, ascending, shape (N,).
        clip_frames: Frames of a clip (T).
        number: Of the clip, 0 to `num_clips` - 1.
        kept: Which frames clips are cut of; None for all.
        rng: Source of the draw of a kept clip's start; without it, it starts at its first frame.

    Returns:
        `clip_frames` positions in order of time.

    Raises:
        IndexError: There is no such clip.
    """
    if kept is None:
        return window_positions(frame_index, clip_frames, number)
    positions = kept.positions(frame_index)
    starts = _starts(len(positions), clip_frames)[number]
    start = starts[0] if rng is None else int(rng.choice(starts))
    shown = mirror_padding_index(len(positions), clip_frames)[start : start + clip_frames]
    return tuple(int(positions[i]) for i in shown)


def _starts(num_frames: int, clip_frames: int) -> list[range]:
    """List where each clip may start: first where it does in evaluation."""
    if num_frames == 0:
        return []
    clips = num_frames // clip_frames
    last = len(mirror_padding_index(num_frames, clip_frames)) - clip_frames
    if clips < 2:
        return [range(last + 1)]
    step = last // (clips - 1)
    return [range(i * step, min((i + 1) * step, last + 1)) for i in range(clips)]
