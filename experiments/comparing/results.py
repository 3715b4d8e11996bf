"""The figures behind every table of a comparison; all from ledgers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from callbacks.ledger import LedgerError
from experiments.comparing.differences import told_apart
from experiments.evaluation.comparison import Comparison, compare
from experiments.evaluation.figures import counted_videos, set_figures, unscored
from experiments.evaluation.intervals import NUM_RESAMPLES, video_intervals
from experiments.evaluation.results import MAX_PARTS
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from experiments.comparing.runs import Run
    from experiments.evaluation.ledgers import Evaluation

#: Level below which a difference is marked.
SIGNIFICANT = 0.05
#: Figures of the long table, in its order.
FIGURES = (
    *("video_auc", "clip_auc", "frame_auc", "video_ap", "video_eer", "video_balanced_accuracy"),
    *("video_tpr_at_fpr_0.01", "video_tpr_at_fpr_0.05", "video_brier", "video_ece", "video_cllr"),
)


@dataclass(frozen=True)
class Cell:
    """A run on a set.

    Attributes:
        evaluation: Its videos and clips.
        figures: By name, as `set_figures` has them.
        bounds: 95 % intervals of the videos' `auc`, `ap`, `eer` and `balanced_accuracy`.
        unscored: Videos without a score, by status.
        versus: Against the reference run on the same videos; None for the reference itself and
            where there is nothing to compare.
        p_value: Of `versus`, paired bootstrap, corrected for the number of runs compared with the
            reference on this set (Holm); NaN without.
    """

    evaluation: Evaluation
    figures: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    unscored: dict[str, int]
    versus: Comparison | None
    p_value: float

    @property
    def auc(self) -> float:
        """Video AUC."""
        return self.figures["video_auc"]

    @property
    def low(self) -> float:
        """Lower bound of the 95 % interval of the video AUC."""
        return self.bounds["auc"][0]

    @property
    def high(self) -> float:
        """Upper bound of it."""
        return self.bounds["auc"][1]

    @property
    def mark(self) -> str:
        """An arrow up or down where the run differs from the reference, else nothing."""
        if self.versus is None or not self.p_value < SIGNIFICANT:
            return ""
        return "▲" if self.versus.difference > 0 else "▼"


@dataclass(frozen=True)
class SetResults:
    """All runs on a set.

    Attributes:
        name: Of the set.
        cells: By name of the run; of those that were tested on it.
        notes: What a reader must know.
    """

    name: str
    cells: dict[str, Cell]
    notes: tuple[str, ...]


class Seeds(NamedTuple):
    """Runs of one experiment and equal settings on one set.

    Attributes:
        experiment: Their experiment.
        settings: What tells them from others of the experiment; empty where there are none.
        set_name: The set.
        num_seeds: How many.
        mean: Of their video AUCs.
        deviation: Standard deviation of them, with n - 1.
    """

    experiment: str
    settings: str
    set_name: str
    num_seeds: int
    mean: float
    deviation: float


class Hard(NamedTuple):
    """A video that the runs call wrong.

    Attributes:
        set_name: Its set.
        video: Its row of an evaluation's videos.
        scores: By name of the run.
        error: Mean distance of score and label.
    """

    set_name: str
    video: dict[str, object]
    scores: dict[str, float]
    error: float


def measure(runs: Sequence[Run], num_resamples: int = NUM_RESAMPLES) -> list[SetResults]:
    """Measure all runs on all sets; the first run is the reference.

    Args:
        runs: At least one.
        num_resamples: Bootstrap resamples.

    Returns:
        One for each set, in the order of their first appearance.
    """
    names = dict.fromkeys(name for run in runs for name in run.evaluations)
    return [
        _set_results(name, {r.name: r.evaluations[name] for r in runs if name in r.evaluations},
                     runs[0].name, num_resamples)
        for name in names
    ]  # fmt: skip


def seed_spread(runs: Sequence[Run], results: Sequence[SetResults]) -> list[Seeds]:
    """Summarise runs that differ in nothing but their seed.

    Args:
        runs: All of them.
        results: Their figures.

    Returns:
        One for each experiment, settings and set with at least two seeds.
    """
    settings = _settings(runs)
    found = []
    for result in results:
        groups: dict[tuple[str, str], dict[int | None, float]] = {}
        for run in runs:
            if run.name in result.cells:
                key = (run.experiment, run.recipe)
                groups.setdefault(key, {})[run.seed] = result.cells[run.name].auc
        found += [
            Seeds(key[0], settings[key], result.name, len(of), float(np.mean(list(of.values()))),
                  float(np.std(list(of.values()), ddof=1)))
            for key, of in groups.items()
            if len(of) > 1
        ]  # fmt: skip
    return found


def _settings(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """Say what is special about each experiment and recipe, by the first run of it."""
    first = {(run.experiment, run.recipe): run for run in reversed(runs)}
    told: dict[tuple[str, str], str] = {}
    for experiment in {run.experiment for run in runs}:
        keys = [key for key in first if key[0] == experiment]
        told |= dict(zip(keys, told_apart([first[key] for key in keys]), strict=True))
    return told


def by_method(results: Sequence[SetResults]) -> dict[tuple[str, str, int], dict[str, float]]:
    """Measure the fakes of each method against all reals of their set.

    Args:
        results: Of all sets.

    Returns:
        Video AUC by run; by set, method and number of its fakes; of each set the `MAX_PARTS`
        largest methods.
    """
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    for result in results:
        for run, cell in result.cells.items():
            videos = cell.evaluation.videos
            fakes = videos.filter(pl.col("label") == 1)["method"].value_counts(sort=True)
            methods = sorted(fakes["method"].head(MAX_PARTS))
            for method in methods:
                wanted = (videos["method"] == method) | (videos["label"] == 0)
                kept = counted_videos(cell.evaluation.select(wanted.to_numpy()))
                count = int((videos["method"] == method).sum())
                row = found.setdefault((result.name, method or "unknown", count), {})
                row[run] = roc_auc(kept.label, kept.score)
    return found


def hardest(results: Sequence[SetResults], count: int = 8) -> list[Hard]:
    """Find the videos that the runs call wrong most.

    Args:
        results: Of all sets.
        count: How many of each set.

    Returns:
        Those that every run of the set scored and that on average are on the wrong side, worst
        first.
    """
    found = []
    for result in results:
        cells = result.cells
        # Columns of our own: a run may have the name of one of the table, or of a pattern.
        columns = {run: f"score {place}" for place, run in enumerate(cells)}
        table = next(iter(cells.values())).evaluation.videos.drop("score")
        for run, cell in cells.items():
            scored = cell.evaluation.videos.drop_nulls("score")
            part = scored.select("video_id", pl.col("score").alias(columns[run]))
            table = table.join(part, on="video_id", how="inner")
        error = (pl.mean_horizontal(*columns.values()) - pl.col("label")).abs()
        worst = table.with_columns(error=error).filter(pl.col("error") > 0.5)
        for row in worst.sort("error", descending=True).head(count).to_dicts():
            scores = {run: row[column] for run, column in columns.items()}
            found.append(Hard(result.name, row, scores, row["error"]))
    return found


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number (Holm 1979).

    Args:
        p_values: By name; those that are NaN are no tests.

    Returns:
        The corrected ones, at most 1.
    """
    known = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    corrected, highest = dict(p_values), 0.0
    for place, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - place)))
        corrected[name] = highest
    return corrected


def _set_results(
    name: str, evaluations: Mapping[str, Evaluation], reference: str, num_resamples: int
) -> SetResults:
    notes: list[str] = []
    versus: dict[str, Comparison] = {}
    for run, evaluation in evaluations.items():
        if run == reference or reference not in evaluations:
            continue
        try:
            versus[run] = compare(evaluation, evaluations[reference], num_resamples)
        except LedgerError as error:
            notes.append(str(error))
    corrected = holm({run: found.p_bootstrap for run, found in versus.items()})
    cells = {}
    for run, evaluation in evaluations.items():
        videos = counted_videos(evaluation)
        found = video_intervals(videos, num_resamples=num_resamples)
        cells[run] = Cell(
            evaluation, set_figures(evaluation), found.bounds, unscored(evaluation),
            versus.get(run), corrected.get(run, math.nan),
        )  # fmt: skip
        if run in versus and versus[run].num_left_out:
            left = versus[run].num_left_out
            notes.append(f"{run} and {reference}: {left} videos were scored by one of them only")
        if run in versus and versus[run].reason:
            notes.append(f"{run} and {reference}: {versus[run].reason}")
    return SetResults(name, cells, tuple(notes))
