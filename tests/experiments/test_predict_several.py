"""Several videos and several models at once."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml

from experiments import predict
from experiments.detector import load_weight_file
from experiments.errors import UsageError
from experiments.evaluation.operating_point import write_operating_point
from experiments.explaining.limits import MAP_LIMITS
from experiments.model_choice import newest_run
from experiments.predicting.folder import scored_with
from experiments.predicting.inputs import list_inputs
from experiments.predicting.report_file import report_schema
from experiments.predicting.video import ScoringOptions
from lightning_modules.pooling import Pooling
from tests.experiments.predicting.test_threshold import POINT
from tests.experiments.test_predict import CASE, LEFT, assert_one_line, give_faces
from tests.support.cases import METHOD_CASES
from tests.support.runs import write_run
from tests.support.scorers import clip_spec
from tests.support.videos import write_video


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "ftcn", CASE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good videos, one of them in a sub-folder, and one that is none."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.mp4", "more/c.mp4"):
        give_faces(write_video(folder / name, num_frames=12), {LEFT: range(12)})
    (folder / "b.mp4").write_text("no video")
    (folder / "notes.txt").touch()
    return folder


def call(*words: object) -> int:
    fixed = ["--backend", "given", "--device", "cpu", "--engine", "torch", "--no-video"]
    return predict.main([*map(str, words), *fixed])


def summary(out: Path) -> dict[str, dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8") as file:
        return {row["video"]: row for row in csv.DictReader(file)}


def report(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "report.json").read_text(encoding="utf-8"))
    return content


def test_a_folder_goes_on_past_a_bad_video(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call("--video", folder, "--run", run, "--out", out) == 1
    rows = summary(out)
    assert [row["status"] for row in rows.values()] == ["ok", "failed", "ok"]
    assert "cannot be scored" in rows[str(folder / "b.mp4")]["reason"]
    good = rows[str(folder / "more" / "c.mp4")]
    assert float(good["video_score"]) == report(out / good["folder"])["video_score"]
    assert not (out / "b.mp4").exists()
    printed = capsys.readouterr().out
    assert "2 of 3 videos scored, 1 failed" in printed
    assert printed.count("\n") == 4


def test_it_goes_on_where_it_ended(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call("--video", folder, "--run", run, "--out", out)
    before = (out / "a.mp4" / "report.json").stat().st_mtime_ns
    shutil.rmtree(out / "more")
    give_faces(write_video(folder / "b.mp4", num_frames=8), {LEFT: range(8)})
    capsys.readouterr()
    assert call("--video", folder, "--run", run, "--out", out) == 0
    assert (out / "a.mp4" / "report.json").stat().st_mtime_ns == before
    assert [row["status"] for row in summary(out).values()] == ["ok"] * 3
    assert "done before" in capsys.readouterr().out


def test_other_models_are_not_mixed_into_a_folder(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    call("--video", folder, "--run", run, "--out", out)
    capsys.readouterr()
    assert call("--video", folder, "--run", run, "--out", out, "--stride", 3) == 2
    assert_one_line(capsys, "by other models or settings")
    report = out / "a.mp4" / "report.json"
    older = json.loads(report.read_text()) | {"schema_version": 2}
    for text, told in (
        (json.dumps(older), "settings (version of the report)"),
        ("[]", "is damaged or no report"),
        ("{", "is damaged or no report"),
    ):
        report.write_text(text)
        assert call("--video", folder, "--run", run, "--out", out) == 2
        assert_one_line(capsys, told)


def test_an_operating_point_fitted_since_is_noticed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run(tmp_path / "ftcn", CASE), tmp_path / "out"
    words = ("--video", folder / "more", "--run", run, "--out", out)
    assert call(*words) == 0
    detector = predict.load_detector(run)
    pooling = detector.spec.video_rule.key
    point = replace(POINT, checkpoint=detector.checkpoint_sha256[:16], pooling=pooling)
    for slope in (1.0, 2.0):  # none before, then another one, of the same threshold
        write_operating_point(
            run / "checkpoints" / "operating_point.json", replace(point, slope=slope)
        )
        capsys.readouterr()
        assert call(*words) == 2
        assert_one_line(capsys, "settings (operating point of ftcn); name a new folder")
        shutil.rmtree(out)
        assert call(*words) == 0
        assert call(*words) == 0
        assert "done before" in capsys.readouterr().out


def test_what_decides_scores_is_compared_and_what_decides_speed_is_not() -> None:
    def made_by(**changes: Any) -> dict[str, Any]:
        spec = clip_spec("toy", **changes)
        settings = ScoringOptions(batch=changes.get("batch")).settings_of(spec)
        return scored_with(
            [{"name": "toy", "checkpoint_sha256": "0", "settings": settings}], "mesh"
        )

    def run_by(engine: str) -> dict[str, Any]:
        facts = clip_spec().facts
        return made_by(facts=replace(facts, engine=engine, device=f"cpu, {engine}"))

    assert made_by(batch=7) == run_by("openvino") == made_by()
    for other in (
        made_by(alignment="bench"),
        made_by(frame_rule="max"),
        made_by(video_rule=Pooling("top_k", 3)),
        made_by(operating_point=POINT),
        run_by("bf16"),
    ):
        assert other != made_by()


def test_another_video_of_the_same_name_is_not_taken_for_done(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, video = tmp_path / "out", folder / "a.mp4"
    call("--video", video, folder / "more" / "c.mp4", "--run", run, "--out", out)
    give_faces(write_video(video, num_frames=14), {LEFT: range(14)})
    assert call("--video", folder, "--run", run, "--out", out) == 2
    assert "is of another video, or of another version of" in capsys.readouterr().err
    assert report(out / "a.mp4")["video"]["num_frames"] == 12


def test_long_names_are_no_matter(folder: Path, run: Path, tmp_path: Path) -> None:
    name = "n" * 240 + ".mp4"
    (folder / "b.mp4").unlink()
    give_faces((folder / "a.mp4").rename(folder / name), {LEFT: range(12)})
    out = tmp_path / "out"
    assert call("--video", folder, "--run", run, "--out", out) == 0
    assert report(out / name)["status"] == "ok"


def test_a_folder_that_cannot_be_made_is_told_first(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "/dev/null"):
        assert call("--video", folder / "a.mp4", "--run", run, "--out", out) == 2


def test_maps_that_were_not_made_before_are_made(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("--video", folder / "more", "--run", run, "--out", out)
    assert call(*words) == 0
    before = report(out / "c.mp4")
    assert before["maps"] is None
    (out / "c.mp4" / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert call(*words, "--explain") == 0
    assert "done before" not in capsys.readouterr().out
    made = report(out / "c.mp4")
    assert made["maps"]["limits"] == list(MAP_LIMITS)
    moment = made["maps"]["moments"][0]
    assert (moment["model"], moment["person"]) == ("ftcn", 1)
    assert moment["frame_range"][0] <= moment["frame"] <= moment["frame_range"][1]
    assert moment["time_s"] == pytest.approx(moment["frame"] / 25)
    assert (out / "c.mp4" / moment["image"]).is_file()
    assert made["video_score"] == before["video_score"]
    jsonschema.validate(made, report_schema())
    assert (out / "c.mp4" / "notes.txt").read_text() == "mine"
    for more in ("--explain",), ():
        assert call(*words, *more) == 0
        assert "done before" in capsys.readouterr().out


def test_a_model_without_maps_is_told_before_scoring(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = next(case for case in METHOD_CASES if case.name == "clip_linear")
    run = write_run(tmp_path / "coarse", case)  # 2 x 2 patches in a face
    out = tmp_path / "out"
    assert call("--video", folder / "a.mp4", "--run", run, "--out", out, "--explain") == 2
    assert_one_line(capsys, "coarse cannot be explained: FrameAverage has no map")
    assert not out.exists()


def test_several_models_share_a_report(folder: Path, run: Path, tmp_path: Path) -> None:
    case = next(case for case in METHOD_CASES if case.name == "xception")
    other = write_run(tmp_path / "xception", case)
    out = tmp_path / "out"
    copy = shutil.copytree(run, tmp_path / "copy" / run.name)
    assert call("--video", folder / "a.mp4", "--run", run, other, copy, "--out", out) == 0
    content = report(out)
    assert content["average_of"] == ["ftcn", "xception", "ftcn-2"]
    scores = [model["video_score"] for model in content["models"]]
    assert scores[0] == scores[2] != scores[1]
    assert content["video_score"] == pytest.approx(sum(scores) / 3, abs=2e-6)


def test_experiments_stand_for_their_newest_finished_run(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    states = {
        "old": ("finished", "2026-01-01T00:00:00+00:00", "ftcn_tt"),
        "new": ("finished", "2026-03-01T00:00:00+00:00", "ftcn_tt"),
        "newer": ("interrupted", "2026-04-01T00:00:00+00:00", "ftcn_tt"),
        "other": ("finished", "2026-05-01T00:00:00+00:00", "hff"),
    }
    for name, (status, ended, experiment) in states.items():
        made = write_run(runs / name, CASE)
        config = yaml.safe_load((made / "config.yaml").read_text())
        (made / "config.yaml").write_text(yaml.safe_dump(config | {"experiment": experiment}))
        stage = {"stage": "fit", "status": status, "ended": ended}
        (made / "record.json").write_text(json.dumps({"stages": [stage]}))
    (runs / "rubbish").mkdir()
    (runs / "rubbish" / "record.json").write_text("{")
    assert newest_run("ftcn_tt", runs) == runs / "new"
    with pytest.raises(UsageError, match="no finished run of sta_vb"):
        newest_run("sta_vb", runs)
    words = ["--video", folder / "a.mp4", "--exp", "ftcn_tt", "--runs", runs]
    assert call(*words, "--out", tmp_path / "out") == 0
    assert "newest finished runs: " + str(runs / "new") in capsys.readouterr().err
    assert report(tmp_path / "out")["models"][0]["name"] == "new"


@pytest.mark.slow
def test_a_weight_file_scores_by_its_experiment_s_clips(tmp_path: Path) -> None:
    from lightning_modules.backbones.ftcn import FTCNNetwork

    torch.manual_seed(0)
    network = FTCNNetwork(num_frames=32, image_size=224)
    torch.save(network.state_dict(), tmp_path / "ftcn.pth")
    detector = load_weight_file("ftcn_tt", tmp_path / "ftcn.pth", "cpu")
    assert detector.spec.name == "ftcn_tt:ftcn.pth"
    assert detector.spec.clip_shape == (32, 224, 224, 3)
    assert detector.spec.facts.prepared_by is None
    for name, value in network.state_dict().items():
        torch.testing.assert_close(detector.model.network.state_dict()[name], value)


def test_load_detector_is_at_hand(run: Path) -> None:
    from experiments.predict import load_detector

    assert load_detector(run, "cpu").spec.name == "ftcn"


def test_own_results_in_a_folder_are_no_videos(folder: Path, run: Path, tmp_path: Path) -> None:
    made = folder / "predictions" / "a"
    made.mkdir(parents=True)
    (made / "report.json").touch()
    (made / "annotated.mp4").write_text("made by a prediction")
    (folder / "more" / "annotated.mp4").write_text("of somebody else")
    found = [Path(item.source).name for item in list_inputs([str(folder)], allow_url=False)]
    assert found == ["a.mp4", "b.mp4", "annotated.mp4", "c.mp4"]


def test_a_name_that_is_no_text_fails_alone(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.mp4").rename(folder / "a\udcff.mp4")
    out = tmp_path / "out"
    assert call("--video", folder, "--run", run, "--out", out) == 1
    rows = summary(out)
    assert [row["status"] for row in rows.values()] == ["failed", "failed", "ok"]
    assert "name is no UTF-8" in rows[str(folder / "a\\xff.mp4")]["reason"]
    capsys.readouterr()
    assert call("--video", folder / "a\udcff.mp4", "--run", run, "--out", tmp_path / "one") == 2
    assert_one_line(capsys, "name is no UTF-8; rename it")


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--device", "meta"), "computes nothing"), (("--run", "{run}", "{run}/."), "named twice")],
)
def test_models_that_cannot_count_are_refused(
    folder: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    asked = [word.format(run=run) for word in words]
    given = ["--video", str(folder / "a.mp4"), "--run", str(run), "--out", str(tmp_path / "out")]
    assert predict.main([*given, *asked]) == 2
    assert_one_line(capsys, message)
