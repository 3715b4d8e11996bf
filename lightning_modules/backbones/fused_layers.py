"""What the fused blocks of both ResNets are made of: layers whose backward pass is written out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_modules.backbones import rows as rw


class Layer(NamedTuple):
    """Weights of a convolution and of the batch norm behind it.

    Attributes:
        weight: Shape (C', C, k, h, w).
        gamma: Scale of the norm, shape (C',).
        beta: Shift of the norm, shape (C',).
    """

    weight: Tensor
    gamma: Tensor
    beta: Tensor


class LayerGradient(NamedTuple):
    """Gradients of a layer's weights.

    Attributes:
        weight: Shape (C', C, k, h, w); None where none is wanted.
        gamma: Shape (C',).
        beta: Shape (C',).
    """

    weight: Tensor | None
    gamma: Tensor
    beta: Tensor


Statistics = tuple[Tensor, Tensor]
"""Batch mean and variance in front of a norm, both of shape (C',)."""


class PointwiseGradient(NamedTuple):
    """What the backward pass of a pointwise layer comes down to.

    Attributes:
        layer: Gradients of the layer's weights.
        weight: The folded weight, which carries gradients to the input.
        coupling: Weight (C, C, 1, 1, 1) from the layer's input to that input's gradient: what
            flows through the batch statistics.
        offset: The constant that belongs to it, shape (C,).
    """

    layer: LayerGradient
    weight: Tensor
    coupling: Tensor
    offset: Tensor

    def __call__(self, gradient: Tensor, rows: Tensor) -> Tensor:
        """Give the input's gradient (N, T, W, C) from that of the output and the input."""
        carried = rw.convolve_back(gradient, self.weight, self.offset)
        return carried.add_(rw.convolve(rows, self.coupling))


class PointwiseLayer:
    """A pointwise convolution whose batch norm takes its statistics from the input's moments.

    Args:
        layer: The weights.
        moments: Of the input.
        statistics: Batch mean and variance in front of the norm, both of shape (C',): what
            `rows.statistics_of_pointwise` makes of the moments.
        eps: Of the norm.
    """

    def __init__(
        self, layer: Layer, moments: rw.Moments, statistics: Statistics, eps: float
    ) -> None:
        self.layer = layer
        self.moments = moments
        self.statistics = statistics
        self.eps = eps
        self._weight_grads: list[Tensor] = []
        self._bias_grads: list[Tensor] = []

    def folded(self) -> rw.Folded:
        """Fold the norm into the convolution."""
        return rw.fold_norm(*self.layer, *self.statistics, self.eps)

    def collect(self, rows: Tensor, gradient: Tensor) -> None:
        """Take a tile's input (N, T, W, C) and output gradient (N, T, W, C') into account."""
        self._weight_grads.append(rw.weight_gradient(rows, gradient, kernel=1))
        self._bias_grads.append(rw.channel_sum(gradient))

    def gradient(self) -> PointwiseGradient:
        """Turn what was collected over all tiles into gradients of the weights and the input."""
        leaves = [tensor.detach().requires_grad_() for tensor in (*self.layer, *self.statistics)]
        weight, gamma, beta, mean, variance = leaves
        with torch.enable_grad():
            folded = rw.fold_norm(weight, gamma, beta, mean, variance, self.eps)
        weight_grad, gamma_grad, beta_grad, mean_grad, variance_grad = torch.autograd.grad(
            folded, leaves, (rw.total(self._weight_grads), rw.total(self._bias_grads))
        )
        # With y = W z: mean(y) = W mean(z), var(y) = diag(W cov(z) W^T).
        matrix = self.layer.weight.flatten(1).to(mean.dtype)
        scaled = variance_grad[:, None] * matrix
        through = torch.outer(mean_grad, self.moments.mean) + 2 * scaled @ self.moments.covariance
        weight_grad = weight_grad + through.view_as(weight).to(weight.dtype)
        coupling = 2 * (matrix.T @ scaled) / self.moments.num_positions
        offset = mean_grad @ matrix / self.moments.num_positions - coupling @ self.moments.mean
        return PointwiseGradient(
            LayerGradient(weight_grad, gamma_grad, beta_grad),
            folded.weight.detach(),
            coupling[..., None, None, None],
            offset,
        )


class NormGradient(NamedTuple):
    """What the backward pass of a norm comes down to: a gradient is scaled and shifted.

    Attributes:
        gamma: Gradient of the scale, shape (C',).
        beta: Gradient of the shift, shape (C',).
        scale: On the gradient of the output, shape (C',).
        slope: On the input: what flows through the batch statistics, shape (C',).
        offset: The constant that belongs to it, shape (C',).
    """

    gamma: Tensor
    beta: Tensor
    scale: Tensor
    slope: Tensor
    offset: Tensor

    def __call__(self, gradient: Tensor, values: Tensor) -> Tensor:
        """Give the input's gradient (..., C') from that of the output and the input."""
        result = rw.scale_and_shift(values, self.slope, self.offset)
        return result.addcmul_(gradient, self.scale.to(gradient.dtype))


class MeasuredNorm:
    """A batch norm whose input was kept.

    Args:
        layer: The weights.
        statistics: Of the norm's input.
        eps: Of the norm.
    """

    def __init__(self, layer: Layer, statistics: Statistics, eps: float) -> None:
        self.layer = layer
        self.statistics = statistics
        self.eps = eps
        self._scales: list[Tensor] = []
        self._shifts: list[Tensor] = []
        self._count = 0

    def affine(self) -> Statistics:
        """Give scale and shift, both of shape (C',)."""
        return rw.affine_of_norm(*self.layer[1:], *self.statistics, self.eps)

    def activate(self, values: Tensor) -> Tensor:
        """Normalise values (..., C') and drop the negative ones."""
        return rw.scale_and_shift(values, *self.affine()).relu_()

    def collect(self, values: Tensor, gradient: Tensor) -> None:
        """Take a tile's input and output gradient, both (..., C'), into account."""
        self._scales.append(rw.channel_sum(gradient * values))
        self._shifts.append(rw.channel_sum(gradient))
        self._count += values.numel() // values.shape[-1]

    def gradient(self) -> NormGradient:
        """Turn what was collected over all tiles into gradients of the weights and the input."""
        norm = (*self.layer[1:], *self.statistics)
        leaves = gamma, beta, mean, variance = [t.detach().requires_grad_() for t in norm]
        with torch.enable_grad():
            affine = rw.affine_of_norm(gamma, beta, mean, variance, self.eps)
        gamma, beta, mean, variance = torch.autograd.grad(
            affine, leaves, (rw.total(self._scales), rw.total(self._shifts))
        )
        slope = 2 * variance / self._count
        offset = mean / self._count - slope * self.statistics[0]
        return NormGradient(gamma, beta, affine[0].detach(), slope, offset)


class TemporalPool(torch.autograd.Function):
    """Maxima of two frames; keeps one bit of a byte a value."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, halo: int) -> Tensor:
        """Map (N, T + 2 * halo, ..., C) to (N, T / 2 + 2 * halo, ..., C).

        Args:
            ctx: Takes what the backward pass needs.
            frames: The map.
            halo: Frames of zeros at either end, which stay.
        """
        inside = frames[:, halo : frames.shape[1] - halo]
        earlier, later = inside[:, 0::2], inside[:, 1::2]
        ctx.save_for_backward(later > earlier)
        ctx.halo = halo
        if not halo:
            return torch.maximum(earlier, later)
        output = rw.with_halo(frames, earlier.shape, halo)
        output[:, halo:-halo] = torch.maximum(earlier, later)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Give the gradient to the frame that was larger, to the first of equals."""
        (takes_later,) = ctx.saved_tensors
        halo = ctx.halo
        num_frames = takes_later.shape[1]
        gradient = gradient[:, halo : halo + num_frames]
        shape = torch.Size((len(gradient), 2 * num_frames, *gradient.shape[2:]))
        frames = rw.with_halo(gradient, shape, halo)
        inside = frames[:, halo : halo + 2 * num_frames]
        torch.mul(gradient, takes_later, out=inside[:, 1::2])
        torch.mul(gradient, ~takes_later, out=inside[:, 0::2])
        return frames, None
