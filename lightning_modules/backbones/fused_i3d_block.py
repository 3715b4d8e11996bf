"""An I3D residual block in training mode that keeps little and runs in two dimensions.

The convolutions over time and over space are followed by norms whose statistics are measured; what
they put out is kept, a quarter of the block's output. The pointwise ones behind take the identities
of `fused_block`. Kept for the backward pass beside that: the block's input and its output (the next
one's input). The rest is computed again, tile by tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_modules.backbones import frames as fr
from lightning_modules.backbones import rows as rw
from lightning_modules.backbones.fused_layers import (
    Layer,
    LayerGradient,
    MeasuredNorm,
    NormGradient,
    PointwiseGradient,
    PointwiseLayer,
    Statistics,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Block:
    """What the forward and the backward pass of a block share.

    Args:
        frames: Input with a halo, shape (B, T + 2, H, W, C).
        layers: a (over time), b (over space), c (pointwise) and, if it is a convolution, the
            shortcut.
        stride: Over H and W, of b and the shortcut.
        eps: Of the norms.
    """

    first: list[Tensor]  # output of a, tile by tile
    second: list[Tensor]  # output of b, tile by tile
    statistics: list[Statistics]  # of the layers, as far as known
    moments: list[rw.Moments]  # of the inputs of c and the shortcut, as far as known

    def __init__(self, frames: Tensor, layers: list[Layer], stride: int, eps: float) -> None:
        self.frames = frames
        self.layers = layers
        self.stride = stride
        self.eps = eps
        self.tiles = fr.tiles_of(fr.without_halo(frames).shape, frames.device)
        self.projected = len(layers) > 3
        self.halo = layers[0].weight.shape[2] // 2

    def norm(self, index: int) -> MeasuredNorm:
        """Give the norm behind a (0) or b (1), once its statistics are known."""
        return MeasuredNorm(self.layers[index], self.statistics[index], self.eps)

    def pointwise(self, index: int) -> PointwiseLayer:
        """Give c (2) or the shortcut (3), once its statistics are known."""
        return PointwiseLayer(
            self.layers[index], self.moments[index - 2], self.statistics[index], self.eps
        )

    def shortcut_input(self, tile: fr.Tile) -> Tensor:
        """Give what the shortcut's convolution sees of a tile, (B, T, H', W', C)."""
        return self.frames[tile.inside()][:, :, :: self.stride, :: self.stride]


class _Forward(_Block):
    def run(self) -> Tensor:
        time, space = self.layers[0].weight, self.layers[1].weight
        self.first = [
            fr.over_time(self.frames[tile.inside(self.halo)], time) for tile in self.tiles
        ]
        self.statistics, self.moments = [rw.statistics_of(self.first)], []
        norm = self.norm(0)
        self.second = [
            fr.over_space(norm.activate(first), space, stride=self.stride) for first in self.first
        ]
        self.statistics.append(rw.statistics_of(self.second))
        norm = self.norm(1)
        last = self._next(norm.activate(second) for second in self.second)
        shortcut = None
        if self.projected:
            shortcut = self._next(self.shortcut_input(tile) for tile in self.tiles)
        shape = fr.without_halo(self.frames)[:, :, :: self.stride, :: self.stride].shape[:-1]
        output = fr.with_halo(self.frames, torch.Size((*shape, len(last.bias))))
        for tile, second in zip(self.tiles, self.second, strict=True):
            tail = self.frames[tile.inside()]
            if shortcut is not None:
                tail = fr.pointwise(self.shortcut_input(tile), shortcut)
            result = fr.pointwise(norm.activate(second), last)
            output[tile.inside()] = result.add_(tail).relu_()
        return output

    def _next(self, inputs: Iterable[Tensor]) -> rw.Folded:
        """Find the next pointwise layer's statistics from its input, and fold it."""
        self.moments.append(rw.moments_of(fr.positions(frames) for frames in inputs))
        index, moments = len(self.moments) + 1, self.moments[-1]
        weight = self.layers[index].weight
        self.statistics.append(rw.statistics_of_pointwise(weight, *moments[:2]))
        return self.pointwise(index).folded()


