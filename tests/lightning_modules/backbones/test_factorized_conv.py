"""FactorizedConv3d gives what nn.Conv3d gives, whichever way it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.backbones.factorized_conv import FactorizedConv3d

CASES: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel_size": 1},
    "over_time": {"kernel_size": (3, 1, 1), "padding": (1, 0, 0)},
    "over_time_strided": {"kernel_size": (5, 1, 1), "stride": (2, 1, 1), "padding": (2, 0, 0)},
    "over_time_dilated": {"kernel_size": (3, 1, 1), "dilation": (2, 1, 1)},
    "over_time_subsampling_space": {"kernel_size": (3, 1, 1), "stride": (1, 2, 2)},
    "over_space": {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)},
    "over_space_strided": {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)},
    "over_space_padding_time": {"kernel_size": (1, 3, 3), "padding": (1, 1, 1)},
    "groups": {"kernel_size": (3, 1, 1), "groups": 2},
    "both": {"kernel_size": (3, 3, 3), "padding": 1},
    "reflect": {"kernel_size": (3, 1, 1), "padding": (1, 0, 0), "padding_mode": "reflect"},
    "same": {"kernel_size": (3, 1, 1), "padding": "same"},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_conv3d(name: str, memory_format: torch.memory_format, bias: bool) -> None:
    factorized = FactorizedConv3d(4, 6, bias=bias, dtype=torch.float64, **CASES[name])
    plain = nn.Conv3d(4, 6, bias=bias, dtype=torch.float64, **CASES[name])
    plain.load_state_dict(factorized.state_dict())
    clip = torch.randn(2, 4, 6, 5, 7, dtype=torch.float64).contiguous(memory_format=memory_format)
    inputs = [clip.clone().requires_grad_() for _ in range(2)]

    output, expected = factorized(inputs[0]), plain(inputs[1])
    torch.testing.assert_close(output, expected)

    weight = torch.randn_like(expected)
    (output * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(factorized.weight.grad, plain.weight.grad)


def test_is_found_as_conv3d_with_its_kernel() -> None:
    layer = FactorizedConv3d(2, 3, (3, 1, 1))
    assert isinstance(layer, nn.Conv3d)
    assert layer.kernel_size == (3, 1, 1)
    assert {key: tuple(value.shape) for key, value in layer.state_dict().items()} == {
        "weight": (3, 2, 3, 1, 1),
        "bias": (3,),
    }


def test_takes_an_unbatched_clip() -> None:
    layer = FactorizedConv3d(2, 3, 1)
    clip = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(layer(clip), layer(clip[None])[0])
