"""The ledger of a run: every score once, whatever the number of processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_lightning import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torchmetrics.utilities.distributed import gather_all_tensors

from callbacks.ledger import ClipScores, Names, ledger_frame, write_ledger
from callbacks.provenance import provenance_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytorch_lightning import LightningModule, Trainer
    from torch import Tensor

    from datamodules.schema import ClipRef, VideoRecord

_log = logging.getLogger(__name__)

#: What a step returns for its batch, each of shape (B,).
STEP_KEYS = ("logit", "label", "video_index", "clip_index")


class ScoreWriter(Callback):
    """Write the scores of validate, test and predict into the run folder.

    `scores/<stage>.parquet` is a ledger: one row a clip, and one for each video without any; the
    CSV beside it is for eyes. With several sets the stage is `<stage>-<name>`. Stages are `val`,
    `test` and `predict`. The validation inside a fit writes nothing: a ledger belongs to one
    checkpoint. Nor does a fast_dev_run.

    The module's steps return a dict of STEP_KEYS, and `frame_logit`, (B, T), where they score
    frames; its `video_pooling` is the rule from clips to a video, without one it is their mean. The
    datamodule tells names by `records`, `clip_refs(split)`, `unscored(split)`, `test_names` and
    `manifest_hash`; without them rows carry numbers only. Its `condition` says what was done to
    the videos, in the columns `callbacks.ledger.ORDINARY`.
    """

    def __init__(self) -> None:
        self._batches: dict[int, list[dict[str, Tensor]]] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of a batch."""
        if _is_wanted(trainer):
            self._keep(outputs, pl_module, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of a batch."""
        if _is_wanted(trainer):
            self._keep(outputs, pl_module, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the scores of a batch."""
        if _is_wanted(trainer):
            self._keep(outputs, pl_module, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the ledger of the validation set."""
        self._write(trainer, "val", len(trainer.num_val_batches))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a ledger for each test set."""
        self._write(trainer, "test", len(trainer.num_test_batches))

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the ledger of the predicted videos."""
        self._write(trainer, "predict", len(trainer.num_predict_batches))

    def _keep(self, outputs: object, pl_module: LightningModule, dataloader_idx: int) -> None:
        if not isinstance(outputs, dict) or any(key not in outputs for key in STEP_KEYS):
            raise TypeError(
                f"ScoreWriter: the steps of {type(pl_module).__name__} must return a dict of "
                f"{', '.join(STEP_KEYS)}; got {type(outputs).__name__}"
            )
        wanted = (*STEP_KEYS, *(k for k in ("frame_logit",) if k in outputs))
        self._batches.setdefault(dataloader_idx, []).append(
            {key: outputs[key].detach() for key in wanted}
        )

    def _write(self, trainer: Trainer, stage: str, num_sets: int) -> None:
        batches, self._batches = self._batches, {}
        if not _is_wanted(trainer):
            return
        for index in range(num_sets):  # all ranks gather as often, also without a batch
            scores = _gather(trainer, batches.get(index, []))
            if trainer.is_global_zero:
                _write_set(trainer, stage, _set_name(trainer, stage, index, num_sets), scores)
        trainer.strategy.barrier("scores are written")


def _is_wanted(trainer: Trainer) -> bool:
    fast: object = trainer.fast_dev_run  # type: ignore[attr-defined]
    return trainer.state.fn != TrainerFn.FITTING and not fast


def _gather(trainer: Trainer, batches: Sequence[dict[str, Tensor]]) -> ClipScores:
    """Collect the clips of all ranks, equal keys once: the first in the order of ranks."""
    # One table of float64: row numbers are exact in it, and one exchange is enough. A rank without
    # a batch does not know how many frames a clip has, and needs not.
    table = torch.zeros(0, len(STEP_KEYS), dtype=torch.float64)
    if batches:
        table = torch.cat([_table(batch) for batch in batches])
    if trainer.world_size > 1:
        parts = gather_all_tensors(table.to(trainer.strategy.root_device))
        table = torch.cat([part for part in parts if len(part)] or parts[:1])
    rows = table.cpu().numpy()
    key, first = np.unique(rows[:, 2:4].astype(np.int64), axis=0, return_index=True)
    rows = rows[first]
    return ClipScores(key, rows[:, 1].astype(np.int64), rows[:, 0], rows[:, len(STEP_KEYS) :])


def _table(batch: dict[str, Tensor]) -> Tensor:
    columns = [batch[key].cpu().double().unsqueeze(1) for key in STEP_KEYS]
    if "frame_logit" in batch:
        columns.append(batch["frame_logit"].cpu().double())
    return torch.cat(columns, dim=1)


def _set_name(trainer: Trainer, stage: str, index: int, num_sets: int) -> str:
    if num_sets == 1:
        return ""
    names = getattr(trainer.datamodule, "test_names", []) if stage == "test" else []  # type: ignore[attr-defined]
    return str(names[index]) if len(names) == num_sets else str(index)


def _write_set(trainer: Trainer, stage: str, name: str, scores: ClipScores) -> None:
    data = trainer.datamodule  # type: ignore[attr-defined]
    names = _names(trainer, stage, name, scores)
    only = getattr(data, "test_names", []) if stage == "test" else []
    constants = {
        "stage": stage,
        "set": name or (only[0] if len(only) == 1 else stage),
        "pooling": getattr(getattr(trainer.lightning_module, "video_pooling", None), "key", "mean"),
        "manifest": getattr(data, "manifest_hash", ""),
        **getattr(data, "condition", {}),
    }
    stem = f"{stage}-{name}" if name else stage
    path = Path(trainer.default_root_dir) / "scores" / f"{stem}.parquet"
    write_ledger(path, ledger_frame(scores, names, provenance_of(trainer), constants))


def _names(trainer: Trainer, stage: str, name: str, scores: ClipScores) -> Names:
    data = trainer.datamodule  # type: ignore[attr-defined]
    records: Sequence[VideoRecord] = getattr(data, "records", ())
    lacking = [a for a in ("records", "clip_refs", "unscored") if not hasattr(data, a)]
    if lacking:
        _log.warning(
            "the data has no %s: the ledger leaves those columns empty", ", ".join(lacking)
        )
    scored = [records[video] for video in np.unique(scores.key[:, 0]) if video < len(records)]
    # Predict may run on any split, so the videos themselves say which.
    splits = sorted({r.split for r in scored}) or ["val" if stage == "val" else "test"]
    refs: list[ClipRef] = []
    unscored: list[VideoRecord] = []
    for split in splits:
        refs += data.clip_refs(split) if "clip_refs" not in lacking else []
        unscored += data.unscored(split) if "unscored" not in lacking else []
    if name:  # of several sets: only the videos that belong to this one
        datasets = {name, *(record.dataset for record in scored)}
        unscored = [record for record in unscored if record.dataset in datasets]
    return Names(records, refs, unscored)
