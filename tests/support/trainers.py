"""A method and a data set of a few numbers, for tests of callbacks and metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.schema import ClipRef, VideoRecord
from lightning_modules.video_scores import VideoScores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Batch = dict[str, Tensor]

#: Numbers in a clip.
WIDTH = 4
FPS = 10.0
CLIP_FRAMES = 8
#: Clips of each video; the last one has no face.
CLIPS_OF_VIDEO = (2, 1, 3, 1, 2, 0)


def make_records() -> list[VideoRecord]:
    """Six test videos, three of them fake, the last without a clip."""
    return [
        VideoRecord(
            video_id=f"tiny/c23/{'Deepfakes' if index % 2 else 'real'}/{index:03d}",
            path=f"{index}.mp4",
            label=index % 2,
            dataset="tiny",
            split="test",
            group_ids=(f"person {index // 2}",),
            method="Deepfakes" if index % 2 else None,
            compression="c23",
            fps=FPS,
            status="ok" if clips else "no_face",
        )
        for index, clips in enumerate(CLIPS_OF_VIDEO)
    ]


def make_clips() -> list[Batch]:
    """All clips in order: uncollated samples whose numbers are a function of their key."""
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "clip": torch.randn(WIDTH, generator=generator),
            "label": torch.tensor(float(video % 2)),
            "video_index": torch.tensor(video),
            "clip_index": torch.tensor(clip),
        }
        for video, clips in enumerate(CLIPS_OF_VIDEO)
        for clip in range(clips)
    ]


class ResumableLoader:
    """Batches whose position is saved and restored, as the trainer's exact resume needs it."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.position = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        start, self.position = self.position % len(self.batches), 0
        for index in range(start, len(self.batches)):
            self.position = index + 1
            yield self.batches[index]

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class TinyData(LightningDataModule):
    """Six training batches of two clips; nine test clips of five videos."""

    def __init__(self, test_names: Sequence[str] = ("tiny",)) -> None:
        super().__init__()
        self.records = make_records()
        self.test_names = list(test_names)
        self.manifest_hash = "0123456789abcdef"

    def clip_refs(self, split: str) -> list[ClipRef]:
        return [
            ClipRef(
                video_index=video,
                clip_index=clip,
                track_index=0,
                positions=tuple(range(clip * CLIP_FRAMES, (clip + 1) * CLIP_FRAMES)),
                start_s=clip * CLIP_FRAMES / FPS,
                end_s=(clip + 1) * CLIP_FRAMES / FPS,
            )
            for video, clips in enumerate(CLIPS_OF_VIDEO)
            for clip in range(clips if split == "test" else 0)
        ]

    def unscored(self, split: str) -> list[VideoRecord]:
        return [r for r in self.records if r.status != "ok" and r.split == split]

    def train_dataloader(self) -> ResumableLoader:
        generator = torch.Generator().manual_seed(3)
        label = torch.tensor([0.0, 1.0])
        clips = [torch.randn(2, WIDTH, generator=generator) for _ in range(6)]
        return ResumableLoader([{"clip": clip, "label": label} for clip in clips])

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(make_clips(), batch_size=2)  # type: ignore[arg-type]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return [self.val_dataloader() for _ in self.test_names]

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.val_dataloader()


class TinyModule(LightningModule):
    """One weighted sum behind dropout, with the steps' contract of the suite's methods.

    Args:
        bad_clip: A (video_index, clip_index) whose logit is NaN.
    """

    def __init__(self, bad_clip: tuple[int, int] | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = nn.Parameter(torch.randn(WIDTH, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.scores = VideoScores()
        self.bad_clip = bad_clip

    def forward(self, clip: Tensor) -> Tensor:
        return (self.dropout(clip) * self.weight).sum(dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(batch["clip"]), batch["label"])

    def validation_step(self, batch: Batch, batch_idx: int) -> Batch:
        return self._score(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Batch:
        return self._score(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Batch:
        return self._score(batch)

    def on_validation_epoch_end(self) -> None:
        self.log("val/video_auc", self.scores.compute()["video_auc"])
        self.scores.reset()

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{k}": v for k, v in self.scores.compute().items()})
        self.scores.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def _score(self, batch: Batch) -> Batch:
        keys = {k: batch[k] for k in ("label", "video_index", "clip_index")}
        logit = self(batch["clip"])
        if self.bad_clip is not None:
            video, clip = self.bad_clip
            bad = (keys["video_index"] == video) & (keys["clip_index"] == clip)
            logit = logit.masked_fill(bad, float("nan"))
        else:
            self.scores.update(logit, **keys)
        return {"logit": logit, **keys}


class Kick(Callback):
    """Send a signal to this process in the n-th batch of training or validation."""

    def __init__(self, where: str, count: int, number: int) -> None:
        self.where = where
        self.left = count
        self.number = number

    def on_train_batch_start(self, *_: Any) -> None:
        """Count."""
        self._count("train")

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Count."""
        self._count("val")

    def _count(self, where: str) -> None:
        self.left -= where == self.where
        if self.left == 0 and where == self.where:
            os.kill(os.getpid(), self.number)


def tiny_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    """A silent trainer on one CPU process that writes into `folder`."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 2,
    }
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**defaults, **options})
