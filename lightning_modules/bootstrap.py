"""How far a ROC AUC may be off by the choice of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
    member = np.arange(len(label)) if group is None else np.unique(group, return_inverse=True)[1]
    num_groups = int(member.max(initial=-1)) + 1
    if num_groups < 2 or len(np.unique(label)) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    chunk = max(1, _MAX_WEIGHTS // len(label))
    areas = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        drawn = generator.integers(num_groups, size=(size, num_groups))
        drawn += num_groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        areas.append(_weighted_auc(label, score, times[:, member]))
    area = np.concatenate(areas)
    area = area[np.isfinite(area)]  # a resample may miss a class
    if not len(area):
        return float("nan"), float("nan")
    low, high = np.quantile(area, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _weighted_auc(label: Ints, score: Floats, weight: Ints) -> Floats:
    """Return the AUC of R weightings of N videos; weight (R, N) int64, result (R,) float64."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of each run of ties
    fake = label[order] == 1
    fakes = np.add.reduceat(weight[:, order] * fake, starts, axis=1).astype(np.float64)
    reals = np.add.reduceat(weight[:, order] * ~fake, starts, axis=1).astype(np.float64)
    below = np.cumsum(reals, axis=1) - reals
    with np.errstate(invalid="ignore"):  # 0 / 0 where a class was not drawn
        area: Floats = (fakes * (below + reals / 2)).sum(axis=1) / (
            fakes.sum(axis=1) * reals.sum(axis=1)
        )
    return area
