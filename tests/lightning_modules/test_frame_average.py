from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from lightning_modules import FrameAverage
from lightning_modules.normalisation import CLIP, HALF, IMAGENET
from tests.support.cases import METHOD_CASES
from tests.support.trainers import tiny_trainer

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 32
#: The least network of timm with batch norms, and one with layer norms.
CONV, TRANSFORMER = "test_resnet", "test_vit"


def build(encoder: str = CONV, **options: Any) -> FrameAverage:
    torch.manual_seed(0)
    return FrameAverage(partial(torch.optim.Adam, lr=0.1), encoder, image_size=SIZE, **options)


def clips() -> torch.Tensor:
    return torch.randn(2, 3, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_frames_are_told_apart_and_do_not_see_each_other() -> None:
    module = build().eval()
    clip = clips()
    changed = clip.clone()
    changed[1, :, 2] += 1
    with torch.no_grad():
        moved = (module(clip).frame_logit - module(changed).frame_logit).abs() > 1e-6
    assert moved.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("size", [32, 96])
def test_a_transformer_is_built_for_the_size(size: int) -> None:
    module = FrameAverage(partial(torch.optim.Adam, lr=0.1), TRANSFORMER, image_size=size).eval()
    with torch.no_grad():
        assert module(torch.randn(1, 3, 1, size, size)).logit.shape == (1,)


@pytest.mark.parametrize(
    ("library", "encoder", "patch"), [("timm", TRANSFORMER, 16), ("open_clip", "ViT-S-32-alt", 32)]
)
def test_frames_that_are_no_whole_patches_are_refused(
    library: Any, encoder: str, patch: int
) -> None:
    with pytest.raises(ValueError, match=f"{encoder} .* {patch} pixels: image_size 50 is no mult"):
        FrameAverage(partial(torch.optim.Adam, lr=0.1), encoder, library, image_size=50)


def test_normalisation_is_the_encoders_or_as_asked() -> None:
    assert build("legacy_xception").normalisation == HALF
    assert build("efficientnet_b0").normalisation == IMAGENET
    assert build("efficientnet_b0", normalisation="half").normalisation == HALF
    (case,) = (case for case in METHOD_CASES if case.name == "clip_linear")
    assert case.build().normalisation == CLIP


def test_names_that_are_none_are_refused_with_near_ones() -> None:
    with pytest.raises(ValueError, match="timm has no model 'legacy_x'; there are legacy_xception"):
        build("legacy_x")
    with pytest.raises(ValueError, match="open_clip has no model 'nothing'"):
        build("nothing", library="open_clip")


class _Batches(torch.utils.data.Dataset[Any]):
    """Raw clips with both labels."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        clip = torch.randint(0, 256, (2, SIZE, SIZE, 3), generator=generator, dtype=torch.uint8)
        return {"clip": clip, "label": torch.tensor(float(index % 2))}


def moved_by_training(module: FrameAverage, folder: Path) -> set[str]:
    """Train for an epoch; name the entries of the state that are not as before."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    loader = torch.utils.data.DataLoader(_Batches(), batch_size=2)
    tiny_trainer(folder, max_epochs=1).fit(module, train_dataloaders=loader)
    return {key for key, value in module.state_dict().items() if not value.equal(before[key])}


HEAD = {"network.head.weight", "network.head.bias"}


def test_a_frozen_encoder_stays_as_it_is_with_its_norms(tmp_path: Path) -> None:
    assert moved_by_training(build(freeze_backbone=True), tmp_path) == HEAD
    assert "network.encoder.network.bn1.running_mean" in moved_by_training(build(), tmp_path)


def test_a_frozen_encoder_keeps_nothing_for_a_backward_pass(tmp_path: Path) -> None:
    module = build(freeze_backbone=True)
    module.freeze_parts()
    output = module.train()(clips())
    assert output.features is not None
    assert not output.features.requires_grad
    assert output.logit.requires_grad


def test_layer_norms_alone_can_be_tuned(tmp_path: Path) -> None:
    module = build(TRANSFORMER, freeze_backbone=True, tune_layer_norms=True)
    norms = {
        f"network.encoder.{name}.{part}"
        for name, child in module.network.encoder.named_modules()
        if isinstance(child, nn.LayerNorm)
        for part in ("weight", "bias")
    }
    assert len(norms) > 2
    assert moved_by_training(module, tmp_path) == HEAD | norms


def test_layer_norms_that_are_not_there_or_not_frozen_are_refused() -> None:
    with pytest.raises(ValueError, match="test_resnet has no layer norms"):
        build(freeze_backbone=True, tune_layer_norms=True)
    with pytest.raises(ValueError, match="goes with freeze_backbone"):
        build(TRANSFORMER, tune_layer_norms=True)
