"""How far the ROC AUC may be off by the choice of videos: draws of whole groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Weights held at a time while resampling; 16 MB of float64 [ours].
_MAX_WEIGHTS = 2_000_000


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
    member = np.arange(len(label)) if group is None else np.unique(group, return_inverse=True)[1]
    if int(member.max(initial=-1)) < 1 or len(np.unique(label)) < 2:
        return [np.zeros(0) for _ in scores]
    rankings = [_Ranking(label, score) for score in scores]
    areas: list[list[Floats]] = [[] for _ in scores]
    for times in _draws(member, num_resamples, seed):
        for ranking, found in zip(rankings, areas, strict=True):
            found.append(ranking.auc(times))
    return [np.concatenate(found) for found in areas]


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
    """N videos sorted by score once, to be weighted many times."""

    def __init__(self, label: Ints, score: Floats) -> None:
        order = np.argsort(score, kind="stable")
        ordered, fake = score[order], label[order] == 1
        fresh = np.r_[True, ordered[1:] != ordered[:-1]]  # starts a run of ties
        self._fakes, self._reals = order[fake], order[~fake]
        run = np.cumsum(fresh)
        # Reals below each fake, and up to it: those in between are ties.
        self._under = np.searchsorted(run[~fake], run[fake], side="left")
        self._upto = np.searchsorted(run[~fake], run[fake], side="right")

    def auc(self, weight: Ints) -> Floats:
        """Return the AUC of R weightings; weight (R, N) int64, result (R,) float64."""
        reals = np.cumsum(weight[:, self._reals], axis=1, dtype=np.float64)
        below = np.concatenate([np.zeros((len(weight), 1)), reals], axis=1)
        won = (below[:, self._under] + below[:, self._upto]) / 2
        fakes = weight[:, self._fakes]
        with np.errstate(invalid="ignore"):  # 0 / 0 where a class was not drawn
            area: Floats = (fakes * won).sum(axis=1) / (fakes.sum(axis=1) * below[:, -1])
        return area
