"""Feature maps as frames: the layout and the primitives of the fused I3D.

A map of B clips, C channels, T frames and H x W positions is kept as (B, T, H, W, C). Kernels over
time see it as images of T x (H * W), kernels over space as images of H x W, both without a copy:
two-dimensional convolutions in channels-last memory, which libraries run several times faster than
three-dimensional ones. Work goes by *tiles*, runs of frames that stay in the processor's cache.
Where a kernel over time follows, maps have a *halo* of zeros in front and behind, so that each tile
finds its neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.grad import conv2d_weight

from lightning_modules.backbones import rows as rw

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

    def inside(self, halo: int = 0) -> tuple[slice, slice]:
        """Say where the tile and as many frames around it lie in a map with a halo."""
        start, stop = self.frames.start + HALO - halo, self.frames.stop + HALO + halo
        return self.clips, slice(start, stop)


def tiles_of(shape: torch.Size, device: torch.device) -> list[Tile]:
    """Cut a map into parts that fit the cache; one part on accelerators.

    Args:
        shape: Of the map without a halo, (B, T, H, W, ...).
        device: Where it lies.

    Returns:
        Parts in order: several whole clips, or some frames of one.
    """
    num_clips, num_frames, height, width = shape[:4]
    if device.type != "cpu":
        return [Tile(slice(0, num_clips), slice(0, num_frames))]
    fitting = max(1, TILE_POSITIONS // (height * width))
    if fitting >= num_frames:
        step = fitting // num_frames
        starts = range(0, num_clips, step)
        return [Tile(slice(i, min(i + step, num_clips)), slice(0, num_frames)) for i in starts]
    return [
        Tile(slice(clip, clip + 1), slice(start, min(start + fitting, num_frames)))
        for clip in range(num_clips)
        for start in range(0, num_frames, fitting)
    ]


def with_halo(like: Tensor, shape: torch.Size) -> Tensor:
    """Make room for a map of a shape (B, T, H, W, C): (B, T + 2, H, W, C), zeros at both ends."""
    return rw.with_halo(like, shape, HALO)


def without_halo(frames: Tensor) -> Tensor:
    """See the inside (B, T, ...) of a map (B, T + 2, ...)."""
    return frames[:, HALO:-HALO]


def positions(frames: Tensor) -> Tensor:
    """Deal positions (..., C) out to rows (1, N, W, C) as pointwise kernels like them."""
    count = frames.shape[:-1].numel()
    images = POINTWISE_IMAGES if count % POINTWISE_IMAGES == 0 else count
    return frames.reshape(1, images, -1, frames.shape[-1])


def pointwise(frames: Tensor, folded: rw.Folded) -> Tensor:
    """Convolve (..., C) with (C', C, 1, 1, 1) to (..., C')."""
    return folded(positions(frames)).view(*frames.shape[:-1], -1)


def over_time(frames: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, T + k - 1, H, W, C) with (C', C, k, 1, 1) to (B, T, H, W, C')."""
    if weight.shape[2] == 1:
        return rw.convolve(positions(frames), weight, bias).view(*frames.shape[:-1], -1)
    output = rw.convolve(frames.flatten(2, 3), weight, bias, padded=False)
    return torch.unflatten(output, 2, frames.shape[2:4])


def over_time_back(gradient: Tensor, weight: Tensor) -> Tensor:
    """Carry `over_time`'s gradient, with the halo of its kernel, back.

    Args:
        gradient: Of the output, shape (B, T + k - 1, H, W, C').
        weight: As given to `over_time`, shape (C', C, k, 1, 1).

    Returns:
        Gradient of the input, shape (B, T, H, W, C).
    """
    return over_time(gradient, weight.transpose(0, 1).flip(2).contiguous())


def over_time_weight(frames: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Give the gradient of `over_time`'s weight, (C', C, k, 1, 1), at least float32.

    Written as a matrix product for each frame of the kernel: on a CPU twice as fast as the
    library's own gradient.

    Args:
        frames: The input, shape (B, T + k - 1, H, W, C).
        gradient: Of the output, shape (B, T, H, W, C').
        kernel: Its size k over time.
    """
    matrix, num_frames = gradient.flatten(0, -2).T, gradient.shape[1]
    shifted = [frames[:, shift : shift + num_frames].flatten(0, -2) for shift in range(kernel)]
    result = torch.stack([matrix @ rows for rows in shifted], dim=2)
    return result[..., None, None].to(rw.accumulator_of(result.dtype))


def over_space(
    frames: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1
) -> Tensor:
    """Convolve (B, T, H, W, C) with (C', C, 1, k, k) to (B, T, H', W', C')."""
    output = F.conv2d(
        _as_images(frames),
        weight[:, :, 0].to(frames.dtype),
        None if bias is None else bias.to(frames.dtype),
        stride=stride,
        padding=weight.shape[-1] // 2,
    )
    return _as_frames(output, frames)


def over_space_back(gradient: Tensor, weight: Tensor, like: Tensor, stride: int) -> Tensor:
    """Carry `over_space`'s gradient back: (B, T, H', W', C') to (B, T, H, W, C).

    Args:
        gradient: Of the output.
        weight: As given to `over_space`, shape (C', C, 1, k, k), k odd.
        like: The input, for its shape.
        stride: As given to `over_space`.
    """
    kernel = weight[:, :, 0].to(gradient.dtype)
    padding = kernel.shape[-1] // 2
    if stride == 1:
        # As in `rows.convolve_back`: a plain convolution is faster than the library's gradient.
        flipped = kernel.transpose(0, 1).flip(2, 3).contiguous()
        return _as_frames(F.conv2d(_as_images(gradient), flipped, padding=padding), like)
    # What the steps of the stride left over at the far ends.
    rest = [(size - 1) % stride for size in like.shape[2:4]]
    output = F.conv_transpose2d(
        _as_images(gradient), kernel, stride=stride, padding=padding, output_padding=rest
    )
    return _as_frames(output, like)


def over_space_weight(frames: Tensor, gradient: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Give the gradient of `over_space`'s weight, (C', C, 1, k, k), at least float32.

    Args:
        frames: The input, shape (B, T, H, W, C).
        gradient: Of the output, shape (B, T, H', W', C').
        weight: For its shape.
        stride: As given to `over_space`.
    """
    kernel = weight.shape[-1]
    result: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        _as_images(frames),
        (*weight.shape[:2], kernel, kernel),
        _as_images(gradient),
        stride=stride,
        padding=kernel // 2,
    )
    return result.unsqueeze(2).to(rw.accumulator_of(result.dtype))


def _as_images(frames: Tensor) -> Tensor:
    """View frames (B, T, H, W, C) as channels-last images (B * T, C, H, W)."""
    return frames.flatten(0, 1).permute(0, 3, 1, 2)


def _as_frames(images: Tensor, like: Tensor) -> Tensor:
    """View images (B * T, C, H, W) as frames (B, T, H, W, C), contiguous; B and T as in `like`."""
    output = torch.unflatten(images.permute(0, 2, 3, 1), 0, like.shape[:2])
    return output.contiguous()


def stacked(clip: Tensor, kernel: int) -> Tensor:
    """Line up what a kernel over time sees: (B, 3, T, H, W) to (B, T, H, W, k * 3), a view."""
    half = kernel // 2
    planes = F.pad(clip.transpose(1, 2), (0,) * 6 + (half, half)).flatten(1, 2)
    return planes.unfold(1, 3 * kernel, 3)
