"""Rows of a report: every evaluation as a whole and by its parts, and runs of one group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from experiments.evaluation.deepfakebench import deepfakebench_video_auc
from experiments.evaluation.figures import (
    NoFacePolicy,
    counted_videos,
    set_figures,
    unscored,
    why_missing,
)
from experiments.evaluation.intervals import NUM_RESAMPLES, video_intervals
from experiments.evaluation.pairs import same_footage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from experiments.evaluation.ledgers import Evaluation
    from lightning_modules.pooling import Pooling

    Bools = NDArray[np.bool_]

Row = dict[str, Any]

WHOLE = "all"
PAIRS = "same-footage pairs"
#: Most methods, data sets or compressions that get a row each, those of most videos [ours].
MAX_PARTS = 100
#: What runs that are averaged have in common; the last two are not told as such.
_SAME = ("experiment", "set", "condition", "part", "recipe", "manifest")
#: Figures that are averaged over the runs of a group.
SEED_FIGURES = ("video_auc", "video_eer", "video_ap", "clip_auc", "frame_auc")


@dataclass(frozen=True)
class ReportOptions:
    """What a report counts and how.

    Attributes:
        threshold: A score that reaches it is called fake.
        policy: What videos without a score count as.
        rule: From clips to a video; None for each method's own.
        num_resamples: Bootstrap resamples, fewer where videos are many.
        seed: Of the draws.
    """

    threshold: float = 0.5
    policy: NoFacePolicy = "excluded"
    rule: Pooling | None = None
    num_resamples: int = NUM_RESAMPLES
    seed: int = 0


def result_rows(evaluation: Evaluation, options: ReportOptions) -> list[Row]:
    """Measure an evaluation: the whole, each method, data set and compression, and the pairs.

    Args:
        evaluation: Any.
        options: What is counted and how.

    Returns:
        One row a part: the evaluation's facts, `condition` in words, `part`, the figures of
        `set_figures`, the intervals `video_<figure>_low` to `_high` of AUC, AP, EER and balanced
        accuracy by `num_resamples` draws of `num_groups` identity groups, `num_real`, `num_fake`,
        `unscored` by status, `reason` where figures are NaN; of the whole also
        `deepfakebench_video_auc`.
    """
    pooled = evaluation if options.rule is None else evaluation.pooled(options.rule)
    rows = []
    facts = {**pooled.facts, "condition": pooled.condition}
    for part, wanted in _parts(pooled):
        chosen = pooled if part == WHOLE else pooled.select(wanted)
        row = {**facts, "part": part, **_measured(chosen, options, part == WHOLE)}
        if part == WHOLE:
            row["deepfakebench_video_auc"] = deepfakebench_video_auc(chosen)
        rows.append(row)
    return rows


def seed_rows(rows: Sequence[Row]) -> list[Row]:
    """Average runs that differ in nothing but their seed, on each set, condition and part.

    Args:
        rows: Of `result_rows`; of each run its first row of a part counts.

    Returns:
        experiment, set, condition, part, `recipe` where the experiment has several, `num_runs`,
        and for `SEED_FIGURES` `<figure>_mean` and `<figure>_sd` (of a sample; NaN for one run).
    """
    # Of one run one row: two of its checkpoints are no two seeds.
    groups: dict[tuple[str, ...], dict[tuple[str, int | None], Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in _SAME)
        groups.setdefault(key, {}).setdefault((row["run"], row["seed"]), row)
    recipes: dict[str, set[str]] = {}
    for row in rows:
        recipes.setdefault(row["experiment"], set()).add(row["recipe"])
    found = []
    for key, of_runs in groups.items():
        members = list(of_runs.values())
        averaged: Row = dict(zip(_SAME[:-2], key[:-2], strict=True))
        if len(recipes[key[0]]) > 1:
            averaged["recipe"] = key[-2]
        averaged["num_runs"] = len(members)
        for figure in SEED_FIGURES:
            values = [row[figure] for row in members if figure in row]
            if values:
                averaged[f"{figure}_mean"] = fmean(values)
                averaged[f"{figure}_sd"] = stdev(values) if len(values) > 1 else math.nan
        found.append(averaged)
    return found


def _parts(evaluation: Evaluation) -> Iterator[tuple[str, Bools]]:
    videos = evaluation.videos
    real = videos["label"].to_numpy() == 0
    yield WHOLE, np.ones(len(real), dtype=bool)
    for column in ("dataset", "compression"):
        values = _largest(videos[column])
        for value in values if len(values) > 1 else []:
            yield f"{column} {value or 'unknown'}", (videos[column] == value).to_numpy()
    methods = _largest(videos.filter(pl.col("label") == 1)["method"])
    for method in methods if len(methods) > 1 else []:
        fake = (videos["method"] == method).to_numpy() & ~real
        yield f"method {method or 'unknown'}", real | fake
    pairs = same_footage(evaluation)
    if pairs.any() and pairs.sum() < videos["score"].count():
        yield PAIRS, pairs


def _largest(column: pl.Series) -> list[str]:
    """Return the most frequent values in alphabetical order."""
    counts = column.value_counts(sort=True, name="count").head(MAX_PARTS)
    return sorted(counts[column.name])


def _measured(evaluation: Evaluation, options: ReportOptions, whole: bool) -> Row:
    videos = counted_videos(evaluation, options.policy)
    fakes = int(videos.label.sum())
    found = video_intervals(videos, options.threshold, options.num_resamples, options.seed)
    groups = len(np.unique(videos.group))
    reason = why_missing(videos.label) or found.reason
    lost = unscored(evaluation)
    return {
        **set_figures(evaluation, options.threshold, options.policy, whole=whole),
        **found.columns(),
        "num_resamples": found.num_resamples,
        "num_groups": groups,
        "num_real": len(videos.label) - fakes,
        "num_fake": fakes,
        "unscored": ", ".join(f"{count} {status}" for status, count in lost.items()),
        "reason": reason,
    }
