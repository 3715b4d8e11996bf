"""A run folder as a fit leaves it, with random weights, for tests of what reads runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from tests.support.cases import MethodCase


def write_run(folder: Path, case: MethodCase, checkpoint: str = "best.ckpt") -> Path:
    """Write `config.yaml` and one checkpoint of a small method.

    Args:
        folder: The run folder to make.
        case: The method.
        checkpoint: Name of the checkpoint.

    Returns:
        `folder`.
    """
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config(case)), encoding="utf-8")
    model = case.build()
    content: dict[str, Any] = {"state_dict": model.state_dict(), "epoch": 0}
    model.on_save_checkpoint(content)
    torch.save(content, folder / "checkpoints" / checkpoint)
    return folder


def config(case: MethodCase) -> dict[str, Any]:
    """Build the configuration that LightningCLI saves: linked arguments stand in `data` alone."""
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "weight_decay": 0.0}}
    return {
        "seed_everything": 1,
        "trainer": {"max_epochs": 1},
        "model": {
            "class_path": f"{case.method.__module__.split('.')[0]}.{case.method.__name__}",
            "init_args": {"optimizer": optimizer, "weights": "not/here.pth", **case.tiny},
        },
        "data": {
            "class_path": "datamodules.FolderDataModule",
            "init_args": {
                "root": "prepared",
                "num_frames": case.num_frames,
                "image_size": case.image_size,
            },
        },
    }
