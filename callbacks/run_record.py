"""What a run was: code, data, machine, command, and how it ended."""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from pytorch_lightning import Callback
from pytorch_lightning.loggers import WandbLogger

from callbacks.cost import cost_of
from callbacks.provenance import CONFIG_NAME, code_version, digest, write_whole
from callbacks.seen import remember_seen

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

_log = logging.getLogger(__name__)

RECORD_NAME = "record.json"
_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "torchmetrics", "numpy")


class RunRecord(Callback):
    """Write `record.json` into the run folder, and send it with the configuration to W&B.

    The file holds one entry for each stage (fit, validate, test, predict) that ran in this folder,
    in order, each with what it ran on and with and how it ended: `running`, `finished`,
    `interrupted` or `failed`. A stage that was killed has no time to write; the next one marks it
    as interrupted. No name of a machine or user is kept. A fit also leaves `seen.json`: what tells
    its training and validation videos from those of a test. A fast_dev_run writes nothing.
    """

    def __init__(self) -> None:
        self._entry: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write that the stage runs."""
        fast: object = trainer.fast_dev_run  # type: ignore[attr-defined]
        if not trainer.is_global_zero or fast:
            return
        self._entry = _describe(trainer, pl_module, stage)
        if stage in ("validate", "test"):
            self._entry["cost"] = _fixed_cost(pl_module)
        record = _read(trainer)
        for entry in record["stages"]:
            if entry["status"] == "running":
                entry["status"] = "interrupted"
        record["stages"].append(self._entry)
        _write(trainer, record)
        _send(trainer, self._entry)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the method costs, what it freezes is frozen by now, and what it will see."""
        if self._entry is None:
            return
        records = getattr(getattr(trainer, "datamodule", None), "records", None)
        if records is not None:
            remember_seen(_folder(trainer), records)
        self._entry["cost"] = cost_of(pl_module)
        record = _read(trainer)
        record["stages"][-1:] = [self._entry]
        _write(trainer, record)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write that the stage is finished, and its figures."""
        self._close(trainer, "finished")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write why the stage ended early."""
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit)
        text = f"{type(exception).__name__}: {exception}".splitlines()[0]
        self._close(trainer, "interrupted" if stopped else "failed", error=text)

    def _close(self, trainer: Trainer, status: str, error: str | None = None) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        # Lightning tells the checkpoint after `setup` only.
        entry["checkpoint"] = _seen_from_folder(trainer, trainer.ckpt_path)
        entry.update(status=status, ended=_now(), error=error, metrics=_figures(trainer))
        entry.update(_best(trainer) if entry["stage"] == "fit" else {})
        record = _read(trainer)
        record["stages"][-1:] = [entry]
        _write(trainer, record)


def _describe(trainer: Trainer, pl_module: LightningModule, stage: str) -> dict[str, Any]:
    data = getattr(trainer, "datamodule", None)
    seed = os.environ.get("PL_GLOBAL_SEED")  # where Lightning's seed_everything leaves it
    return {
        "stage": stage,
        "status": "running",
        "started": _now(),
        "ended": None,
        "error": None,
        "command": _command(),
        "seed": int(seed) if seed is not None else None,
        "checkpoint": None,
        "method": type(pl_module).__name__,
        "cost": None,
        "data": type(data).__name__ if data is not None else None,
        "manifest": getattr(data, "manifest_hash", None),
        "config": digest(_config_path(trainer)),
        "code": code_version(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _PACKAGES},
        "machine": {
            "cpus": os.cpu_count(),
            "gpus": [
                torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
            ],
            "accelerator": type(trainer.accelerator).__name__,
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
        },
    }


def _fixed_cost(pl_module: LightningModule) -> dict[str, float | None]:
    """Give the cost without what is trained: nothing is frozen yet, nor need it be."""
    return {name: n for name, n in cost_of(pl_module).items() if name != "trained_parameters"}


def _command() -> str:
    # Without the interpreter's folder, which names a user's home.
    program, *words = sys.orig_argv
    return shlex.join([Path(program).name, *words])


def _seen_from_folder(trainer: Trainer, path: str | Path | None) -> str | None:
    # Absolute paths name a user's home, too.
    if not path or "://" in str(path):
        return str(path) if path else None
    return os.path.relpath(path, _folder(trainer))


def _figures(trainer: Trainer) -> dict[str, float | None]:
    # JSON has no NaN: a figure that does not exist is null.
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: value if abs(value) < float("inf") else None for name, value in figures.items()}


def _best(trainer: Trainer) -> dict[str, Any]:
    for callback in trainer.checkpoint_callbacks:
        if getattr(callback, "monitor", None) and getattr(callback, "best_model_path", ""):
            score = getattr(callback, "best_model_score", None)
            return {
                "best_checkpoint": Path(callback.best_model_path).name,  # type: ignore[attr-defined]
                "best_score": None if score is None else float(score),
                "monitor": callback.monitor,  # type: ignore[attr-defined]
            }
    return {"best_checkpoint": None, "best_score": None, "monitor": None}


def _read(trainer: Trainer) -> dict[str, Any]:
    path = _folder(trainer) / RECORD_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = [stage["status"] for stage in record["stages"]]
        return record
    except FileNotFoundError:
        pass
    except (OSError, ValueError, LookupError, TypeError) as error:
        # A record that was damaged by hand must not cost a training run.
        _log.warning("%s cannot be read (%s); it is written anew", path, error)
    return {"run": _folder(trainer).name, "stages": []}


def _write(trainer: Trainer, record: dict[str, Any]) -> None:
    write_whole(_folder(trainer) / RECORD_NAME, json.dumps(record, indent=2) + "\n")


def _send(trainer: Trainer, entry: dict[str, Any]) -> None:
    path = _config_path(trainer)
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            facts = {key: value for key, value in entry.items() if key not in ("status", "ended")}
            logger.experiment.config.update({**config, "record": facts}, allow_val_change=True)


def _config_path(trainer: Trainer) -> Path:
    return _folder(trainer) / CONFIG_NAME


def _folder(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
