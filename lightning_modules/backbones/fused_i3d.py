"""Run the ResNet with spatial kernels as frames and tiles, with the norms folded or fused.

Same numbers as the modules one by one, up to rounding; several times faster on a CPU and with less
memory in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones import frames as fr
from lightning_modules.backbones import fusing
from lightning_modules.backbones import rows as rw
from lightning_modules.backbones.fused_i3d_block import FusedI3DBlock
from lightning_modules.backbones.fused_layers import Layer, MeasuredNorm, TemporalPool

if TYPE_CHECKING:
    from lightning_modules.backbones.resnet3d import Bottleneck, ConvNorm, ResNet3D


def run(network: ResNet3D, clip: Tensor) -> Tensor:
    """Map normalised RGB (B, 3, T, H, W) to (B, C, T / 2, H', W') as the network would.

    Under autocast the maps have its dtype; statistics are taken in float32 at least.
    """
    device = clip.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else clip.dtype
    with torch.autocast(device, enabled=False):
        frames = _run_stages(network, clip.to(dtype))
        return fr.without_halo(frames).permute(0, 4, 1, 2, 3)


def _run_stages(network: ResNet3D, clip: Tensor) -> Tensor:
    training = network.training
    frames = (_train_stem if training else _run_stem)(network.stem, clip)
    for index, stage in enumerate(network.residual_stages):
        for block in stage:
            frames = _train_block(block, frames) if training else _FoldedBlock(block, clip)(frames)
        if index == 0:
            frames = TemporalPool.apply(frames, fr.HALO)
    return frames


def _train_block(block: Bottleneck, frames: Tensor) -> Tensor:
    layers = [block.a, block.b, block.c]
    if isinstance(block.shortcut, type(block.a)):
        layers.append(block.shortcut)
    weights = [weight for layer in layers for weight in (layer.conv.weight, *layer.bn.parameters())]
    output: Tensor
    output, *statistics = FusedI3DBlock.apply(
        frames, block.b.conv.stride[1], block.a.bn.eps, *weights
    )
    for index, layer in enumerate(layers):
        positions = fr.without_halo(frames if layer is block.a else output)
        count = positions.shape[:-1].numel()
        fusing.track(layer.bn, statistics[2 * index], statistics[2 * index + 1], count)
    return output


class _FoldedBlock:
    """A residual block in evaluation mode on maps with a halo."""

    def __init__(self, block: Bottleneck, clip: Tensor) -> None:
        self.a, self.b, self.c = (fusing.fold(x, clip.dtype) for x in (block.a, block.b, block.c))
        self.stride = block.b.conv.stride[1]
        self.shortcut: rw.Folded | None = None
        if isinstance(block.shortcut, type(block.a)):
            self.shortcut = fusing.fold(block.shortcut, clip.dtype)

    def __call__(self, frames: Tensor) -> Tensor:
        """Map (B, T + 2, H, W, C) to (B, T + 2, H', W', C'), in place if that fits."""
        inside = fr.without_halo(frames)
        output = frames
        if self.shortcut is not None:
            shape = inside[:, :, :: self.stride, :: self.stride].shape[:-1]
            output = fr.with_halo(frames, torch.Size((*shape, len(self.c.bias))))
        # One tile behind: the next one's kernel over time still looks at this one's input.
        behind: list[tuple[fr.Tile, Tensor]] = []
        for tile in fr.tiles_of(inside.shape, frames.device):
            window = frames[tile.inside(self.a.weight.shape[2] // 2)]
            first = fr.over_time(window, *self.a).relu_()
            if behind:
                self._finish(frames, output, *behind.pop())
            behind.append((tile, first))
        self._finish(frames, output, *behind.pop())
        return output

    def _finish(self, frames: Tensor, output: Tensor, tile: fr.Tile, first: Tensor) -> None:
        middle = fr.over_space(first, *self.b, stride=self.stride).relu_()
        tail = frames[tile.inside()]
        if self.shortcut is not None:
            tail = fr.pointwise(tail[:, :, :: self.stride, :: self.stride], self.shortcut)
        output[tile.inside()] = fr.pointwise(middle, self.c).add_(tail).relu_()


#: Steps over H and W of the stem's convolution.
STEM_STRIDE = 2


def _stacked_kernel(weight: Tensor) -> Tensor:
    """Turn (C', C, t, k, k) into the kernel (C', t * C, 1, k, k) for stacked pixels."""
    return weight.transpose(1, 2).flatten(1, 2).unsqueeze(2)


def _stem_pool(images: Tensor) -> Tensor:
    """Take the stem's maxima of images (B * T, C, H, W)."""
    return F.max_pool2d(images, 3, stride=2, padding=1)


def _pooled(frames: Tensor) -> Tensor:
    """Take the stem's maxima of frames (B, T, H, W, C), and drop the negative ones."""
    images = _stem_pool(frames.flatten(0, 1).permute(0, 3, 1, 2)).relu_()
    return torch.unflatten(images.permute(0, 2, 3, 1), 0, frames.shape[:2])


def _room_behind_stem(pixels: Tensor, channels: int) -> Tensor:
    """Make room for the stem's output on pixels (B, T, H, W, C), with a halo."""
    height, width = (-(-size // 4) for size in pixels.shape[2:4])
    return fr.with_halo(pixels, torch.Size((*pixels.shape[:2], height, width, channels)))


def _run_stem(stem: ConvNorm, clip: Tensor) -> Tensor:
    """Map pixels (B, 3, T, H, W) to (B, T + 2, H / 4, W / 4, C), with a halo."""
    folded = fusing.fold(stem, clip.dtype)
    weight = _stacked_kernel(folded.weight)
    pixels = fr.stacked(clip, stem.conv.kernel_size[0])
    output = _room_behind_stem(pixels, len(weight))
    for tile in fr.tiles_of(pixels.shape, clip.device):
        part = pixels[tile].contiguous()
        first = fr.over_space(part, weight, folded.bias, stride=STEM_STRIDE)
        output[tile.inside()] = _pooled(first)
    return output


def _train_stem(stem: ConvNorm, clip: Tensor) -> Tensor:
    norm = stem.bn
    output: Tensor
    output, mean, variance, count = _Stem.apply(
        clip, stem.conv.weight, norm.weight, norm.bias, norm.eps
    )
    fusing.track(norm, mean, variance, count)
    return output


class _Stem(torch.autograd.Function):
    """The stem in training mode; keeps the pixels and the convolution's output."""

    @staticmethod
    def forward(
        ctx: Any, clip: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        pixels, kernel = fr.stacked(clip, weight.shape[2]), _stacked_kernel(weight)
        tiles = fr.tiles_of(pixels.shape, clip.device)
        first = [
            fr.over_space(pixels[tile].contiguous(), kernel, stride=STEM_STRIDE) for tile in tiles
        ]
        statistics = rw.statistics_of(first)
        affine = MeasuredNorm(Layer(weight, gamma, beta), statistics, eps).affine()
        output = _room_behind_stem(pixels, len(weight))
        for tile, values in zip(tiles, first, strict=True):
            output[tile.inside()] = _pooled(rw.scale_and_shift(values, *affine))
        ctx.save_for_backward(clip, weight, gamma, beta, *statistics, *first)
        ctx.eps = eps
        ctx.mark_non_differentiable(*statistics)
        return output, *statistics, sum(values.shape[:-1].numel() for values in first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        clip, weight, gamma, beta, mean, variance, *first = ctx.saved_tensors
        pixels, kernel = fr.stacked(clip, weight.shape[2]), _stacked_kernel(weight)
        tiles = fr.tiles_of(pixels.shape, clip.device)
        norm = MeasuredNorm(Layer(weight, gamma, beta), (mean, variance), ctx.eps)
        gradients = []
        for tile, values in zip(tiles, first, strict=True):
            normed = rw.scale_and_shift(values, *norm.affine())
            gradients.append(_unpooled(normed, gradient[tile.inside()]))
            norm.collect(values, gradients[-1])
        through = norm.gradient()
        weights = []
        for tile, values in zip(tiles, first, strict=True):
            values_grad = through(gradients.pop(0), values)
            if ctx.needs_input_grad[1]:  # a frozen one needs no gradient
                part = pixels[tile].contiguous()
                weights.append(fr.over_space_weight(part, values_grad, kernel, STEM_STRIDE))
        weight_grad = None
        if weights:
            stacked = torch.unflatten(rw.total(weights).squeeze(2), 1, weight.shape[1:3][::-1])
            weight_grad = stacked.transpose(1, 2).to(weight.dtype)
        return None, weight_grad, through.gamma, through.beta, None


def _unpooled(frames: Tensor, gradient: Tensor) -> Tensor:
    """Carry the gradient of `_pooled`, (B, T, H', W', C), to its input (B, T, H, W, C)."""
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).requires_grad_()
    with torch.enable_grad():
        pooled = _stem_pool(images).relu()
    part = gradient.flatten(0, 1).permute(0, 3, 1, 2)
    (images_grad,) = torch.autograd.grad(pooled, images, part)
    return torch.unflatten(images_grad.permute(0, 2, 3, 1), 0, frames.shape[:2]).contiguous()
