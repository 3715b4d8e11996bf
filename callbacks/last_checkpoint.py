"""The checkpoint that an interrupted run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.callbacks import ModelCheckpoint

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class LastCheckpoint(ModelCheckpoint):
    """Write `checkpoints/last.ckpt` every N optimiser steps, also in mid-epoch.

    The monitored checkpoint callback writes the same file after each validation; between them a
    killed run loses at most N steps.

    Args:
        every_n_steps: Optimiser steps between two writes.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        super().__init__(
            filename="last",
            every_n_train_steps=every_n_steps,
            save_top_k=1,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the run folder: the default would follow the first logger."""
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)
