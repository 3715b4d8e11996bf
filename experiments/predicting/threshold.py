"""Where suspicion begins, on the scale of scores; and the stretches of a video beyond it."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.predicting.report import frame_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.evaluation.operating_point import OperatingPoint
    from experiments.predicting.report import FaceTimes, VideoReport

#: The middle of the scale, for models without an operating point: says nothing about errors.
NOMINAL = 0.5
#: Columns of `segments.csv`.
COLUMNS = (
    *("person", "track", "start_s", "end_s", "first_frame", "last_frame"),
    *("mean_score", "max_score", "threshold", "threshold_kind"),
)


class Threshold(NamedTuple):
    """From where on a score is shown as suspicious.

    Attributes:
        score: On the scale of scores, before calibration.
        fitted: Whether it is the one of an operating point, not just the middle of the scale.
    """

    score: float
    fitted: bool

    @property
    def kind(self) -> str:
        """Say what it is in a word or two."""
        return "operating point" if self.fitted else "middle of the scale, not calibrated"


@dataclass(frozen=True)
class Segment:
    """A stretch of a track whose frames score at or above the threshold.

    Attributes:
        person: Number of the person.
        track: Number of the track.
        start_s: Time of its first frame.
        end_s: End of its last frame.
        first_frame: Of the video.
        last_frame: Of the video.
        mean_score: Over its frames.
        max_score: Over its frames.
    """

    person: int
    track: int
    start_s: float
    end_s: float
    first_frame: int
    last_frame: int
    mean_score: float
    max_score: float


def threshold_of(report: VideoReport) -> Threshold:
    """Give the threshold of the one model; the middle of the scale where it has none.

    Args:
        report: The scored video. An average of models has no threshold of its own.
    """
    point = report.models[0].spec.operating_point
    if len(report.models) > 1 or point is None:
        return Threshold(NOMINAL, fitted=False)
    return Threshold(_uncalibrated(point), fitted=True)


def _uncalibrated(point: OperatingPoint) -> float:
    """Take the threshold back to the scale of scores."""
    value = point.threshold
    if point.calibration == "none" or not 0 < value < 1:
        return value
    log_odds = (math.log(value / (1 - value)) - point.offset) / point.slope
    return 1 / (1 + math.exp(-log_odds))


def suspicious_segments(report: VideoReport) -> list[Segment]:
    """List the stretches at or above the threshold, by person and time.

    Args:
        report: The scored video.
    """
    limit = threshold_of(report).score
    found = [segment for face in report.faces for segment in _of_track(report, face, limit)]
    return sorted(found, key=lambda segment: (segment.person, segment.start_s))


def _of_track(report: VideoReport, face: FaceTimes, limit: float) -> list[Segment]:
    score = report.frame_score(face.track)
    ends = frame_ends(report, face)
    rows = np.flatnonzero(score >= limit)  # never where there is no score
    if not len(rows):
        return []
    breaks = np.flatnonzero((np.diff(rows) > 1) | (np.diff(face.frame_index[rows]) > 1)) + 1
    return [
        Segment(
            person=face.person,
            track=face.track,
            start_s=float(face.time_s[run[0]]),
            end_s=float(ends[run[-1]]),
            first_frame=int(face.frame_index[run[0]]),
            last_frame=int(face.frame_index[run[-1]]),
            mean_score=float(score[run].mean()),
            max_score=float(score[run].max()),
        )
        for run in np.split(rows, breaks)
    ]


def segments_csv(segments: Sequence[Segment], threshold: Threshold) -> str:
    """Write segments as a table.

    Args:
        segments: The stretches.
        threshold: What they reach.

    Returns:
        Comma-separated values with a head line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for s in segments:
        writer.writerow(
            [
                *(s.person, s.track, f"{s.start_s:.3f}", f"{s.end_s:.3f}"),
                *(s.first_frame, s.last_frame, f"{s.mean_score:.6f}", f"{s.max_score:.6f}"),
                *(f"{threshold.score:.6f}", threshold.kind),
            ]
        )
    return text.getvalue()


def segments_vtt(segments: Sequence[Segment], threshold: Threshold) -> str:
    """Write segments as WebVTT cues, which players show as subtitles.

    Args:
        segments: The stretches.
        threshold: What they reach.

    Returns:
        A WebVTT file, its cues in order of time.
    """
    note = (
        f"NOTE\nStretches of frames that score {threshold.score:.3f} or more "
        f"({threshold.kind}), where 0 looks real to the model and 1 forged.\n"
    )
    cues = [
        f"{_clock(s.start_s)} --> {_clock(max(s.end_s, s.start_s + 0.001))}\n"
        f"Person {s.person}: score {s.mean_score:.2f} (up to {s.max_score:.2f})\n"
        for s in sorted(segments, key=lambda s: (s.start_s, s.person))
    ]
    return "\n".join(["WEBVTT\n", note, *cues])


def _clock(seconds: float) -> str:
    """Write a time as WebVTT wants it."""
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
