"""The output folder of a scored video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.predicting.report_file import write_report
from experiments.predicting.timeline import draw_timeline

if TYPE_CHECKING:
    from pathlib import Path

    from experiments.predicting.report import VideoReport


def write_outputs(folder: Path, video: Path, report: VideoReport) -> None:
    """Write what is shown of a scored video.

    Args:
        folder: Where the files go; there already.
        video: The video.
        report: Its scores.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    draw_timeline(
        folder / "timeline.png",
        report.models[0].tracks,
        name=report.video.name,
        duration_s=report.video.duration_s,
        score=report.score,
    )
    write_report(folder / "report.json", report)
