"""Operating points: from scores to calls, fitted on a validation set and kept with the checkpoint.

A video's score is calibrated, p' = sigmoid(slope * log-odds(p) + offset), and called fake where p'
reaches a threshold; near the threshold no call is made. The order of videos stays as it was.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from callbacks.ledger import LedgerError
from callbacks.provenance import write_whole
from experiments.evaluation.figures import balanced_accuracy, counted_videos, why_missing
from experiments.evaluation.ledgers import sigmoid
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from experiments.evaluation.figures import Videos
    from experiments.evaluation.ledgers import Evaluation

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Calibration = Literal["none", "temperature", "platt"]
CALIBRATIONS: tuple[Calibration, ...] = ("none", "temperature", "platt")
Call = Literal["real", "fake", "abstain"]

FILE_NAME = "operating_point.json"
#: Raised when an older reader could misunderstand the file.
FILE_VERSION = 1
#: Probabilities nearer to 0 or 1 are taken as this far off, where log-odds are needed [ours].
_EDGE = 1e-12
#: Weight of the data against a prior on the slope: none to speak of.
_NO_PRIOR = 1e9


class Criterion(NamedTuple):
    """Where the threshold is set.

    Attributes:
        kind: At equal error rates (`eer`), at the highest balanced accuracy, or where the most
            fakes are found while at most a share of reals is accused (`fpr`).
        max_fpr: That share, for `fpr`.
    """

    kind: Literal["eer", "balanced_accuracy", "fpr"]
    max_fpr: float = 0.0

    def __str__(self) -> str:
        return f"fpr={self.max_fpr:g}" if self.kind == "fpr" else self.kind


@dataclass(frozen=True)
class OperatingPoint:
    """How scores of one checkpoint become calls.

    Attributes:
        slope: Of the calibration.
        offset: Of the calibration.
        threshold: A calibrated score that reaches it is called fake.
        abstain_low: From here on no call is made; the same as `abstain_high` for calls always.
        abstain_high: Up to here, not included.
        criterion: How the threshold was chosen.
        calibration: Kind of calibration.
        pooling: The rule by which scores were pooled.
        checkpoint: Digest of the checkpoint.
        fitted_on: What it was fitted on.
    """

    slope: float
    offset: float
    threshold: float
    abstain_low: float
    abstain_high: float
    criterion: str
    calibration: Calibration
    pooling: str
    checkpoint: str
    fitted_on: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Name it by all that it is: 16 hexadecimal digits."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def calibrated(self, prob: Floats) -> Floats:
        """Calibrate scores of videos.

        Args:
            prob: Pooled probabilities of fake, shape (V,), float64.
        """
        if self.calibration == "none":
            return prob
        return sigmoid(self.slope * _log_odds(prob) + self.offset)

    def call(self, prob: float) -> Call:
        """Call one video.

        Args:
            prob: Its pooled probability of fake.
        """
        value = float(self.calibrated(np.array([prob]))[0])
        if self.abstain_low <= value < self.abstain_high:
            return "abstain"
        return "fake" if value >= self.threshold else "real"


def parse_criterion(text: str) -> Criterion:
    """Read `eer`, `balanced_accuracy` or `fpr=<share>`.

    Args:
        text: As typed.

    Raises:
        ValueError: If it is none of them.
    """
    kind, _, share = text.partition("=")
    if text in ("eer", "balanced_accuracy"):
        return Criterion("eer" if text == "eer" else "balanced_accuracy")
    try:
        max_fpr = float(share)
    except ValueError:
        max_fpr = math.nan
    if kind == "fpr" and 0 <= max_fpr < 1:
        return Criterion("fpr", max_fpr)
    raise ValueError(f"takes eer, balanced_accuracy or fpr=<share below 1>, not '{text}'")


def fit_operating_point(
    evaluation: Evaluation,
    criterion: Criterion,
    calibration: Calibration = "temperature",
    abstain: float = 0.0,
) -> OperatingPoint:
    """Fit calibration, threshold and band on a validation set.

    Args:
        evaluation: A checkpoint on its validation set.
        criterion: Where the threshold is set.
        calibration: `temperature` fits the slope, `platt` the offset too; both classes weigh alike,
            whatever their numbers, and Platt's smoothed targets (1999) keep a set without errors
            from driving the slope to infinity.
        abstain: Share of the validation videos nearest to the threshold, by log-odds, that the
            band without calls holds.

    Raises:
        LedgerError: If the set is no validation set, lacks a class, or is ranked the wrong way.
    """
    _check_validation(evaluation)
    videos = counted_videos(evaluation)
    area = roc_auc(videos.label, videos.score)
    if area <= 0.5 or math.isnan(area):
        why = why_missing(videos.label) or f"its AUC is {area:.3f}: reals rank no lower than fakes"
        raise LedgerError(f"{evaluation.name}: nothing to calibrate ({why}); train on")
    slope, offset = _fit_calibration(videos.label, _log_odds(videos.score), calibration)
    plain = OperatingPoint(
        slope=slope,
        offset=offset,
        threshold=0.5,
        abstain_low=0.5,
        abstain_high=0.5,
        criterion=str(criterion),
        calibration=calibration,
        pooling=evaluation.facts["pooling"],
        checkpoint=evaluation.facts["checkpoint"],
        fitted_on=_provenance(evaluation, videos),
    )
    value = plain.calibrated(videos.score)
    threshold = _threshold(videos.label, value, criterion)
    low, high = _band(value, threshold, abstain)
    return OperatingPoint(
        **{**asdict(plain), "threshold": threshold, "abstain_low": low, "abstain_high": high}
    )


def behaviour(point: OperatingPoint, evaluation: Evaluation) -> dict[str, float]:
    """Measure calls on a set: how the threshold transfers.

    Args:
        point: Fitted elsewhere, or on the same set.
        evaluation: Of the same checkpoint.

    Returns:
        false_positive_rate, true_positive_rate and balanced_accuracy over all scored videos;
        abstained, the share in the band; decided_accuracy, balanced, of those outside it;
        num_videos. NaN where a class is absent.

    Raises:
        LedgerError: If the evaluation is of another checkpoint or pools otherwise.
    """
    _check_checkpoint(point, evaluation)
    videos = counted_videos(evaluation)
    value = point.calibrated(videos.score)
    called, fake = value >= point.threshold, videos.label == 1
    outside = (value < point.abstain_low) | (value >= point.abstain_high)
    return {
        "false_positive_rate": float(called[~fake].mean()) if (~fake).any() else math.nan,
        "true_positive_rate": float(called[fake].mean()) if fake.any() else math.nan,
        "balanced_accuracy": balanced_accuracy(videos.label, value, point.threshold),
        "abstained": float(1 - outside.mean()) if len(value) else math.nan,
        "decided_accuracy": balanced_accuracy(
            videos.label[outside], value[outside], point.threshold
        ),
        "num_videos": float(len(value)),
    }


def check_disjoint(fitted: Evaluation, other: Evaluation) -> None:
    """Refuse a set that shares a video with the one that was fitted on.

    Args:
        fitted: What the operating point was fitted on.
        other: What it shall be tried on.

    Raises:
        LedgerError: If a name or a file is in both.
    """
    for column in ("video_id", "sha256"):
        known = set(fitted.videos[column]) - {""}
        shared = sorted(known & set(other.videos[column]))
        if shared:
            raise LedgerError(
                f"{other.name} and {fitted.name} share {len(shared)} videos ({shared[0]}): "
                "validation is no test; take another set"
            )


def write_operating_point(path: Path, point: OperatingPoint, **more: Any) -> None:
    """Write an operating point, wholly or not at all.

    Args:
        path: `operating_point.json` beside the checkpoint.
        point: What to write.
        **more: What else the file shall tell.

    Raises:
        OSError: If the disk refuses it.
    """
    content = {"version": FILE_VERSION, **asdict(point), **more}
    write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_operating_point(path: Path) -> OperatingPoint:
    """Read an operating point.

    Args:
        path: `operating_point.json`.

    Raises:
        LedgerError: If it cannot be read or is of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"]
        names = OperatingPoint.__dataclass_fields__
        point = OperatingPoint(**{name: content[name] for name in names})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LedgerError(
            f"{path} is no operating point ({error}); python -m experiments.calibrate writes one"
        ) from error
    if version != FILE_VERSION:
        raise LedgerError(f"{path}: version {version}, this code reads {FILE_VERSION}; fit again")
    return point


