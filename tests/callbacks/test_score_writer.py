from __future__ import annotations

import hashlib
import json
import logging
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import ScoreWriter, read_ledger
from callbacks.provenance import CONFIG_NAME, code_version, recipe_of
from experiments.evaluation.ledgers import Evaluation, read_evaluations
from lightning_modules.metrics import roc_auc
from lightning_modules.pooling import Pooling
from tests.support.distributed import FRAME_SHARES, framed_figures, run_job
from tests.support.trainers import Batch, TinyData, TinyModule, make_clips, tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path


def evaluation(folder: Path, name: str = "test") -> Evaluation:
    """Read the only evaluation of a ledger."""
    (found,) = read_evaluations([folder / "scores" / f"{name}.parquet"])
    return found


def test_test_writes_each_clip_and_video_once(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "run", ScoreWriter())
    trainer.test(TinyModule(), datamodule=TinyData(), verbose=False)
    rows = read_ledger(tmp_path / "run" / "scores" / "test.parquet")
    module = TinyModule().eval()
    expected = [module(sample["clip"][None]).item() for sample in make_clips()]
    assert rows["logit"].to_list() == pytest.approx([*expected, None], abs=1e-6)
    assert set(rows["run"]) == {"run"}
    assert set(rows["code"]) == {code_version()}
    assert set(rows["manifest"]) == {"0123456789abcdef"}
    found = evaluation(tmp_path / "run")
    assert found.videos["num_clips"].to_list() == [2, 1, 3, 1, 2, 0]
    logged = trainer.callback_metrics
    assert roc_auc(found.label[:5], found.score[:5]) == pytest.approx(
        float(logged["test/video_auc"]), abs=1e-6
    )
    assert (tmp_path / "run" / "scores" / "test.csv").read_text().count("\n") == 11


