"""Maps of what in a clip speaks for fake."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from experiments.explaining.layers import ClipLogit, as_frames, find_layers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

    from lightning_modules import ForgeryModule


class Explainer:
    """Explains the scores of a method by gradient times activation.

    HiResCAM (Draelos and Carin 2020, https://arxiv.org/abs/2011.08891), by captum's
    `LayerGradientXActivation`: the activations of a map, each times the gradient of the log-odds by
    it, summed over channels. Where a mean and a linear layer follow the map, as in I3D and most
    image networks, this is Grad-CAM (Selvaraju et al., ICCV 2017), and the places of a signed map
    add up to the log-odds but for the bias; where more follows, as FTCN's transformer, gradients
    differ between places and moments, which Grad-CAM would average away. For transformers the
    map is that of their patches before the first block, so that attention is run through as it is:
    its matrices need not be kept, and deeper tokens have handed on what they knew.

    Gradients start at the map, so that what comes before it costs no more than a score.

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
            signed: Keep what speaks for real, too, as negative numbers.

        Returns:
            Log-odds that each place adds, to first order, shape (B, T, h, w), float32, at least 0
            unless `signed`; h and w are those of the network's own map. Of methods that score
            frames the log-odds are those of the frame.
        """
        from captum.attr import LayerGradientXActivation

        maps = []
        with _quiet(self.model):
            tool = LayerGradientXActivation(ClipLogit(self.model), self.layers)
            for clip in torch.as_tensor(clips).split(1):
                given = self.model.normalise(clip.to(self.model.device))
                products = tool.attribute(given)
                frames = [as_frames(p.detach(), 1, clip.shape[1]) for p in products]
                maps.append(torch.stack(frames).sum(0).float().cpu())
        summed = torch.cat(maps) if maps else torch.empty(0, *clips.shape[1:2], 1, 1)
        return np.asarray(summed if signed else summed.clamp(min=0), np.float32)


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
