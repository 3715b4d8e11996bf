"""The I3D network: its size, its start, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_modules.backbones.i3d import I3DNetwork
from lightning_modules.backbones.resnet3d import ConvNorm


def test_number_of_parameters_of_each_part() -> None:
    with torch.device("meta"):
        network = I3DNetwork()
    backbone = network.backbone
    parts = {"stem": backbone.stem, **dict(backbone.stages.items()), "head": network.head}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert counts == {
        "stem": 47_168,
        "stage2": 289_536,
        "stage3": 1_416_192,
        "stage4": 8_409_088,
        "stage5": 17_061_888,
        "head": 2_049,
    }
    assert sum(counts.values()) == sum(p.numel() for p in network.parameters()) == 27_225_921
    assert len(list(network.parameters())) == 161


def test_initialisation_is_the_official_one() -> None:
    torch.manual_seed(0)
    network = I3DNetwork()
    for name, layer in network.named_modules():
        if not isinstance(layer, ConvNorm):
            continue
        weight = layer.conv.weight.detach()
        std = math.sqrt(2 / (weight.shape[0] * math.prod(weight.shape[2:])))
        assert float(weight.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel()))
        assert layer.bn.weight.unique().tolist() == [float(not name.endswith(".c"))]
        assert not layer.bn.bias.any()
        assert (layer.bn.eps, layer.bn.momentum) == (1e-5, 0.1)
    assert float(network.head.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert not network.head.bias.any()
    assert network.dropout.p == 0.5


def small(**arguments: int | None) -> I3DNetwork:
    torch.manual_seed(0)
    return I3DNetwork(**{"num_frames": 8, "image_size": 32, "width": 4, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 32, 32), "8 frames and got 16; set num_frames"),
        ((1, 3, 8, 40, 40), "32 x 32 pixels and got 40 x 40; set image_size"),
        ((1, 3, 8, 24, 32), "got 24 x 32"),
        ((3, 8, 32, 32), "takes clips of shape"),
        ((1, 1, 8, 32, 32), "takes clips of shape"),
    ],
)
def test_clips_it_was_not_built_for_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(torch.zeros(shape))


@pytest.mark.parametrize("num_frames", [0, 1, 7])
def test_frames_must_come_in_pairs(num_frames: int) -> None:
    with pytest.raises(ValueError, match=f"{num_frames} frames a clip"):
        I3DNetwork(num_frames, width=4)


@pytest.mark.parametrize(("frames", "height", "width"), [(2, 1, 1), (8, 33, 47), (64, 32, 32)])
def test_a_clip_has_one_output_at_any_size(frames: int, height: int, width: int) -> None:
    network = small(num_frames=frames, image_size=None).eval()
    with torch.no_grad():
        logit, feature = network(torch.randn(2, 3, frames, height, width))
    assert logit.shape == (2,)
    assert feature.shape == (2, 128)


def test_no_clip_has_no_output() -> None:
    network = small().eval()
    with torch.no_grad():
        logit, feature = network(torch.zeros(0, 3, 8, 32, 32))
    assert (logit.shape, feature.shape) == ((0,), (0, 128))


def test_frozen_weights_get_no_gradient_and_the_others_theirs() -> None:
    network, whole = small().train(), small().train()
    for module in (network, whole):
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm3d):
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
    frozen = [w for w in network.parameters() if w.ndim == 5 and w.shape[3] > 1 and w.shape[2] == 1]
    assert len(frozen) == 16
    for weight in frozen:
        weight.requires_grad_(False)
    clip = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(2))
    for module in (network, whole):
        torch.manual_seed(3)  # dropout
        module(clip)[0].square().sum().backward()
    for mine, other in zip(network.parameters(), whole.parameters(), strict=True):
        assert (mine.grad is None) == (not mine.requires_grad)
        if mine.grad is not None:
            assert other.grad is not None
            torch.testing.assert_close(mine.grad, other.grad)
