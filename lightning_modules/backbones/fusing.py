"""What the fused ways of the two ResNets share: when they apply, and how norms are folded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_modules.backbones import rows as rw
from lightning_modules.backbones.factorized_conv import FactorizedConv3d

if TYPE_CHECKING:
    from lightning_modules.backbones.resnet3d import ConvNorm, ResNet3D


def is_applicable(network: ResNet3D, clip: Tensor) -> bool:
    """Say whether the fused way gives what the modules one by one would give.

    Args:
        network: The network.
        clip: Its input, shape (B, 3, T, H, W).
    """
    if not network.fused or torch.compiler.is_compiling():
        return False
    parts = list(network.modules())[1:]
    if any(map(is_hooked, parts)) or not all(_is_plain(part, network.training) for part in parts):
        return False
    if len({part.eps for part in parts if isinstance(part, nn.BatchNorm3d)}) > 1:
        return False  # a fused block has one for its norms
    if not len(clip) or clip.shape[2] % 2 or not _fits(network, clip):
        return False
    recording = torch.is_grad_enabled()
    if recording and clip.requires_grad:
        return False
    if network.training:
        return clip.device.type == "cpu" or network.recompute
    recording = recording and any(weight.requires_grad for weight in network.parameters())
    return clip.device.type == "cpu" and not recording


def is_hooked(module: nn.Module) -> bool:
    """Say whether somebody looks into a module, so that it has to be called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _is_plain(module: nn.Module, training: bool) -> bool:
    """Refuse synchronised or frozen norms, wrapped convolutions and the like."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        usual = module.affine and module.track_running_stats and module.training == training
        return type(module) is nn.BatchNorm3d and usual
    return not isinstance(module, nn.Conv3d) or type(module) is FactorizedConv3d


def _fits(network: ResNet3D, clip: Tensor) -> bool:
    """Say whether the fused way can take clips of this shape, (B, 3, T, H, W)."""
    if not network.spatial:
        return not any(size % network.spatial_reduction for size in clip.shape[3:])
    positions = clip.shape[0] * clip.shape[2] // 2
    for size in clip.shape[3:]:
        positions *= math.ceil(size / network.spatial_reduction)
    # A norm of a single value a channel is refused, by the module itself.
    return positions > 1 or not network.training


@torch.no_grad()
def track(norm: nn.BatchNorm3d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Update a norm's running statistics as its own forward pass would."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    unbiased = variance * (count / (count - 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


def fold(layer: ConvNorm, dtype: torch.dtype) -> rw.Folded:
    """Fold a layer's norm, as it is in evaluation mode, into its convolution.

    Args:
        layer: The layer.
        dtype: Of the result.

    Returns:
        Weight, shape (C', C, k, h, w), and bias, shape (C',).
    """
    norm = layer.bn
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("A norm without running statistics cannot be folded.")
    weight = layer.conv.weight.to(rw.accumulator_of(dtype))
    folded = rw.fold_norm(
        weight, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
    )
    return rw.Folded(*(tensor.to(dtype) for tensor in folded))
