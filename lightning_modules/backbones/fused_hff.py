"""Run HFF's network in evaluation mode on rows of channels, with norms folded or fused.

Same numbers as the modules one by one, up to rounding; several times faster on a CPU. Maps are of
shape (N, H, W, C) throughout, so that a kernel of 1 x 1 is one product of matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones.fusing import is_hooked

if TYPE_CHECKING:
    from lightning_modules.backbones.cross_modality_attention import DualCrossModalityAttention
    from lightning_modules.backbones.hff import FeatureFusion, HFFNetwork
    from lightning_modules.backbones.srm import ResidualAttention, SRMImage, SRMSeparate
    from lightning_modules.backbones.xception import XceptionTrunk

#: [ours, measured] Positions from which oneDNN's convolution is faster than a product of matrices,
#: and elements of a kernel up to which: each time it brings the kernel into an order of its own.
LEAST_POSITIONS, LARGEST_KERNEL = 128, 2**22

#: Images of a batch from which torch hands a 1 x 1 convolution to oneDNN on a single thread.
_LEAST_BATCH = 16


def is_applicable(network: HFFNetwork, image: Tensor) -> bool:
    """Say whether the fused way gives what the modules one by one would give.

    Args:
        network: The network.
        image: Its input, shape (N, 3, H, W).
    """
    if not network.fused or network.training or torch.compiler.is_compiling():
        return False
    if image.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    tensors = (image, *network.parameters())
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    parts = list(network.modules())[1:]
    return all(map(_is_plain, parts)) and not any(map(is_hooked, parts))


def _is_plain(module: nn.Module) -> bool:
    """Refuse synchronised norms, norms that still learn, wrapped convolutions and the like."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        usual = module.affine and module.track_running_stats and not module.training
        return type(module) is nn.BatchNorm2d and usual
    return not isinstance(module, nn.Conv2d) or type(module) is nn.Conv2d


def run(network: HFFNetwork, image: Tensor) -> tuple[Tensor, Tensor]:
    """Map images (N, 3, H, W) to the fused maps (N, D, H', W') and the attention map."""
    image = image.permute(0, 2, 3, 1)
    residual = _residual(network.residual, image)
    rgb, high = network.rgb, network.high
    x = _convolved(image, rgb.conv1, rgb.bn1).relu_()
    y = _convolved(residual, high.conv1, high.bn1).relu_()
    y += _injected(network.inject1, x)
    x = _convolved(x, rgb.conv2, rgb.bn2).relu_()
    y = _convolved(y.relu_(), high.conv2, high.bn2).relu_()
    y += _injected(network.inject2, x)
    attention = _attention(network.guide, residual)
    x = _normed(x.mul_(1 + attention), network.guided[0]).relu_()
    x, y = _blocks(rgb, x, 1, 3), _blocks(high, y.relu_(), 1, 3)
    x, y = _exchanged(network.cross0, x, y)
    x, y = _blocks(rgb, x, 4, 7), _blocks(high, y, 4, 7)
    x, y = _exchanged(network.cross1, x, y)
    x, y = _blocks(rgb, x, 8, 12), _blocks(high, y, 8, 12)
    maps = _fused(network.fusion, _last(rgb, x), _last(high, y))
    return maps.permute(0, 3, 1, 2), attention.permute(0, 3, 1, 2)


