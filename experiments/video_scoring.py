"""Score a video: find its faces, score the clips of each, and keep what was left out."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.clip_sampling import (
    clip_times,
    consecutive_runs,
    num_windows,
    window_positions,
)
from datamodules.errors import DataError
from datamodules.kept_frames import clip_positions, num_clips
from datamodules.preprocess.align import warp_crops
from datamodules.preprocess.alignments import frame_matrices
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.store.prepared import TrackReader
from datamodules.video.reader import frame_times
from experiments.errors import UsageError
from experiments.video_report import DroppedFrames, VideoFacts, VideoReport
from experiments.video_scores import ClipScore, TrackScore, frame_scores
from weights.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.preprocess.alignments import Alignment
    from experiments.detector import Detector

    Tell = Callable[[str, int, int], None]

#: Numbers in a batch of normalised clips where no batch size is given: two clips of 32 x 224 x 224
#: on a CPU (0.2 GB for FTCN), eight on a GPU. [ours]
_BATCH_VALUES = {"cpu": 2 * 3 * 32 * 224**2, "cuda": 8 * 3 * 32 * 224**2}
_MAX_BATCH = 64
#: What counts where a file does not tell its frame rate. [ours, as in the preparation]
_UNKNOWN_FPS = 25.0


@dataclass(frozen=True)
class ScoringOptions:
    """How a video is scored.

    Attributes:
        backend: Face backend, as for `make data`.
        stride: Step between clips in frames; 1 is the official way (FTCN, released inference
            code), None as `default_stride` says.
        batch: Clips scored at once; None chooses by the device.
    """

    backend: str = "mesh"
    stride: int | None = None
    batch: int | None = None

    def filled(self, detector: Detector) -> dict[str, Any]:
        """Give stride, frames, batch, device, alignment and pooling as used with a detector.

        Raises:
            UsageError: If a stride is asked for that the detector's clips have not.
        """
        spread = detector.spread
        if spread is not None and self.stride is not None:
            raise UsageError(
                f"--stride: the run was trained on clips of {spread.count} frames spread over a "
                "track, and a video is scored by such clips; drop --stride"
            )
        return {
            "stride": None if spread else self.stride or default_stride(detector),
            "kept_frames": f"spread:{spread.count}" if spread else None,
            "batch": self.batch or default_batch(detector),
            "device": detector.device.type,
            "alignment": detector.alignment,
            "frame_rule": detector.frame_rule,
            "video_rule": str(detector.model.video_pooling),
        }


def score_video(
    video: Path,
    detector: Detector,
    work: Path,
    options: ScoringOptions | None = None,
    tell: Tell = lambda *_: None,
) -> VideoReport:
    """Find the faces of a video and score each on its own.

    Args:
        video: The file.
        detector: What scores.
        work: Folder for the crops of the faces, which may become as large as the video; the
            caller removes it.
        options: How to score.
        tell: Called with what is being done, how much of it is done, and of how much, 0 where
            that is not known.

    Returns:
        The scores.

    Raises:
        DataError: If the video cannot be read, or the backend lacks a package or file.
        WeightsError: If weights of the face backend are missing, or the network has diverged.
        OSError: If the work folder takes no more.
    """
    options = options or ScoringOptions()
    tell("finding faces", 0, 0)
    prepare = PrepareOptions(backend=options.backend, max_frames=0)
    found = prepare_video(VideoTask(video.parent, work, video.name, "video", prepare))
    if found["status"] == "unreadable":
        raise DataError(f"{video} cannot be scored: {found['reason']}")
    times_s = frame_times(video, found["num_frames"])
    settings = options.filled(detector) | {"backend_version": None} | prepare.parameters()
    tracks = []
    for number, row in enumerate(found["tracks"]):
        title = partial(tell, f"scoring face {number + 1} of {len(found['tracks'])}")
        with closing(TrackReader(work / row["path"])) as reader:
            settings["backend_version"] = reader.meta.backend_version
            tracks.append(_score_track(detector, reader, number, times_s, settings, title))
    return VideoReport(
        video=_facts(video, found, times_s),
        settings=settings,
        reason=found["reason"],
        tracks=tuple(tracks),
        dropped=_dropped(found),
    )


def default_stride(detector: Detector) -> int:
    """Return a quarter of a clip: each frame is seen four times at a fraction of the cost. [ours].

    Where frames are scored one by one, seeing one again tells nothing new: a whole clip.

    Args:
        detector: Its clip size, and what it scores.
    """
    shown = 4 if detector.frame_rule is None else 1
    return max(1, detector.num_frames // shown)


def default_batch(detector: Detector) -> int:
    """Return how many clips the device takes at once without trouble.

    Args:
        detector: Its clip size and device count.
    """
    values = 3 * detector.num_frames * detector.image_size**2
    budget = _BATCH_VALUES.get(detector.device.type, _BATCH_VALUES["cpu"])
    return min(_MAX_BATCH, max(1, budget // values))


def strided_windows(frame_index: NDArray[np.int64], num_frames: int, stride: int) -> list[int]:
    """Choose the windows of a track that are scored.

    Args:
        frame_index: Source frame of each position of the track, ascending, shape (N,).
        num_frames: Frames in a clip (T).
        stride: Step in frames; 1 is the official way (FTCN, released inference code).

    Returns:
        Numbers of windows, ascending. The last window of each run of consecutive frames is always
        among them, so that no frame of such a run is left out while `stride` is at most T.
    """
    runs = [len(run) - num_frames + 1 for run in consecutive_runs(frame_index)]
    # Without a run that holds a clip there is one mirrored sequence.
    counts = [c for c in runs if c > 0] or [num_windows(frame_index, num_frames)]
    windows: list[int] = []
    first = 0
    for count in counts:
        windows += sorted({*range(first, first + count, stride), first + count - 1})
        first += count
    return windows


def _clips(detector: Detector, frame_index: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """List the positions of a track that each clip shows, shape (C, T)."""
    length, spread = detector.num_frames, detector.spread
    if spread is not None:  # the clips that a test scores
        numbers = range(num_clips(frame_index, length, spread))
        return np.array([clip_positions(frame_index, length, n, spread) for n in numbers])
    windows = strided_windows(frame_index, length, stride)
    return np.array([window_positions(frame_index, length, window) for window in windows])


def _score_track(
    detector: Detector,
    reader: TrackReader,
    number: int,
    times_s: NDArray[np.float64],
    settings: dict[str, Any],
    tell: Callable[[int, int], None],
) -> TrackScore:
    """Score a track; beside a batch of clips only the crops of one clip are in memory."""
    frame_index = reader.track.frame_index
    positions = _clips(detector, frame_index, settings["stride"])
    cutter = _Cutter(reader, detector.image_size, detector.alignment)
    prob, shown = np.empty(len(positions)), []
    for start in range(0, len(positions), settings["batch"]):
        chosen = positions[start : start + settings["batch"]]
        clips = np.stack([cutter.cut(row.tolist()) for row in chosen])
        of_clips, of_frames = _probabilities(detector, clips)
        prob[start : start + len(chosen)] = of_clips
        shown.append(of_frames)
        tell(start + len(chosen), len(positions))
    return TrackScore(
        track=number,
        clips=tuple(
            _clip_score(frame_index[row], reader.meta.fps, times_s, float(score))
            for row, score in zip(positions, prob, strict=True)
        ),
        frame_index=frame_index,
        time_s=times_s[frame_index],
        frame_score=frame_scores(len(frame_index), positions, np.concatenate(shown)),
        pool=detector.model.video_pooling.probability,
    )


def _probabilities(
    detector: Detector, clips: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score clips, (B, T, H, W, 3): their scores, (B,), and those of their frames.

    The frames' have the shape (B, T), or (B, 1) where a clip's score stands for all of them.
    """
    clip, frame = detector.score_clips(clips)
    frame = clip[:, None] if frame is None else frame
    if not (clip.isfinite().all() and frame.isfinite().all()):
        raise WeightsError(
            f"{detector.checkpoint}: the network's scores are not finite numbers; its training "
            "has diverged, choose another run"
        )
    return clip.double().sigmoid().numpy(), frame.double().sigmoid().numpy()


