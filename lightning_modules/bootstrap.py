"""How far figures may be off by the choice of videos: draws of whole groups of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightning_modules.dependence import (
    LEAST_VARIANCE,
    GroupVariance,
    auc_influence,
    widening,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lightning_modules.dependence import Shared

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Weights held at a time while resampling; 16 MB of float64 [ours].
_MAX_WEIGHTS = 2_000_000
#: Log-odds beyond which a share is 0 or 1 for all that matters; exp of it is finite [ours].
_MAX_ODDS = 300.0
#: Draws that differ by less differ by rounding [ours].
_NO_SPREAD = 1e-13
#: Figures of `resampled_figures`.
RESAMPLED = ("auc", "ap", "eer", "balanced_accuracy")


def bootstrap_interval(
    label: Ints,
    score: Floats,
    group: Ints | None = None,
    *,
    shared: Shared | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of the ROC AUC; see `spread_interval`.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.
        group: Videos with equal numbers are drawn together, shape (N,), int64; None draws videos.
        shared: Whom the videos show, where some show several people.
        num_resamples: How many times to draw.
        seed: Of the draws; the same seed gives the same interval.

    Returns:
        Lower and upper bound, NaN if a class is absent or in one group only.
    """
    (area,) = resampled_aucs(label, [score], group, num_resamples=num_resamples, seed=seed)
    if not len(area):
        return float("nan"), float("nan")
    value, influence = auc_influence(label, score)
    member = np.arange(len(label)) if group is None else group
    return spread_interval(value, area, Evidence.of(label, member, influence, shared))


class Evidence(NamedTuple):
    """How much stands behind a figure.

    Attributes:
        of_class: Identity groups that have a real video, and a fake one.
        freedom: Degrees of freedom of the standard error.
        stretch: How much larger the standard error is than that of the draws, because groups are
            few.
        widening: The same because groups share people.
    """

    of_class: tuple[int, int]
    freedom: float
    stretch: float
    widening: float

    @staticmethod
    def of(label: Ints, group: Ints, influence: Floats, shared: Shared | None = None) -> Evidence:
        """Measure it on the AUC, or a difference of AUCs.

        Args:
            label: 0 real, 1 fake, shape (N,), int64.
            group: Number of the first identity, shape (N,), int64.
            influence: What each video adds to the distance from the truth, shape (N,), float64.
            shared: Whom the videos show, where some show several people.
        """
        real, fake = (len(np.unique(group[label == side])) for side in (0, 1))
        if min(real, fake) < 2:
            return Evidence((real, fake), math.nan, math.nan, math.nan)
        found = GroupVariance.of(influence, label, group)
        number = len(np.unique(group))
        least = number / (number - 1)
        if not found.drawn > LEAST_VARIANCE:
            return Evidence((real, fake), number - 1, math.sqrt(least), 1.0)
        stretch = math.sqrt(max(least, found.corrected / found.drawn))
        wider = widening(influence, label, found.corrected, shared)
        return Evidence((real, fake), found.freedom, stretch, wider)

    def why_none(self) -> str:
        """Say why there is no interval; empty where there is one."""
        names = ("real", "fake")
        few = [name for name, count in zip(names, self.of_class, strict=True) if count < 2]
        return f"{' and '.join(few)} videos of one identity group only: no interval" if few else ""

    def reach(self, confidence: float = 0.95) -> float:
        """Return how many standard errors of the draws an interval reaches, by Student's t."""
        from scipy.stats import t

        quantile = float(t.isf((1 - confidence) / 2, self.freedom))
        return quantile * self.stretch * self.widening


