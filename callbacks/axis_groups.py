"""Which weights look along the frames of a clip, and which across them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    with its kernel. Everything else is shared: kernels that see both (a (5, 7, 7) stem) or neither
    ((1, 1, 1)), flat 2-D kernels, which may lie along either axis, norms, linear layers, tokens.
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
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[Axis, dict[str, nn.Parameter]] = {"spatial": {}, "temporal": {}, "shared": {}}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[axis_of.get(id(parameter), "shared")][name] = parameter
    found = AxisGroups(**groups)
    if not (found.spatial and found.temporal):
        axis, kernel = ("temporal", "(k, 1, 1)") if found.spatial else ("spatial", "(1, k, k)")
        raise ValueError(
            f"{type(network).__name__} has no trainable {axis} convolution, kernel {kernel} "
            "with k > 1; choose a network that has both kinds, or do not freeze by turns"
        )
    return found


def _axis(kernel_size: tuple[int, ...]) -> Axis:
    wide = [size > 1 for size in kernel_size]
    if len(wide) == 3:
        over_time, over_space = wide[0], any(wide[1:])
    else:
        over_time, over_space = wide == [True], wide == [True, True]
    if over_time == over_space:
        return "shared"
    return "temporal" if over_time else "spatial"
