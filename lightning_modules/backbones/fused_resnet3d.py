"""Run the temporal-only ResNet as rows and tiles, with the norms folded into the convolutions.

Same numbers as the modules one by one, up to rounding; several times faster on a CPU and with a
fraction of the memory in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones import fusing
from lightning_modules.backbones import rows as rw
from lightning_modules.backbones.fused_block import FusedBlock
from lightning_modules.backbones.fused_layers import TemporalPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_modules.backbones.resnet3d import Bottleneck, ConvNorm, ResNet3D

#: Positions of a tile of the stem, at full resolution: as many bytes as `rw.TILE_POSITIONS` at
#: its 64 channels. [ours, measured]
STEM_POSITIONS = 4 * rw.TILE_POSITIONS


def run(network: ResNet3D, clip: Tensor) -> Tensor:
    """Map normalised RGB (B, 3, T, H, W) to (B, C, T / 2, H', W') as the network would.

    Under autocast the maps have its dtype; statistics are taken in float32 at least.
    """
    device = clip.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else clip.dtype
    with torch.autocast(device, enabled=False):
        pixels = clip.permute(0, 2, 3, 4, 1).contiguous()
        rows = _train(network, pixels, dtype) if network.training else _eval(network, pixels, dtype)
        return rw.from_rows(rows, len(clip))


def _train(network: ResNet3D, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    rows = _train_stem(network.stem, pixels, dtype)
    for index, stage in enumerate(network.residual_stages):
        for block in stage:
            rows = _train_block(block, rows)
        if index == 0:
            rows = TemporalPool.apply(rows, 0)
    return rows


def _train_stem(stem: ConvNorm, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Fold the norm's batch statistics, found from the pixels alone, into the convolution."""
    kernel = stem.conv.kernel_size[0]
    moments = rw.moments_of(_time_patches(band.pixels, kernel) for band in _bands(pixels, 0))
    norm = stem.bn
    statistics = rw.statistics_of_pointwise(stem.conv.weight, *moments[:2])
    folded = rw.fold_norm(stem.conv.weight, norm.weight, norm.bias, *statistics, norm.eps)
    fusing.track(norm, *statistics, moments.num_positions)
    rows: Tensor = _Stem.apply(pixels.to(dtype), *folded)
    return rows


def _time_patches(pixels: Tensor, kernel: int) -> Tensor:
    """Gather what a kernel over time sees: (B, T, h, W, 3) to (B * T, h, W, 3 * kernel)."""
    half, num_frames = kernel // 2, pixels.shape[1]
    padded = F.pad(pixels, (0, 0) * 3 + (half, half))
    shifted = [padded[:, shift : shift + num_frames] for shift in range(kernel)]
    return torch.stack(shifted, dim=-1).flatten(4).flatten(0, 1)


def _train_block(block: Bottleneck, rows: Tensor) -> Tensor:
    layers = [block.a, block.b, block.c]
    if isinstance(block.shortcut, type(block.a)):
        layers.append(block.shortcut)
    weights = [weight for layer in layers for weight in (layer.conv.weight, *layer.bn.parameters())]
    pooled = not isinstance(block.b.pool, nn.Identity)
    output: Tensor
    output, *statistics = FusedBlock.apply(rows, pooled, block.a.bn.eps, *weights)
    for index, layer in enumerate(layers):
        positions = output if layer is block.c else rows
        count = positions.numel() // positions.shape[-1]
        fusing.track(layer.bn, statistics[2 * index], statistics[2 * index + 1], count)
    return output


