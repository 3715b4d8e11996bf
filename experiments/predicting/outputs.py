"""The output folder of a scored video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from experiments.predicting.annotate import annotate_video
from experiments.predicting.report_file import maps_content, write_report
from experiments.predicting.threshold import (
    segments_csv,
    segments_vtt,
    suspicious_segments,
    threshold_of,
)
from experiments.predicting.timeline import draw_timeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from experiments.explaining.moments import Moment
    from experiments.predicting.annotate import Paint
    from experiments.predicting.report import VideoReport

    Tell = Callable[[str, int, int], None]

REPORT, TABLE, CUES = "report.json", "segments.csv", "segments.vtt"
TIMELINE, ANNOTATED = "timeline.png", "annotated.mp4"


def write_outputs(
    folder: Path,
    video: Path,
    report: VideoReport,
    *,
    annotated: bool = True,
    moments: dict[str, list[Moment]] | None = None,
    tell: Tell = lambda *_: None,
) -> list[str]:
    """Write what is shown of a scored video; the report comes last, so that it means all is there.

    Args:
        folder: Where the files go; there already.
        video: The video.
        report: Its scores.
        annotated: Whether the annotated video is written, which takes longest.
        moments: Explained clips of each model, by its name; their maps are laid over the annotated
            video.
        tell: Called with what is being done, how much of it is done, and of how much.

    Returns:
        What went wrong without stopping anything, such as sound that ends early.

    Raises:
        DataError: If the annotated video cannot be encoded.
        OSError: If the disk refuses the bytes.
    """
    segments, threshold = suspicious_segments(report), threshold_of(report)
    write_text_atomically(folder / TABLE, segments_csv(segments, threshold))
    write_text_atomically(folder / CUES, segments_vtt(segments, threshold))
    draw_timeline(folder / TIMELINE, report)
    maps: dict[str, Any] | None = None
    paint: Paint = _unchanged
    if moments is not None:
        maps, paint = _explained(folder, report, moments)
    wrong = annotate_video(folder / ANNOTATED, video, report, tell, paint) if annotated else ""
    write_report(folder / REPORT, report, maps)
    return [f"{ANNOTATED}: {wrong}"] if wrong else []


def _explained(
    folder: Path, report: VideoReport, moments: dict[str, list[Moment]]
) -> tuple[dict[str, Any], Paint]:
    """Write the moments; return what the report says of them, and what lays maps over frames."""
    from experiments.explaining.drawing import FrameMaps, write_moments
    from experiments.explaining.limits import map_limits

    specs = [model.spec for model in report.models]
    limits = map_limits(
        [spec for spec in specs if spec.name in moments],
        without=[spec for spec in specs if spec.name not in moments],
    )
    listed = write_moments(folder, moments, limits)
    maps = [moment for of_one in moments.values() for moment in of_one]
    size = (report.video.height, report.video.width)
    return maps_content(limits, listed), FrameMaps(maps, size).paint


def _unchanged(frame: NDArray[np.uint8], _: int) -> NDArray[np.uint8]:
    """Leave a frame as it is."""
    return frame
