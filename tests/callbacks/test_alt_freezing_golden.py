"""The authors' two optimisers, by their golden numbers."""

from __future__ import annotations

import csv
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.loggers import CSVLogger

from callbacks import AltFreezing, split_by_axis
from lightning_modules import I3D
from tests.support.trainers import ResumableLoader, tiny_trainer
from weights.convert import LAYOUTS
from weights.golden_numbers import fill_state, make_clip, read_golden

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import LightningModule, Trainer

    from callbacks.alt_freezing import Phase

GOLDEN = read_golden("altfreezing.json")["alternation"]
RUN = GOLDEN["alternating_run"]
#: What the file calls a group, by what we call it.
OFFICIAL = {"spatial": "spatial", "temporal": "temporal", "shared": "temporal+spatial"}
#: Relative; the file has ten digits.
LIMIT = 1e-8


def official(name: str) -> str:
    return LAYOUTS["altfreezing"].official_key(name.removeprefix("network."))


def build() -> I3D:
    optimizer = partial(torch.optim.SGD, lr=0.0005, momentum=0.9, weight_decay=1e-4)
    return I3D(optimizer, num_frames=RUN["T"], image_size=RUN["H"])


def test_every_parameter_is_in_its_official_group() -> None:
    with torch.device("meta"):
        groups = split_by_axis(build())._asdict()
    found = {official(name): OFFICIAL[axis] for axis, group in groups.items() for name in group}
    assert found == GOLDEN["group_of_parameter"]
    counts = {OFFICIAL[axis]: len(group) for axis, group in groups.items()}
    assert counts == GOLDEN["tensors"] == {"temporal": 9, "spatial": 16, "temporal+spatial": 136}
    elements = {OFFICIAL[a]: sum(p.numel() for p in group.values()) for a, group in groups.items()}
    assert elements == GOLDEN["elements"]


class Scripted(AltFreezing):
    """The golden run's order, T, T, S, T, S, which is no cycle."""

    def phase_at(self, step: int) -> Phase:
        """Freeze what the named optimiser does not step."""
        stepped = RUN["steps"][step]["optimizer_stepped"]
        return "spatial_frozen" if stepped == "temporal" else "temporal_frozen"


class GoldenClips(LightningDataModule):
    """Both golden clips in one batch, as often as there are steps."""

    def train_dataloader(self) -> ResumableLoader:
        clips = [make_clip(name, RUN["T"], RUN["H"], RUN["W"]) for name in ("clip0", "clip1")]
        batch = {"clip": torch.cat(clips), "label": torch.tensor([0.0, 1.0], dtype=torch.float64)}
        return ResumableLoader([batch] * len(RUN["steps"]))


class Losses(Callback):
    """Keep the loss of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Keep it."""
        self.found.append(outputs["loss"].item())


@pytest.mark.slow
def test_separate_momentum_gives_the_golden_run(tmp_path: Path) -> None:
    module = build().double()
    own = dict(module.network.state_dict())
    filled = fill_state({official(key): tuple(value.shape) for key, value in own.items()})
    module.network.load_state_dict({key: filled[official(key)] for key in own})
    module.network.dropout.p = 0.0
    losses, logger = Losses(), CSVLogger(str(tmp_path), name="", version="")
    trainer = tiny_trainer(
        tmp_path,
        *(Scripted(separate_momentum=True), losses),
        precision="64-true",
        logger=logger,
        log_every_n_steps=1,
        max_epochs=1,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=GoldenClips())
    golden = RUN["steps"]
    assert losses.found == pytest.approx([s["loss_before_step"] for s in golden], rel=LIMIT)
    lines = csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines())
    rows = [line for line in lines if line["altfreezing/phase"]]
    for row, step in zip(rows, golden, strict=True):
        norms = {OFFICIAL[axis]: float(row[f"altfreezing/update_{axis}"]) for axis in OFFICIAL}
        assert norms == pytest.approx(step["l2_change_by_group"], rel=LIMIT)
