from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from callbacks.ledger import LedgerError
from experiments.evaluation.figures import counted_videos, expected_calibration_error
from experiments.evaluation.ledgers import Evaluation, read_evaluations
from experiments.evaluation.operating_point import (
    Criterion,
    behaviour,
    check_disjoint,
    fit_operating_point,
    parse_criterion,
    read_operating_point,
    write_operating_point,
)
from tests.support.ledgers import SOURCE, toy_record, write_toy

if TYPE_CHECKING:
    from pathlib import Path

EER, BALANCED = Criterion("eer"), Criterion("balanced_accuracy")


def evaluated(
    path: Path,
    scores: list[tuple[int, float]],
    split: str = "val",
    checkpoint: str = "c",
    prefix: str = "v",
    **constants: Any,
) -> Evaluation:
    """One clip a video, with these labels and logits."""
    records = [
        toy_record(f"{prefix}/{i}", k, split=split, sha256=f"{prefix}{i}")
        for i, (k, _) in enumerate(scores)
    ]
    source = replace(SOURCE, checkpoint=checkpoint)
    constants = {"stage": "val" if split == "val" else "test", **constants}
    logits = [[x] for _, x in scores]
    (found,) = read_evaluations([write_toy(path, records, logits, source=source, **constants)])
    return found


def overconfident(seed: int, count: int = 400) -> list[tuple[int, float]]:
    """Log-odds of two normals one apart, told twice as sure as they are, and shifted by one."""
    generator = np.random.default_rng(seed)
    label = np.arange(count) % 2
    logit = 2 * (generator.normal(size=count) + label - 0.5) + 1
    return list(zip(label.tolist(), logit.tolist(), strict=True))


def test_platt_finds_slope_and_offset_and_mends_the_calibration(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "a.parquet", overconfident(0, 4000))
    point = fit_operating_point(found, EER, "platt")
    # The true log-odds are the sum itself: half of what was told, less the shift.
    assert point.slope == pytest.approx(0.5, abs=0.05)
    assert point.offset == pytest.approx(-0.5, abs=0.1)
    videos = counted_videos(found)
    before = expected_calibration_error(videos.label, videos.score)
    after = expected_calibration_error(videos.label, point.calibrated(videos.score))
    assert after < 0.03 < 0.1 < before


def test_a_temperature_equals_a_plain_search(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "a.parquet", overconfident(1))
    point = fit_operating_point(found, EER, "temperature")
    videos = counted_videos(found)
    log_odds = np.log(videos.score / (1 - videos.score))
    soft = np.where(videos.label == 1, 201 / 202, 1 / 202)

    def loss(slope: float) -> float:
        sure = slope * log_odds
        return float((np.logaddexp(0, -sure) * soft + np.logaddexp(0, sure) * (1 - soft)).mean())

    best = min(np.arange(0.3, 0.8, 0.001), key=loss)
    assert point.slope == pytest.approx(best, abs=1e-3)
    assert point.offset == 0


SCORES = [(0, -3.0), (0, -2.0), (0, -1.0), (0, 0.5), (1, 0.0), (1, 1.0), (1, 2.0), (1, 3.0)]


@pytest.mark.parametrize(
    ("criterion", "false", "true"),
    [
        (EER, 0.25, 0.75),
        (BALANCED, 0.0, 0.75),
        (Criterion("fpr", 0.0), 0.0, 0.75),
        (Criterion("fpr", 0.3), 0.25, 1.0),
    ],
    ids=str,
)
def test_the_threshold_is_where_it_was_wanted(
    tmp_path: Path, criterion: Criterion, false: float, true: float
) -> None:
    found = evaluated(tmp_path / "a.parquet", SCORES)
    point = fit_operating_point(found, criterion)
    said = behaviour(point, found)
    assert (said["false_positive_rate"], said["true_positive_rate"]) == (false, true)
    calls = [point.call(prob) for prob in found.score]
    assert calls.count("fake") == 4 * false + 4 * true
    assert "abstain" not in calls