def spread_interval(value: float, draws: Floats, evidence: Evidence) -> tuple[float, float]:
    """Return the 95 % interval of a share such as the AUC, by the spread of its draws.

    It lies around the figure's log-odds, with Student's quantile, so that it stays inside 0..1 and
    holds the truth about as often as it says even of 8 groups, where plain percentiles do not (how
    often: docs/evaluation.md). Where the draws have no spread, as those of a perfect ranking, it is
    Wilson's (1927) of as many trials as the harmonic mean of the classes' groups, doubled: the
    variance of an AUC near 1 and of a balanced accuracy [ours].

    Args:
        value: The figure, in 0..1.
        draws: Of it, shape (R,), float64; those that are not finite are left out, as where a
            resample missed a class.
        evidence: What was drawn.

    Returns:
        Lower and upper bound, NaN without two draws, or where a class is in one group only.
    """
    known = draws[np.isfinite(draws)]
    reach = evidence.reach()
    if len(known) < 2 or not np.isfinite([value, reach]).all():
        return float("nan"), float("nan")
    error = float(known.std(ddof=1))
    if not 0 < value < 1 or np.ptp(known) < _NO_SPREAD:
        return _wilson(value, 4 / sum(1 / count for count in evidence.of_class), reach)
    odds = np.log(value / (1 - value))
    half = min(reach * error / (value * (1 - value)), _MAX_ODDS)
    low, high = 1 / (1 + np.exp(-(odds - half))), 1 / (1 + np.exp(-(odds + half)))
    return float(low), float(high)


def _wilson(value: float, trials: float, reach: float) -> tuple[float, float]:
    middle = (value + reach**2 / (2 * trials)) / (1 + reach**2 / trials)
    inside = value * (1 - value) / trials + reach**2 / (4 * trials**2)
    half = reach * np.sqrt(inside) / (1 + reach**2 / trials)
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Return the middle part of resampled values.

    Args:
        values: Shape (R,), float64; those that are not finite are left out, as where a resample
            missed a class.
        confidence: Share inside the interval.

    Returns:
        Lower and upper bound, NaN if nothing is left.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def resampled_aucs(
    label: Ints,
    scores: list[Floats],
    group: Ints | None = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Floats]:
    """Measure several scores of the same videos on the same resamples.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        scores: Each of shape (N,), float64.
        group: Videos with equal numbers are drawn together, shape (N,), int64; None draws videos.
        num_resamples: How many times to draw (R).
        seed: Of the draws.

    Returns:
        For each score the AUC of each resample, shape (R,), NaN where a class was not drawn; shape
        (0,) if a class is absent altogether or there is one group only.
    """
    member = _members(label, group)
    if member is None:
        return [np.zeros(0) for _ in scores]
    rankings = [_Ranking(label, score) for score in scores]
    areas: list[list[Floats]] = [[] for _ in scores]
    for times in _draws(member, num_resamples, seed):
        for ranking, found in zip(rankings, areas, strict=True):
            found.append(ranking.curve(times).area())
    return [np.concatenate(found) for found in areas]


def resampled_figures(
    label: Ints,
    score: Floats,
    group: Ints | None = None,
    *,
    threshold: float = 0.5,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Floats]:
    """Measure AUC, AP, EER and balanced accuracy on the resamples of `resampled_aucs`.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.
        group: Videos with equal numbers are drawn together, shape (N,), int64; None draws videos.
        threshold: A score that reaches it is called fake.
        num_resamples: How many times to draw (R).
        seed: Of the draws.

    Returns:
        `auc`, `ap`, `eer` and `balanced_accuracy` of each resample, shape (R,), NaN where a class
        was not drawn; shape (0,) if a class is absent altogether or there is one group only.
    """
    member = _members(label, group)
    if member is None:
        return {name: np.zeros(0) for name in RESAMPLED}
    ranking = _Ranking(label, score)
    called = ranking.num_called(threshold)
    parts = [ranking.curve(w).figures(called) for w in _draws(member, num_resamples, seed)]
    return {name: np.concatenate([found[name] for found in parts]) for name in RESAMPLED}


def drawn_figures(label: Ints, score: Floats, threshold: float = 0.5) -> dict[str, float]:
    """Measure the figures of `resampled_figures` on each video once.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.
        threshold: A score that reaches it is called fake.
    """
    if len(np.unique(label)) < 2:
        return dict.fromkeys(RESAMPLED, float("nan"))
    ranking = _Ranking(label, score)
    found = ranking.curve(np.ones((1, len(label)), np.int64))
    values = found.figures(ranking.num_called(threshold))
    return {name: float(values[name][0]) for name in RESAMPLED}


def _members(label: Ints, group: Ints | None) -> Ints | None:
    """Number the groups from 0; None where there is nothing to draw from."""
    member = np.arange(len(label)) if group is None else np.unique(group, return_inverse=True)[1]
    if int(member.max(initial=-1)) < 1 or len(np.unique(label)) < 2:
        return None
    return member


