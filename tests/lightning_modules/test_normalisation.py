from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from datamodules import FolderDataModule
from lightning_modules import ForgeryModule
from lightning_modules.normalisation import CLIP, HALF, IMAGENET, Normalisation
from lightning_modules.outputs import ForgeryOutput
from tests.support.stores import write_store
from tests.support.trainers import tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path


def raw(dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 5, 4, 3), generator=generator, dtype=torch.uint8).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_numbers_are_those_of_the_official_code(dtype: torch.dtype) -> None:
    """FTCN's inference code: 255 times ImageNet's values, on 0..255."""
    mean = torch.tensor([255 * 0.485, 255 * 0.456, 255 * 0.406])
    std = torch.tensor([255 * 0.229, 255 * 0.224, 255 * 0.225])
    wanted = ((raw().float() - mean) / std).permute(0, 4, 1, 2, 3)
    found = IMAGENET.apply(raw(dtype))
    assert found.equal(wanted)
    assert found.is_contiguous()


def test_half_maps_black_to_minus_one_and_white_to_one() -> None:
    clip = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 3)
    assert HALF.apply(clip).flatten().tolist() == [-1, 1] * 3


def test_channels_have_their_own_numbers() -> None:
    white = torch.full((1, 1, 1, 1, 3), 255, dtype=torch.uint8)
    wanted = [(1 - m) / s for m, s in zip(CLIP.mean, CLIP.std, strict=True)]
    assert CLIP.apply(white).flatten().tolist() == pytest.approx(wanted, rel=1e-6)


class _Watched(ForgeryModule):
    """Remember what the network is given."""

    normalisation = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))

    def __init__(self) -> None:
        super().__init__(partial(torch.optim.SGD, lr=0.1), num_frames=4, image_size=16)
        self.net = torch.nn.Linear(3, 1)
        self.seen: list[torch.Tensor] = []

    def forward(self, clip: torch.Tensor) -> ForgeryOutput:
        self.seen.append(clip)
        return ForgeryOutput(self.net(clip.mean(dim=(2, 3, 4))).squeeze(1))


def test_every_stage_gives_the_network_its_own_numbers(tmp_path: Path) -> None:
    counts: Any = {(split, label): 1 for split in ("train", "val", "test") for label in (0, 1)}
    write_store(tmp_path / "store", counts)
    data = FolderDataModule(
        root=tmp_path / "store", num_frames=4, image_size=16, batch_size=2, num_workers=0
    )
    trainer, module = tiny_trainer(tmp_path, max_epochs=1), _Watched()
    trainer.fit(module, datamodule=data)
    # One step of training and the validation behind it.
    first = next(iter(data.train_dataloader()))["clip"]
    assert module.seen[0].equal(_Watched.normalisation.apply(first))
    for stage, loader in (
        (trainer.validate, data.val_dataloader),
        (trainer.test, data.test_dataloader),
        (trainer.predict, data.predict_dataloader),
    ):
        module.seen.clear()
        stage(module, datamodule=data)  # type: ignore[operator]
        wanted = torch.cat([batch["clip"] for batch in loader()])
        assert torch.cat(module.seen).equal(_Watched.normalisation.apply(wanted))
