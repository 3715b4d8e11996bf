"""Two runs on the same videos: is the difference more than the choice of videos?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from callbacks.ledger import LedgerError
from experiments.evaluation.intervals import NUM_RESAMPLES, resamples_for
from experiments.evaluation.ledgers import shared_by
from lightning_modules.bootstrap import Evidence, interval, resampled_aucs
from lightning_modules.dependence import LEAST_VARIANCE, auc_influence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.evaluation.ledgers import Evaluation

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


class DeLong(NamedTuple):
    """AUCs of K scores of the same videos.

    Attributes:
        auc: Shape (K,), float64.
        covariance: Of the AUCs, shape (K, K), float64.
    """

    auc: Floats
    covariance: Floats


class Comparison(NamedTuple):
    """The video AUC of one run less that of another, on the videos that both scored.

    Attributes:
        difference: First less second.
        low: Lower bound of its 95 % interval, from the paired bootstrap of identity groups, widened
            for their number and for the people that they share; NaN where a class is in one group.
        high: Upper bound.
        p_bootstrap: Two-sided, from the same resamples; not below 1 / (resamples + 1).
        p_delong: Two-sided, by DeLong's test for identity groups (Obuchowski 1997), of the same
            width; NaN with one.
        num_videos: Videos compared.
        num_groups: Identity groups they are of.
        num_left_out: Videos that only one of the runs scored.
        reason: Why there is no figure; empty where there is.
    """

    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_delong: float
    num_videos: int
    num_groups: int
    num_left_out: int
    reason: str


def compare(
    first: Evaluation, second: Evaluation, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare the video AUC of two runs on the same videos.

    Args:
        first: A run on a set.
        second: Another run on the same videos.
        num_resamples: Bootstrap resamples, fewer where videos are very many.
        seed: Of the draws.

    Raises:
        LedgerError: If the runs share no video, or disagree about a label or a file.
    """
    both = _common(first, second)
    label, group = both["label"].to_numpy().astype(np.int64), both["group"].rank("dense").to_numpy()
    scores = [both[name].to_numpy() for name in ("score", "score_right")]
    counted = [int(one.videos["score"].count()) for one in (first, second)]
    counts = (len(both), both["group"].n_unique(), sum(counted) - 2 * len(both))
    if len(np.unique(label)) < 2:
        nan = math.nan
        return Comparison(nan, nan, nan, nan, nan, *counts, "a class has no video scored by both")
    exact = delong(label, np.stack(scores), group)
    gap = float(exact.auc[0] - exact.auc[1])
    shared = shared_by(both["identities"])
    first_parts, second_parts = (auc_influence(label, score)[1] for score in scores)
    evidence = Evidence.of(label, group, first_parts - second_parts, shared)
    if reason := evidence.why_none():
        return Comparison(gap, math.nan, math.nan, math.nan, math.nan, *counts, reason)
    count = resamples_for(len(label), num_resamples)
    areas = resampled_aucs(label, scores, group, num_resamples=count, seed=seed)
    # Moved away from the difference, and not looked up further out: beyond the last draw is none.
    gaps = gap + evidence.stretch * evidence.widening * (areas[0] - areas[1] - gap)
    low, high = np.clip(interval(gaps, _expanded(0.95, evidence.freedom)), -1, 1).tolist()
    wider = exact._replace(covariance=exact.covariance * evidence.widening**2)
    p_bootstrap = two_sided(gaps, evidence.freedom)
    return Comparison(gap, low, high, p_bootstrap, delong_p(wider), *counts, "")


def two_sided(gaps: Floats, freedom: float) -> float:
    """Return how often resampled differences lie beyond zero, on the rarer side, doubled.

    How far draws of few groups spread is itself uncertain: the share's normal quantile is
    therefore taken as one of Student's distribution (expanded percentiles: Hesterberg 2015, The
    American Statistician 69, section 4).

    Args:
        gaps: Shape (R,), float64; those that are not finite are left out.
        freedom: Degrees of freedom of their standard error.

    Returns:
        In (0, 1], with one added above and below so that it is never 0; NaN of nothing.
    """
    from scipy.stats import norm, t

    known = gaps[np.isfinite(gaps)]
    if not len(known):
        return math.nan
    rarer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    share = min(1.0, 2 * (rarer + 1) / (len(known) + 1))
    return float(2 * t.sf(norm.isf(share / 2), freedom))


