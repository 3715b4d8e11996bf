"""I3D: a 3-D ResNet-50 with one logit, the network that AltFreezing trains."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_modules.backbones.i3d import I3DNetwork
from lightning_modules.base import ForgeryModule
from lightning_modules.outputs import ForgeryOutput


class I3D(ForgeryModule):
    """I3D R50 with a linear classifier.

    The network of Wang, Bao, Zhou, Wang, Li: "AltFreezing for More General Video Face Forgery
    Detection", CVPR 2023, https://arxiv.org/abs/2307.08317 (official setting "i3d_ori"). Without
    a callback that freezes it is that paper's plain 3-D network. All parameters are decayed, batch
    norms too, as in the official optimiser code (its list of norms stays empty).

    Deviations: see `I3DNetwork`; one output a clip at any length and size.

    Args:
        optimizer: Builds the optimiser from parameter groups.
        num_frames: Frames in a clip (T), even.
        image_size: Height and width of a clip in pixels.
        recompute: Save memory in training on accelerators by computing activations twice; on a
            CPU that is done anyway, because there it is faster as well.
        **kwargs: As `ForgeryModule` takes them. Files of `weights` are AltFreezing's, Kinetics' in
            the layout of SlowFast and DeepfakeBench (whose classifier is left out), or a
            checkpoint of this suite.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        num_frames: int = 32,
        image_size: int = 224,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_frames, image_size, **kwargs)
        self.network = I3DNetwork(num_frames, image_size, recompute=recompute)

    def forward(self, clip: Tensor) -> ForgeryOutput:
        """Score normalised clips of shape (B, 3, T, H, W), float."""
        logit, features = self.network(clip)
        return ForgeryOutput(logit=logit, features=features)

    def backbone_modules(self) -> list[nn.Module]:
        """Return the 3-D network, all but the classifier."""
        return [self.network.backbone]

    def evidence_layers(self) -> list[nn.Module]:
        """Return the 3-D network as a whole, which so runs as fast as ever.

        Of small faces its last map has less than four places along a side, which tell no part of a
        face from another: an earlier one is looked for.
        """
        return [self.network.backbone] if self.image_size >= 128 else []
