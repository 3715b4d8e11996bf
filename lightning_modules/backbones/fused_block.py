"""A residual block in training mode that keeps little and touches memory little.

Three identities carry it, all exact in real arithmetic:

* The batch statistics of y = W z for a pointwise W follow from the mean and covariance of z, so
  such a convolution and its batch norm are *one* convolution with folded weights; y is never
  needed, neither for the statistics nor in the backward pass.
* The gradient through those statistics is again a pointwise convolution of z.
* Which values a ReLU let through is seen on its output, which the next block keeps anyway.

Kept for the backward pass: the block's input, its output (the next one's input) and the output
of its temporal convolution. The rest is computed again, tile by tile.

In float32 a variance found from moments is off by about 1e-6 of |W|^2 |cov(z)|, as it would be
with products in any other order; only a channel that nearly cancels its inputs could notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_modules.backbones import rows as rw
from lightning_modules.backbones.fused_layers import (
    Layer,
    LayerGradient,
    MeasuredNorm,
    PointwiseGradient,
    PointwiseLayer,
    Statistics,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class _Block:
    """What the forward and the backward pass of a block share.

    Args:
        rows: Input, shape (N, T, W, C).
        layers: a (over time), b, c (pointwise) and, if it is a convolution, the shortcut.
        pooled: Whether 2 x 2 maxima follow b and the shortcut.
        eps: Of the norms.
    """

    first: list[Tensor]  # output of a, tile by tile
    statistics: list[Statistics]  # of the layers, as far as known
    moments: list[rw.Moments]  # of the inputs of b, c and the shortcut, as far as known

    def __init__(self, rows: Tensor, layers: list[Layer], pooled: bool, eps: float) -> None:
        self.rows = rows
        self.layers = layers
        self.pooled = pooled
        self.eps = eps
        self.tiles = rw.tiles_of(rows)
        self.indices = range(len(self.tiles))
        self.projected = len(layers) > 3

    def pointwise(self, index: int) -> PointwiseLayer:
        """Give b (1), c (2) or the shortcut (3), once its statistics are known."""
        return PointwiseLayer(
            self.layers[index], self.moments[index - 1], self.statistics[index], self.eps
        )

    def affine(self) -> tuple[Tensor, Tensor]:
        """Give scale and shift of the norm behind a."""
        return rw.affine_of_norm(*self.layers[0][1:], *self.statistics[0], self.eps)

    def output_tile(self, index: int) -> slice:
        """Say which output rows come from a tile."""
        tile = self.tiles[index]
        return slice(tile.start // 2, tile.stop // 2) if self.pooled else tile


class _Forward(_Block):
    def run(self) -> Tensor:
        weight = self.layers[0].weight
        self.first = [rw.convolve(self.rows[tile], weight) for tile in self.tiles]
        self.statistics, self.moments = [rw.statistics_of(self.first)], []
        affine = self.affine()

        def activations() -> Iterator[Tensor]:
            return (rw.scale_and_shift(first, *affine).relu_() for first in self.first)

        middle = self._next(activations())
        inner = [self._pool(middle(rows)).relu_() for rows in activations()]
        return self._last(inner)

    def _next(self, inputs: Iterable[Tensor]) -> rw.Folded:
        """Find the next layer's statistics from its input, and fold it."""
        self.moments.append(rw.moments_of(inputs))
        layer, moments = self.layers[len(self.moments)], self.moments[-1]
        self.statistics.append(rw.statistics_of_pointwise(layer.weight, *moments[:2]))
        return self.pointwise(len(self.moments)).folded()

    def _last(self, inner: list[Tensor]) -> Tensor:
        last, shortcut = self._next(inner), None
        if self.projected:
            shortcut = self._next(self.rows[tile] for tile in self.tiles)
        num_rows, num_frames, width = self.rows.shape[:3]
        factor = 2 if self.pooled else 1
        output = self.rows.new_empty(
            (num_rows // factor, num_frames, width // factor, len(last.bias))
        )
        for index, tile in enumerate(self.tiles):
            rows = self.rows[tile]
            tail = rows if shortcut is None else self._pool(shortcut(rows))
            output[self.output_tile(index)] = last(inner[index]).add_(tail).relu_()
        return output

    def _pool(self, rows: Tensor) -> Tensor:
        return rw.max_pool(rows) if self.pooled else rows


class _Backward(_Block):
    wants_first_weight = True  # a frozen one needs no gradient

    def run(self, output: Tensor, gradient: Tensor) -> tuple[Tensor, list[LayerGradient]]:
        """Carry the output's gradient to the input rows and to the layers' weights."""
        tail = rw.through_relu(gradient, output)
        affine = self.affine()
        active = [rw.scale_and_shift(first, *affine).relu_() for first in self.first]
        inner, choices = self._inner(active)
        last = self._last(tail, inner)
        middle, active_grads = self._middle(tail, last, active, inner, choices)
        rows_grad, projection = self._shortcut(tail)
        first = self._first(middle, active, active_grads, rows_grad)
        return rows_grad, [first, middle.layer, last.layer, *projection]

    def _inner(self, active: list[Tensor]) -> tuple[list[Tensor], list[rw.Choice]]:
        """Compute the input of c again, and which of the 2 x 2 positions it took."""
        middle = self.pointwise(1).folded()
        outputs = [middle(rows) for rows in active]
        if not self.pooled:
            return [rows.relu_() for rows in outputs], []
        pairs = [rw.max_pool_with_choice(rows) for rows in outputs]
        return [rows.relu_() for rows, _ in pairs], [choice for _, choice in pairs]

    def _last(self, tail: Tensor, inner: list[Tensor]) -> PointwiseGradient:
        last = self.pointwise(2)
        for index in self.indices:
            last.collect(inner[index], tail[self.output_tile(index)])
        return last.gradient()

    def _middle(
        self,
        tail: Tensor,
        last: PointwiseGradient,
        active: list[Tensor],
        inner: list[Tensor],
        choices: list[rw.Choice],
    ) -> tuple[PointwiseGradient, list[Tensor]]:
        """Go through c and b's ReLU and maxima; uses `inner` up."""
        middle, gradients = self.pointwise(1), []
        for index in self.indices:
            rows = inner.pop(0)
            gradient = rw.through_relu(last(tail[self.output_tile(index)], rows), rows)
            if self.pooled:
                gradient = rw.max_unpool(gradient, choices[index])
            middle.collect(active[index], gradient)
            gradients.append(gradient)
        return middle.gradient(), gradients

    def _shortcut(self, tail: Tensor) -> tuple[Tensor, list[LayerGradient]]:
        """Start the input's gradient with what comes through the shortcut."""
        if not self.projected:
            return tail, []
        projection, choices = self.pointwise(3), []
        folded = projection.folded()
        for index, tile in enumerate(self.tiles):
            gradient = tail[self.output_tile(index)]
            if self.pooled:
                choices.append(rw.max_pool_with_choice(folded(self.rows[tile]))[1])
                gradient = rw.max_unpool(gradient, choices[index])
            projection.collect(self.rows[tile], gradient)
        through = projection.gradient()
        rows_grad = torch.empty_like(self.rows)
        for index, tile in enumerate(self.tiles):
            gradient = tail[self.output_tile(index)]
            if self.pooled:
                gradient = rw.max_unpool(gradient, choices[index])
            rows_grad[tile] = through(gradient, self.rows[tile])
        return rows_grad, [through.layer]

    def _first(
        self,
        middle: PointwiseGradient,
        active: list[Tensor],
        gradients: list[Tensor],
        rows_grad: Tensor,
    ) -> LayerGradient:
        """Go through b, a's ReLU, norm and convolution; uses the lists up, adds to `rows_grad`."""
        norm = MeasuredNorm(self.layers[0], self.statistics[0], self.eps)
        for index, first in enumerate(self.first):
            rows = active.pop(0)
            gradients[index] = gradient = rw.through_relu(middle(gradients[index], rows), rows)
            norm.collect(first, gradient)
        through = norm.gradient()
        weight, weights = self.layers[0].weight, []
        for index, tile in enumerate(self.tiles):
            gradient = through(gradients.pop(0), self.first[index])
            if self.wants_first_weight:
                weights.append(rw.weight_gradient(self.rows[tile], gradient, weight.shape[2]))
            rows_grad[tile] += rw.convolve_back(gradient, weight)
        weight_grad = rw.total(weights).to(weight.dtype) if weights else None
        return LayerGradient(weight_grad, through.gamma, through.beta)


class FusedBlock(torch.autograd.Function):
    """A residual block in training mode on rows, with its backward pass written out."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        pooled: bool,
        eps: float,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the block.

        Args:
            ctx: Takes what the backward pass needs.
            rows: Input, shape (N, T, W, C).
            pooled: Whether H and W are halved behind b and the shortcut.
            eps: Of the norms.
            *weights: Weight, gamma and beta of a, b, c and, if it is a convolution, the shortcut.

        Returns:
            Output rows, then batch mean and variance of each layer for the running statistics.
        """
        layers = [Layer(*weights[start : start + 3]) for start in range(0, len(weights), 3)]
        block = _Forward(rows, layers, pooled, eps)
        output = block.run()
        statistics = [tensor for pair in block.statistics for tensor in pair]
        moments = [tensor for moment in block.moments for tensor in moment[:2]]
        ctx.save_for_backward(rows, output, *weights, *statistics, *moments, *block.first)
        ctx.settings = pooled, eps, len(layers), [moment.num_positions for moment in block.moments]
        ctx.mark_non_differentiable(*statistics)
        return output, *statistics

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        gradient: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Give the gradients of the input rows and of all weights."""
        pooled, eps, num_layers, counts = ctx.settings
        saved = iter(ctx.saved_tensors)
        rows, output = next(saved), next(saved)
        layers = [Layer(next(saved), next(saved), next(saved)) for _ in range(num_layers)]
        block = _Backward(rows, layers, pooled, eps)
        block.statistics = [(next(saved), next(saved)) for _ in range(num_layers)]
        block.moments = [rw.Moments(next(saved), next(saved), count) for count in counts]
        block.first = list(saved)
        block.wants_first_weight = ctx.needs_input_grad[3]
        with torch.autocast(rows.device.type, enabled=False):
            rows_grad, layer_grads = block.run(output, gradient.contiguous())
        return rows_grad, None, None, *(tensor for layer in layer_grads for tensor in layer)
