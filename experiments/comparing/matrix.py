"""Cross-AUC: real videos of one set against fakes of another."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

import numpy as np

from experiments.evaluation.figures import counted_videos
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.comparing.runs import Run
    from experiments.evaluation.ledgers import Evaluation


def cross_auc(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Measure every pair of sets that one checkpoint was tested on.

    Args:
        evaluations: By set.

    Returns:
        Video AUC by the set of the reals, then by that of the fakes; NaN where there is none.
    """
    scores = {}
    for name, evaluation in evaluations.items():
        videos = counted_videos(evaluation)
        scores[name] = (videos.score[videos.label == 0], videos.score[videos.label == 1])
    return {
        name: {other: _auc(reals, fakes) for other, (_, fakes) in scores.items()}
        for name, (reals, _) in scores.items()
    }


def matrices(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the pairs of sets of each run.

    Args:
        runs: Any.

    Returns:
        By name of the run; of those with one set nothing.
    """
    return {run.name: cross_auc(run.evaluations) for run in runs if len(run.evaluations) > 1}


def _auc(reals: np.ndarray, fakes: np.ndarray) -> float:
    label = np.repeat([0, 1], [len(reals), len(fakes)])
    return roc_auc(label, np.concatenate([reals, fakes]))


def as_csv(matrix: Mapping[str, Mapping[str, float]]) -> str:
    """Write a matrix, the reals' sets down and the fakes' across.

    Args:
        matrix: Of `cross_auc`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["reals", *matrix])
    for name, row in matrix.items():
        writer.writerow(
            [name, *("" if math.isnan(value) else repr(value) for value in row.values())]
        )
    return text.getvalue()
