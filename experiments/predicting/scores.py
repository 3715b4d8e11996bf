"""From clip scores to frame, track and video scores: pure functions and plain records."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClipScore:
    """The score of one clip.

    Attributes:
        first_frame: Earliest frame of the source video in it.
        last_frame: Latest frame of the source video in it.
        start_s: Time of the first frame in seconds.
        end_s: End of the last frame in seconds.
        score: Sigmoid of the network's log-odds, 0 real to 1 fake.
    """

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    score: float


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
        pool: Makes one score of those of several clips.
    """

    track: int
    clips: tuple[ClipScore, ...]
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    frame_score: NDArray[np.float64]
    pool: Callable[[Sequence[float]], float] = fmean

    @property
    def score(self) -> float:
        """Pooled over its clips."""
        return self.pool([clip.score for clip in self.clips])


def video_score(tracks: Sequence[TrackScore]) -> float | None:
    """Pool over all clips of all tracks, as FTCN's official inference code averages.

    Args:
        tracks: The scored tracks, which pool by the same rule.

    Returns:
        The score, or None where there is no clip: a video without faces has none.
    """
    scores = [clip.score for track in tracks for clip in track.clips]
    return tracks[0].pool(scores) if scores else None


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
