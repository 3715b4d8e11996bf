"""Callbacks that tests put into runs of the real command line."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

#: Environment variable: optimiser steps done when `KillAt` strikes.
KILL_AT = "TEST_KILL_AT"


class KillAt(Callback):
    """Die as by `kill -9` before the optimiser step that the environment names, if it does."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Die without a word."""
        if str(trainer.global_step) == os.environ.get(KILL_AT):
            os.kill(os.getpid(), signal.SIGKILL)


class RankChecksum(Callback):
    """Write a hash of each rank's weights into the run folder when a fit ends."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write `weights-<rank>.txt`."""
        digest = hashlib.sha256()
        for value in pl_module.state_dict().values():
            digest.update(value.cpu().numpy().tobytes())
        path = Path(trainer.default_root_dir) / f"weights-{trainer.global_rank}.txt"
        path.write_text(digest.hexdigest())


class ClipLog(Callback):
    """Write a line for every training batch of each rank into the run folder."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Append to `clips-<rank>.jsonl`: epoch, batch, labels, and hashes of clips and masks."""
        # Coarser than the last digits of normalising, finer than a grey level.
        clips = (64 * batch["clip"]).round().to(torch.int16)
        line = {
            "place": [trainer.current_epoch, batch_idx],
            "label": batch["label"].int().tolist(),
            "clip": [_digest(clip) for clip in clips],
            "mask": [_digest(mask) if mask.any() else "" for mask in batch["blend_mask"]],
        }
        path = Path(trainer.default_root_dir) / f"clips-{trainer.global_rank}.jsonl"
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.cpu().numpy().tobytes()).hexdigest()
