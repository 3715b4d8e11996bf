"""The two-stream network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_modules.backbones.hff import AngleLinear, HFFNetwork
from lightning_modules.backbones.xception import XceptionTrunk, map_size


def make(size: int = 32, **options: Any) -> HFFNetwork:
    torch.manual_seed(0)
    network = HFFNetwork(size, width=8, **options)
    for module in (network.cross0, network.cross1):  # otherwise the identity
        module.gamma1.data.fill_(0.5)
        module.gamma2.data.fill_(0.5)
    return network


@pytest.mark.parametrize("size", [7, 32, 64])
def test_scores_features_and_attention_at_small_sizes(size: int) -> None:
    with torch.no_grad():
        scores = make(size).eval()(torch.randn(2, 3, size, size))
    stem = (size - 3) // 2 - 1
    assert scores.logits.shape == (2, 2)
    assert scores.features.shape == (2, 512)
    assert scores.attention.shape == (2, 1, stem, stem)
    assert all(part.isfinite().all() for part in scores)


def test_maps_are_as_large_as_the_trunk_makes_them() -> None:
    assert map_size(256) == 16
    assert map_size(299) == 19
    trunk = XceptionTrunk(width=4)
    for size in (7, 31, 32, 64):
        with torch.no_grad():
            maps = trunk.blocks(trunk.second(trunk.first(torch.randn(2, 3, size, size))), 1, 3)
        assert maps.shape[2:] == (map_size(size),) * 2


def test_other_sizes_and_shapes_are_refused_with_the_remedy() -> None:
    network = make(32)
    with pytest.raises(ValueError, match=r"32 x 32 pixels .* got 64 x 64; set image_size alike"):
        network(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\), not \(1, 3, 4, 32, 32\)"):
        network(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(ValueError, match="image_size 6 is too small"):
        make(6)
    with pytest.raises(ValueError, match="width 0 leaves no channels"):
        HFFNetwork(32, width=0)
    with pytest.raises(ValueError, match="no fusion 'add'"):
        make(fusion="add")
    with pytest.raises(ValueError, match="no head 'cosine'"):
        make(head="cosine")


def test_fusions_differ_by_the_map_itself() -> None:
    networks = {fusion: make(fusion=fusion).eval() for fusion in ("residual", "multiply")}
    x, y = torch.randn(2, 2, 512, 1, 1).relu()
    with torch.no_grad():
        residual, multiply = (n.fusion(x, y) for n in networks.values())
        maps = networks["residual"].fusion.mix(torch.cat([x, y], 1))
    torch.testing.assert_close(residual - multiply, maps)


def test_every_parameter_gets_a_gradient_and_no_filter_does() -> None:
    network = make().train()
    network(torch.randn(2, 3, 32, 32)).logits.square().sum().backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]
    assert not [name for name, _ in network.named_parameters() if name.endswith("kernel")]
    assert sum(name.endswith("kernel") for name in network.state_dict()) == 4


def test_angle_head_gives_cosines_in_half_precision_too() -> None:
    head = AngleLinear(6, 2)
    torch.testing.assert_close(head.weight.norm(dim=0), torch.ones(2))
    head.weight.data *= 3  # length says nothing
    feature = (7 * head.weight[:, 0]).detach()[None]
    assert head(feature)[0, 0].item() == pytest.approx(1)
    with torch.autocast("cpu", torch.bfloat16):
        cosines = head(torch.randn(3, 6).bfloat16())
    assert cosines.dtype == torch.float32
    assert cosines.abs().max() <= 1
