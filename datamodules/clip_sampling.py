"""Which frames of a track make a clip: windows of consecutive frames, as pure functions.

A track is given by the source frame of each of its positions (`FaceTrack.frame_index`). A window
never reaches over a gap in them. Windows of a track are numbered from 0 in order of time.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FrameIndex = Sequence[int] | NDArray[np.integer[Any]]


@lru_cache(maxsize=256)
def mirror_padding_index(num_frames: int, clip_frames: int) -> tuple[int, ...]:
    """Continue a track that is shorter than a clip by its own mirror images.

    The rule of FTCN's official demo (Zheng et al., ICCV 2021) without its slip for tracks of 1
    to 8 frames: mirrored at both ends without repeating the edge, `clip_frames` - 1 on each side.

    Args:
        num_frames: Frames of the track.
        clip_frames: Frames of a clip.

    Returns:
        Frame of the track for each frame of the padded one; 0 to `num_frames` - 1 where the
        track is long enough.
    """
    if num_frames < 1 or clip_frames < 1:
        raise ValueError(f"want at least one frame, got {num_frames} and {clip_frames}")
    if num_frames >= clip_frames:
        return tuple(range(num_frames))
    period = max(1, 2 * num_frames - 2)
    around = ((i % period) for i in range(1 - clip_frames, num_frames + clip_frames - 1))
    return tuple(m if m < num_frames else period - m for m in around)


def consecutive_runs(frame_index: FrameIndex) -> list[range]:
    """Split a track where source frames are missing.

    Args:
        frame_index: Source frame of each position, ascending, shape (N,).

    Returns:
        Positions of each run, in order.
    """
    frames = np.asarray(frame_index)
    cuts = (np.flatnonzero(np.diff(frames) != 1) + 1).tolist()
    bounds = [0, *cuts, len(frames)]
    return [range(a, b) for a, b in pairwise(bounds) if b > a]


def num_windows(frame_index: FrameIndex, clip_frames: int) -> int:
    """Count the windows of a track at a step of one frame.

    Args:
        frame_index: Source frame of each position, ascending, shape (N,).
        clip_frames: Frames of a clip.

    Returns:
        At least 1 unless the track is empty: if no run of consecutive frames is long enough, the
        longest one is mirrored.
    """
    return sum(len(run) - clip_frames + 1 for run in _sequences(frame_index, clip_frames))


def window_positions(frame_index: FrameIndex, clip_frames: int, window: int) -> tuple[int, ...]:
    """Tell which positions of a track make a window.

    Args:
        frame_index: Source frame of each position, ascending, shape (N,).
        clip_frames: Frames of a clip.
        window: Number of the window, 0 to `num_windows` - 1.

    Returns:
        `clip_frames` positions in order of time.

    Raises:
        IndexError: There is no such window.
    """
    left = window
    for sequence in _sequences(frame_index, clip_frames):
        count = len(sequence) - clip_frames + 1
        if 0 <= left < count:
            return tuple(sequence[left : left + clip_frames])
        left -= count
    raise IndexError(f"window {window} of a track of {num_windows(frame_index, clip_frames)}")


def _sequences(frame_index: FrameIndex, clip_frames: int) -> list[Sequence[int]]:
    """List the runs that hold a clip, or the longest one, padded."""
    runs = consecutive_runs(frame_index)
    long: list[Sequence[int]] = [run for run in runs if len(run) >= clip_frames]
    if long or not runs:
        return long
    longest = max(runs, key=len)
    return [[longest[i] for i in mirror_padding_index(len(longest), clip_frames)]]


def every_window(counts: Sequence[int], stride: int = 1) -> list[tuple[int, int]]:
    """List the windows of all tracks of a video.

    Args:
        counts: Windows of each track.
        stride: Step in frames; 1 is how FTCN's official code scores a video.

    Returns:
        (track, window) in order.
    """
    return [(track, w) for track, count in enumerate(counts) for w in range(0, count, stride)]


def spread_windows(counts: Sequence[int], num_clips: int | None) -> list[tuple[int, int]]:
    """Choose windows evenly over all tracks of a video, and over the time of each.

    Args:
        counts: Windows of each track.
        num_clips: How many in all; None for every window. Tracks share them by their windows,
            at least one for each track that has any, so there may be more; and no window comes
            twice, so there may be fewer.

    Returns:
        (track, window) in order. Of several windows of a track the first is the first there is,
        and the last the last; a single one is in the middle.
    """
    if num_clips is None:
        return every_window(counts)
    return [
        (track, window)
        for track, (count, share) in enumerate(zip(counts, _shares(counts, num_clips), strict=True))
        for window in _spread(count, share)
    ]


def _spread(count: int, share: int) -> list[int]:
    if share == 1:
        return [(count - 1) // 2]
    chosen: list[int] = np.linspace(0, count - 1, share).round().astype(int).tolist()
    return chosen


def _shares(counts: Sequence[int], num_clips: int) -> list[int]:
    """Deal clips to tracks one by one, always to the one that is served worst."""
    shares = [min(1, count) for count in counts]
    while sum(shares) < min(num_clips, sum(counts)):
        open_tracks = [t for t, count in enumerate(counts) if shares[t] < count]
        worst = max(open_tracks, key=lambda t: (counts[t] / (shares[t] + 1), -t))
        shares[worst] += 1
    return shares


def random_window(counts: Sequence[int], rng: np.random.Generator) -> tuple[int, int]:
    """Draw one window, all windows of all tracks being equally likely.

    Args:
        counts: Windows of each track.
        rng: Source of the draw.

    Returns:
        (track, window).

    Raises:
        ValueError: There is no window.
    """
    ends = np.cumsum(counts)
    if not len(ends) or ends[-1] == 0:
        raise ValueError("there is no window to draw from")
    drawn = int(rng.integers(ends[-1]))
    track = int(np.searchsorted(ends, drawn, side="right"))
    return track, drawn - int(ends[track] - counts[track])


def clip_times(
    frame_index: FrameIndex, fps: float, timestamps_s: NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Tell when a clip is shown.

    Args:
        frame_index: Source frames of the clip, shape (T,); a mirrored clip goes back and forth.
        fps: Frames a second.
        timestamps_s: Times of all frames of the video, needed where the frame rate varies.

    Returns:
        Time of the earliest frame and end of the latest one, in seconds after the first frame of
        the video.
    """
    frames = np.asarray(frame_index)
    first, last = int(frames.min()), int(frames.max())
    if timestamps_s is None:
        return first / fps, (last + 1) / fps
    if last + 1 < len(timestamps_s):
        return float(timestamps_s[first]), float(timestamps_s[last + 1])
    return float(timestamps_s[first]), float(timestamps_s[last]) + 1 / fps
