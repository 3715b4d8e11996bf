"""What is known of a scored video, as plain records that can be pickled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from experiments.predicting.scores import video_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.predicting.scorer import ClipSpec
    from experiments.predicting.scores import TrackScore

Status = Literal["ok", "no_face"]


@dataclass(frozen=True)
class VideoFacts:
    """What is known of the scored file.

    Attributes:
        name: File name.
        sha256: Of the file.
        fps: Frames a second.
        num_frames: Frames that decode.
        duration_s: When the last frame ends, in seconds.
        height: Height in pixels, as decoded.
        width: Width in pixels, as decoded.
        decoder: The backend that was proven frame-exact on it.
    """

    name: str
    sha256: str
    fps: float
    num_frames: int
    duration_s: float
    height: int
    width: int
    decoder: str


@dataclass(frozen=True)
class DroppedFrames:
    """Frames that are in no track.

    Attributes:
        first_frame: First of them.
        last_frame: Last of them.
        reason: Why.
    """

    first_frame: int
    last_frame: int
    reason: str


@dataclass(frozen=True)
class FaceTimes:
    """When and where one track shows its person. N frames.

    Attributes:
        track: Number of the track in the video.
        person: Number of the person from 1 on; people are told apart by time and place alone.
        rank: Place of the person among those of the shot by size; 0 is the main one.
        frame_index: Frames of the video, ascending, shape (N,), int64.
        time_s: Their times in seconds, shape (N,), float64.
        box: Face box x0 y0 x1 y1 in pixels, shape (N, 4), float32.
    """

    track: int
    person: int
    rank: int
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    box: NDArray[np.float32]


@dataclass(frozen=True)
class ModelReport:
    """What one model thinks of a video.

    Attributes:
        spec: The model.
        settings: How it scored, by name.
        tracks: Its scores of the tracks, in their order.
    """

    spec: ClipSpec
    settings: dict[str, Any]
    tracks: tuple[TrackScore, ...]

    @property
    def score(self) -> float | None:
        """Pooled over all clips of all tracks; None without faces, never 0 or 0.5."""
        return video_score(self.tracks)

    @property
    def calibrated(self) -> float | None:
        """The score as a calibrated probability; None where nothing was calibrated."""
        point, score = self.spec.operating_point, self.score
        if point is None or score is None:
            return None
        return float(point.calibrated(np.array([score]))[0])


@dataclass(frozen=True)
class VideoReport:
    """A scored video.

    Attributes:
        video: The file.
        times_s: When each of its frames is shown, in seconds, shape (num_frames,), float64. As all
            times by a player's clock: the first frame is not at 0 where sound comes before it.
        settings: How its faces were found, by name.
        reason: Why there is no face, or what is wrong with a damaged file; empty otherwise.
        faces: Its tracks, none for a video without faces.
        models: What each model thinks, at least one.
        dropped: Frames that are in no track.
    """

    video: VideoFacts
    times_s: NDArray[np.float64]
    settings: dict[str, Any]
    reason: str
    faces: tuple[FaceTimes, ...]
    models: tuple[ModelReport, ...]
    dropped: tuple[DroppedFrames, ...]

    @property
    def face_backend(self) -> str:
        """Who looked for faces, with the version."""
        return f"{self.settings['backend']} {self.settings['backend_version']}"

    @property
    def status(self) -> Status:
        """`no_face` where there is nothing to score."""
        return "ok" if self.faces else "no_face"

    @property
    def score(self) -> float | None:
        """Of the one model, or the mean of the scores of several; None without faces."""
        return _mean([model.score for model in self.models])

    @property
    def calibrated(self) -> float | None:
        """The calibrated probability of the one model, or the mean of those of several.

        None where there is no face, or any of them is not calibrated.
        """
        return _mean([model.calibrated for model in self.models])

    def track_score(self, track: int) -> float:
        """Give the score of a track, averaged over the models."""
        return float(np.mean([model.tracks[track].score for model in self.models]))

    def frame_score(self, track: int) -> NDArray[np.float64]:
        """Give the scores of a track's frames, averaged over the models.

        Returns:
            Shape (N,), float64; NaN where any model has none.
        """
        of_models = [model.tracks[track].frame_score for model in self.models]
        return np.asarray(np.mean(of_models, axis=0), np.float64)

    @property
    def persons(self) -> list[int]:
        """Numbers of the people in it, ascending."""
        return sorted({face.person for face in self.faces})

    def person_score(self, person: int, models: Sequence[ModelReport] = ()) -> float:
        """Give the score of a person over all its tracks.

        Args:
            person: Number of the person.
            models: Over which it is averaged; all of them if none is named.
        """
        own = [face.track for face in self.faces if face.person == person]
        scores = [
            video_score([model.tracks[track] for track in own]) for model in models or self.models
        ]
        return float(np.mean([score for score in scores if score is not None]))


def time_ranges(report: VideoReport, face: FaceTimes) -> list[list[float]]:
    """Tell when a track shows its face.

    Args:
        report: The scored video.
        face: A track of it.

    Returns:
        Start and end of each run of consecutive frames in seconds.
    """
    ends = frame_ends(report, face)
    order = enumerate(face.frame_index.tolist())
    ranges = []
    for _, run in groupby(order, key=lambda item: item[1] - item[0]):
        rows = [row for row, _ in run]
        ranges.append([float(face.time_s[rows[0]]), float(ends[rows[-1]])])
    return ranges


def frame_ends(report: VideoReport, face: FaceTimes) -> NDArray[np.float64]:
    """Tell when each frame of a track ends: with the next one of the video.

    Args:
        report: The scored video.
        face: A track of it.

    Returns:
        Seconds, shape (N,), float64.
    """
    times = report.times_s
    following = face.frame_index + 1
    last = following >= len(times)
    ends = times[following.clip(max=len(times) - 1)].copy()
    ends[last] = report.video.duration_s
    return np.asarray(ends, np.float64)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if values and len(known) == len(values) else None
