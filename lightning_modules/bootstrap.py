"""How far figures may be off by the choice of videos: draws of whole groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Weights held at a time while resampling; 16 MB of float64 [ours].
_MAX_WEIGHTS = 2_000_000
#: Figures of `resampled_figures`.
RESAMPLED = ("auc", "ap", "eer", "balanced_accuracy")


def bootstrap_interval(
    label: Ints,
    score: Floats,
    group: Ints | None = None,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the ROC AUC.

    Whole groups are drawn, because videos of the same footage are not independent. Without a
    single error there is nothing to resample: the interval of a perfect score has no width.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.
        group: Videos with equal numbers are drawn together, shape (N,), int64; None draws videos.
        num_resamples: How many times to draw.
        confidence: Share of the resamples inside the interval.
        seed: Of the draws; the same seed gives the same interval.

    Returns:
        Lower and upper bound, NaN if a class is absent or there is one group only.
    """
    (area,) = resampled_aucs(label, [score], group, num_resamples=num_resamples, seed=seed)
    return interval(area, confidence)


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
    parts: dict[str, list[Floats]] = {name: [] for name in RESAMPLED}
    for times in _draws(member, num_resamples, seed):
        curve = ranking.curve(times)
        parts["auc"].append(curve.area())
        parts["ap"].append(curve.average_precision())
        parts["eer"].append(curve.equal_error_rate())
        parts["balanced_accuracy"].append(curve.balanced_accuracy(called))
    return {name: np.concatenate(found) for name, found in parts.items()}


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
