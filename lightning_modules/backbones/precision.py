"""Parts of a network that compute in full precision whatever surrounds them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Switch mixed precision off for a block, on the device of a tensor if that has any.

    Args:
        tensor: Input of the block.
    """
    device = tensor.device.type
    # The device `meta`, on which operations are counted, has none.
    return torch.autocast(
        device if torch.amp.is_autocast_available(device) else "cpu", enabled=False
    )


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Take tensors of half precision to float32."""
    return tuple(tensor.float() if tensor.dtype.itemsize < 4 else tensor for tensor in tensors)


def in_float32(layer: nn.Module, x: Tensor) -> Tensor:
    """Run a layer in float32 at least, also one whose weights are of half precision."""
    if all(weight.dtype.itemsize >= 4 for weight in layer.parameters()):
        result: Tensor = layer(*at_least_float32(x))
        return result
    weights = {name: weight.float() for name, weight in layer.named_parameters()}
    return cast("Tensor", functional_call(layer, weights, at_least_float32(x)))
