from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from experiments.explaining.limits import MAP_LIMITS, map_limits
from experiments.predicting.report import VideoReport
from experiments.predicting.report_file import report_content, report_schema, write_report
from tests.experiments.predicting.test_threshold import POINT, with_point
from tests.support.reports import scored_video
from tests.support.scorers import clip_spec

BOX = (1.0, 2.0, 30.0, 40.0)
CASES = {
    "one model": scored_video((1, range(10), [0.5] * 10, BOX)),
    "gaps": scored_video((2, [1, 2, 5], [0.5, np.nan, 0.1], BOX), (1, [0], [0.9], BOX)),
    "several models": scored_video((1, range(10), [0.5] * 10, BOX), models=3),
    "no face": scored_video(),
    "decided": with_point(scored_video((1, range(10), [0.9] * 10, BOX)), POINT),
}


@pytest.mark.parametrize("report", CASES.values(), ids=CASES.keys())
def test_every_report_fits_the_schema(report: VideoReport, tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", report)
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, report_schema())
    assert content == json.loads(json.dumps(report_content(report)))


def test_the_schema_refuses_what_is_none() -> None:
    content = report_content(CASES["one model"])
    for name, value in {"video_score": 1.2, "schema_version": 1, "more": 0}.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | {name: value}, report_schema())


def test_maps_of_another_engine_are_said_to_come_from_torch() -> None:
    specs = [clip_spec("slow"), clip_spec("fast")]
    specs[1] = replace(specs[1], facts=replace(specs[1].facts, engine="openvino"))
    told = map_limits(specs)
    assert told[:-1] == list(MAP_LIMITS) == map_limits(specs[:1])
    assert told[-1].startswith("Scores of fast are those of openvino; its maps come from")


def test_an_average_names_its_members_and_decides_nothing() -> None:
    content = report_content(CASES["several models"])
    assert content["average_of"] == ["toy0", "toy1", "toy2"]
    assert [model["video_score"] for model in content["models"]] == pytest.approx([0.5, 0.6, 0.7])
    assert content["video_score"] == pytest.approx(0.6)
    assert content["decision"]["call"] == "abstain"
    assert any("mean of the scores of toy0, toy1, toy2" in text for text in content["limits"])
    (track,) = content["tracks"]
    assert track["frames"]["score"] == pytest.approx([0.6] * 10)
    assert track["models"][2]["frame_score"] == pytest.approx([0.7] * 10)


def test_calibrated_probabilities_are_averaged_only_if_all_are() -> None:
    report = with_point(CASES["several models"], POINT)
    each = [model.calibrated for model in report.models]
    assert report.calibrated == pytest.approx(np.mean([value or 0 for value in each]))
    first = replace(report.models[0], spec=replace(report.models[0].spec, operating_point=None))
    assert replace(report, models=(first, *report.models[1:])).calibrated is None


def test_a_decision_says_what_it_was_held_to() -> None:
    content = report_content(CASES["decided"])
    assert content["decision"]["call"] == "fake"
    assert content["decision"]["operating_point"]["threshold"] == pytest.approx(0.7)
    assert content["calibrated_probability"] == pytest.approx(
        float(POINT.calibrated(np.array([0.9]))[0]), abs=1e-6
    )
    assert report_content(CASES["no face"])["decision"]["reason"] == "no face was found"


def test_persons_pool_their_tracks_and_have_ranges() -> None:
    late = (1, range(20, 30), [0.1] * 10, BOX)
    content = report_content(scored_video((1, [0, 1, 5, 6], [0.9] * 4, BOX), late))
    (person,) = content["persons"]
    assert person["tracks"] == [0, 1]
    assert person["time_ranges_s"] == [[0.0, 0.08], [0.2, 0.28], [0.8, 1.2]]
    assert person["score"] == pytest.approx(0.5)  # one clip each
    assert content["tracks"][0]["time_ranges_s"] == [[0.0, 0.08], [0.2, 0.28]]


def test_persons_are_scored_by_each_model_over_all_their_tracks() -> None:
    report = scored_video(
        (1, range(10), [0.2] * 10, BOX),
        (2, range(10), [0.5] * 10, BOX),
        (1, range(20, 30), [0.4] * 10, BOX),
        models=2,
    )
    first, second = report_content(report)["persons"]
    assert [first["person"], second["person"]] == [1, 2]
    assert first["tracks"] == [0, 2]
    assert first["score"] == pytest.approx(0.35)
    assert [m["name"] for m in first["models"]] == ["toy0", "toy1"]
    assert [m["score"] for m in first["models"]] == pytest.approx([0.3, 0.4])


def test_the_line_of_suspicion_is_told() -> None:
    assert report_content(CASES["one model"])["threshold"] == {"score": 0.5, "fitted": False}
    assert report_content(CASES["decided"])["threshold"]["fitted"] is True
