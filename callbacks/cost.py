"""What a method costs: parameters, and operations of one clip's forward pass."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)


def cost_of(module: nn.Module) -> dict[str, float | None]:
    """Count parameters and operations; nothing is computed, and the module stays as it is.

    Args:
        module: A method; clips have its `num_frames` and `image_size`.

    Returns:
        `parameters`, `trained_parameters`, and `gflops_per_clip`, a multiplication and an addition
        as 2, in 1e9; the last one None where the module cannot run without numbers.
    """
    parameters = list(module.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "gflops_per_clip": _gflops(module),
    }


def _gflops(module: nn.Module) -> float | None:
    frames, size = (getattr(module, name, None) for name in ("num_frames", "image_size"))
    if frames is None or size is None:
        return None
    shadows: dict[str, Any] = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }
    clip = torch.empty(1, 3, frames, size, size, device="meta")
    # Evaluation may fold weights into kernels of other shapes; what is published counts the plain
    # network, which is the one that trains.
    try:
        # What a forward draws must not change what the training draws after it.
        with torch.random.fork_rng(), torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(module, shadows, (clip,))
    except (RuntimeError, NotImplementedError, ValueError) as error:
        _log.info("operations of %s are not counted: %s", type(module).__name__, error)
        return None
    return float(counter.get_total_flops()) / 1e9
