"""From clip scores to frame, track and video scores: pure functions and plain records."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lightning_modules.pooling import MEAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lightning_modules.pooling import Pooling


@dataclass(frozen=True)
class ClipScore:
    """The score of one clip.

    Attributes:
        first_frame: Earliest frame of the source video in it.
        last_frame: Latest frame of the source video in it.
        start_s: Time of the first frame in seconds.
        end_s: End of the last frame in seconds.
        score: Sigmoid of the network's log-odds, 0 real to 1 fake.
        weight: Windows of the track that it stands for in a mean; 1 at a stride of 1.
    """

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    score: float
    weight: float = 1.0


@dataclass(frozen=True)
class TrackScore:
    """The scores of one uninterrupted appearance of a face. N kept frames.

    Attributes:
        track: Number of the track in its video.
        clips: Its clips in time order.
        frame_index: Frames of the source video, ascending, shape (N,), int64.
        time_s: Times of these frames in seconds, shape (N,), float64.
        frame_score: Of each of these frames the mean over the clips that contain it, or of its own
            scores in these clips; NaN where no clip covers it; shape (N,), float64.
        rule: Makes one score of those of several clips.
    """

    track: int
    clips: tuple[ClipScore, ...]
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    frame_score: NDArray[np.float64]
    rule: Pooling = MEAN

    @property
    def score(self) -> float:
        """Pooled over its clips."""
        return pooled(self.clips, self.rule)


def video_score(tracks: Sequence[TrackScore]) -> float | None:
    """Pool over all clips of all tracks, as FTCN's official inference code averages.

    Args:
        tracks: The scored tracks, which pool by the same rule.

    Returns:
        The score, or None where there is no clip: a video without faces has none.
    """
    clips = [clip for track in tracks for clip in track.clips]
    return pooled(clips, tracks[0].rule) if clips else None


def pooled(clips: Sequence[ClipScore], rule: Pooling) -> float:
    """Make one score of those of several clips.

    Args:
        clips: At least one.
        rule: The mean weighs clips by the windows that they stand for; other rules do not.
    """
    if rule.rule != "mean":
        return rule.probability([clip.score for clip in clips])
    total = math.fsum(clip.weight for clip in clips)
    return math.fsum(clip.weight * clip.score for clip in clips) / total


def segments(frame_index: NDArray[np.int64], frame_score: NDArray[np.float64]) -> list[slice]:
    """Cut a track where frames are missing or without score.

    Args:
        frame_index: Frames of the video, ascending, shape (N,).
        frame_score: Their scores, NaN where there is none, shape (N,).

    Returns:
        Runs of consecutive scored frames, as slices of both.
    """
    scored = np.flatnonzero(~np.isnan(frame_score))
    if not len(scored):
        return []
    breaks = np.flatnonzero(np.diff(frame_index[scored]) > 1) + 1
    return [slice(int(run[0]), int(run[-1]) + 1) for run in np.split(scored, breaks)]
