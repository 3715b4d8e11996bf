"""How fast training and evaluation go, and whether training waits for data."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback
from pytorch_lightning.trainer.states import TrainerFn

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.profilers import Profiler

#: End of the name under which Lightning's training loop profiles the loader's `next`.
_LOADER_ACTION = "train_dataloader_next"


class _Window:
    """Sums between two reports."""

    def __init__(self, now: float) -> None:
        self.start = now
        self.clips = 0
        self.paused_s = 0.0
        self.waited_s = 0.0

    def report(self, now: float, num_processes: int) -> dict[str, float]:
        elapsed = max(now - self.start - self.paused_s, 1e-9)
        return {
            "train/clips_per_s": self.clips * num_processes / elapsed,
            "train/data_wait": min(self.waited_s / elapsed, 1.0),
        }


class _EvaluationClock:
    """Times an evaluation from the end of its first batch, which warms up, to that of its last."""

    def __init__(self) -> None:
        self._begun = perf_counter()
        self._batches = 0
        self._clips = 0
        self._first = (0, self._begun)

    def count(self, clips: int, device: torch.device) -> None:
        """Count a batch that ends now."""
        self._clips += clips
        self._batches += 1
        if self._batches == 1:
            self._first = (clips, _now(device))

    def clips_per_s(self, device: torch.device) -> float:
        """Return the rate of this process; a single batch counts with its warming up."""
        clips, since = self._first if self._batches > 1 else (0, self._begun)
        return (self._clips - clips) / max(_now(device) - since, 1e-9)


def _now(device: torch.device) -> float:
    # What a GPU was told to do is not done yet.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


class _LoaderClock:
    """A profiler that also times the loader, and leaves the rest to the one it wraps.

    The loop's hooks lie before and after the wait but also enclose checkpoints and the copy to the
    device; the profiler's own mark encloses the loader alone.
    """

    def __init__(self, profiler: Profiler) -> None:
        self.profiler = profiler
        self.waited_s = 0.0
        self._since = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(_LOADER_ACTION):
            self._since = perf_counter()
        self.profiler.start(action_name)

    def stop(self, action_name: str) -> None:
        self.profiler.stop(action_name)
        if action_name.endswith(_LOADER_ACTION):
            self.waited_s += perf_counter() - self._since

    def __getattr__(self, name: str) -> Any:
        return getattr(self.profiler, name)


class Throughput(Callback):
    """Log `train/clips_per_s` and `train/data_wait`, every `log_every_n_steps` and each epoch.

    Clips are those of all processes, which get batches of the same size. Data wait is the share of
    the time in which the loop stood still for the loader, in 0..1. Both are means since the last
    report; validation does not count as time.

    A test logs `test/clips_per_s`, a validation outside a fit `val/clips_per_s`: all processes
    together, loading included, the first batch left out where there are more.
    """

    def __init__(self) -> None:
        self._clock: _LoaderClock | None = None
        self._evaluation: _EvaluationClock | None = None
        self._step = _Window(0.0)
        self._epoch = _Window(0.0)
        self._pause_start = 0.0
        self._waited_s = 0.0
        self._logged_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to time the loader."""
        self._clock = _LoaderClock(trainer.profiler)  # type: ignore[attr-defined]
        trainer.profiler = self._clock  # type: ignore[attr-defined]
        self._waited_s = 0.0
        self._logged_step = trainer.global_step
        # A resumed epoch does not come by on_train_epoch_start.
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start new means."""
        self._epoch = _Window(perf_counter())
        self._step = _Window(perf_counter())

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        """Count a batch, and log when the loggers do."""
        waited = self._clock.waited_s if self._clock else 0.0
        for window in (self._step, self._epoch):
            window.clips += len(batch["label"])
            window.waited_s += waited - self._waited_s
        self._waited_s = waited
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        fresh = trainer.global_step != self._logged_step
        if every and fresh and trainer.global_step % every == 0:
            self._logged_step = trainer.global_step
            now = perf_counter()
            pl_module.log_dict(
                self._step.report(now, trainer.world_size), on_step=True, on_epoch=False
            )
            self._step = _Window(now)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the watch of training, or start that of a validation of its own."""
        self._pause_start = perf_counter()
        self._evaluation = None
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._evaluation = _EvaluationClock()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._count(pl_module, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how fast a validation of its own went."""
        self._log_evaluation(trainer, pl_module, "val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the watch of a test."""
        self._evaluation = _EvaluationClock()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._count(pl_module, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how fast the test went."""
        self._log_evaluation(trainer, pl_module, "test")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        paused = perf_counter() - self._pause_start
        self._step.paused_s += paused
        self._epoch.paused_s += paused

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means of the epoch."""
        values = self._epoch.report(perf_counter(), trainer.world_size)
        pl_module.log_dict(values, on_step=False, on_epoch=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the profiler back."""
        self._release(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Hand the profiler back."""
        self._release(trainer)

    def _count(self, pl_module: LightningModule, batch: dict[str, Any]) -> None:
        if self._evaluation is not None:
            self._evaluation.count(len(batch["label"]), pl_module.device)

    def _log_evaluation(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        clock, self._evaluation = self._evaluation, None
        if clock is not None:
            rate = clock.clips_per_s(pl_module.device) * trainer.world_size
            # The mean over processes, each times their number: the sum.
            pl_module.log(f"{stage}/clips_per_s", rate, on_epoch=True, sync_dist=True)

    def _release(self, trainer: Trainer) -> None:
        if self._clock is not None:
            trainer.profiler = self._clock.profiler  # type: ignore[attr-defined]
            self._clock = None
