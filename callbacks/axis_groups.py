"""Which weights look along the frames of a clip, and which across them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Axis = Literal["spatial", "temporal", "shared"]


class AxisGroups(NamedTuple):
    """Trainable parameters by what their kernel sees, each under its name in the network.

    Attributes:
        spatial: Of convolutions that look at neighbours in a frame only.
        temporal: Of convolutions that look at other frames only.
        shared: All others.
    """

    spatial: Mapping[str, nn.Parameter]
    temporal: Mapping[str, nn.Parameter]
    shared: Mapping[str, nn.Parameter]


def split_by_axis(network: nn.Module) -> AxisGroups:
    """Sort the trainable parameters of a video network by the shape of their kernels.

    | convolution | spatial | temporal |
    |---|---|---|
    | 3-D | (1, k, k), also (1, k, 1) and (1, 1, k) | (k, 1, 1) |
    | 2-D, frames taken as a batch | (k, k) | - |
    | 1-D, positions taken as a batch | - | (k,) |

    with k > 1, whatever the groups (so depth-wise ones too) and also if transposed; a bias goes
    with its kernel, and so does what a kernel is computed from (weight norm). Everything else is
    shared: kernels that see both (a (5, 7, 7) stem) or neither ((1, 1, 1)), flat 2-D kernels, which
    may lie along either axis, norms, linear layers, tokens.
    For 3-D kernels this is the rule by which the authors' released code builds its optimisers
    (AltFreezing, commit f76b061); 2-D and 1-D kernels and biases are ours.

    Args:
        network: Any network; parameters that do not require a gradient are not counted.

    Raises:
        ValueError: If there is no spatial or no temporal parameter; names the network's class.
    """
    axis_of: dict[int, Axis] = {
        id(parameter): _axis(module.kernel_size)
        for module in network.modules()
        if isinstance(module, nn.modules.conv._ConvNd)
        for parameter in _own_parameters(module)
    }
    groups: dict[Axis, dict[str, nn.Parameter]] = {"spatial": {}, "temporal": {}, "shared": {}}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[axis_of.get(id(parameter), "shared")][name] = parameter
    found = AxisGroups(**groups)
    if found.spatial and found.temporal:
        return found
    axis, kernel = ("temporal", "(k, 1, 1)") if found.spatial else ("spatial", "(1, k, k)")
    frozen = any(axis_of.get(id(parameter)) == axis for parameter in network.parameters())
    remedy = "let them be trained" if frozen else "choose a network that has both kinds"
    raise ValueError(
        f"{type(network).__name__} has no {'trainable ' * frozen}{axis} convolution, kernel "
        f"{kernel} with k > 1; {remedy}, or do not freeze by turns"
    )


def _own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    yield from module.parameters(recurse=False)
    if parametrize.is_parametrized(module):
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        yield from parametrizations.parameters()


def _axis(kernel_size: tuple[int, ...]) -> Axis:
    wide = [size > 1 for size in kernel_size]
    if len(wide) == 3:
        over_time, over_space = wide[0], any(wide[1:])
    else:
        over_time, over_space = wide == [True], wide == [True, True]
    if over_time == over_space:
        return "shared"
    return "temporal" if over_time else "spatial"
