"""Which clips of a track are scored, listed lazily: hours of video have many thousands."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datamodules.clip_sampling import consecutive_runs, mirror_padding_index
from datamodules.kept_frames import clip_positions, num_clips

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from experiments.predicting.scorer import ClipSpec


class ClipPlace(NamedTuple):
    """A clip of a track.

    Attributes:
        positions: Positions of the track that it shows, T of them.
        first: From here on positions are still needed, by it and all clips after it.
        last: When this position has come it can be cut.
        weight: Windows that it stands for in a mean: itself, and halves of those left out on
            either side.
    """

    positions: Sequence[int]
    first: int
    last: int
    weight: float = 1.0


@dataclass(frozen=True)
class ClipPlan:
    """The clips of a track for one kind of clip.

    Attributes:
        num_frames: Frames in a clip (T).
        sequences: Positions that windows are cut of, and the windows' starts in them.
    """

    num_frames: int
    sequences: tuple[tuple[Sequence[int], NDArray[np.int64]], ...]

    def __len__(self) -> int:
        return sum(len(starts) for _, starts in self.sequences)

    def __iter__(self) -> Iterator[ClipPlace]:
        """List the clips in order."""
        for sequence, starts in self.sequences:
            # A mirrored sequence goes back and forth, so that all of it is needed to the end.
            bounds = None if _ascends(sequence) else (min(sequence), max(sequence))
            for start, weight in zip(starts.tolist(), _weights(starts), strict=True):
                shown = sequence[start : start + self.num_frames]
                first, last = bounds or (shown[0], shown[-1])
                yield ClipPlace(shown, first, last, weight)

    def shown(self, num_positions: int) -> NDArray[np.bool_]:
        """Tell which positions of the track any clip shows, shape (num_positions,)."""
        mask = np.zeros(num_positions, bool)
        for place in self:
            mask[np.asarray(place.positions)] = True
        return mask


def plan_clips(spec: ClipSpec, frame_index: NDArray[np.int64], stride: int) -> ClipPlan:
    """Choose the clips of a track.

    Args:
        spec: What is scored: frames in a clip, and whether they are spread over the track.
        frame_index: Source frame of each position of the track, ascending, shape (N,).
        stride: Step in frames; 1 is the official way (FTCN, released inference code).

    Returns:
        The clips: those that a test scores where they are spread, else windows of consecutive
        frames. The last window of each run of consecutive frames is always among them, so that
        no frame of such a run is left out while `stride` is at most T.
    """
    length = spec.num_frames
    if spec.spread is not None:
        numbers = range(num_clips(frame_index, length, spec.spread))
        places = [clip_positions(frame_index, length, n, spec.spread) for n in numbers]
        start = np.zeros(1, np.int64)
        return ClipPlan(length, tuple((place, start) for place in places))
    runs: list[Sequence[int]] = [*consecutive_runs(frame_index)]
    long = [run for run in runs if len(run) >= length]
    if not long and runs:
        # Without a run that holds a clip the longest one is mirrored (FTCN, official demo).
        longest = max(runs, key=len)
        long = [[longest[i] for i in mirror_padding_index(len(longest), length)]]
    return ClipPlan(length, tuple((run, _starts(len(run), length, stride)) for run in long))


def default_stride(spec: ClipSpec) -> int:
    """Return a quarter of a clip: each frame is seen four times at a fraction of the cost. [ours].

    Where frames are scored one by one, seeing one again tells nothing new: a whole clip.

    Args:
        spec: Its clip size, and what it scores.
    """
    shown = 4 if spec.frame_rule is None else 1
    return max(1, spec.num_frames // shown)


def _starts(num_positions: int, length: int, stride: int) -> NDArray[np.int64]:
    last = num_positions - length
    starts = np.arange(0, last + 1, stride)
    return starts if starts[-1] == last else np.append(starts, last)


def _weights(starts: NDArray[np.int64]) -> list[float]:
    """Weigh windows so that their mean is that of all, with those left out interpolated. [ours]."""
    left_out = (np.diff(starts) - 1) / 2
    weights: list[float] = (1 + np.append(left_out, 0) + np.append(0, left_out)).tolist()
    return weights


def _ascends(sequence: Sequence[int]) -> bool:
    if isinstance(sequence, range):
        return True
    return all(a < b for a, b in pairwise(sequence))