def test_rows_name_checkpoint_and_configuration_of_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = b"model: tiny\nexperiment: ftcn_tt\nseed_everything: 7\n"
    (run / CONFIG_NAME).write_bytes(config)
    checkpoint = run / "checkpoints" / "best.ckpt"
    trainer = tiny_trainer(run)
    trainer.fit(TinyModule(), datamodule=TinyData())
    trainer.save_checkpoint(checkpoint)
    later = tiny_trainer(run / "test" / "again", ScoreWriter())
    later.test(TinyModule(), datamodule=TinyData(), ckpt_path=str(checkpoint), verbose=False)
    row = read_ledger(run / "test" / "again" / "scores" / "test.parquet").row(0, named=True)
    assert row["run"] == "run"
    assert row["checkpoint"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    assert row["config"] == hashlib.sha256(config).hexdigest()[:16]
    assert (row["experiment"], row["seed"]) == ("ftcn_tt", 7)
    moved = {"seed_everything": 8, "experiment": "ftcn_tt", "model": "tiny", "ckpt_path": "x"}
    assert row["recipe"] == recipe_of(moved)
    assert row["recipe"] != recipe_of({**moved, "model": "small"})
    assert recipe_of({}) == ""


def test_several_test_sets_have_a_ledger_each(tmp_path: Path) -> None:
    data = TinyData(test_names=["tiny", "other"])
    data.records[-1] = replace(data.records[-1], dataset="other")
    tiny_trainer(tmp_path, ScoreWriter()).test(TinyModule(), datamodule=data, verbose=False)
    names = sorted(path.name for path in (tmp_path / "scores").glob("*.parquet"))
    assert names == ["test-other.parquet", "test-tiny.parquet"]
    # Both loaders give the same clips here; the video without one belongs to its own set.
    tiny, other = evaluation(tmp_path, "test-tiny"), evaluation(tmp_path, "test-other")
    assert (tiny.videos.height, other.videos.height) == (5, 6)
    assert (tiny.facts["set"], other.facts["set"]) == ("tiny", "other")


def test_validate_and_predict_write_and_fit_does_not(tmp_path: Path) -> None:
    data, module = TinyData(), TinyModule()
    tiny_trainer(tmp_path / "f", ScoreWriter(), max_epochs=1).fit(module, datamodule=data)
    assert not (tmp_path / "f").exists()
    tiny_trainer(tmp_path / "v", ScoreWriter()).validate(module, datamodule=data, verbose=False)
    tiny_trainer(tmp_path / "p", ScoreWriter()).predict(module, datamodule=data)
    validated, predicted = evaluation(tmp_path / "v", "val"), evaluation(tmp_path / "p", "predict")
    assert len(validated.clip_logit) == 9
    assert validated.clip_logit.tolist() == predicted.clip_logit.tolist()


def test_a_logit_that_is_not_finite_is_in_the_ledger(tmp_path: Path) -> None:
    module = TinyModule(bad_clip=(2, 1))
    tiny_trainer(tmp_path, ScoreWriter()).predict(module, datamodule=TinyData())
    videos = evaluation(tmp_path, "predict").videos
    assert videos["status"].to_list() == ["ok", "ok", "not_finite", "ok", "ok", "no_face"]
    assert videos["score"].is_null().to_list() == [False, False, True, False, False, True]


class _Nameless(LightningDataModule):
    def predict_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(make_clips(), batch_size=4)  # type: ignore[arg-type]


def test_data_without_names_are_numbered_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tiny_trainer(tmp_path, ScoreWriter()).predict(TinyModule(), datamodule=_Nameless())
    assert "the data has no records, clip_refs, unscored" in caplog.text
    videos = evaluation(tmp_path, "predict").videos
    assert videos["video_id"].to_list() == ["#0", "#1", "#2", "#3", "#4"]


class _WrongModule(TinyModule):
    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:  # type: ignore[override]
        return torch.zeros(len(batch["label"]))


def test_steps_that_return_something_else_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"_WrongModule must return a dict of logit, .* got Tensor"):
        tiny_trainer(tmp_path, ScoreWriter()).predict(_WrongModule(), datamodule=TinyData())


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    done = run_job("scores", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("share", ["padded", "uneven"])
def test_two_processes_give_the_figures_and_the_file_of_one(
    tmp_path: Path, two_processes: Path, share: str
) -> None:
    trainer = tiny_trainer(tmp_path / "run", ScoreWriter())
    trainer.test(TinyModule(), datamodule=TinyData(), verbose=False)
    one = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert one["test/num_clips"] == 9
    for rank in (0, 1):
        found = json.loads((two_processes / f"rank{rank}.json").read_text())[share]
        assert found == pytest.approx(one, abs=1e-6)
    # The working tree may change between two runs.
    mine = read_ledger(tmp_path / "run" / "scores" / "test.parquet").drop("code")
    theirs = read_ledger(two_processes / share / "test.parquet").drop("code")
    assert mine.equals(theirs)


def test_a_rank_that_saw_nothing_still_gathers(two_processes: Path) -> None:
    first, second = (
        json.loads((two_processes / f"rank{rank}.json").read_text())["empty"] for rank in (0, 1)
    )
    assert first == second
    assert first["num_clips"] == 4
    assert first["video_auc"] == 0.75


@pytest.mark.parametrize("share", FRAME_SHARES)
def test_frames_of_two_processes_count_as_those_of_one(two_processes: Path, share: str) -> None:
    one = framed_figures("frames of one rank", 0)
    assert (one["num_frames"], one["num_clips"], one["num_videos"]) == (15, 5, 3)
    assert one["frame_auc"] != one["clip_auc"]
    for rank in (0, 1):
        found = json.loads((two_processes / f"rank{rank}.json").read_text())[share]
        assert found == pytest.approx(one, abs=1e-6)


def test_the_score_of_a_video_is_pooled_by_the_rule_of_its_method(tmp_path: Path) -> None:
    module = TinyModule()
    module.video_pooling = Pooling("max")  # type: ignore[assignment]
    tiny_trainer(tmp_path, ScoreWriter()).test(module, datamodule=TinyData(), verbose=False)
    found = evaluation(tmp_path)
    assert found.facts["pooling"] == "max"
    prob = 1 / (1 + np.exp(-found.clip_logit))
    for video, score in enumerate(found.score[:5]):
        assert score == prob[found.clip_video == video].max()


def test_the_code_version_is_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = code_version().removesuffix("-dirty")
    code_version.cache_clear()
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError("no git"))
    )
    assert code_version() == "unknown"
    code_version.cache_clear()
    assert commit == "unknown" or len(commit) == 16
