"""Fakes that are wrong in time alone: frames of a real video left out, or shown twice.

After AltFreezing (Wang et al., CVPR 2023, section on video-level fake generation), whose
parameters are not public; all numbers are ours. Nothing is decoded that a real clip would not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datamodules.forgery import Forged
from datamodules.limits import check_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datamodules.footage import Footage
    from datamodules.forgery import AlignedClip, ClipPlace

_LIMITS = {
    "weight": (0.0, 1e6),
    "max_frames": (1.0, 1000.0),
    "max_run": (1.0, 1000.0),
    "max_times": (1.0, 1000.0),
}


@dataclass(frozen=True, kw_only=True)
class TemporalDropout:
    """Leave out frames inside the clip, so that the video jumps.

    A video without a run of more frames than a clip has is too short for it.

    Attributes:
        weight: How often it is chosen, in proportion to the other ways. [ours]
        max_frames: Frames left out, in all: 1 to this many, equally likely. [ours]
        max_run: Neighbouring frames left out at one place, at most. [ours]
    """

    weight: float = 1.0
    max_frames: int = 8
    max_run: int = 4

    def __post_init__(self) -> None:
        check_limits(self, "fake_from_real.temporal_dropout", _LIMITS)

    def offsets(
        self, num_frames: int, longest_run: int, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Choose the frames that stay; see `ClipForgery`."""
        return dropout_offsets(
            num_frames, min(self.max_frames, longest_run - num_frames), self.max_run, rng
        )

    def forge(
        self, real: AlignedClip, place: ClipPlace, footage: Footage, rng: np.random.Generator
    ) -> Forged | None:
        """Leave the pictures as they are."""
        return Forged(real.clip.frames, None)


@dataclass(frozen=True, kw_only=True)
class TemporalRepeat:
    """Show frames several times, so that the video stalls; the clip spans less time.

    Possible in clips of two frames and more, and in any video: in one that is shorter than the
    frames that are needed, these are mirrored, as those of a real clip are.

    Attributes:
        weight: How often it is chosen, in proportion to the other ways. [ours]
        max_frames: Frames added, in all: 1 to this many, equally likely. [ours]
        max_times: How often one frame is shown again, at most. [ours]
    """

    weight: float = 1.0
    max_frames: int = 8
    max_times: int = 3

    def __post_init__(self) -> None:
        check_limits(self, "fake_from_real.temporal_repeat", _LIMITS)

    def offsets(
        self, num_frames: int, longest_run: int, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Choose what is shown again; see `ClipForgery`."""
        return repeat_offsets(num_frames, self.max_frames, self.max_times, rng)

    def forge(
        self, real: AlignedClip, place: ClipPlace, footage: Footage, rng: np.random.Generator
    ) -> Forged | None:
        """Leave the pictures as they are."""
        return Forged(real.clip.frames, None)


def dropout_offsets(
    num_frames: int, max_frames: int, max_run: int, rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Leave out frames of a window, never its first or last.

    Args:
        num_frames: Frames in a clip (T).
        max_frames: Frames left out, at most; never more than half of the clip's, for a clip that
            only runs faster does not jump.
        max_run: Neighbouring frames left out at one place, at most.
        rng: Source of the draws.

    Returns:
        Frames of the window that stay, ascending, shape (T,), int64; None where `max_frames`
        or the clip allows none to be left out.
    """
    runs = _random_runs(min(max_frames, num_frames // 2), max_run, rng)
    if runs is None:
        return None
    # Different places, so that two runs never make a longer one.
    skipped = np.zeros(num_frames, np.int64)
    skipped[1 + rng.choice(num_frames - 1, len(runs), replace=False)] = runs
    return np.arange(num_frames) + np.cumsum(skipped)


def repeat_offsets(
    num_frames: int, max_frames: int, max_times: int, rng: np.random.Generator
) -> NDArray[np.int64] | None:
    """Show frames of a window several times, in place.

    Args:
        num_frames: Frames in a clip (T).
        max_frames: Frames added, at most; never more than half of the clip.
        max_times: How often one frame is shown again, at most.
        rng: Source of the draws.

    Returns:
        Frames of the window, ascending, shape (T,), int64; None in a clip of one frame.
    """
    runs = _random_runs(min(max_frames, num_frames // 2), max_times, rng)
    if runs is None:
        return None
    shown = np.ones(num_frames - sum(runs), np.int64)
    shown[rng.choice(len(shown), len(runs), replace=False)] += runs
    return np.repeat(np.arange(len(shown)), shown)


def _random_runs(most: int, longest: int, rng: np.random.Generator) -> list[int] | None:
    """Draw a number up to `most`, and cut it into runs of 1 to `longest`."""
    if most < 1:
        return None
    left = int(rng.integers(1, most + 1))
    runs = []
    while left:
        runs.append(int(rng.integers(1, min(longest, left) + 1)))
        left -= runs[-1]
    return runs
