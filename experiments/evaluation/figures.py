"""The figures of an evaluation: frames, clips and videos, and why one of them does not exist."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl

from experiments.evaluation.ledgers import sigmoid
from lightning_modules.metrics import average_precision, roc_auc, roc_curve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.evaluation.ledgers import Evaluation
    from lightning_modules.dependence import Shared

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

NoFacePolicy = Literal["excluded", "real", "fake"]
"""What a video without a score counts as: nothing, or a video with score 0 (real) or 1 (fake)."""
POLICIES: tuple[NoFacePolicy, ...] = ("excluded", "real", "fake")

#: Allowed shares of accused reals for which the share of found fakes is told.
MAX_FPRS = (0.001, 0.01, 0.05)
#: Bins of equal width over 0..1 of the calibration error (Guo et al. 2017, arXiv 1706.04599: 15).
NUM_BINS = 15


class Videos(NamedTuple):
    """The videos that figures count, by a policy. V of them.

    Attributes:
        label: 0 real, 1 fake, shape (V,), int64.
        score: Probability of fake, shape (V,), float64.
        group: Number of the first identity, shape (V,), int64.
        shared: Whom they show; None where each shows one person.
    """

    label: Ints
    score: Floats
    group: Ints
    shared: Shared | None


def counted_videos(evaluation: Evaluation, policy: NoFacePolicy = "excluded") -> Videos:
    """Apply a policy to the videos without a score.

    Args:
        evaluation: Any.
        policy: What they count as.
    """
    score = with_policy(evaluation, policy).score
    kept = ~np.isnan(score)
    shared = evaluation.shared
    return Videos(
        *(evaluation.label[kept], score[kept], evaluation.group[kept]),
        None if shared is None else shared.of(kept),
    )


def with_policy(evaluation: Evaluation, policy: NoFacePolicy) -> Evaluation:
    """Give the videos without a score the one that a policy says; they stay without clips.

    Args:
        evaluation: Any.
        policy: What they count as.
    """
    if policy == "excluded":
        return evaluation
    filled = pl.col("score").fill_null(float(policy == "fake"))
    return replace(evaluation, videos=evaluation.videos.with_columns(filled))


def unscored(evaluation: Evaluation) -> dict[str, int]:
    """Count the videos without a score by their status.

    Args:
        evaluation: Any.
    """
    counts = evaluation.videos.filter(pl.col("score").is_null())["status"].value_counts(sort=True)
    return dict(counts.iter_rows())


def why_missing(label: Ints) -> str:
    """Say why the figures of a set are NaN; empty where they exist.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
    """
    fakes = int(np.count_nonzero(label))
    if not len(label):
        return "nothing has a score"
    if fakes == len(label):
        return "no real one has a score"
    return "" if fakes else "no fake one has a score"


def set_figures(
    evaluation: Evaluation,
    threshold: float = 0.5,
    policy: NoFacePolicy = "excluded",
    *,
    whole: bool = True,
) -> dict[str, float]:
    """Measure an evaluation on all its levels.

    Args:
        evaluation: Any.
        threshold: A score that reaches it is called fake.
        policy: What videos without a score count as. Clips and frames there are none of.
        whole: Measure all of clips and frames, and not their AUC alone.

    Returns:
        `video_<figure>` for the figures of `figures`, `clip_<figure>`, `frame_<figure>` where
        frames were scored, and `num_videos`, `num_clips`, `num_frames`, `num_unscored`.
    """
    videos = counted_videos(evaluation, policy)
    found = _named("video", figures(videos.label, videos.score, threshold))
    levels = {"clip": (evaluation.clip_video, evaluation.clip_logit)}
    if len(evaluation.frame_logit):
        levels["frame"] = (evaluation.frame_video, evaluation.frame_logit)
    found["num_videos"] = float(len(videos.label))
    for level, (video, logit) in levels.items():
        label = evaluation.label[video]
        # Ranked by logit: probabilities near 1 lose the order.
        if whole:
            found |= _named(level, figures(label, sigmoid(logit), threshold, rank=logit))
        else:
            found[f"{level}_auc"] = roc_auc(label, logit)
        found[f"num_{level}s"] = float(len(logit))
    return {**found, "num_unscored": float(evaluation.videos["score"].null_count())}


def figures(
    label: Ints, prob: Floats, threshold: float = 0.5, rank: Floats | None = None
) -> dict[str, float]:
    """Measure N scores.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        prob: Probability of fake, shape (N,), float64.
        threshold: What reaches it is called fake.
        rank: Scores of the same order as `prob`, finer than it, shape (N,), float64.

    Returns:
        auc, ap, eer, accuracy, balanced_accuracy, tpr_at_fpr_<share>, brier, ece and cllr; NaN
        where a class is absent, but for accuracy, brier and ece, which then exist: they are NaN
        where there is nothing at all.
    """
    # Sorted once: of millions of scores each further sorting costs seconds.
    order = np.argsort(prob if rank is None else rank, kind="stable")[::-1]
    label, prob, ranked = label[order], prob[order], (prob if rank is None else rank)[order]
    curve = roc_curve(label, ranked)
    found = {
        "auc": curve.area(),
        "ap": average_precision(label, ranked),
        "eer": curve.equal_error_rate(),
        "accuracy": accuracy(label, prob, threshold),
        "balanced_accuracy": balanced_accuracy(label, prob, threshold),
    }
    for share in MAX_FPRS:
        found[f"tpr_at_fpr_{share:g}"] = curve.tpr_at_fpr(share)
    return {
        **found,
        "brier": brier(label, prob),
        "ece": expected_calibration_error(label, prob),
        "cllr": cllr(label, prob),
    }


def accuracy(label: Ints, prob: Floats, threshold: float = 0.5) -> float:
    """Return the share of right calls, or NaN of nothing.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        prob: Probability of fake, shape (N,), float64.
        threshold: What reaches it is called fake.
    """
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(label, prob >= threshold)) if len(label) else math.nan


def balanced_accuracy(label: Ints, prob: Floats, threshold: float = 0.5) -> float:
    """Return the mean of the shares of right calls among reals and among fakes.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        prob: Probability of fake, shape (N,), float64.
        threshold: What reaches it is called fake.

    Returns:
        In 0..1, or NaN if a class is absent.
    """
    from sklearn.metrics import balanced_accuracy_score

    if why_missing(label):
        return math.nan
    return float(balanced_accuracy_score(label, prob >= threshold))


def brier(label: Ints, prob: Floats) -> float:
    """Return the mean squared distance of probability and label, or NaN of nothing.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        prob: Probability of fake, shape (N,), float64.
    """
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(label, prob)) if len(label) else math.nan


def expected_calibration_error(label: Ints, prob: Floats) -> float:
    """Return how far the probability of fake is from the share of fakes.

    `NUM_BINS` bins of equal width; a probability on an edge is in the upper bin, 1 in the last.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        prob: Probability of fake, shape (N,), float64.

    Returns:
        The mean over bins, weighted by their size, in 0..1, or NaN of nothing.
    """
    if not len(label):
        return math.nan
    place = np.minimum((prob * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    gap = np.bincount(place, weights=prob - label, minlength=NUM_BINS)
    return float(np.abs(gap).sum() / len(label))


def cllr(label: Ints, prob: Floats) -> float:
    """Return the cost of the log-likelihood ratios in bits (Brummer and du Preez 2006).

    Log-odds are taken as log-likelihood ratios: methods are trained with both classes alike. A
    detector that says nothing has 1. Probabilities are kept off 0 and 1 by the step of float64.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        prob: Probability of fake, shape (N,), float64.

    Returns:
        At least 0, or NaN if a class is absent.
    """
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    if why_missing(label):
        return math.nan
    weight = compute_sample_weight("balanced", label)
    return float(log_loss(label, prob, sample_weight=weight) / math.log(2))


def _named(level: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{level}_{name}": value for name, value in values.items()}
