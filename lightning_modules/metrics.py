"""How well frames, clips and videos are told apart: pure functions of NumPy arrays.

Training and the programs that read ledgers use the same ones; no torch is imported. Label 1 is
fake; a higher score means more fake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lightning_modules.pooling import MEAN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lightning_modules.pooling import Pooling

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


class ClipTable(NamedTuple):
    """Scores of N different clips, ascending by key.

    Attributes:
        video_index: Row of the manifest, shape (N,), int64.
        clip_index: Position inside the video, shape (N,), int64.
        label: 0 real, 1 fake, shape (N,), int64.
        logit: Log-odds of fake, shape (N,), float64.
        frame_logit: The same of their frames, shape (N, T), float64; T is 0 where clips are scored
            as wholes.
    """

    video_index: Ints
    clip_index: Ints
    label: Ints
    logit: Floats
    frame_logit: Floats


class VideoTable(NamedTuple):
    """Scores of V different videos, ascending by index.

    Attributes:
        video_index: Row of the manifest, shape (V,), int64.
        label: 0 real, 1 fake, shape (V,), int64.
        score: Probability of fake, pooled over the clips, shape (V,), float64.
        num_clips: Clips that were pooled, shape (V,), int64.
    """

    video_index: Ints
    label: Ints
    score: Floats
    num_clips: Ints


class RocCurve(NamedTuple):
    """The share of reals accused and of fakes found, as the threshold falls past each score.

    Attributes:
        fpr: False-positive rate, ascending from 0 to 1, shape (P,), float64; no points where a
            class is absent.
        tpr: True-positive rate, likewise.
    """

    fpr: Floats
    tpr: Floats

    def area(self) -> float:
        """Return the area under it, or NaN without points."""
        from sklearn.metrics import auc

        return float(auc(self.fpr, self.tpr)) if len(self.fpr) else float("nan")

    def equal_error_rate(self) -> float:
        """Return the rate at the crossing, see the function of that name; NaN without points."""
        if not len(self.fpr):
            return float("nan")
        gap = 1 - self.tpr - self.fpr  # misses minus false alarms, falls from 1 to -1
        after = int(np.argmax(gap <= 0))
        before = after - 1
        share = gap[before] / (gap[before] - gap[after])
        return float(self.fpr[before] + share * (self.fpr[after] - self.fpr[before]))

    def tpr_at_fpr(self, max_fpr: float) -> float:
        """Return the highest true-positive rate allowed, or NaN without points.

        Args:
            max_fpr: Largest false-positive rate allowed, in 0..1.
        """
        if not len(self.fpr):
            return float("nan")
        return float(self.tpr[self.fpr <= max_fpr].max())


def roc_curve(label: Ints, score: Floats) -> RocCurve:
    """Measure all thresholds at once.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.
    """
    from sklearn import metrics

    if not _both_classes(label):
        return RocCurve(np.zeros(0), np.zeros(0))
    fpr, tpr, _ = metrics.roc_curve(label, score, drop_intermediate=False)
    return RocCurve(fpr, tpr)


def merge_clips(
    logit: Floats, label: Ints, key: Ints, frame_logit: Floats | None = None
) -> ClipTable:
    """Sort clips by key and keep the first of equal ones.

    A distributed sampler pads the last batch with copies; after gathering they would count twice.

    Args:
        logit: Log-odds of fake, shape (N,), float64.
        label: 0 real, 1 fake, shape (N,), int64.
        key: video_index and clip_index, shape (N, 2), int64.
        frame_logit: Log-odds of the clips' frames, shape (N, T), float64, or None.

    Returns:
        One row for each different key.
    """
    order = np.lexsort((key[:, 1], key[:, 0]))  # stable: the first of equal keys stays first
    key = key[order]
    fresh = np.ones(len(key), dtype=bool)
    fresh[1:] = (key[1:] != key[:-1]).any(axis=1)
    kept = order[fresh]
    frames = np.zeros((len(logit), 0)) if frame_logit is None else frame_logit
    return ClipTable(key[fresh, 0], key[fresh, 1], label[kept], logit[kept], frames[kept])


def video_table(clips: ClipTable, pooling: Pooling = MEAN) -> VideoTable:
    """Pool the probabilities of each video's clips.

    Args:
        clips: Different clips.
        pooling: By which rule.

    Returns:
        One row for each video that has a clip.

    Raises:
        ValueError: If clips of one video disagree about its label.
    """
    video, start, count = np.unique(clips.video_index, return_index=True, return_counts=True)
    fakes = np.add.reduceat(clips.label, start) if len(start) else clips.label
    mixed = video[(fakes != 0) & (fakes != count)]
    if len(mixed):
        raise ValueError(f"clips of video {mixed[0]} carry both labels; keys must name one video")
    with np.errstate(over="ignore"):  # exp(-logit) may be infinite: the probability is then 0
        prob = 1 / (1 + np.exp(-clips.logit))
    score = pooling.of_groups(prob, start)
    return VideoTable(video, (fakes > 0).astype(np.int64), score, count.astype(np.int64))


def roc_auc(label: Ints, score: Floats) -> float:
    """Return the area under the ROC curve; ties count half.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.

    Returns:
        Area in 0..1, or NaN if a class is absent.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, score)) if _both_classes(label) else float("nan")


def average_precision(label: Ints, score: Floats) -> float:
    """Return the average precision of finding fakes.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.

    Returns:
        Average precision in 0..1, or NaN if a class is absent.
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(label, score)) if _both_classes(label) else float("nan")


def equal_error_rate(label: Ints, score: Floats) -> float:
    """Return the error rate where as many reals are accused as fakes are missed.

    The crossing is interpolated along the ROC curve, so that it does not depend on which of two
    neighbouring thresholds is nearer; DeepfakeBench takes the nearer one.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.

    Returns:
        Rate in 0..1, or NaN if a class is absent.
    """
    return roc_curve(label, score).equal_error_rate()


def tpr_at_fpr(label: Ints, score: Floats, max_fpr: float) -> float:
    """Return the share of fakes found when at most a given share of reals is accused.

    Args:
        label: 0 real, 1 fake, shape (N,), int64.
        score: Shape (N,), float64.
        max_fpr: Largest false-positive rate allowed, in 0..1.

    Returns:
        True-positive rate in 0..1 at the best threshold, or NaN if a class is absent.
    """
    return roc_curve(label, score).tpr_at_fpr(max_fpr)


def _both_classes(label: Ints) -> bool:
    return len(np.unique(label)) == 2
