"""What the child of a job does with a video: score it and write what the command line writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Loaded before the child loses its view of the disk: its cache of fonts lies in a home folder.
import matplotlib.font_manager  # noqa: F401

from experiments.predicting.outputs import write_outputs
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
        options: `backend` and `stride` of `ScoringOptions`, and `annotated`: whether the annotated
            video is written.
        tell: Called with the progress.
    """
    report = score_video(
        video, scorers, ScoringOptions(options["backend"], options["stride"]), tell
    )
    write_outputs(folder, video, report, annotated=options["annotated"], tell=tell)
