"""Feature maps as rows: the layout and the primitives of the fused network.

A map of B clips, C channels, T frames and H x W positions is kept as a contiguous tensor of
shape (N, T, W, C) with N = B * H: one entry a row of the image, through all frames. Purely
temporal kernels never look at another row, so any run of rows (a *tile*) can be computed alone.
Tiles of a few megabytes stay in the processor's cache, and their memory is taken from and given
back to the allocator's pool instead of being mapped, zeroed and unmapped by the operating system
for every single layer, which is what most of the time goes to otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.grad import conv2d_weight

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Positions (rows x frames x columns) of a tile on a CPU: 8 MB at 256 channels in float32, which
#: leaves room for a few such tensors in a third-level cache. [ours, measured]
TILE_POSITIONS = 8192


Choice = tuple[Tensor, Tensor, Tensor, Tensor]
"""For each position of a 2 x 2 window whether the maximum is there, (N, T, W, C), bool."""


class Moments(NamedTuple):
    """First and second moments of C channels over all positions.

    Attributes:
        mean: Shape (C,), float32 or float64.
        covariance: Population covariance, shape (C, C), same dtype.
        num_positions: How many positions they were taken over.
    """

    mean: Tensor
    covariance: Tensor
    num_positions: int


class Folded(NamedTuple):
    """A convolution with its batch norm folded in.

    Attributes:
        weight: Shape (C', C, k, 1, 1).
        bias: Shape (C',).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Convolve and normalise rows (N, T, W, C) to (N, T, W, C')."""
        return convolve(rows, self.weight, self.bias)


def to_rows(clip: Tensor) -> Tensor:
    """Turn (B, C, T, H, W) into rows (B * H, T, W, C), contiguous, same dtype."""
    return clip.permute(0, 3, 2, 4, 1).flatten(0, 1).contiguous()


def from_rows(rows: Tensor, num_clips: int) -> Tensor:
    """See rows (B * H, T, W, C) as maps (B, C, T, H, W); no copy."""
    return torch.unflatten(rows, 0, (num_clips, -1)).permute(0, 4, 2, 1, 3)


def with_halo(like: Tensor, shape: torch.Size, halo: int) -> Tensor:
    """Make room for a map of a shape (N, T, ..., C), with frames of zeros at both ends of T.

    Args:
        like: Says dtype and device.
        shape: Without the halo.
        halo: Frames at either end.

    Returns:
        Shape (N, T + 2 * halo, ..., C); what lies between the ends is not set.
    """
    frames = like.new_empty((shape[0], shape[1] + 2 * halo, *shape[2:]))
    frames[:, :halo].zero_()
    frames[:, halo + shape[1] :].zero_()
    return frames


def tiles_of(rows: Tensor, multiple: int = 2) -> list[slice]:
    """Cut rows into runs that fit the cache; one run on accelerators.

    Args:
        rows: Shape (N, T, W, C).
        multiple: Rows that must stay together, for pooling.

    Returns:
        Slices along the first axis, in order, all but the last of a length that `multiple`
        divides.
    """
    num_rows = len(rows)
    if rows.device.type != "cpu":
        return [slice(0, num_rows)]
    fitting = TILE_POSITIONS // (rows.shape[1] * rows.shape[2])
    step = max(1, fitting // multiple) * multiple
    return [slice(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def accumulator_of(dtype: torch.dtype) -> torch.dtype:
    """Name the dtype that sums over positions are kept in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def channel_sum(rows: Tensor) -> Tensor:
    """Sum (..., C) over all positions: shape (C,), at least float32."""
    return rows.flatten(0, -2).sum(0, dtype=accumulator_of(rows.dtype))


def convolve(
    rows: Tensor, weight: Tensor, bias: Tensor | None = None, *, padded: bool = True
) -> Tensor:
    """Convolve over time, in the dtype of the rows.

    Args:
        rows: Shape (N, T, W, C), contiguous.
        weight: Shape (C', C, k, 1, 1), k odd.
        bias: Shape (C',), or None.
        padded: Whether zeros in front and behind keep T; else it shrinks by k - 1.

    Returns:
        Rows of shape (N, T, W, C'), contiguous.
    """
    kernel = weight.shape[2]
    output = F.conv2d(
        _as_images(rows, kernel),
        weight[..., 0].to(rows.dtype),
        None if bias is None else bias.to(rows.dtype),
        padding=(kernel // 2 if padded else 0, 0),
    )
    num_frames = rows.shape[1] if padded else rows.shape[1] - kernel + 1
    return output.permute(0, 2, 3, 1).reshape(len(rows), num_frames, rows.shape[2], -1)


def convolve_back(gradient: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Carry the gradient of `convolve`'s output, (N, T, W, C'), to its input, (N, T, W, C).

    Written as a convolution with the transposed kernel: on a CPU that is four to eight times
    faster than the library's own gradient in this layout.

    Args:
        gradient: Shape (N, T, W, C').
        weight: As given to `convolve`, shape (C', C, k, 1, 1).
        bias: A constant to add, shape (C,), or None.
    """
    return convolve(gradient, weight.transpose(0, 1).flip(2).contiguous(), bias)


def weight_gradient(rows: Tensor, gradient: Tensor, kernel: int) -> Tensor:
    """Give the gradient of `convolve`'s weight.

    Args:
        rows: The input, shape (N, T, W, C).
        gradient: Of the output, shape (N, T, W, C').
        kernel: Its size k over time.

    Returns:
        Shape (C', C, k, 1, 1), at least float32.
    """
    if kernel == 1:  # A plain product: on a CPU up to twice as fast as the library's gradient.
        product = gradient.flatten(0, -2).T @ rows.flatten(0, -2)
        return product[..., None, None, None].to(accumulator_of(rows.dtype))
    shape = (gradient.shape[3], rows.shape[3], kernel, 1)
    result: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
        _as_images(rows, kernel), shape, _as_images(gradient, kernel), padding=(kernel // 2, 0)
    )
    return result.unsqueeze(-1).to(accumulator_of(rows.dtype))


def _as_images(rows: Tensor, kernel: int) -> Tensor:
    """View rows as channels-last images (batch, C, T, W).

    Pointwise kernels get one image a frame: with one thread, PyTorch leaves 1 x 1 convolutions
    of fewer than 16 images to a slower routine.
    """
    images = rows if kernel > 1 else rows.flatten(0, 1).unsqueeze(1)
    return images.permute(0, 3, 1, 2)


def through_relu(gradient: Tensor, output: Tensor) -> Tensor:
    """Drop the gradient where a ReLU's output is 0; all of one shape."""
    result: Tensor = torch.ops.aten.threshold_backward(gradient, output, 0)
    return result


def statistics_of(tiles: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Take mean and population variance of each channel over all tiles, in two passes.

    Args:
        tiles: Rows of shape (N_i, T, W, C).

    Returns:
        Mean and variance, shape (C,), at least float32.
    """
    count = sum(tile.numel() // tile.shape[-1] for tile in tiles)
    mean = total(channel_sum(tile) for tile in tiles) / count
    return mean, total(channel_sum((tile - mean).square_()) for tile in tiles) / count


def moments_of(tiles: Iterable[Tensor]) -> Moments:
    """Take the moments of C channels over all tiles in one pass.

    They give the exact statistics of any pointwise convolution of these channels, so that its
    output need not be looked at, or kept.

    Args:
        tiles: Rows of shape (N_i, T, W, C), at least one; dropped before the next is asked for.

    Returns:
        The moments, at least float32.
    """
    pivot: Tensor | None = None
    sums, grams, count = [], [], 0
    for tile in tiles:
        values = tile.to(accumulator_of(tile.dtype))
        if pivot is None:  # Near the mean, so that little cancels in the difference below.
            pivot = channel_sum(values) / (values.numel() // values.shape[-1])
        values = values - pivot
        sums.append(channel_sum(values))
        grams.append(weight_gradient(values, values, kernel=1).flatten(1))
        count += values.numel() // values.shape[-1]
    offset = total(sums) / count
    covariance = total(grams) / count - torch.outer(offset, offset)
    return Moments(offset if pivot is None else pivot + offset, covariance, count)


def total(terms: Iterable[Tensor]) -> Tensor:
    """Add up tensors of one shape, pairwise, so that rounding does not grow with their number."""
    return torch.stack(list(terms)).sum(0)


def affine_of_norm(
    gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Write a batch norm as y * scale + shift: both of shape (C,), differentiable."""
    scale = gamma * torch.rsqrt(variance + eps)
    return scale, beta - mean * scale


def scale_and_shift(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Apply a norm written as y * scale + shift, in the dtype of the rows."""
    return torch.addcmul(shift.to(rows.dtype), rows, scale.to(rows.dtype))


def fold_norm(
    weight: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Folded:
    """Fold a batch norm into the convolution before it; differentiable."""
    scale, shift = affine_of_norm(gamma, beta, mean, variance, eps)
    return Folded(weight * scale.view(-1, 1, 1, 1, 1), shift)


def statistics_of_pointwise(
    weight: Tensor, mean: Tensor, covariance: Tensor
) -> tuple[Tensor, Tensor]:
    """Give mean and variance of a pointwise convolution's output from its input's moments.

    With y = W z: mean(y) = W mean(z) and var(y) = diag(W cov(z) W^T). Differentiable.

    Args:
        weight: Shape (C', C, ...) with C values for each output channel.
        mean: Of the input, shape (C,).
        covariance: Of the input, shape (C, C).

    Returns:
        Mean and population variance, shape (C',).
    """
    matrix = weight.flatten(1).to(mean.dtype)
    return matrix @ mean, ((matrix @ covariance) * matrix).sum(1).clamp(min=0)


def max_pool(rows: Tensor) -> Tensor:
    """Take the maxima of 2 x 2 positions: (N, T, W, C) to (N / 2, T, W / 2, C); N, W even."""
    taller = torch.maximum(rows[0::2], rows[1::2])
    return torch.maximum(taller[:, :, 0::2], taller[:, :, 1::2])


def max_pool_with_choice(rows: Tensor) -> tuple[Tensor, Choice]:
    """Take 2 x 2 maxima as `max_pool` does, and say where each one is.

    Returns:
        The maxima, and for each of the four positions of a window, row by row, whether the
        maximum is there; of equal values the first.
    """
    corners = _corners(rows)
    upper_right, lower_right = corners[1] > corners[0], corners[3] > corners[2]
    upper, lower = torch.maximum(*corners[:2]), torch.maximum(*corners[2:])
    is_lower = lower > upper
    choice = (
        ~(is_lower | upper_right),
        ~is_lower & upper_right,
        is_lower & ~lower_right,
        is_lower & lower_right,
    )
    return torch.maximum(upper, lower), choice


def max_unpool(pooled: Tensor, choice: Choice) -> Tensor:
    """Put the gradient of 2 x 2 maxima, (N, T, W, C), where they came from: (2 N, T, 2 W, C)."""
    num_rows, num_frames, width, channels = pooled.shape
    rows = pooled.new_empty((2 * num_rows, num_frames, 2 * width, channels))
    for corner, chosen in zip(_corners(rows), choice, strict=True):
        torch.mul(pooled, chosen, out=corner)
    return rows


def _corners(rows: Tensor) -> list[Tensor]:
    """View the four positions of each 2 x 2 window, in the order that decides between equals."""
    return [rows[i::2, :, j::2] for i in (0, 1) for j in (0, 1)]
