"""Parts of a network that compute in full precision whatever surrounds them."""

from __future__ import annotations

import torch
from torch import Tensor


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
