from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn import metrics as sk

from experiments.evaluation.figures import (
    MAX_FPRS,
    NUM_BINS,
    counted_videos,
    figures,
    set_figures,
    unscored,
    why_missing,
)
from experiments.evaluation.ledgers import Evaluation, read_evaluations
from tests.support.ledgers import toy_record, write_toy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def draw(seed: int, decimals: int) -> tuple[Ints, Floats]:
    """Labels and probabilities; few decimals make many ties."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, 50)
    label[:2] = 0, 1
    prob = 1 / (1 + np.exp(-generator.normal(size=50) - label))
    return label, np.clip(np.round(prob, decimals), 0, 1)


def brute(label: Ints, prob: Floats, threshold: float) -> dict[str, float]:
    """All figures by loops over pairs, thresholds and videos."""
    fakes, reals = prob[label == 1].tolist(), prob[label == 0].tolist()
    pairs = list(itertools.product(fakes, reals))
    points, ap, before = [(0.0, 0.0)], 0.0, 0.0
    for t in sorted({*fakes, *reals}, reverse=True):
        true, false = sum(f >= t for f in fakes), sum(r >= t for r in reals)
        points.append((false / len(reals), true / len(fakes)))
        ap += (true / len(fakes) - before) * true / (true + false)
        before = true / len(fakes)
    found, missed = sum(f >= threshold for f in fakes), sum(r < threshold for r in reals)
    bins: dict[int, list[float]] = {}
    for k, p in zip(label.tolist(), prob.tolist(), strict=True):
        bins.setdefault(min(int(p * NUM_BINS), NUM_BINS - 1), []).append(p - k)
    step = float(np.finfo(np.float64).eps)
    bits = [
        sum(-math.log2(max(p, step)) for p in fakes) / len(fakes),
        sum(-math.log2(max(1 - p, step)) for p in reals) / len(reals),
    ]
    return {
        "auc": sum(1.0 if f > r else 0.5 if f == r else 0.0 for f, r in pairs) / len(pairs),
        "ap": ap,
        "eer": crossing(points),
        "accuracy": (found + missed) / len(label),
        "balanced_accuracy": (found / len(fakes) + missed / len(reals)) / 2,
        **{f"tpr_at_fpr_{x:g}": max(t for f, t in points if f <= x) for x in MAX_FPRS},
        "brier": sum((p - k) ** 2 for k, p in zip(label, prob, strict=True)) / len(label),
        "ece": sum(abs(sum(gaps)) for gaps in bins.values()) / len(label),
        "cllr": sum(bits) / 2,
    }


def crossing(points: list[tuple[float, float]]) -> float:
    """Where the curve meets the line of equal errors: at equal rates of both."""
    for (f0, t0), (f1, t1) in itertools.pairwise(points):
        gap0, gap1 = 1 - t0 - f0, 1 - t1 - f1
        if gap1 <= 0:
            return f0 + (f1 - f0) * gap0 / (gap0 - gap1)
    raise AssertionError("the curve ends where all are accused")


@pytest.mark.parametrize("threshold", [0.5, 0.61])
@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_equal_double_loops(seed: int, decimals: int, threshold: float) -> None:
    label, prob = draw(seed, decimals)
    found = figures(label, prob, threshold)
    assert found == pytest.approx(brute(label, prob, threshold), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_equal_those_of_scikit_learn(seed: int) -> None:
    label, prob = draw(seed, 3)
    found, called = figures(label, prob), prob >= 0.5
    false, true, _ = sk.roc_curve(label, prob, drop_intermediate=False)
    wanted = {
        "auc": sk.roc_auc_score(label, prob),
        "ap": sk.average_precision_score(label, prob),
        "accuracy": sk.accuracy_score(label, called),
        "balanced_accuracy": sk.balanced_accuracy_score(label, called),
        "brier": sk.brier_score_loss(label, prob),
        **{f"tpr_at_fpr_{x:g}": np.max(true[false <= x]) for x in MAX_FPRS},
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)


def test_a_detector_that_says_nothing_costs_one_bit() -> None:
    label = np.array([0, 0, 0, 1])
    found = figures(label, np.full(4, 0.5))
    assert found["cllr"] == pytest.approx(1.0)
    assert found["auc"] == found["balanced_accuracy"] == 0.5
    assert found["ece"] == 0.25


@pytest.mark.parametrize("label", [0, 1])
def test_an_absent_class_is_nan_with_a_reason(label: int) -> None:
    labels = np.full(3, label)
    found = figures(labels, np.array([0.1, 0.5, 0.9]))
    known = {name for name, value in found.items() if not math.isnan(value)}
    assert known == {"accuracy", "brier", "ece"}
    assert why_missing(labels) == f"no {'real' if label else 'fake'} one has a score"
    assert why_missing(labels[:0]) == "nothing has a score"
    assert all(math.isnan(value) for value in figures(labels[:0], np.zeros(0)).values())


RECORDS = [toy_record(f"v/{x}", k) for x, k in (("a", 0), ("b", 1), ("c", 1), ("d", 0))]


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    logits = [[-1.0, 40.0], [2.0], [], [0.0, -3.0]]
    frames = [[-2.0, 0.0], [40.0, 40.0], [1.0, 3.0], [0.0, 0.0], [-3.0, -3.0]]
    path = write_toy(tmp_path / "a.parquet", RECORDS, logits, frames=frames)
    return read_evaluations([path])[0]


def test_all_levels_are_measured(evaluation: Evaluation) -> None:
    found = set_figures(evaluation)
    counts = [found[f"num_{name}"] for name in ("videos", "clips", "frames", "unscored")]
    assert counts == [3, 5, 10, 1]
    # Clips: 2 against -1, 40, 0 and -3; videos: 0.88 against 0.63 and 0.27.
    assert found["clip_auc"] == 3 / 4
    assert found["video_auc"] == 1.0
    frames = [x > y for x in (1, 3) for y in (-2, 0, 40, 40, 0, 0, -3, -3)]
    assert found["frame_auc"] == np.mean(frames)


def test_clips_beyond_the_precision_of_probabilities_keep_their_order(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "a.parquet", RECORDS[:2], [[40.0], [41.0]])
    (found,) = read_evaluations([path])
    assert set_figures(found)["clip_auc"] == 1.0


def test_a_video_without_a_face_counts_as_the_policy_says(evaluation: Evaluation) -> None:
    assert unscored(evaluation) == {"no_clip": 1}
    assert set_figures(evaluation, policy="excluded")["video_auc"] == 1.0
    # It is a fake: as real it loses to both reals, as fake it wins.
    assert set_figures(evaluation, policy="real")["video_auc"] == 0.5
    assert set_figures(evaluation, policy="fake")["video_auc"] == 1.0
    assert counted_videos(evaluation, "real").score[2] == 0.0
    assert set_figures(evaluation, policy="fake")["video_accuracy"] == 3 / 4
    for policy in ("excluded", "real", "fake"):
        assert set_figures(evaluation, policy=policy)["num_unscored"] == 1
