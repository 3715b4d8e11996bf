"""Checkpoints that forget no validation.

Lightning takes a checkpoint that was written after a batch for one that was written after the
validation which follows that batch: the resumed run leaves it out, and with it a candidate for the
best checkpoint. One that was written inside a validation is resumed in its midst, with a metric
that saw half of the clips. Both are put right in the loop's counters before they are written.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def keep_open_validation(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Make a resumed run start with the validation that is due or under way, from its beginning.

    Changes nothing in a checkpoint without one. A final validation after `max_steps`, and one that
    is due by wall time, are not kept.

    Args:
        trainer: A trainer that is writing a checkpoint.
        checkpoint: What will be written; its loop counters are changed in place.
    """
    state = checkpoint["loops"]["fit_loop"]
    training = state["epoch_loop.batch_progress"]
    validation = state["epoch_loop.val_loop.batch_progress"]
    if not (_is_due(trainer, training) or _is_open(trainer, validation)):
        return
    for counts in (training["current"], training["total"]):
        counts["completed"] = counts["processed"]
    # A first batch that was started but never processed.
    validation["is_last_batch"] = False
    for counts in (validation["current"], validation["total"]):
        counts.update(ready=1, started=1, processed=0, completed=0)


def _is_due(trainer: Trainer, training: dict[str, Any]) -> bool:
    counts = training["current"]
    inside_batch_end = counts["processed"] == counts["completed"] + 1
    if not inside_batch_end or not trainer.enable_validation:
        return False
    every_epochs = trainer.check_val_every_n_epoch
    if every_epochs is not None and (trainer.current_epoch + 1) % every_epochs:
        return False
    # Batches, infinite for the end of the epoch, or None for wall time.
    every_batches: float | None = trainer.val_check_batch
    if every_batches is None or every_batches == inf:
        return every_batches is not None and trainer.is_last_batch
    loop = trainer.fit_loop
    batch = loop.total_batch_idx if every_epochs is None else loop.batch_idx
    return (batch + 1) % every_batches == 0


def _is_open(trainer: Trainer, validation: dict[str, Any]) -> bool:
    counts = validation["current"]
    ended = validation["is_last_batch"] and counts["completed"] == counts["processed"]
    return trainer.validating and not ended