def _eval(network: ResNet3D, pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Take each tile through all stages at once: nothing behind the stem looks sideways."""
    rows = _run_stem(pixels.to(dtype), fusing.fold(network.stem, dtype))
    stages = [[_FoldedBlock(block, dtype) for block in stage] for stage in network.residual_stages]
    outputs = []
    for tile in rw.tiles_of(rows, multiple=network.spatial_reduction // 4):
        output = rows[tile]
        for index, stage in enumerate(stages):
            for block in stage:
                output = block(output)
            if index == 0:
                output = torch.maximum(output[:, 0::2], output[:, 1::2])
        outputs.append(output)
    return torch.cat(outputs)


class _FoldedBlock:
    """A residual block in evaluation mode on rows."""

    def __init__(self, block: Bottleneck, dtype: torch.dtype) -> None:
        self.a, self.b, self.c = (
            fusing.fold(layer, dtype) for layer in (block.a, block.b, block.c)
        )
        self.pooled = not isinstance(block.b.pool, nn.Identity)
        shortcut = block.shortcut
        self.shortcut = (
            fusing.fold(shortcut, dtype) if isinstance(shortcut, type(block.a)) else None
        )

    def __call__(self, rows: Tensor) -> Tensor:
        output = self._pool(self.b(self.a(rows).relu_())).relu_()
        tail = rows if self.shortcut is None else self._pool(self.shortcut(rows))
        return self.c(output).add_(tail).relu_()

    def _pool(self, rows: Tensor) -> Tensor:
        return rw.max_pool(rows) if self.pooled else rows


class _Band(NamedTuple):
    """A run of rows of some clips, for the stem.

    Attributes:
        clips: Which clips.
        start: First row, a multiple of 4.
        stop: End of the rows.
        pixels: Shape (B, T, h, W, 3), with the rows that are asked for above the first.
    """

    clips: slice
    start: int
    stop: int
    pixels: Tensor

    @property
    def of_output(self) -> tuple[slice, slice]:
        """Where the stem's output of this band belongs in (B, H / 4, T, W / 4, C)."""
        return self.clips, slice(self.start // 4, self.stop // 4)


def _bands(pixels: Tensor, overlap: int) -> Iterator[_Band]:
    """Cut frames (B, T, H, W, 3) into bands that fit the cache; one on accelerators.

    Args:
        pixels: The frames; 4 divides H.
        overlap: Rows above a band that are needed, too, where there are any.
    """
    num_clips, num_frames, height, width = pixels.shape[:4]
    clips, step = [slice(0, num_clips)], height
    if pixels.device.type == "cpu":
        clips = [slice(clip, clip + 1) for clip in range(num_clips)]
        step = max(1, STEM_POSITIONS // (num_frames * width) // 4) * 4
    for some in clips:
        for start in range(0, height, step):
            stop = min(start + step, height)
            part = pixels[some, :, max(0, start - overlap) : stop]
            yield _Band(some, start, stop, part.contiguous())


#: Rows above its own that an output row of the stem looks at, through both maxima.
STEM_OVERLAP = 2


def _stem_convolve(band: _Band, folded: rw.Folded) -> Tensor:
    """Convolve a band to images (B * T, C, h, W) in channels-last memory."""
    num_clips, num_frames, height, width = band.pixels.shape[:4]
    output = folded(band.pixels.flatten(2, 3))
    return output.view(num_clips * num_frames, height, width, -1).permute(0, 3, 1, 2)


def _stem_pool(images: Tensor, band: _Band) -> Tensor:
    """Take the stem's maxima of a convolved band: (B * T, C, h', W / 4)."""
    at_top = band.start == 0
    output = F.max_pool2d(images, 2).relu()
    return F.max_pool2d(output, 3, stride=2, padding=(int(at_top), 1))


def _run_stem(pixels: Tensor, folded: rw.Folded) -> Tensor:
    """Map pixels (B, T, H, W, 3) to rows (B * H / 4, T, W / 4, C)."""
    num_clips, num_frames, height, width = pixels.shape[:4]
    output = pixels.new_empty((num_clips, height // 4, num_frames, width // 4, len(folded.bias)))
    for band in _bands(pixels, STEM_OVERLAP):
        images = _stem_pool(_stem_convolve(band, folded), band)
        output[band.of_output] = torch.unflatten(images, 0, (-1, num_frames)).permute(0, 3, 1, 4, 2)
    return output.flatten(0, 1)


class _Stem(torch.autograd.Function):
    """The stem with folded weights on pixels; keeps the pixels and computes the rest twice."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(pixels, weight, bias)
        return _run_stem(pixels, rw.Folded(weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        pixels, *weights = ctx.saved_tensors
        folded, kernel = rw.Folded(*weights), weights[0].shape[2]
        rows = torch.unflatten(gradient, 0, (len(pixels), -1))
        weight_grads, bias_grads = [], []
        for band in _bands(pixels, STEM_OVERLAP):
            images = _stem_convolve(band, folded).requires_grad_()
            with torch.enable_grad():
                pooled = _stem_pool(images, band)
            part = rows[band.of_output].permute(0, 2, 4, 1, 3).flatten(0, 1)
            part = part.contiguous(memory_format=torch.channels_last)
            (images_grad,) = torch.autograd.grad(pooled, images, part)
            positions = band.pixels.flatten(2, 3)
            convolved_grad = images_grad.permute(0, 2, 3, 1).reshape(*positions.shape[:3], -1)
            weight_grads.append(rw.weight_gradient(positions, convolved_grad, kernel))
            bias_grads.append(rw.channel_sum(convolved_grad))
        return None, rw.total(weight_grads), rw.total(bias_grads)
