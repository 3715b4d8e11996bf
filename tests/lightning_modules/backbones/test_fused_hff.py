"""The fused way of HFF gives what the modules one by one give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.backbones import fused_hff
from lightning_modules.backbones.hff import HFFNetwork


def make(size: int = 64, **options: Any) -> HFFNetwork:
    """Build a small network in which every number matters."""
    torch.manual_seed(0)
    network = HFFNetwork(size, **{"width": 8} | options).eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif "gamma" in name:
            tensor.fill_(0.6)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -0.5, 1.5)
            nn.init.normal_(module.bias)
    return network


@torch.no_grad()
def compare(network: HFFNetwork, batch: int, dtype: torch.dtype) -> None:
    image = 4 * torch.rand(batch, 3, network.image_size, network.image_size) - 2
    image, network = image.to(dtype), network.to(dtype)
    kept = image.clone()
    assert fused_hff.is_applicable(network, image)
    fused = network(image)
    network.fused = False
    tolerance = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {}
    for mine, expected in zip(fused, network(image), strict=True):
        torch.testing.assert_close(mine, expected, **tolerance)
    assert torch.equal(image, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 7},
        {"size": 32, "srm_layout": "intended", "fusion": "multiply", "head": "angle_linear"},
    ],
)
def test_outputs_are_equal(options: dict[str, Any], dtype: torch.dtype) -> None:
    for batch in (1, 5):
        compare(make(**options), batch, dtype)


@pytest.mark.slow
def test_outputs_are_equal_at_the_official_size() -> None:
    compare(make(256, width=32), 2, torch.float32)


def test_rows_are_multiplied_by_either_library_alike() -> None:
    weight, bias = torch.randn(24, 12, 1, 1), torch.randn(24)
    few, many = torch.randn(1, 4, 4, 12), torch.randn(2, 16, 16, 12)
    for maps in (few, many, many[:, ::2, ::2]):
        expected = maps @ weight[..., 0, 0].T + bias
        torch.testing.assert_close(fused_hff._pointwise(maps, weight, bias), expected)


def test_truncated_responses_are_mixed_as_by_the_module() -> None:
    network = make()
    maps = 20 * torch.randn(2, 9, 9, 8)  # far beyond the truncation
    with torch.no_grad():
        expected = network.inject1(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(
            fused_hff._injected(network.inject1, maps), expected, rtol=1e-4, atol=1e-5
        )


def test_it_stays_away_where_it_would_differ() -> None:
    network, image = make(16), torch.zeros(1, 3, 16, 16)
    assert not fused_hff.is_applicable(network, image)  # gradients are recorded
    with torch.no_grad():
        assert fused_hff.is_applicable(network, image)
        with torch.autocast("cpu", torch.bfloat16):
            assert not fused_hff.is_applicable(network, image)
        handle = network.get_submodule("high.block4").register_forward_hook(lambda *_: None)
        assert not fused_hff.is_applicable(network, image)
        handle.remove()
        assert not fused_hff.is_applicable(network.train(), image)
        network.eval().guided.train()  # a norm that still learns
        assert not fused_hff.is_applicable(network, image)
    frozen = make(16).requires_grad_(False)
    assert fused_hff.is_applicable(frozen, image)
    assert not fused_hff.is_applicable(frozen, image.requires_grad_())
