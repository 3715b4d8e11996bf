"""A small factorised video network, its data, and a record of what moved in which step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from torch import Tensor, nn

from callbacks import split_by_axis
from lightning_modules.backbones.factorized_conv import FactorizedConv3d
from tests.support.trainers import ResumableLoader, tiny_trainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytorch_lightning import Trainer

#: Two steps with frozen spatial weights (temporal ones move: T), then one the other way round (S).
CYCLE = (2, 1)
STEPS = 9
#: Three cycles of it.
SCHEDULE = "TTS" * 3
#: Where a run is cut off: in mid-cycle.
STOPPED = 4
#: Batches of an epoch: the first epoch ends in mid-cycle.
BATCHES = 12
#: What the tests run over, by name: how the optimiser is made.
OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.01}),
}


class FactorizedModule(LightningModule):
    """One layer of each kind.

    Args:
        optimizer: Key of `OPTIMIZERS`.
        zeros: Leave zeros instead of None when gradients are cleared.
    """

    def __init__(self, optimizer: str = "sgd", zeros: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.optimizer, self.zeros = optimizer, zeros
        self.stem = FactorizedConv3d(3, 4, (3, 3, 3), padding=1)
        self.temporal = FactorizedConv3d(4, 4, (3, 1, 1), padding=(1, 0, 0))
        self.spatial = FactorizedConv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), bias=False)
        self.pointwise = FactorizedConv3d(4, 4, 1)
        self.norm = nn.BatchNorm3d(4)
        self.head = nn.Linear(4, 1)

    def forward(self, clip: Tensor) -> Tensor:
        """Score clips of shape (B, 3, T, H, W): logits of shape (B,)."""
        output = self.spatial(self.temporal(self.stem(clip)).relu()).relu()
        return self.head(self.norm(self.pointwise(output)).relu().mean((2, 3, 4))).squeeze(1)  # type: ignore[no-any-return]

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(batch["clip"]), batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        kind, options = OPTIMIZERS[self.optimizer]
        return kind(self.parameters(), **options)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer
    ) -> None:
        """Clear gradients as older code does, if asked to."""
        optimizer.zero_grad(set_to_none=not self.zeros)


class ClipData(LightningDataModule):
    """Batches of two clips, others for each process."""

    def train_dataloader(self) -> ResumableLoader:
        rank = self.trainer.global_rank if self.trainer else 0
        generator = torch.Generator().manual_seed(rank)
        label = torch.tensor([0.0, 1.0])
        clips = [torch.randn(2, 3, 4, 6, 6, generator=generator) for _ in range(BATCHES)]
        return ResumableLoader([{"clip": clip, "label": label} for clip in clips])


class Moves(Callback):
    """Note, for every optimiser step, which groups changed: in `letters`, S, T or both.

    Raises an AssertionError if only some weights of a group did, or shared weights did not.
    """

    def __init__(self) -> None:
        self.letters = ""
        self._before: dict[str, Tensor] = {}
        self._axes: dict[str, list[str]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the weights."""
        self._axes = {k: list(v) for k, v in split_by_axis(pl_module)._asdict().items()}
        self._before = _copy(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Compare, where the batch ended in a step."""
        now, before = _copy(pl_module), self._before
        changed = {name for name in now if not torch.equal(now[name], before[name])}
        self._before = now
        if not changed:
            return
        moved = {axis: changed & set(names) for axis, names in self._axes.items()}
        assert all(len(names) in (0, len(self._axes[axis])) for axis, names in moved.items())
        assert moved["shared"]
        letters = {"spatial": "S", "temporal": "T"}
        self.letters += "".join(letter for axis, letter in letters.items() if moved[axis])


class Crash(Callback):
    """Fail before the step of a number."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Fail."""
        if trainer.global_step == self.step:
            raise CrashError


class CrashError(Exception):
    """What `Crash` raises."""


def fit(
    folder: Path, module: LightningModule, *callbacks: Callback, steps: int = STEPS, **options: Any
) -> Trainer:
    """Train for some optimiser steps, from `ckpt_path` if it is among the options.

    Args:
        folder: Where the trainer writes.
        module: What is trained.
        callbacks: Of the trainer.
        steps: Optimiser steps in all.
        options: Of the trainer.
    """
    checkpoint = options.pop("ckpt_path", None)
    trainer = tiny_trainer(folder, *callbacks, max_steps=steps, max_epochs=-1, **options)
    trainer.fit(module, datamodule=ClipData(), ckpt_path=checkpoint)
    return trainer


def _copy(module: LightningModule) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}
