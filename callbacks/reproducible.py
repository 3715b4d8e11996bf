"""Randomness as a pure function of the position in training."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from pytorch_lightning import Callback

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


def step_seed(seed: int, epoch: int, batch_index: int, rank: int) -> int:
    """Mix a position into a seed; neighbours get unrelated ones.

    Args:
        seed: Of the run.
        epoch: Epoch, from 0.
        batch_index: Batch inside the epoch, from 0.
        rank: Process of the run, from 0.

    Returns:
        A seed in 0..2^63 - 1.
    """
    state = np.random.SeedSequence([seed, epoch, batch_index, rank]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))  # torch takes no more than 63 bits on every device


class StepSeed(Callback):
    """Seed torch before each training batch, so that dropout depends on the position alone.

    A run that was interrupted anywhere and resumed then draws what the uninterrupted one drew:
    checkpoints hold no random state, and validation in between may use any.

    Args:
        seed: Of the run; None takes the one that `seed_everything` set, or 0.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed for this batch. Epoch and batch count micro-batches, also when accumulating."""
        # Lightning hands the seed to its own processes in this variable.
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed
        torch.manual_seed(step_seed(seed, trainer.current_epoch, batch_idx, trainer.global_rank))
