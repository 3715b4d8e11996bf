"""Every method can learn eight clips by heart: a guard against training that gets nowhere."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from pytorch_lightning import Callback
from torch.utils.data import DataLoader

from datamodules import SyntheticDataModule
from experiments.shorthand import CONFIGS
from lightning_modules import FrameMethod
from tests.support.cases import NETWORK_CASES, MethodCase
from tests.support.trainers import tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import LightningModule, Trainer

    from datamodules.schema import ClipBatch

CLIPS = 8
BAR = 0.05
MOST_STEPS = 150
#: Height and width: what is learned by heart need not be large.
SIZES = {"i3d": 16, "ftcn_tt": 16}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered and prepared as for `make train`, only fewer: eight training videos."""
    folder = tmp_path_factory.mktemp("demo")
    _data(folder).prepare_data()
    return folder


def _data(folder: Path, **clip_size: Any) -> SyntheticDataModule:
    return SyntheticDataModule(
        data_dir=folder,
        num_identities=6,
        videos_per_identity=1,
        video_frames=10,
        frame_size=96,
        split_fractions=(0.67, 0.16, 0.17),
        render_workers=1,
        batch_size=CLIPS,
        num_workers=0,
        **clip_size,
    )


class _StopWhenLearned(Callback):
    """Keep the loss of each step, and stop below the bar."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        trainer.should_stop = self.losses[-1] < BAR


@pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda c: c.name)
def test_eight_demo_clips_are_learned_by_heart(
    case: MethodCase, demo: Path, tmp_path: Path
) -> None:
    # A frame of each clip is enough for what sees one at a time.
    frames = 1 if issubclass(case.method, FrameMethod) else case.num_frames
    size = {"num_frames": frames, "image_size": SIZES.get(case.name, case.image_size)}
    data = _data(demo, **size)
    data.setup("fit")
    batch: ClipBatch = next(iter(data.train_dataloader()))  # type: ignore[assignment]
    assert len(batch["label"]) == CLIPS
    assert batch["label"].sum() == CLIPS / 2
    recipe = yaml.safe_load((CONFIGS / f"{case.name}.yaml").read_text())["model"]["init_args"]
    frozen = bool(recipe.get("freeze_backbone", False))
    rate = 0.2 if frozen else 1e-3
    module = case.build(
        optimizer=partial(torch.optim.Adam, lr=rate), freeze_backbone=frozen, **size
    )
    watch = _StopWhenLearned()
    trainer = tiny_trainer(tmp_path, watch, max_steps=MOST_STEPS, max_epochs=-1)
    same: Any = [batch] * MOST_STEPS
    trainer.fit(module, train_dataloaders=DataLoader(same, batch_size=None))
    assert watch.losses[-1] < BAR, f"{watch.losses[-1]:.3f} after {len(watch.losses)} steps"
    assert watch.losses[0] > BAR