def _pointwise(maps: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply maps (N, H, W, C) by a kernel (D, C, 1, 1) or a matrix (D, C)."""
    maps, weight = maps.contiguous(), weight.flatten(1)
    rows, positions = maps.flatten(0, 1), maps.shape[:-1].numel()
    if (
        maps.dtype != torch.float32
        or positions < LEAST_POSITIONS
        or len(rows) < _LEAST_BATCH
        or weight.numel() > LARGEST_KERNEL
    ):
        return F.linear(maps, weight, bias)
    # Each row of positions is an image of its own: a batch is what oneDNN is asked for.
    out = F.conv2d(rows.unsqueeze(1).permute(0, 3, 1, 2), weight[..., None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*maps.shape[:-1], len(weight))


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a norm multiplies by and adds in evaluation mode, both (C,)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _normed(maps: Tensor, norm: nn.Module) -> Tensor:
    """Apply a norm to maps (N, H, W, C), in place."""
    assert isinstance(norm, nn.BatchNorm2d)
    scale, shift = _affine(norm)
    return maps.mul_(scale).add_(shift)


def _mixed(maps: Tensor, weight: Tensor, norm: nn.Module) -> Tensor:
    """Apply a 1 x 1 kernel and a norm, which goes to the smaller of kernel and output."""
    assert isinstance(norm, nn.BatchNorm2d)
    if maps.shape[:-1].numel() < weight.shape[1]:
        return _normed(_pointwise(maps, weight), norm)
    scale, shift = _affine(norm)
    return _pointwise(maps, weight.flatten(1) * scale[:, None], shift)


def _convolved(maps: Tensor, conv: nn.Conv2d, norm: nn.Module) -> Tensor:
    """Apply a convolution of several taps with its norm folded."""
    assert isinstance(norm, nn.BatchNorm2d)
    scale, shift = _affine(norm)
    weight = conv.weight * scale[:, None, None, None]
    out = F.conv2d(maps.permute(0, 3, 1, 2), weight, shift, conv.stride, conv.padding)
    return out.permute(0, 2, 3, 1)


def _each(maps: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each channel of maps (N, H, W, C) with a kernel of its own, (C, 1, k, k)."""
    out = F.conv2d(
        maps.permute(0, 3, 1, 2), kernel, padding=kernel.shape[-1] // 2, groups=len(kernel)
    )
    return out.permute(0, 2, 3, 1)


def _residual(srm: SRMImage, image: Tensor) -> Tensor:
    """Filter the sum of the colours, since a filter is the same on all three."""
    brightness = image.sum(3).unsqueeze(1)
    out: Tensor = srm.truncation(F.conv2d(brightness, srm.kernel[:, :1], padding=2))
    return out.permute(0, 2, 3, 1)


def _injected(srm: SRMSeparate, maps: Tensor) -> Tensor:
    """Filter each channel once with each filter that it sees, however often it sees it."""
    channels = maps.shape[-1]
    bank = srm.kernel.view(channels, 3, -1)
    conv, norm = srm.mix[0], srm.mix[1]
    assert isinstance(conv, nn.Conv2d)
    weight = conv.weight.view(channels, channels, 3)
    # The first filter of every channel, then those others that are not the first again.
    again = (bank == bank[:, :1]).all(2)
    firsts = (weight * again).sum(2)
    channel, filters = (~again).nonzero(as_tuple=True)
    kernels = bank.view(channels, 3, 1, 5, 5)
    responses = [_each(maps, kernels[:, 0])]
    if len(channel):
        responses.append(_each(maps[..., channel].contiguous(), kernels[channel, filters]))
    mixture = torch.cat([firsts, weight[:, channel, filters]], 1)
    return _mixed(srm.truncation(torch.cat(responses, 3)), mixture, norm).relu_()


def _attention(guide: ResidualAttention, residual: Tensor) -> Tensor:
    """Return where the RGB stream looks, shape (N, H', W', 1)."""
    first, first_norm, _, second, second_norm, _ = guide.conv
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    maps = _convolved(_residual(guide.srm, residual), first, first_norm).relu_()
    maps = _convolved(maps, second, second_norm).relu_()
    stacked = torch.stack([maps.mean(3), maps.amax(3)], 1)
    conv = guide.attention.conv
    return F.conv2d(stacked, conv.weight, padding=conv.padding).sigmoid_().permute(0, 2, 3, 1)


def _blocks(trunk: XceptionTrunk, maps: Tensor, start: int, stop: int) -> Tensor:
    for index in range(start, stop + 1):
        maps = _block(trunk.get_submodule(f"block{index}"), maps)
    return maps


def _block(block: Any, maps: Tensor) -> Tensor:
    """Run a block of timm's Xception on maps that stay as they are."""
    out, weight = maps, maps
    for part in block.rep:
        if isinstance(part, nn.ReLU):
            out = out.relu() if out is maps else out.relu_()
        elif isinstance(part, nn.BatchNorm2d):
            out = _mixed(out, weight, part)
        elif isinstance(part, nn.MaxPool2d):
            out = part(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            out, weight = _each(out, part.conv1.weight), part.pointwise.weight
    if block.skip is None:
        return out.add_(maps)
    shortcut = maps[:, :: block.skip.stride[0], :: block.skip.stride[1]]
    return out.add_(_mixed(shortcut, block.skip.weight, block.skipbn))


def _last(trunk: XceptionTrunk, maps: Tensor) -> Tensor:
    for conv, norm in ((trunk.conv3, trunk.bn3), (trunk.conv4, trunk.bn4)):
        maps = _mixed(_each(maps, conv.conv1.weight), conv.pointwise.weight, norm)
        if conv is trunk.conv3:
            maps = maps.relu_()
    return maps


def _exchanged(cross: DualCrossModalityAttention, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    shared = cross.key_shared
    keys_x, keys_y = (
        _pointwise(_pointwise(maps, key.weight, key.bias), shared.weight, shared.bias).flatten(1, 2)
        for maps, key in ((x, cross.key1), (y, cross.key2))
    )
    energy = keys_x @ keys_y.mT
    to_x, to_y = cross.linear1(energy).softmax(-1), cross.linear2(energy.mT).softmax(-1)
    from_y = to_x @ _pointwise(y, cross.value2.weight, cross.value2.bias).flatten(1, 2)
    from_x = to_y @ _pointwise(x, cross.value1.weight, cross.value1.bias).flatten(1, 2)
    out_x = from_y.view_as(x).mul_(cross.gamma1).add_(x)
    return out_x, from_x.view_as(y).mul_(cross.gamma2).add_(y)


def _fused(fusion: FeatureFusion, x: Tensor, y: Tensor) -> Tensor:
    conv, norm = fusion.mix[0], fusion.mix[1]
    assert isinstance(conv, nn.Conv2d)
    maps = _mixed(torch.cat([x, y], 3), conv.weight, norm).relu_()
    weights = fusion.attention(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return maps.mul_(1 + weights if fusion.mode == "residual" else weights)
