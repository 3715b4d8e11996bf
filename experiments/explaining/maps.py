"""Maps of what in a clip speaks for fake."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from experiments.explaining.layers import as_frames, clip_logit, find_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from lightning_modules import ForgeryModule

#: Pixels along a side of what is left of a frame without its detail. [ours]
_COARSE = 4


class _AllSeenError(Exception):
    """Ends a pass through a network of which no more is needed."""


class Explainer:
    """Explains the scores of a method by integrated gradients at a map inside its network.

    Of each value of the map: how much it differs from that of the same clip without detail, times
    the gradient of the log-odds, averaged on the straight way between both; summed over channels
    (Sundararajan, Taly, Yan, ICML 2017, https://arxiv.org/abs/1703.01365). So places add up to what
    detail adds to the log-odds. Where a mean and a linear layer follow the map, as in I3D and most
    image networks, this is Grad-CAM (Selvaraju et al., ICCV 2017) of the difference; gradients are
    not averaged over places and moments, which FTCN's transformer tells apart (HiResCAM, Draelos
    and Carin 2020). Plain Grad-CAM fails where scores are saturated, as HFF's cosines; a sum of
    positive parts alone, as in LayerCAM, hardly changed when HFF's weights were shuffled.

    For transformers the map is that of their patches before the first block, so that attention is
    run through as it is: its matrices need not be kept.

    Gradients start at the map: what comes before it costs no more than scores do. Captum's
    `LayerIntegratedGradients` gives the same maps at about the same cost, which a test checks. It
    is not used for them because it runs both ends through the whole network, takes the frames of a
    map for clips of their own where they lie in one axis, and would be a dependency in place of
    some thirty lines.

    Args:
        model: The method; its weights and its mode are the same afterwards.

    Raises:
        ValueError: If nothing can be explained by, see `find_layers`.
    """

    def __init__(self, model: ForgeryModule) -> None:
        self.model = model
        with _quiet(model):
            self.layers: list[nn.Module] = find_layers(model)

    def explain(self, clips: NDArray[np.uint8], *, signed: bool = False) -> NDArray[np.float32]:
        """Map the evidence for fake, one clip at a time.

        Args:
            clips: Aligned RGB, shape (B, T, H, W, 3), uint8.
            signed: Keep what speaks for real, too, as negative numbers: to first order a place
                then tells by how much the log-odds are higher than without its detail.

        Returns:
            In log-odds, shape (B, T, h, w), float32, at least 0 unless `signed`; h and w are those
            of the network's own map. Of methods that score frames the log-odds are the frame's.
        """
        maps = []
        with _quiet(self.model):
            for clip, plain in zip(clips[:, None], without_detail(clips)[:, None], strict=True):
                maps.append(self._explain(clip, plain, signed))
        return np.concatenate(maps)

    def _explain(
        self, clip: NDArray[np.uint8], plain: NDArray[np.uint8], signed: bool
    ) -> NDArray[np.float32]:
        given = self._normalised(clip)
        ends = [self._maps_of(self._normalised(plain)), self._maps_of(given)]
        total = torch.zeros(1)
        steps = self.model.evidence_steps
        for step in range(steps):
            share = (step + 0.5) / steps
            between = [torch.lerp(a, b, share) for a, b in zip(*ends, strict=True)]
            for start, end, gradient in zip(*ends, self._gradients(given, between), strict=True):
                product = gradient * (end - start) / steps
                total = total + as_frames(product, 1, clip.shape[1]).float().cpu()
        return np.asarray(total if signed else total.clamp(min=0), np.float32)

    def _normalised(self, clip: NDArray[np.uint8]) -> Tensor:
        return self.model.normalise(torch.as_tensor(clip).to(self.model.device))

    def _gradients(self, clip: Tensor, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the gradients of the log-odds by the layers' maps, were they these."""
        starts = dict(zip(self.layers, (m.requires_grad_() for m in maps), strict=True))

        def start(layer: nn.Module, _: object, __: Tensor) -> Tensor:
            return starts[layer].clone()  # what follows may work in place

        with _hooked(self.layers, start):
            logit = clip_logit(self.model, clip)
        return torch.autograd.grad(logit.sum(), maps)

    @torch.no_grad()
    def _maps_of(self, clip: Tensor) -> list[Tensor]:
        """Return the layers' maps, without running what comes behind them."""
        seen: dict[nn.Module, Tensor] = {}

        def keep(layer: nn.Module, _: object, output: Tensor) -> None:
            seen[layer] = output.clone()  # what follows may work in place
            if len(seen) == len(self.layers):
                raise _AllSeenError

        with _hooked(self.layers, keep), suppress(_AllSeenError):
            self.model(clip)
        return [seen[layer] for layer in self.layers]


def explain_clips(
    model: ForgeryModule, clips: NDArray[np.uint8], *, signed: bool = False
) -> NDArray[np.float32]:
    """Map the evidence for fake in clips, see `Explainer`.

    Args:
        model: The method.
        clips: Aligned RGB, shape (B, T, H, W, 3), uint8.
        signed: Keep what speaks for real, too, as negative numbers.

    Returns:
        Shape (B, T, h, w), float32.
    """
    return Explainer(model).explain(clips, signed=signed)


def without_detail(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Leave of each frame what a few pixels tell of it: neither a face nor traces of a forgery.

    Args:
        clips: RGB, shape (B, T, H, W, 3), uint8.

    Returns:
        Same shape, uint8.
    """
    import cv2

    plain = np.empty_like(clips)
    size = (clips.shape[3], clips.shape[2])
    for place in np.ndindex(clips.shape[:2]):
        coarse = cv2.resize(clips[place], (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        plain[place] = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return plain


@contextmanager
def _hooked(layers: list[nn.Module], hook: object) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in layers]  # type: ignore[arg-type]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _quiet(model: ForgeryModule) -> Iterator[None]:
    """Evaluate with gradients of activations, but none of weights."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    training = model.training
    model.eval()
    try:
        for weight in trained:
            weight.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)
        model.train(training)
