"""Save when the scheduler asks for the machine back."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.exceptions import SIGTERMException

from callbacks.provenance import CHECKPOINT_FOLDER
from callbacks.resume import keep_open_validation

if TYPE_CHECKING:
    from types import FrameType

    from pytorch_lightning import LightningModule, Trainer

#: What a shell reports for a program that SIGTERM ended: 128 + 15.
TERMINATED_EXIT = 128 + signal.SIGTERM
#: Lightning's training loop reads this name when a run is resumed.
_LAST_NAME = "last.ckpt"


class SaveOnSignal(Callback):
    """Write `checkpoints/last.ckpt` on SIGTERM and SIGUSR1; SIGTERM ends the run after it.

    The file is written after the optimiser step that is under way, so that a resumed run is exact:
    in the middle of an accumulation the gradients would be lost. A signal that arrives during a
    validation is obeyed at once on a single process, if the last batch ended in a step; several
    processes obey after the next step. It is enough to tell one process.

    Every checkpoint of the run, by whatever callback, is written so that a validation which is due
    or under way is done in full by the resumed run.

    After SIGTERM the first process of a machine ends with exit code 143, its children with 0, so
    that Lightning does not kill the first in the middle of its clean-up.

    During training the handlers replace Lightning's own, whose SIGTERM handler starts a broadcast
    inside the signal and blocks when another rank is at another exchange. A SIGUSR1 handler that
    was there before (Lightning's requeueing on SLURM) is called after the file is written.
    """

    def __init__(self) -> None:
        self._received: set[int] = set()
        self._previous: dict[int, Any] = {}
        self._step = -1
        self._exact = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._received.clear()
        self._exact = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._note)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Remember how many steps were done before this batch."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save, if any process was told to and this batch ended in an optimiser step."""
        self._exact = trainer.global_step != self._step
        # One exchange a step; which signal it was is asked only when there was one.
        if self._exact and self._any_rank(trainer, bool(self._received)):
            signals = (signal.SIGTERM, signal.SIGUSR1)
            self._obey(
                trainer, {n for n in signals if self._any_rank(trainer, n in self._received)}
            )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save now on a single process; ranks may have different numbers of these batches."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and self._exact and self._received and trainer.world_size == 1:
            self._obey(trainer, set(self._received))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the validation that is due or under way."""
        keep_open_validation(trainer, checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop to listen."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop to listen."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.add(number)

    @staticmethod
    def _any_rank(trainer: Trainer, told: bool) -> bool:
        return trainer.strategy.reduce_boolean_decision(told, all=False)

    def _obey(self, trainer: Trainer, asked: set[int]) -> None:
        self._received -= asked
        path = _save(trainer)
        names = " and ".join(signal.Signals(number).name for number in sorted(asked))
        rank_zero_info(f"{names}: saved {path}")
        requeue = self._previous.get(signal.SIGUSR1)
        if signal.SIGUSR1 in asked and callable(requeue):
            requeue(signal.SIGUSR1, None)
        if signal.SIGTERM in asked:
            raise SIGTERMException(TERMINATED_EXIT if trainer.local_rank == 0 else 0)

    def _restore(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: a handler that is not Python's, which cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _save(trainer: Trainer) -> Path:
    folders = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
    chosen = [folder for folder in folders if folder]
    folder = Path(chosen[0]) if chosen else Path(trainer.default_root_dir) / CHECKPOINT_FOLDER
    # Lightning moves a finished file from the temporary folder, which may be another disk; the
    # last step has to be a rename for the name to be there wholly or not at all.
    part = folder / f"{_LAST_NAME}.part"
    trainer.save_checkpoint(part, weights_only=False)
    if trainer.is_global_zero:
        part.replace(folder / _LAST_NAME)
    trainer.strategy.barrier("the checkpoint has its name")
    return folder / _LAST_NAME
