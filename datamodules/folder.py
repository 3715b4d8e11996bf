"""Videos of the user's own, prepared by `make data`."""

from __future__ import annotations

from datamodules.video_datamodule import VideoDataModule


class FolderDataModule(VideoDataModule):
    """Clips of a prepared folder; `make train EXP=ftcn_tt DATA=folder ROOT=<prepared>`."""