def _expanded(confidence: float, freedom: float) -> float:
    """Return the share of the draws that an interval of that confidence must hold."""
    from scipy.stats import norm, t

    return float(1 - 2 * norm.sf(t.isf((1 - confidence) / 2, freedom)))


def delong(label: Ints, scores: Floats, group: Ints | None = None) -> DeLong:
    """Estimate AUCs and their covariance (DeLong et al. 1988), by midranks.

    Videos of one group may depend on each other: their shares of beaten videos are summed before
    they are compared (Obuchowski, Biometrics 53, 1997, section 2), which for groups of one video
    is DeLong's estimate.

    Args:
        label: 0 real, 1 fake, both present, shape (N,), int64.
        scores: K scores of the same N videos, shape (K, N), float64.
        group: Videos with equal numbers are one group, shape (N,), int64; None takes all videos as
            independent.

    Returns:
        The covariance is NaN where a class is in one group only.
    """
    fake = label == 1
    measured = [auc_influence(label, score) for score in scores]
    auc = np.array([value for value, _ in measured])
    parts = np.stack([influence for _, influence in measured])
    member = np.arange(len(label)) if group is None else np.unique(group, return_inverse=True)[1]
    fakes, reals = _Side.of(parts, member, fake), _Side.of(parts, member, ~fake)
    num_groups = int(member.max()) + 1
    if min(fakes.num_groups, reals.num_groups) < 2:
        return DeLong(auc, np.full((len(scores), len(scores)), np.nan))
    between = num_groups / (num_groups - 1) * fakes.sums @ reals.sums.T
    covariance = fakes.covariance() + reals.covariance() + between + between.T
    return DeLong(auc, covariance)


def delong_p(found: DeLong) -> float:
    """Return the two-sided p-value of two equal AUCs.

    Args:
        found: Of two scores.

    Returns:
        In 0..1; 1 for scores that rank alike; NaN where there is a difference without a variance.
    """
    gap = float(found.auc[0] - found.auc[1])
    spread = found.covariance
    variance = float(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])
    if gap == 0:
        return 1.0
    if not variance > LEAST_VARIANCE:
        return math.nan
    return math.erfc(abs(gap) / math.sqrt(2 * variance))


class _Side(NamedTuple):
    """What the videos of one class add to the distance of AUCs from the truth, by group.

    Attributes:
        sums: Summed in each group, (K, G).
        num_groups: Groups that have any.
    """

    sums: Floats
    num_groups: int

    @staticmethod
    def of(parts: Floats, member: Ints, wanted: NDArray[np.bool_]) -> _Side:
        """Sum the parts (K, N) of the wanted ones of N videos, member (N,)."""
        size = int(member.max()) + 1
        sums = np.array([np.bincount(member, part * wanted, size) for part in parts], np.float64)
        return _Side(sums, len(np.unique(member[wanted])))

    def covariance(self) -> Floats:
        """Estimate what this class adds to the covariance, (K, K)."""
        found: Floats = self.num_groups / (self.num_groups - 1) * self.sums @ self.sums.T
        return found


def _common(first: Evaluation, second: Evaluation) -> pl.DataFrame:
    wanted = ["video_id", "label", "group", "identities", "sha256", "score"]
    one, two = (e.videos.select(wanted).drop_nulls("score") for e in (first, second))
    both = one.join(two, on="video_id", how="inner", maintain_order="left")
    names = f"{first.name} and {second.name}"
    if not len(both):
        raise LedgerError(f"{names} share no scored video; compare runs on one set")
    # A ledger of an older version knows the first identity alone.
    more = pl.col("identities_right").list.len() > pl.col("identities").list.len()
    known = pl.when(more).then("identities_right").otherwise("identities")
    both = both.with_columns(identities=known)
    differ = both.filter(
        (pl.col("label") != pl.col("label_right"))
        | (pl.col("sha256") != pl.col("sha256_right"))
        & (pl.col("sha256") != "")
        & (pl.col("sha256_right") != "")
    )
    if len(differ):
        raise LedgerError(
            f"{names} mean different videos by {differ['video_id'][0]} (label or file); "
            "evaluate both on one manifest"
        )
    return both
