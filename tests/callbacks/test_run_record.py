from __future__ import annotations

import json
import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger

from callbacks import RunRecord, SaveOnSignal
from callbacks.provenance import CONFIG_NAME, code_version
from callbacks.run_record import RECORD_NAME
from tests.support.trainers import WIDTH, Kick, TinyData, TinyModule, tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / RECORD_NAME).read_text())
    return record


class Look(Callback):
    """Read the record while the stage runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: list[str] = []

    def on_train_start(self, *_: Any) -> None:
        """Read it."""
        self.found = [stage["status"] for stage in read(self.folder)["stages"]]


class Crash(Callback):
    """Fail in the first batch."""

    def on_train_batch_start(self, *_: Any) -> None:
        """Fail."""
        raise RuntimeError("no space left\nfor anything")


def test_a_fit_and_a_test_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    monkeypatch.setattr("sys.orig_argv", ["/home/someone/bin/python", "-m", "x", "a b"])
    run = tmp_path / "run"
    saver = ModelCheckpoint(run / "checkpoints", monitor="val/video_auc", mode="max")
    look = Look(run)
    trainer = tiny_trainer(run, RunRecord(), look, saver, enable_checkpointing=True)
    data = TinyData()
    trainer.fit(TinyModule(), datamodule=data)
    trainer.test(TinyModule(), datamodule=data, ckpt_path="best", verbose=False)
    record = read(run)
    assert look.found == ["running"]
    assert record["run"] == "run"
    fit, test = record["stages"]
    assert (fit["stage"], fit["status"], fit["error"]) == ("fit", "finished", None)
    assert (test["stage"], test["status"]) == ("test", "finished")
    assert fit["best_score"] == float(saver.best_model_score or -1)
    assert (run / "checkpoints" / fit["best_checkpoint"]).is_file()
    assert test["checkpoint"] == f"checkpoints/{fit['best_checkpoint']}"
    assert test["metrics"]["test/num_clips"] == 9
    assert test["cost"] == {"parameters": WIDTH, "gflops_per_clip": None}
    assert (fit["seed"], fit["manifest"], fit["method"]) == (11, data.manifest_hash, "TinyModule")
    assert (fit["code"], fit["command"]) == (code_version(), "python -m x 'a b'")
    assert fit["started"] <= fit["ended"] <= test["started"]


def test_no_machine_and_no_user_is_named(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tiny_trainer(run, RunRecord()).fit(TinyModule(), datamodule=TinyData())
    machine = read(run)["stages"][0]["machine"]
    assert machine["cpus"] >= 1
    assert machine["processes"] == 1
    text = json.dumps(machine)
    assert socket.gethostname() not in text
    assert str(tmp_path) not in text


def test_a_crash_leaves_its_reason(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        tiny_trainer(tmp_path, RunRecord(), Crash()).fit(TinyModule(), datamodule=TinyData())
    stage = read(tmp_path)["stages"][0]
    assert stage["status"] == "failed"
    assert stage["error"] == "RuntimeError: no space left"


def test_a_terminated_run_is_interrupted_not_failed(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, RunRecord(), Kick("train", 2, signal.SIGTERM), SaveOnSignal())
    with pytest.raises(SystemExit):
        trainer.fit(TinyModule(), datamodule=TinyData())
    assert read(tmp_path)["stages"][0]["status"] == "interrupted"


def test_a_killed_stage_is_closed_by_the_next(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, RunRecord()).fit(TinyModule(), datamodule=TinyData())
    record = read(tmp_path)
    record["stages"][0]["status"] = "running"  # what a kill -9 leaves
    (tmp_path / RECORD_NAME).write_text(json.dumps(record))
    tiny_trainer(tmp_path, RunRecord()).fit(TinyModule(), datamodule=TinyData())
    assert [stage["status"] for stage in read(tmp_path)["stages"]] == ["interrupted", "finished"]


@pytest.mark.parametrize("text", ["{", '{"stages": 3}', '{"stages": [{}]}', "[]"])
def test_a_damaged_record_does_not_stop_a_run(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / RECORD_NAME).write_text(text)
    tiny_trainer(tmp_path, RunRecord()).fit(TinyModule(), datamodule=TinyData())
    assert [stage["status"] for stage in read(tmp_path)["stages"]] == ["finished"]
    assert "written anew" in caplog.text


def test_a_figure_that_does_not_exist_is_null(tmp_path: Path) -> None:
    class Undefined(TinyModule):
        def on_test_epoch_end(self) -> None:
            self.log("test/video_auc", float("nan"))

    tiny_trainer(tmp_path, RunRecord()).test(Undefined(), datamodule=TinyData(), verbose=False)
    assert read(tmp_path)["stages"][0]["metrics"] == {"test/video_auc": None}


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, RunRecord(), fast_dev_run=True)
    trainer.fit(TinyModule(), datamodule=TinyData())
    assert list(tmp_path.iterdir()) == []


def test_wandb_gets_the_configuration_and_the_record(tmp_path: Path) -> None:
    class FakeConfig(dict[str, Any]):
        def update(self, values: dict[str, Any], allow_val_change: bool) -> None:  # type: ignore[override]
            assert allow_val_change
            super().update(values)

    class FakeRun:
        config = FakeConfig()

    class FakeWandb(WandbLogger):
        def __init__(self) -> None:
            self._save_dir = None  # and no service is started

        @property
        def experiment(self) -> Any:
            return FakeRun

        def _ignore(self, *_: Any, **__: Any) -> None:
            """Log nowhere."""

        log_metrics = log_hyperparams = save = finalize = after_save_checkpoint = _ignore

    (tmp_path / CONFIG_NAME).write_text("trainer: {max_epochs: 2}\n")
    trainer = tiny_trainer(tmp_path, RunRecord(), logger=FakeWandb())
    trainer.fit(TinyModule(), datamodule=TinyData())
    assert FakeRun.config["trainer"] == {"max_epochs": 2}
    assert FakeRun.config["record"]["manifest"] == "0123456789abcdef"
    assert FakeRun.config["record"]["code"] == code_version()
