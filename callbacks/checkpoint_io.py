"""Checkpoints that are there wholly or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO

if TYPE_CHECKING:
    from lightning_fabric.utilities.types import _PATH


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, and rename it when it is complete.

    Lightning writes into the system's temporary folder and moves the file; where that is another
    disk the move is a copy, and a run that is killed in it leaves half a file under the name of
    the only good one. It also holds all bytes in memory before. A folder that is not local is left
    to Lightning.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What the trainer collected.
            path: Where to; the folder is made if it is missing.
            storage_options: Not supported.

        Raises:
            OSError: If the disk refuses it; an older file under the name stays as it was.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except RuntimeError as error:
            # The archive writer hides the disk's reason behind a complaint about positions.
            if isinstance(error.__context__, OSError):
                reason = error.__context__
                raise OSError(reason.errno, reason.strerror, str(target)) from error
            raise
        finally:
            part.unlink(missing_ok=True)
