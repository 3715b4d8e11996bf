"""Run the ResNet with spatial kernels frame by frame, with the norms folded into the convolutions.

A map of B clips, C channels, T frames and H x W positions is kept as (B, T, H, W, C). Kernels over
time see it as images of T x (H * W), kernels over space as images of H x W, both without a copy:
two-dimensional convolutions in channels-last memory, which libraries run several times faster than
three-dimensional ones. Work goes by *tiles*, runs of frames that stay in the processor's cache.

Same numbers as the modules one by one, up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones import fusing
from lightning_modules.backbones import rows as rw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lightning_modules.backbones.resnet3d import Bottleneck, ResNet3D

#: Positions (frames x rows x columns) of a tile on a CPU. [ours, measured]
TILE_POSITIONS = 16384

#: Frames of zeros at either end of a map: what the longest kernel over time looks beyond it.
HALO = 1

#: Images that positions are dealt out to for pointwise kernels: see `rows._as_images`.
POINTWISE_IMAGES = 16


class Tile(NamedTuple):
    """A part of a map: some clips, some frames.

    Attributes:
        clips: Which clips.
        frames: Which frames, counted without the halo.
    """

    clips: slice
    frames: slice

    def inside(self, halo: int) -> tuple[slice, slice]:
        """Say where the tile and as many frames around it lie in a map with a halo."""
        start, stop = self.frames.start + HALO - halo, self.frames.stop + HALO + halo
        return self.clips, slice(start, stop)


def tiles_of(num_clips: int, num_frames: int, num_positions: int) -> Iterator[Tile]:
    """Cut maps into parts that fit the cache.

    Args:
        num_clips: B.
        num_frames: T.
        num_positions: H * W.

    Yields:
        Parts in order: several whole clips, or some frames of one.
    """
    fitting = max(1, TILE_POSITIONS // num_positions)
    if fitting >= num_frames:
        step = fitting // num_frames
        for clip in range(0, num_clips, step):
            yield Tile(slice(clip, min(clip + step, num_clips)), slice(0, num_frames))
        return
    for clip in range(num_clips):
        for start in range(0, num_frames, fitting):
            frames = slice(start, min(start + fitting, num_frames))
            yield Tile(slice(clip, clip + 1), frames)


def run(network: ResNet3D, clip: Tensor) -> Tensor:
    """Map normalised RGB (B, 3, T, H, W) to (B, C, T / 2, H', W') as the network would."""
    device = clip.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else clip.dtype
    with torch.autocast(device, enabled=False):
        frames = _eval(network, clip.to(dtype))
        return frames.permute(0, 4, 1, 2, 3)


def _eval(network: ResNet3D, clip: Tensor) -> Tensor:
    frames = _run_stem(network, clip)
    for index, stage in enumerate(network.residual_stages):
        for block in stage:
            frames = _FoldedBlock(block, clip.dtype)(frames)
        if index == 0:
            pooled = with_halo(frames, frames.shape[1] // 2 - HALO, *frames.shape[2:])
            earlier, later = frames[:, HALO:-HALO:2], frames[:, HALO + 1 : -HALO : 2]
            torch.maximum(earlier, later, out=pooled[:, HALO:-HALO])
            frames = pooled
    return frames[:, HALO:-HALO]


def with_halo(like: Tensor, num_frames: int, height: int, width: int, channels: int) -> Tensor:
    """Make room for a map: (B, T + 2, H, W, C), frames of zeros at both ends."""
    frames = like.new_empty((len(like), num_frames + 2 * HALO, height, width, channels))
    frames[:, :HALO].zero_()
    frames[:, -HALO:].zero_()
    return frames


def over_time(frames: Tensor, folded: rw.Folded) -> Tensor:
    """Convolve (B, T + k - 1, H, W, C) with (C', C, k, 1, 1) to (B, T, H, W, C')."""
    if folded.weight.shape[2] == 1:
        return pointwise(frames, folded)
    output = rw.convolve(frames.flatten(2, 3), *folded, padded=False)
    return torch.unflatten(output, 2, frames.shape[2:4])


def over_space(frames: Tensor, folded: rw.Folded, stride: int) -> Tensor:
    """Convolve (B, T, H, W, C) with (C', C, 1, k, k) to (B, T, H', W', C')."""
    output = F.conv2d(
        frames.flatten(0, 1).permute(0, 3, 1, 2),
        folded.weight[:, :, 0],
        folded.bias,
        stride=stride,
        padding=folded.weight.shape[-1] // 2,
    )
    return torch.unflatten(output.permute(0, 2, 3, 1), 0, frames.shape[:2])


def pointwise(frames: Tensor, folded: rw.Folded) -> Tensor:
    """Convolve (B, T, H, W, C) with (C', C, 1, 1, 1) to (B, T, H, W, C')."""
    num_positions = frames.shape[:-1].numel()
    images = POINTWISE_IMAGES if num_positions % POINTWISE_IMAGES == 0 else num_positions
    output = rw.convolve(frames.reshape(1, images, -1, frames.shape[-1]), *folded)
    return output.view(*frames.shape[:-1], -1)


class _FoldedBlock:
    """A residual block in evaluation mode on maps with a halo."""

    def __init__(self, block: Bottleneck, dtype: torch.dtype) -> None:
        self.a, self.b, self.c = (fusing.fold(x, dtype) for x in (block.a, block.b, block.c))
        self.stride = block.b.conv.stride[1]
        shortcut = block.shortcut
        self.shortcut = (
            fusing.fold(shortcut, dtype) if isinstance(shortcut, type(block.a)) else None
        )

    def __call__(self, frames: Tensor) -> Tensor:
        """Map (B, T + 2, H, W, C) to (B, T + 2, H', W', C'), in place if that fits."""
        shape = len(frames), frames.shape[1] - 2 * HALO, *frames.shape[2:4]
        output = frames
        if self.shortcut is not None:
            height, width = (-(-size // self.stride) for size in shape[2:])
            output = with_halo(frames, shape[1], height, width, len(self.c.bias))
        # One tile behind: the next one's kernel over time still looks at this one's input.
        behind: tuple[Tile, Tensor] | None = None
        for tile in tiles_of(shape[0], shape[1], shape[2] * shape[3]):
            window = frames[tile.inside(self.a.weight.shape[2] // 2)]
            first = over_time(window, self.a).relu_()
            if behind is not None:
                self._finish(frames, output, *behind)
            behind = tile, first
        if behind is not None:
            self._finish(frames, output, *behind)
        return output

    def _finish(self, frames: Tensor, output: Tensor, tile: Tile, first: Tensor) -> None:
        part = tile.inside(0)
        result = pointwise(over_space(first, self.b, self.stride).relu_(), self.c)
        tail = frames[part]
        if self.shortcut is not None:
            tail = pointwise(tail[:, :, :: self.stride, :: self.stride], self.shortcut)
        output[part] = result.add_(tail).relu_()


def stacked(clip: Tensor, kernel: int) -> Tensor:
    """Line up what a kernel over time sees: (B, 3, T, H, W) to (B, T, H, W, k * 3), a view."""
    half = kernel // 2
    planes = F.pad(clip.transpose(1, 2), (0,) * 6 + (half, half)).flatten(1, 2)
    return planes.unfold(1, 3 * kernel, 3)


def _run_stem(network: ResNet3D, clip: Tensor) -> Tensor:
    """Map pixels (B, 3, T, H, W) to (B, T + 2, H / 4, W / 4, C), with a halo."""
    weight, bias = fusing.fold(network.stem, clip.dtype)
    weight = weight.transpose(1, 2).flatten(1, 2)
    pixels = stacked(clip, network.stem.conv.kernel_size[0])
    height, width = (-(-size // 4) for size in clip.shape[3:])
    output = with_halo(clip, clip.shape[2], height, width, len(bias))
    for tile in tiles_of(len(clip), clip.shape[2], clip.shape[3] * clip.shape[4]):
        images = pixels[tile].flatten(0, 1).contiguous().permute(0, 3, 1, 2)
        images = F.conv2d(images, weight, bias, stride=2, padding=weight.shape[-1] // 2)
        images = F.max_pool2d(images, 3, stride=2, padding=1).relu_()
        inside = output[tile.inside(0)]
        inside.copy_(torch.unflatten(images.permute(0, 2, 3, 1), 0, inside.shape[:2]))
    return output
