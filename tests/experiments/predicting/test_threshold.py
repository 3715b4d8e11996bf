from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from experiments.evaluation.operating_point import OperatingPoint
from experiments.predicting.report import VideoReport
from experiments.predicting.threshold import (
    segments_csv,
    segments_vtt,
    suspicious_segments,
    threshold_of,
)
from tests.support.reports import scored_video

BOX = (0.0, 0.0, 9.0, 9.0)
POINT = OperatingPoint(
    slope=2.0,
    offset=-1.0,
    threshold=0.7,
    abstain_low=0.7,
    abstain_high=0.7,
    criterion="eer",
    calibration="platt",
    pooling="mean",
    checkpoint="0" * 16,
    fitted_on={"set": "val", "run": "toy", "num_real": 5, "num_fake": 5},
)


def with_point(report: VideoReport, point: OperatingPoint) -> VideoReport:
    models = (replace(m, spec=replace(m.spec, operating_point=point)) for m in report.models)
    return replace(report, models=tuple(models))


@pytest.mark.parametrize("calibration", ["platt", "none"])
def test_the_threshold_is_on_the_scale_of_scores(calibration: str) -> None:
    point = replace(POINT, calibration=calibration)
    report = with_point(scored_video((1, [0], [0.5], BOX)), point)
    found = threshold_of(report)
    assert found.fitted
    assert point.calibrated(np.array([found.score]))[0] == pytest.approx(0.7)
    assert point.call(found.score - 1e-6) == "real"
    assert point.call(found.score + 1e-6) == "fake"


def test_without_a_point_or_with_several_models_it_is_the_middle() -> None:
    assert threshold_of(scored_video((1, [0], [0.5], BOX))) == (0.5, False)
    several = with_point(scored_video((1, [0], [0.5], BOX), models=2), POINT)
    assert threshold_of(several) == (0.5, False)


def test_segments_end_at_the_threshold_at_gaps_and_without_score() -> None:
    frames = [*range(10), *range(12, 20)]
    scores = [0.1, 0.6, 0.8, 0.4, 0.5, 0.5, np.nan, 0.9, 0.9, 0.9, *[0.7] * 8]
    other = (2, [0, 1], [0.9, 0.2], BOX)
    report = scored_video((3, frames, scores, BOX), other)
    found = suspicious_segments(report)
    spans = [(s.person, s.first_frame, s.last_frame) for s in found]
    assert spans == [(2, 0, 0), (3, 1, 2), (3, 4, 5), (3, 7, 9), (3, 12, 19)]
    assert (found[1].start_s, found[1].end_s) == pytest.approx((1 / 25, 3 / 25))
    assert (found[1].mean_score, found[1].max_score) == pytest.approx((0.7, 0.8))


def test_the_table_and_the_cues_say_the_same() -> None:
    report = scored_video((2, range(25, 50), [0.9] * 25, BOX), (1, range(10), [0.7] * 10, BOX))
    found, limit = suspicious_segments(report), threshold_of(report)
    rows = list(csv.DictReader(io.StringIO(segments_csv(found, limit))))
    assert [row["person"] for row in rows] == ["1", "2"]
    assert (rows[1]["start_s"], rows[1]["end_s"]) == ("1.000", "2.000")
    assert rows[0]["threshold_kind"] == "middle of the scale, not calibrated"
    text = segments_vtt(found, limit)
    assert text.startswith("WEBVTT\n\n")
    assert "00:00:00.000 --> 00:00:00.400\nPerson 1: score 0.70 (up to 0.70)\n" in text
    assert "00:00:01.000 --> 00:00:02.000\nPerson 2: score 0.90 (up to 0.90)\n" in text


def test_hours_have_two_digits() -> None:
    times = np.arange(50) / 25 + 7322.5
    report = scored_video((1, range(50), [0.9] * 50, BOX), times_s=times)
    text = segments_vtt(suspicious_segments(report), threshold_of(report))
    assert "02:02:02.500 --> 02:02:04.500" in text


def test_nothing_suspicious_is_a_valid_empty_file() -> None:
    report = scored_video((1, range(5), [0.1] * 5, BOX))
    found, limit = suspicious_segments(report), threshold_of(report)
    assert segments_csv(found, limit).count("\n") == 1
    assert segments_vtt(found, limit).startswith("WEBVTT\n\nNOTE\n")
