"""Kernels are sorted by what they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from callbacks import split_by_axis
from lightning_modules.backbones.factorized_conv import FactorizedConv3d
from lightning_modules.backbones.ftcn import FTCNNetwork
from lightning_modules.backbones.i3d import I3DNetwork
from tests.support.freezing import FactorizedModule
from weights.convert import LAYOUTS
from weights.golden_numbers import read_golden

if TYPE_CHECKING:
    from collections.abc import Callable


def test_every_parameter_is_in_one_group() -> None:
    groups = split_by_axis(FactorizedModule())
    assert list(groups.spatial) == ["spatial.weight"]
    assert list(groups.temporal) == ["temporal.weight", "temporal.bias"]
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(dict(FactorizedModule().named_parameters()))


@pytest.mark.parametrize(
    ("layer", "axis"),
    [
        (nn.Conv3d(2, 2, (1, 3, 3)), "spatial"),
        (nn.Conv3d(2, 2, (1, 1, 5)), "spatial"),
        (nn.Conv3d(2, 2, (3, 1, 1)), "temporal"),
        (nn.Conv3d(4, 4, (1, 3, 3), groups=4), "spatial"),
        (FactorizedConv3d(4, 4, (5, 1, 1), groups=4), "temporal"),
        (nn.ConvTranspose3d(2, 2, (1, 2, 2)), "spatial"),
        (nn.Conv3d(3, 2, (5, 7, 7)), "shared"),
        (nn.Conv3d(3, 2, (3, 1, 3)), "shared"),
        (nn.Conv3d(2, 2, 1), "shared"),
        (nn.Conv2d(4, 4, 3, groups=4), "spatial"),
        (nn.Conv2d(2, 2, (3, 1)), "shared"),
        (nn.Conv2d(2, 2, 1), "shared"),
        (nn.Conv1d(4, 4, 3, groups=4), "temporal"),
        (nn.Conv1d(2, 2, 1), "shared"),
        (nn.Linear(2, 2), "shared"),
        (nn.BatchNorm3d(2), "shared"),
    ],
    ids=str,
)
def test_the_kernel_decides(layer: nn.Module, axis: str) -> None:
    both = [nn.Conv3d(1, 1, (1, 3, 3)), nn.Conv3d(1, 1, (3, 1, 1))]
    groups = split_by_axis(nn.Sequential(*both, layer))._asdict()
    own = {f"2.{name}" for name, _ in layer.named_parameters()}
    assert own
    assert {k: own & set(group) for k, group in groups.items()} == {
        k: own if k == axis else set() for k in groups
    }


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm])
def test_what_a_kernel_is_computed_from_goes_with_it(wrap: Callable[[nn.Module], object]) -> None:
    module = FactorizedModule()
    wrap(module.spatial)
    wrap(module.temporal)
    for axis, group in split_by_axis(module)._asdict().items():
        own = [name for name in group if name.startswith(("spatial.", "temporal."))]
        assert all(name.startswith(axis) for name in own)
        assert own or axis == "shared"


def test_weights_that_are_made_by_the_first_clip_have_their_group() -> None:
    module = nn.Sequential(nn.LazyConv3d(2, (3, 1, 1)), nn.LazyConv3d(2, (1, 3, 3)))
    groups = split_by_axis(module)
    assert list(groups.temporal) == ["0.weight", "0.bias"]
    assert list(groups.spatial) == ["1.weight", "1.bias"]


def test_a_network_that_is_temporal_only_is_refused_by_name() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="FTCNNetwork has no spatial"):
        split_by_axis(FTCNNetwork())


def test_groups_of_i3d_are_those_of_the_official_optimisers() -> None:
    alternation = read_golden("altfreezing.json")["alternation"]
    with torch.device("meta"):
        groups = split_by_axis(I3DNetwork())._asdict()
    layout, names = LAYOUTS["altfreezing"], {"shared": "temporal+spatial"}
    found = {
        layout.official_key(key): names.get(axis, axis)
        for axis, group in groups.items()
        for key in group
    }
    assert found == alternation["group_of_parameter"]
    for axis, group in groups.items():
        name = names.get(axis, axis)
        assert len(group) == alternation["tensors"][name]
        assert sum(weight.numel() for weight in group.values()) == alternation["elements"][name]


def test_what_the_user_froze_is_not_counted() -> None:
    module = FactorizedModule()
    module.stem.requires_grad_(False)
    names = {name for group in split_by_axis(module) for name in group}
    assert "stem.weight" not in names
    module.temporal.requires_grad_(False)
    with pytest.raises(ValueError, match=r"FactorizedModule has no trainable temporal"):
        split_by_axis(module)