def _check_validation(evaluation: Evaluation) -> None:
    splits = sorted(set(evaluation.videos["split"]))
    if evaluation.facts["stage"] != "val" or splits != ["val"]:
        raise LedgerError(
            f"{evaluation.name} is a {evaluation.facts['stage']} ledger of split "
            f"{', '.join(splits) or 'unknown'}: an operating point is fitted on validation only; "
            "python -m experiments.run validate --run runs/<run> writes its ledger"
        )


def _check_checkpoint(point: OperatingPoint, evaluation: Evaluation) -> None:
    for name, wanted in (("checkpoint", point.checkpoint), ("pooling", point.pooling)):
        if evaluation.facts[name] != wanted:
            raise LedgerError(
                f"{evaluation.name}: {name} {evaluation.facts[name]}, but the operating point was "
                f"fitted for {wanted}; evaluate that one"
            )


def _provenance(evaluation: Evaluation, videos: Videos) -> dict[str, Any]:
    facts = {name: evaluation.facts[name] for name in ("set", "run", "experiment", "manifest")}
    fakes = int(videos.label.sum())
    return {
        **facts,
        "num_real": len(videos.label) - fakes,
        "num_fake": fakes,
        "num_unscored": int(evaluation.videos["score"].null_count()),
        "code": evaluation.facts["code"],
    }


