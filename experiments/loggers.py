"""Loggers of a run: CSV always, W&B beside it with the same keys."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info

from experiments.run_folder import EVALUATIONS
from experiments.wandb_access import has_key, project

if TYPE_CHECKING:
    from experiments.shorthand import Shorthand

#: Seconds to wait for the W&B server before going on offline.
_INIT_TIMEOUT_S = 30


def make_loggers(typed: Shorthand, folder: Path, stage: str) -> list[Logger]:
    """Build the loggers of a run.

    Args:
        typed: The understood command line; its `--wandb` decides on W&B.
        folder: The run folder.
        stage: Lightning stage; becomes the W&B job type.

    Returns:
        A CSV logger, and a W&B logger unless it is off. W&B is offline unless a key is set, and
        a server that does not answer turns it offline: a run never fails for its tracking.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loggers: list[Logger] = [CSVLogger(str(folder), name=_new_name(folder), version="")]
    mode = typed.options.get("wandb", "auto")
    if mode == "off":
        return loggers
    offline = mode == "offline" or (mode == "auto" and not has_key())
    loggers.append(_wandb(typed, folder, stage, offline))
    return loggers


def _new_name(folder: Path) -> str:
    # A CSV logger deletes what it finds; a resumed run must not lose what came before.
    names = ["metrics", *(f"metrics-{k}" for k in range(2, 10_000))]
    return next(name for name in names if not (folder / name / "metrics.csv").exists())


def finish_loggers() -> None:
    """Close the W&B run of this process, so that the next run in it starts its own."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def quieten(stage: str) -> None:
    """Drop notices that a user of the suite can do nothing about; warnings of substance stay.

    Args:
        stage: Lightning stage.
    """
    if stage != "fit":
        # An evaluation writes elsewhere than the fit did, and saves no checkpoint.
        warnings.filterwarnings("ignore", "The dirpath has changed from.*")
    # What is logged is the same on all ranks already: the metric gathers by itself.
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")
    # Loaders are sized on purpose, and a demo's epoch may be shorter than the logging interval.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(("💡 Tip", "TPU available", "Seed set to"))


def _wandb(typed: Shorthand, folder: Path, stage: str, offline: bool) -> WandbLogger:
    import wandb

    # Names and groups are the folder's, so that a run is found from either side; the fixed id
    # makes a resumed run go on in the same W&B run.
    logger = WandbLogger(
        name=_wandb_name(folder),
        version=_wandb_name(folder),
        save_dir=str(folder),
        project=project(),
        group=typed.options.get("exp"),
        job_type=stage,
        tags=[typed.options.get("data", "own")],
        mode="offline" if offline else "online",
        settings=wandb.Settings(init_timeout=_INIT_TIMEOUT_S, silent=True, console="off"),
    )
    # Lightning passes on a setting that W&B no longer knows, and W&B warns the user of it.
    logger._wandb_init.pop("anonymous", None)
    _forget_hooks_in_workers()
    if not offline:
        try:
            _ = logger.experiment
        except wandb.Error as error:
            rank_zero_info(f"W&B does not answer ({error}); this run is logged offline")
            return _wandb(typed, folder, stage, offline=True)
    return logger


@cache
def _forget_hooks_in_workers() -> None:
    """Keep W&B from counting what loading processes import: it fails in what it did not start."""
    from wandb.sdk.lib.import_hooks import unregister_all_post_import_hooks

    os.register_at_fork(after_in_child=unregister_all_post_import_hooks)


def _wandb_name(folder: Path) -> str:
    # Tests of two runs under one protocol lie in folders of one name.
    inner = folder.parent.name == EVALUATIONS
    return f"{folder.parents[1].name}-{folder.name}" if inner else folder.name
