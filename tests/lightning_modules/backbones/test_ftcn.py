"""The whole network: its sizes, and clips it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_modules.backbones.ftcn import FTCNNetwork


@pytest.mark.parametrize(
    ("structure", "parameters"), [("released", 14_765_889), ("paper", 26_585_921)]
)
def test_number_of_parameters(structure: Any, parameters: int) -> None:
    with torch.device("meta"):
        network = FTCNNetwork(structure)
    assert sum(p.numel() for p in network.parameters()) == parameters


def make(**arguments: Any) -> FTCNNetwork:
    defaults = {"num_frames": 8, "image_size": 32, "width": 4}
    return FTCNNetwork(**{**defaults, **arguments})


def test_scores_and_features_of_a_batch() -> None:
    network = make().eval()
    clip = torch.randn(3, 3, 8, 32, 32)
    with torch.no_grad():
        logit, features = network(clip)
        alone, _ = network(clip[1:2])
    assert logit.shape == (3,)
    assert features.shape == (3, 64)
    torch.testing.assert_close(alone, logit[1:2])


def test_gradients_reach_every_weight() -> None:
    network = make()
    for block in network.backbone.modules():
        if hasattr(block, "c"):  # starts at scale 0, which stops gradients inside the block
            torch.nn.init.ones_(block.c.bn.weight)
    network(torch.randn(2, 3, 8, 32, 32))[0].sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"structure": "big"}, "'big'.*released.*paper"),
        ({"num_frames": 7}, "7 frames.*even.*2 to 32"),
        ({"num_frames": 34}, "34 frames.*even.*2 to 32"),
        ({"num_frames": 0}, "0 frames"),
        ({"image_size": 12}, "12 x 12.*14 x 14 at least"),
        ({"image_size": 28, "structure": "paper"}, "28 x 28.*30 x 30 at least"),
    ],
)
def test_refuses_what_it_cannot_be_built_for(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 32, 32), "clips of 8 frames and got 16.*num_frames"),
        ((1, 3, 8, 64, 32), "32 x 32 pixels and got 64 x 32.*image_size"),
        ((1, 1, 8, 32, 32), r"\(B, 3, T, H, W\), not \(1, 1, 8, 32, 32\)"),
        ((3, 8, 32, 32), r"not \(3, 8, 32, 32\)"),
    ],
)
def test_refuses_clips_it_was_not_built_for(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(torch.zeros(shape))


def test_takes_any_size_when_asked_to() -> None:
    network = make(image_size=None).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 8, 37, 50))[0].shape == (1,)
    with pytest.raises(ValueError, match=r"10 x 32.*14 x 14"):
        network(torch.randn(1, 3, 8, 10, 32))


def test_a_short_clip_s_network_has_the_weights_of_a_long_clip_s() -> None:
    short, long = make(num_frames=8), make(num_frames=32)
    long.load_state_dict(short.state_dict())


def test_can_be_exported() -> None:
    network = make().eval()
    clip = torch.randn(1, 3, 8, 32, 32)
    exported = torch.export.export(network, (clip,))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(clip)[0], network(clip)[0])