def test_nobody_is_accused_where_no_error_is_allowed_and_a_real_ranks_first(tmp_path: Path) -> None:
    for top in (9.0, 800.0):
        scores = [(0, -1.0), (1, 0.0), (1, 1.0), (0, top), (1, 0.5), (0, -2.0)]
        found = evaluated(tmp_path / "a.parquet", scores)
        point = fit_operating_point(found, Criterion("fpr", 0.0), "none")
        assert behaviour(point, found)["true_positive_rate"] == 0
        assert behaviour(point, found)["false_positive_rate"] == 0


def test_the_band_holds_the_share_nearest_to_the_threshold(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "a.parquet", SCORES)
    point = fit_operating_point(found, BALANCED, abstain=0.25)
    said = behaviour(point, found)
    assert said["abstained"] == 0.25
    calls = [point.call(prob) for prob in found.score]
    assert [i for i, call in enumerate(calls) if call == "abstain"] == [3, 5]
    assert said["decided_accuracy"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("split", "stage"), [("test", "test"), ("test", "val"), ("val", "predict"), ("train", "val")]
)
def test_only_validation_is_fitted_on(tmp_path: Path, split: str, stage: str) -> None:
    found = evaluated(tmp_path / "a.parquet", SCORES, split, stage=stage)
    with pytest.raises(LedgerError, match="an operating point is fitted on validation only"):
        fit_operating_point(found, EER)


def test_a_set_without_a_class_or_ranked_backwards_is_refused(tmp_path: Path) -> None:
    for scores, reason in (
        ([(1, 0.0), (1, 1.0)], "no real one has a score"),
        ([(1, -1.0), (0, 1.0)], "AUC is 0.000"),
    ):
        with pytest.raises(LedgerError, match=reason):
            fit_operating_point(evaluated(tmp_path / "a.parquet", scores), EER)


def test_a_set_without_an_error_has_a_finite_slope(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "a.parquet", [(0, -1.0), (0, -2.0), (1, 1.0), (1, 2.0)])
    for kind in ("temperature", "platt"):
        point = fit_operating_point(found, EER, kind)  # type: ignore[arg-type]
        assert 0 < point.slope < 5


def test_validation_is_no_test(tmp_path: Path) -> None:
    fitted = evaluated(tmp_path / "a.parquet", SCORES)
    renamed = evaluated(tmp_path / "b.parquet", SCORES, "test")
    with pytest.raises(LedgerError, match=r"share 8 videos .*validation is no test"):
        check_disjoint(fitted, renamed)
    check_disjoint(fitted, evaluated(tmp_path / "c.parquet", SCORES, "test", prefix="w"))


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    point = fit_operating_point(evaluated(tmp_path / "a.parquet", SCORES), EER)
    other = evaluated(tmp_path / "b.parquet", SCORES, "test", checkpoint="d")
    with pytest.raises(LedgerError, match="checkpoint d, but the operating point was fitted for c"):
        behaviour(point, other)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    point = fit_operating_point(evaluated(tmp_path / "a.parquet", SCORES), EER, abstain=0.25)
    path = tmp_path / "operating_point.json"
    write_operating_point(path, point, behaviour={})
    assert read_operating_point(path) == point
    assert point.fitted_on["num_fake"] == 4
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(LedgerError, match="version 9"):
        read_operating_point(path)
    for text in ("", "{}", json.dumps([1])):
        path.write_text(text)
        with pytest.raises(LedgerError, match="is no operating point"):
            read_operating_point(path)


@pytest.mark.parametrize("text", ["", "auc", "fpr", "fpr=1", "fpr=-1", "fpr=nan", "eer=0.1"])
def test_criteria_that_do_not_exist(text: str) -> None:
    assert str(parse_criterion("fpr=0.01")) == "fpr=0.01"
    with pytest.raises(ValueError, match="takes eer"):
        parse_criterion(text)


def test_scores_at_the_very_ends_can_be_calibrated(tmp_path: Path) -> None:
    found = evaluated(tmp_path / "a.parquet", [(0, -900.0), (0, 0.0), (1, 900.0), (1, 0.5)])
    point = fit_operating_point(found, EER, "platt")
    assert not any(math.isnan(x) for x in point.calibrated(found.score))