class _Backward(_Block):
    wanted: tuple[bool, bool]  # whether the weights of a and b need gradients; frozen ones do not

    def run(self, output: Tensor, gradient: Tensor) -> tuple[Tensor, list[LayerGradient]]:
        """Carry the output's gradient to the input and to the layers' weights."""
        tails = [
            rw.through_relu(gradient[tile.inside()], output[tile.inside()]) for tile in self.tiles
        ]
        last, second, through_second = self._last(tails)
        space, first, through_first = self._middle(second, through_second)
        frames_grad, projection = self._shortcut(tails)
        time = self._first(first, through_first, frames_grad)
        layers = [
            LayerGradient(time, through_first.gamma, through_first.beta),
            LayerGradient(space, through_second.gamma, through_second.beta),
            last,
        ]
        return frames_grad, [*layers, *projection]

    def _last(self, tails: list[Tensor]) -> tuple[LayerGradient, list[Tensor], NormGradient]:
        """Go through c and b's ReLU."""
        norm, last = self.norm(1), self.pointwise(2)
        inputs = [norm.activate(second) for second in self.second]
        for frames, tail in zip(inputs, tails, strict=True):
            last.collect(fr.positions(frames), fr.positions(tail))
        through, gradients = last.gradient(), []
        for tail, second in zip(tails, self.second, strict=True):
            frames = inputs.pop(0)
            gradient = _through(through, tail, frames)
            gradients.append(rw.through_relu(gradient, frames))
            norm.collect(second, gradients[-1])
        return through.layer, gradients, norm.gradient()

    def _middle(
        self, gradients: list[Tensor], through: NormGradient
    ) -> tuple[Tensor | None, list[Tensor], NormGradient]:
        """Go through b's norm and convolution and a's ReLU; uses `gradients` up."""
        norm, weight, weights, results = self.norm(0), self.layers[1].weight, [], []
        for first, second in zip(self.first, self.second, strict=True):
            gradient = through(gradients.pop(0), second)
            frames = norm.activate(first)
            if self.wanted[1]:
                weights.append(fr.over_space_weight(frames, gradient, weight, self.stride))
            carried = fr.over_space_back(gradient, weight, frames, self.stride)
            results.append(rw.through_relu(carried, frames))
            norm.collect(first, results[-1])
        weight_grad = rw.total(weights).to(weight.dtype) if weights else None
        return weight_grad, results, norm.gradient()

    def _shortcut(self, tails: list[Tensor]) -> tuple[Tensor, list[LayerGradient]]:
        """Start the input's gradient with what comes through the shortcut."""
        frames_grad = fr.with_halo(self.frames, fr.without_halo(self.frames).shape)
        if not self.projected:
            for tile, tail in zip(self.tiles, tails, strict=True):
                frames_grad[tile.inside()] = tail
            return frames_grad, []
        projection = self.pointwise(3)
        for tile, tail in zip(self.tiles, tails, strict=True):
            projection.collect(fr.positions(self.shortcut_input(tile)), fr.positions(tail))
        through = projection.gradient()
        for tile, tail in zip(self.tiles, tails, strict=True):
            part = frames_grad[tile.inside()]
            if self.stride > 1:
                part.zero_()
            seen = part[:, :, :: self.stride, :: self.stride]
            seen.copy_(_through(through, tail, self.shortcut_input(tile)))
        return frames_grad, [through.layer]

    def _first(
        self, gradients: list[Tensor], through: NormGradient, frames_grad: Tensor
    ) -> Tensor | None:
        """Go through a's norm and convolution; uses `gradients` up, adds to `frames_grad`."""
        weight, weights = self.layers[0].weight, []
        shape = torch.Size((*fr.without_halo(self.frames).shape[:-1], len(weight)))
        whole = fr.with_halo(self.frames, shape)
        for tile, first in zip(self.tiles, self.first, strict=True):
            whole[tile.inside()] = gradient = through(gradients.pop(0), first)
            if self.wanted[0]:
                window = self.frames[tile.inside(self.halo)]
                weights.append(fr.over_time_weight(window, gradient, weight.shape[2]))
        for tile in self.tiles:
            frames_grad[tile.inside()] += fr.over_time_back(whole[tile.inside(self.halo)], weight)
        return rw.total(weights).to(weight.dtype) if weights else None


def _through(through: PointwiseGradient, gradient: Tensor, frames: Tensor) -> Tensor:
    """Carry a pointwise layer's gradient (..., C') to its input, (..., C)."""
    carried = through(fr.positions(gradient), fr.positions(frames))
    return carried.view(*gradient.shape[:-1], -1)


class FusedI3DBlock(torch.autograd.Function):
    """A residual block in training mode on frames, with its backward pass written out."""

    @staticmethod
    def forward(
        ctx: Any, frames: Tensor, stride: int, eps: float, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the block.

        Args:
            ctx: Takes what the backward pass needs.
            frames: Input with a halo, shape (B, T + 2, H, W, C).
            stride: Over H and W.
            eps: Of the norms.
            *weights: Weight, gamma and beta of a, b, c and, if it is a convolution, the shortcut.

        Returns:
            Output with a halo, then batch mean and variance of each layer for the running
            statistics.
        """
        layers = [Layer(*weights[start : start + 3]) for start in range(0, len(weights), 3)]
        block = _Forward(frames, layers, stride, eps)
        output = block.run()
        statistics = [tensor for pair in block.statistics for tensor in pair]
        moments = [tensor for moment in block.moments for tensor in moment[:2]]
        kept = (*weights, *statistics, *moments, *block.first, *block.second)
        ctx.save_for_backward(frames, output, *kept)
        ctx.settings = stride, eps, len(layers), [moment.num_positions for moment in block.moments]
        ctx.mark_non_differentiable(*statistics)
        return output, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradients of the input and of all weights that are not frozen."""
        stride, eps, num_layers, counts = ctx.settings
        saved = iter(ctx.saved_tensors)
        frames, output = next(saved), next(saved)
        layers = [Layer(next(saved), next(saved), next(saved)) for _ in range(num_layers)]
        block = _Backward(frames, layers, stride, eps)
        block.statistics = [(next(saved), next(saved)) for _ in range(num_layers)]
        block.moments = [rw.Moments(next(saved), next(saved), count) for count in counts]
        block.first = [next(saved) for _ in block.tiles]
        block.second = list(saved)
        block.wanted = ctx.needs_input_grad[3], ctx.needs_input_grad[6]
        with torch.autocast(frames.device.type, enabled=False):
            frames_grad, layer_grads = block.run(output, gradient)
        return frames_grad, None, None, *(tensor for layer in layer_grads for tensor in layer)