def _facts(video: Path, found: dict[str, Any], times_s: NDArray[np.float64]) -> VideoFacts:
    fps = found["fps"] or _UNKNOWN_FPS
    return VideoFacts(
        name=video.name,
        sha256=found["sha256"],
        fps=found["fps"],
        num_frames=found["num_frames"],
        duration_s=float(times_s[-1]) + 1 / fps,
        height=found["height"],
        width=found["width"],
        decoder=found["decoder"],
    )


def _dropped(found: dict[str, Any]) -> tuple[DroppedFrames, ...]:
    rows = found["dropped"]
    return tuple(DroppedFrames(r["first_frame"], r["last_frame"], r["reason"]) for r in rows)


class _Cutter:
    """Cut clips, decoding each crop once while neighbouring clips share it."""

    def __init__(self, reader: TrackReader, image_size: int, alignment: Alignment) -> None:
        self._reader = reader
        self._image_size = image_size
        self._alignment = alignment
        self._crops: dict[int, NDArray[np.uint8]] = {}

    def cut(self, positions: Sequence[int]) -> NDArray[np.uint8]:
        """Cut the clip at T positions of the track, shape (T, H, W, 3), uint8."""
        kept = {p: self._crops[p] for p in set(positions) & self._crops.keys()}
        new = sorted(set(positions) - kept.keys())
        self._crops = kept | dict(zip(new, self._reader.crops(new), strict=True))
        rows = np.asarray(positions)
        meta, size = self._reader.meta, self._image_size
        matrices = frame_matrices(
            self._alignment, self._reader.track, rows, (meta.height, meta.width), size
        )
        crops = [self._crops[p] for p in positions]
        return warp_crops(crops, self._reader.crop_boxes[rows], matrices, size)


def _clip_score(
    frames: NDArray[np.int64], fps: float, times_s: NDArray[np.float64], score: float
) -> ClipScore:
    start_s, end_s = clip_times(frames, fps, times_s)
    return ClipScore(int(frames.min()), int(frames.max()), start_s, end_s, score)
