from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.profilers import SimpleProfiler
from torch import Tensor

from callbacks import Throughput
from tests.support.trainers import Batch, ResumableLoader, TinyData, TinyModule, tiny_trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Two clips a batch, six batches an epoch.
_SLEEP_S = 0.03


class _SlowLoader(ResumableLoader):
    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            time.sleep(_SLEEP_S)
            yield batch


class _SlowData(TinyData):
    def train_dataloader(self) -> ResumableLoader:
        return _SlowLoader(super().train_dataloader().batches)


class _SlowModule(TinyModule):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        time.sleep(_SLEEP_S)
        return super().training_step(batch, batch_idx)


class _SlowValidation(Callback):
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take long, and not the loader's time."""
        time.sleep(5 * _SLEEP_S)


def _epoch(folder: Path, module: TinyModule, data: TinyData) -> dict[str, float]:
    trainer = tiny_trainer(
        folder, _SlowValidation(), Throughput(), val_check_interval=3, max_epochs=1
    )
    trainer.fit(module, datamodule=data)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_waiting_for_data_is_told_from_computing(tmp_path: Path) -> None:
    waiting = _epoch(tmp_path, TinyModule(), _SlowData())
    computing = _epoch(tmp_path, _SlowModule(), TinyData())
    assert waiting["train/data_wait"] > 0.6
    assert computing["train/data_wait"] < 0.2


def test_clips_per_second_count_neither_validation_nor_micro_batches(tmp_path: Path) -> None:
    figures = _epoch(tmp_path, _SlowModule(), TinyData())
    most = 2 / _SLEEP_S
    assert 0.3 * most < figures["train/clips_per_s"] <= most


def test_logs_with_the_loggers_and_at_each_epoch(tmp_path: Path) -> None:
    logger = CSVLogger(str(tmp_path), name="", version="")
    trainer = tiny_trainer(
        tmp_path, Throughput(), logger=logger, log_every_n_steps=2, accumulate_grad_batches=2
    )
    trainer.fit(TinyModule(), datamodule=TinyData())
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("train/clips_per_s")
    # Three optimiser steps an epoch: 2, 4 and 6 are logged, and the two epochs.
    assert len([line for line in lines[1:] if line.split(",")[column]]) == 5


@pytest.mark.parametrize("crash", [False, True])
def test_the_profiler_is_handed_back(tmp_path: Path, crash: bool) -> None:
    class Crash(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if crash:
                raise RuntimeError("crash")

    profiler = SimpleProfiler()
    trainer = tiny_trainer(tmp_path, Throughput(), Crash(), profiler=profiler)
    try:
        trainer.fit(TinyModule(), datamodule=TinyData())
    except RuntimeError:
        assert crash
    assert trainer.profiler is profiler
    assert "run_training_batch" in profiler.recorded_durations


class _SlowTest(TinyModule):
    """The first batch takes ten times as long as the others: a GPU warms up."""

    def _score(self, batch: Batch) -> Batch:
        first = self.scores.update_count == 0
        time.sleep(10 * _SLEEP_S if first else _SLEEP_S)
        return super()._score(batch)


def test_an_evaluation_of_its_own_tells_its_speed(tmp_path: Path) -> None:
    most = 2 / _SLEEP_S
    for stage in ("validate", "test"):
        trainer = tiny_trainer(tmp_path, Throughput())
        getattr(trainer, stage)(_SlowTest(), datamodule=TinyData(), verbose=False)
        prefix = "val" if stage == "validate" else "test"
        assert 0.3 * most < float(trainer.callback_metrics[f"{prefix}/clips_per_s"]) <= most


def test_the_validation_inside_a_fit_tells_none(tmp_path: Path) -> None:
    assert "val/clips_per_s" not in _epoch(tmp_path, TinyModule(), TinyData())
