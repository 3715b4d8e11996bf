from __future__ import annotations

import pytest
import torch
from torch import nn

from callbacks.cost import cost_of
from tests.support.cases import NETWORK_CASES, MethodCase


class Known(nn.Module):
    """A network whose operations are known."""

    num_frames, image_size = 2, 4

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 5, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm3d(5)
        self.norm.requires_grad_(False)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.norm(self.convolution(clip))
        return mixed * float(torch.rand(1))  # a draw that training must not feel


def test_operations_are_counted_without_touching_anything() -> None:
    module = Known()
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    cost = cost_of(module)
    assert cost == {
        "parameters": 15 + 10,
        "trained_parameters": 15,
        "gflops_per_clip": 2 * 15 * 2 * 4 * 4 / 1e9,
    }
    assert torch.equal(torch.rand(1), wanted)
    assert int(module.norm.num_batches_tracked or 0) == 0
    assert module.convolution.weight.device.type == "cpu"


@pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda case: case.name)
def test_every_method_says_what_it_costs(case: MethodCase) -> None:
    module = case.build()
    cost = cost_of(module)
    assert cost["parameters"] == sum(p.numel() for p in module.parameters())
    assert (cost["gflops_per_clip"] or 0) > 0
    assert module.training


def test_what_cannot_be_counted_is_said_to_be_unknown() -> None:
    class Branches(Known):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return clip if bool(clip.sum() > 0) else -clip

    assert cost_of(Branches())["gflops_per_clip"] is None
    assert cost_of(nn.Linear(2, 2))["gflops_per_clip"] is None
