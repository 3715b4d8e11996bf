"""What a reader of a report should know before believing it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from experiments.evaluation.results import MAX_PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from experiments.evaluation.ledgers import Evaluation

    Ints = NDArray[np.int64]

#: Share of videos without a score from which on a set is another one [ours].
_MANY_LOST = 0.05
#: Share of the fakes from which on one person decides about a set [ours].
_MOST = 0.5
#: Identity groups of a class below which intervals may hold the truth less often [ours]: see
#: docs/evaluation.md.
_FEW_GROUPS = 8


def cautions(evaluations: Sequence[Evaluation]) -> list[str]:
    """Find what limits the figures of evaluations.

    Args:
        evaluations: All of a report.

    Returns:
        One sentence each, of which run and set.
    """
    found = [f"{e.name}: {text}" for e in evaluations for text in _of_one(e)]
    for name, members in groupby(sorted(evaluations, key=_set), key=_set):
        manifests = {e.facts["manifest"] for e in members}
        if len(manifests) > 1:
            found.append(
                f"{name}: the runs were evaluated on different manifests; their figures do not "
                "compare"
            )
    return found


def _set(evaluation: Evaluation) -> str:
    return evaluation.set_name


def _of_one(evaluation: Evaluation) -> Iterator[str]:
    videos, facts = evaluation.videos, evaluation.facts
    lost = videos["score"].is_null().to_numpy()
    if lost.mean() > _MANY_LOST:
        yield f"{lost.mean():.0%} of the videos have no score: the figures are of the others"
    label = evaluation.label
    shares = [lost[label == k].mean() for k in (0, 1) if (label == k).any()]
    if len(shares) == 2 and abs(shares[0] - shares[1]) > _MANY_LOST:
        yield (
            f"{shares[0]:.0%} of the reals but {shares[1]:.0%} of the fakes have no score: the "
            "classes are not cut alike"
        )
    not_finite = int((videos["status"] == "not_finite").sum())
    if not_finite:
        yield f"{not_finite} videos have a score that is no number: training diverged"
    yield from _methods(videos)
    yield from _groups(evaluation.group[~lost], label[~lost])
    yield from _one_face(videos.filter((pl.col("label") == 1) & pl.col("score").is_not_null()))
    if facts["stage"] == "val":
        yield "a validation set; it chose the checkpoint, so its figures flatter"
    if str(facts["code"]).endswith("-dirty"):
        yield "made by code with changes that no commit has"
    if not facts["checkpoint"]:
        yield "made without a checkpoint on disk: nobody can evaluate it again"


def _groups(group: Ints, label: Ints) -> Iterator[str]:
    counts = {side: len(np.unique(group[label == k])) for k, side in enumerate(("real", "fake"))}
    few = [f"{count} of {side} videos" for side, count in counts.items() if count < _FEW_GROUPS]
    if few:
        told = f"identity groups: {' and '.join(few)} only"
        yield f"{told}; intervals of fewer than {_FEW_GROUPS} are little tried"


def _one_face(fakes: pl.DataFrame) -> Iterator[str]:
    count = fakes["identities"].list.unique().explode().value_counts(sort=True).head(1)
    share = count["count"].sum() / max(1, fakes.height)
    # Of a person in all of them nothing varies: no interval can tell how others would do.
    if share > _MOST and fakes["group"].n_unique() > 1:
        yield (
            f"{count['identities'][0]} is in {share:.0%} of the fakes: intervals do not tell how "
            "other people would do"
        )


def _methods(videos: pl.DataFrame) -> Iterator[str]:
    count = videos.filter(pl.col("label") == 1)["method"].n_unique()
    if count > MAX_PARTS:
        yield f"{count} methods; the {MAX_PARTS} of most videos have figures of their own"