def _log_odds(prob: Floats) -> Floats:
    kept = np.clip(prob, _EDGE, 1 - _EDGE)
    return np.log(kept) - np.log1p(-kept)


def _fit_calibration(label: Ints, log_odds: Floats, kind: Calibration) -> tuple[float, float]:
    if kind == "none":
        return 1.0, 0.0
    from sklearn.linear_model import LogisticRegression

    count = np.bincount(label, minlength=2)
    # Platt 1999, section 2.2: of each class one video more is thought of, of the other label.
    certainty = ((count + 1) / (count + 2))[label]
    share = 0.5 / count[label]
    model = LogisticRegression(
        C=_NO_PRIOR, solver="newton-cholesky", fit_intercept=kind == "platt", tol=1e-10
    )
    model.fit(
        np.r_[log_odds, log_odds][:, None],
        np.r_[label, 1 - label],
        sample_weight=np.r_[share * certainty, share * (1 - certainty)],
    )
    return float(model.coef_[0, 0]), float(np.atleast_1d(model.intercept_)[0])


def _threshold(label: Ints, value: Floats, criterion: Criterion) -> float:
    from sklearn.metrics import roc_curve

    false, true, score = roc_curve(label, value, drop_intermediate=False)
    if criterion.kind == "eer":
        best = int(np.argmin(np.abs(1 - true - false)))
    else:
        gain = true - false
        if criterion.kind == "fpr":
            gain = np.where(false <= criterion.max_fpr, true, -1.0)
        best = int(np.argmax(gain))  # the first: of equal ones that which accuses fewest
    # Half-way to the next lower score: the videos of the set stay on their sides.
    upper = score[best] if np.isfinite(score[best]) else max(1.0, np.nextafter(score[1], 2))
    lower = score[best + 1] if best + 1 < len(score) else upper
    middle = (upper + lower) / 2
    return float(middle if middle > lower else upper)


def _band(value: Floats, threshold: float, share: float) -> tuple[float, float]:
    count = round(share * len(value))
    if not count:
        return threshold, threshold
    centre = _log_odds(np.array([threshold]))[0]
    half = np.sort(np.abs(_log_odds(value) - centre))[count - 1]
    low, high = sigmoid(np.array([centre - half, centre + half]))
    # Its edges belong to it, however they round.
    return float(np.nextafter(low, 0)), float(np.nextafter(high, 1))
