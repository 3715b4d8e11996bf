"""What is written about a scored video: `report.json`, and what its numbers cannot tell."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from callbacks.provenance import code_version
from datamodules.atomic import write_text_atomically
from experiments.video_scores import video_score

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from experiments.detector import Detector
    from experiments.video_scores import TrackScore

#: Raised when a reader of an older report could misunderstand a newer one.
SCHEMA_VERSION = 1

Status = Literal["ok", "no_face"]

_LIMITS = (
    "The score pools outputs of one network between 0 (looks real to it) and 1 (looks forged "
    "to it). It is no probability and no verdict, and no evidence on its own.",
    "Only faces that were found and followed were looked at; sound, background, text and frames "
    "without a face were not.",
    "A track is one uninterrupted appearance of a face, not an identified person: the same person "
    "may come back as another track.",
    "Forgeries of kinds the network was not trained on, strong compression, small, dark or turned "
    "faces, filters and re-recording can move the score either way.",
)
_NO_POINT = (
    "No operating point has been calibrated for this run, so no decision is given: compare scores "
    "only with scores of the same run on videos of known origin."
)
_POINT = (
    "The decision is that of a threshold fitted on the {set} set of run {run} "
    "({num_real} real, {num_fake} fake videos, at {criterion}); on videos of other origin its "
    "errors are others."
)
_NO_FACE = "No face was found, so nothing was judged: that says nothing about the video."
_OTHER_BACKEND = (
    "The faces were found by {here}, those the run was trained on by {there}: they are aligned "
    "differently, which alone can move the score."
)
#: Levels of the report that get lines of their own; a clip and a column of frames are one line.
_DEPTH = 4


@dataclass(frozen=True)
class VideoFacts:
    """What is known of the scored file.

    Attributes:
        name: File name.
        sha256: Of the file.
        fps: Frames a second.
        num_frames: Frames that decode.
        duration_s: Duration in seconds.
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
class VideoReport:
    """A scored video.

    Attributes:
        video: The file.
        settings: How it was scored, by name.
        reason: Why there is no face, or what is wrong with a damaged file; empty otherwise.
        tracks: Scored tracks, none for a video without faces.
        dropped: Frames that are in no track.
    """

    video: VideoFacts
    settings: dict[str, Any]
    reason: str
    tracks: tuple[TrackScore, ...]
    dropped: tuple[DroppedFrames, ...]

    @property
    def face_backend(self) -> str | None:
        """Who found the faces, with the version; None where there are none."""
        version = self.settings["backend_version"]
        return f"{self.settings['backend']} {version}" if version else None

    @property
    def status(self) -> Status:
        """`no_face` where there is nothing to score."""
        return "ok" if self.tracks else "no_face"

    @property
    def score(self) -> float | None:
        """Pooled over all clips of all tracks; None without faces, never 0 or 0.5."""
        return video_score(self.tracks)


def write_report(path: Path, report: VideoReport, detector: Detector) -> None:
    """Write `report.json`.

    Args:
        path: The file to write.
        report: The scored video.
        detector: What scored it.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "status": report.status,
        "reason": report.reason or None,
        "video_score": _rounded(report.score),
        "decision": decision(report, detector),
        "limits": limits(report, detector),
        "video": {key: _rounded(value) for key, value in asdict(report.video).items()},
        "model": _model(detector),
        "code": code_version(),
        "settings": report.settings,
        "dropped": [asdict(frames) for frames in report.dropped],
        "tracks": [_track(track) for track in report.tracks],
    }
    write_text_atomically(path, _json(content, _DEPTH) + "\n")


def limits(report: VideoReport, detector: Detector) -> list[str]:
    """Say in plain words what a report cannot tell.

    Args:
        report: The scored video.
        detector: What scored it.

    Returns:
        Sentences for the reader, the most important first.
    """
    first = list(detector.notes)
    if report.status == "no_face":
        first.append(_NO_FACE)
    here, there = report.face_backend, detector.prepared_by
    if here and there and here != there:
        first.append(_OTHER_BACKEND.format(here=here, there=there))
    point = detector.operating_point
    told = _POINT.format(**point.fitted_on, criterion=point.criterion) if point else _NO_POINT
    return [*first, _LIMITS[0], told, *_LIMITS[1:]]


def decision(report: VideoReport, detector: Detector) -> dict[str, Any] | None:
    """Turn the score into a call.

    Args:
        report: The scored video.
        detector: What scored it.

    Returns:
        The call (`real`, `fake`, or `abstain`), the calibrated score and what it was held to; None
        without a score or an operating point.
    """
    point, score = detector.operating_point, report.score
    if point is None or score is None:
        return None
    return {
        "call": point.call(score),
        "calibrated_score": _rounded(float(point.calibrated(np.array([score]))[0])),
        "threshold": _rounded(point.threshold),
        "abstain_range": [_rounded(point.abstain_low), _rounded(point.abstain_high)],
        "criterion": point.criterion,
        "calibration": point.calibration,
        "fitted_on": point.fitted_on,
    }


def _model(detector: Detector) -> dict[str, Any]:
    return {
        "method": detector.method,
        "run": str(detector.run),
        "checkpoint": detector.checkpoint.name,
        "checkpoint_sha256": detector.checkpoint_sha256,
        "trained_on": detector.trained_on,
        "num_frames": detector.num_frames,
        "image_size": detector.image_size,
    }


def _track(track: TrackScore) -> dict[str, Any]:
    first, last = int(track.frame_index[0]), int(track.frame_index[-1])
    start_s = min(clip.start_s for clip in track.clips)
    end_s = max(clip.end_s for clip in track.clips)
    return {
        "track": track.track,
        "score": _rounded(track.score),
        "frame_range": [first, last],
        "time_range_s": [_rounded(start_s), _rounded(end_s)],
        "clips": [
            {key: _rounded(value) for key, value in asdict(clip).items()} for clip in track.clips
        ],
        # Columns, not rows: hours of video stay readable and small.
        "frames": {
            "frame": track.frame_index.tolist(),
            "time_s": _column(track.time_s),
            "score": _column(track.frame_score),
        },
    }


def _column(values: NDArray[np.float64]) -> list[Any]:
    return [_rounded(value) for value in values.tolist()]


def _rounded(value: Any) -> Any:
    """Keep six digits of a number; what is no number becomes null, which is what JSON has."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None


def _json(value: Any, depth: int, indent: str = "") -> str:
    """Encode with lines of their own for the outer levels only."""
    if depth == 0 or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_json(v, depth - 1, inner)}" for k, v in value.items()]
    else:
        items = [_json(item, depth - 1, inner) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    lines = f",\n{inner}".join(items)
    return f"{start}\n{inner}{lines}\n{indent}{end}"
