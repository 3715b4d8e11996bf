from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks import StepSeed
from callbacks.reproducible import step_seed
from tests.support.trainers import TinyData, TinyModule, tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path


def test_each_position_has_its_own_seed() -> None:
    positions = list(itertools.product(range(3), range(4), range(5), range(3)))
    seeds = {step_seed(*position) for position in positions}
    assert len(seeds) == len(positions)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_stays_what_it_is() -> None:
    # A change would break the exact resume of runs that were started before it.
    assert step_seed(1, 2, 3, 4) == 7661749924751933381


class _Draws(Callback):
    """Draw from torch in every batch, and disturb it in validation."""

    def __init__(self, disturb: bool) -> None:
        self.disturb = disturb
        self.drawn: list[float] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Draw."""
        self.drawn.append(torch.rand(()).item())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Disturb."""
        if self.disturb:
            torch.rand(17)


def _drawn(folder: Path, seed: int | None, disturb: bool = False, **options: int) -> list[float]:
    draws = _Draws(disturb)
    trainer = tiny_trainer(folder, StepSeed(seed), draws, **options)
    trainer.fit(TinyModule(), datamodule=TinyData())
    return draws.drawn


def test_draws_depend_on_the_position_alone(tmp_path: Path) -> None:
    plain = _drawn(tmp_path, 1)
    assert len(set(plain)) == 12  # two epochs of six batches, none like another
    assert _drawn(tmp_path, 1, disturb=True) == plain
    assert len(set(_drawn(tmp_path, 1, accumulate_grad_batches=3))) == 12
    assert _drawn(tmp_path, 2) != plain


def test_no_seed_takes_the_run_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    assert _drawn(tmp_path, None) == _drawn(tmp_path, 2)
