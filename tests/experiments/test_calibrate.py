"""An operating point from the command line: fitted on validation, used by predict."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from callbacks.provenance import digest
from experiments.calibrate import main
from experiments.detector import load_detector
from experiments.errors import UsageError
from experiments.evaluation.operating_point import read_operating_point
from tests.experiments.test_predict import CASE, LEFT, give_faces, score
from tests.support.ledgers import SOURCE, toy_record, write_toy
from tests.support.runs import write_run
from tests.support.videos import write_video

if TYPE_CHECKING:
    from pathlib import Path

LOGITS = (-2.0, -1.0, 0.5, 0.0, 1.0, 2.0)


def write_ledger_of(run: Path, place: str, split: str = "val", prefix: str = "v") -> Path:
    """A ledger of the run's checkpoint: three real videos, then three fake ones."""
    records = [
        toy_record(f"{prefix}/{i}", i // 3, split=split, sha256=f"{prefix}{i}") for i in range(6)
    ]
    source = replace(SOURCE, checkpoint=digest(run / "checkpoints" / "best.ckpt"), run=run.name)
    stage = "val" if split == "val" else "test"
    logits = [[x] for x in LOGITS]
    return write_toy(run / place, records, logits, source=source, stage=stage, set=stage)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("runs") / "ftcn", CASE)
    write_ledger_of(run, "validate/demo-1/scores/val.parquet")
    return run


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def test_it_is_fitted_on_validation_and_tried_on_tests(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = write_ledger_of(trained, "test/demo-1/scores/test.parquet", "test", "w")
    words = ["--run", str(trained), "--abstain", "0.2", "--transfer", str(test)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "ftcn: val (fitted on)" in said
    assert "ftcn: test" in said
    path = trained / "checkpoints" / "operating_point.json"
    content = json.loads(path.read_text())
    assert content["fitted_on"]["ledger"] == "validate/demo-1/scores/val.parquet"
    assert content["behaviour"]["ftcn: test"]["num_videos"] == 6
    assert read_operating_point(path).checkpoint == digest(trained / "checkpoints" / "best.ckpt")


def test_what_cannot_be_fitted_is_refused_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--run", str(trained)]
    test = write_ledger_of(trained, "test/demo-1/scores/test.parquet", "test", "w")
    assert "fitted on validation only" in refused([*run, "--ledger", str(test)], capsys)
    same = write_ledger_of(trained, "test/demo-2/scores/test.parquet", "test")
    assert "validation is no test" in refused([*run, "--transfer", str(same)], capsys)
    assert "takes eer" in refused([*run, "--at", "auc"], capsys)
    assert "a share from 0" in refused([*run, "--abstain", "1"], capsys)
    assert "no run folder with a checkpoint" in refused(["--run", str(tmp_path)], capsys)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").write_bytes(b"another")
    assert "experiments.run validate --run" in refused(["--run", str(tmp_path)], capsys)
    ledger = str(next(trained.glob("validate/*/scores/val.parquet")))
    foreign = refused(["--run", str(tmp_path), "--ledger", ledger], capsys)
    assert "is of another checkpoint" in foreign


def test_predict_makes_calls_with_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(trained), "--calibration", "platt"]) == 0
    video = write_video(tmp_path / "talk.mp4", num_frames=8)
    give_faces(video, {LEFT: range(8)})
    report = score(video, trained, tmp_path / "out")
    made, point = report["decision"], report["decision"]["operating_point"]
    reached = report["calibrated_probability"] >= point["threshold"]
    assert made["call"] == ("fake" if reached else "real")
    assert point["fitted_on"]["num_real"] == 3
    assert any("fitted on the val set of run ftcn" in text for text in report["limits"])
    assert not any("no decision is given" in text for text in report["limits"])
    assert f"call: {made['call']} (calibrated" in capsys.readouterr().out


def test_what_was_fitted_for_another_checkpoint_is_not_used(trained: Path, tmp_path: Path) -> None:
    assert main(["--run", str(trained)]) == 0
    path = trained / "checkpoints" / "operating_point.json"
    whole = path.read_text()
    other = json.loads(whole)
    other["checkpoint"] = "0" * 16
    path.write_text(json.dumps(other))
    detector = load_detector(trained, device="cpu")
    assert detector.operating_point is None
    assert any("is not used; fit it again" in note for note in detector.notes)
    path.write_text("{")
    with pytest.raises(UsageError, match="is no operating point"):
        load_detector(trained, device="cpu")
    path.write_text(whole)
    assert load_detector(trained, device="cpu").operating_point == read_operating_point(path)
