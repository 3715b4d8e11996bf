"""What the child of a job does with a video: score it and write what the command line writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.predicting.report_file import write_report
from experiments.predicting.scorer import ClipScorer
from experiments.predicting.video import ScoringOptions, score_video
from experiments.serving.child import Tell


def score(
    video: Path, folder: Path, scorers: Sequence[ClipScorer], options: dict[str, Any], tell: Tell
) -> None:
    """Score a video and write the results.

    Args:
        video: The file.
        folder: Where they go.
        scorers: What scores.
        options: Of `ScoringOptions`.
        tell: Called with the progress.
    """
    report = score_video(video, scorers, ScoringOptions(**options), tell)
    write_report(folder / "report.json", report)
