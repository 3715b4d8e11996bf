"""Data: from a file on disk to a batch on the device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.folder import FolderDataModule
    from datamodules.synthetic.datamodule import SyntheticDataModule
    from datamodules.video_datamodule import VideoDataModule

__all__ = ["FolderDataModule", "SyntheticDataModule", "VideoDataModule"]

_HOMES = {
    "FolderDataModule": "datamodules.folder",
    "SyntheticDataModule": "datamodules.synthetic.datamodule",
    "VideoDataModule": "datamodules.video_datamodule",
}


def __getattr__(name: str) -> Any:
    """Import a datamodule when it is asked for: `datamodules.schema` must not cost Lightning."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
