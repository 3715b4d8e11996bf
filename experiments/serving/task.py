"""What the child of a job does with a video: score it and write what the command line writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

# Loaded before the child loses its view of the disk: its cache of fonts lies in a home folder.
import matplotlib.font_manager  # noqa: F401

# likewise: where maps are made it is needed at the end
import experiments.explaining.drawing  # noqa: F401
from experiments.explaining.moments import ClipKeeper, explain_moments
from experiments.predicting.outputs import write_outputs
from experiments.predicting.scorer import ClipScorer, ExplainingScorer
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
        options: `backend` and `stride` of `ScoringOptions`, and whether the annotated video
            (`annotated`) and maps of what raised the scores (`explained`) are written.
        tell: Called with the progress.
    """
    explainers = cast("list[ExplainingScorer]", [s for s in scorers if hasattr(s, "explain_clips")])
    # without any: the job was taken by a server with other models, and is worth its scores
    keeper = ClipKeeper() if options["explained"] and explainers else None
    watch = keeper.watch if keeper else lambda *_: None
    how = ScoringOptions(options["backend"], options["stride"])
    report = score_video(video, scorers, how, tell, watch)
    moments = explain_moments(keeper, explainers, tell) if keeper else None
    write_outputs(folder, video, report, annotated=options["annotated"], moments=moments, tell=tell)