def _draws(member: Ints, num_resamples: int, seed: int) -> Iterator[Ints]:
    """Yield how often each video is drawn, shape (r, N); the groups' draws are one stream."""
    num_groups = int(member.max()) + 1
    generator = np.random.default_rng(seed)
    chunk = max(1, _MAX_WEIGHTS // len(member))
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        drawn = generator.integers(num_groups, size=(size, num_groups))
        drawn += num_groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        yield times[:, member]


class _Ranking:
    """N videos sorted from the highest score to the lowest once, to be weighted many times."""

    def __init__(self, label: Ints, score: Floats) -> None:
        self._order = np.argsort(score, kind="stable")[::-1]
        ordered = score[self._order]
        self._fake = label[self._order] == 1
        # Ends of runs of ties: a threshold lies between runs.
        self._ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
        self._levels = ordered[self._ends]

    def num_called(self, threshold: float) -> int:
        """Count the runs whose score reaches a threshold."""
        return int(np.count_nonzero(self._levels >= threshold))

    def curve(self, weight: Ints) -> _Curves:
        """Weight the videos R times, weight (R, N) int64."""
        drawn = weight[:, self._order]
        shape = (len(weight), len(self._ends) + 1)
        found, accused = np.zeros(shape), np.zeros(shape)
        found[:, 1:] = np.cumsum(drawn * self._fake, axis=1)[:, self._ends]
        accused[:, 1:] = np.cumsum(drawn, axis=1)[:, self._ends] - found[:, 1:]
        return _Curves(found, accused)


class _Curves(NamedTuple):
    """R weightings of the same videos, as the threshold falls past P - 1 scores from infinity.

    Attributes:
        found: Fakes that reach it, shape (R, P), float64 of whole numbers.
        accused: Reals that do.

    Figures have shape (R,) and are NaN where a class was not drawn.
    """

    found: Floats
    accused: Floats

    def figures(self, num_called: int) -> dict[str, Floats]:
        """Measure all of `RESAMPLED`, where so many scores are called fake."""
        return {
            "auc": self.area(),
            "ap": self.average_precision(),
            "eer": self.equal_error_rate(),
            "balanced_accuracy": self.balanced_accuracy(num_called),
        }

    def area(self) -> Floats:
        """Measure the area under the ROC curve; whole numbers until the end, so without error."""
        twice = np.einsum(
            "rp,rp->r", np.diff(self.accused, axis=1), self.found[:, 1:] + self.found[:, :-1]
        )
        return _share(twice, 2 * self.found[:, -1] * self.accused[:, -1])

    def average_precision(self) -> Floats:
        """Average the precision over the fakes."""
        # Before anything is drawn nothing is found, either.
        called = np.maximum(self.found[:, 1:] + self.accused[:, 1:], 1)
        gained = np.einsum("rp,rp->r", np.diff(self.found, axis=1), self.found[:, 1:] / called)
        mean = _share(gained, self.found[:, -1])
        return np.where(self.accused[:, -1] > 0, mean, np.nan)

    def equal_error_rate(self) -> Floats:
        """Find where as many reals are accused as fakes are missed, interpolated."""
        fakes, reals = self.found[:, -1:], self.accused[:, -1:]
        # Misses less false alarms, times both classes: whole numbers that fall past 0.
        gap = (fakes - self.found) * reals - self.accused * fakes
        row = np.arange(len(gap))
        after = np.maximum(np.argmax(gap <= 0, axis=1), 1)
        before = after - 1
        part = _share(gap[row, before], gap[row, before] - gap[row, after])
        low, high = (_share(self.accused[row, at], reals[:, 0]) for at in (before, after))
        return low + part * (high - low)

    def balanced_accuracy(self, num_called: int) -> Floats:
        """Average the shares of right calls, where so many scores are called fake."""
        hits = _share(self.found[:, num_called], self.found[:, -1])
        alarms = _share(self.accused[:, num_called], self.accused[:, -1])
        return (hits + 1 - alarms) / 2


def _share(part: Floats, whole: Floats) -> Floats:
    """Divide; NaN by nothing."""
    found: Floats = np.full(len(part), np.nan)
    return np.divide(part, whole, out=found, where=whole > 0)
