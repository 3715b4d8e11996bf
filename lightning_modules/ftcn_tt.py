"""FTCN+TT: a fully temporal convolution network with a temporal transformer."""

from __future__ import annotations

from typing import Any, Literal

from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from lightning_modules.backbones.ftcn import FTCNNetwork
from lightning_modules.base import ForgeryModule
from lightning_modules.outputs import ForgeryOutput


class FTCN(ForgeryModule):
    """FTCN with a temporal transformer head.

    Zheng, Bao, Chen, Zeng, Wen: "Exploring Temporal Coherence for More General Video Face Forgery
    Detection", ICCV 2021, https://arxiv.org/abs/2108.06693.

    Deviations: the default structure is the one of the authors' released code and checkpoint (no
    fifth stage, no projection, 16 heads; 14.8 M parameters), not the one of the paper (26.6 M),
    which `structure: paper` builds. The head averages over all positions of the last map instead
    of its first 14 x 14, which is the same number at 224 x 224 and right at other sizes. Returns a
    logit where the released network returns its sigmoid.

    Args:
        optimizer: Builds the optimiser from parameter groups.
        num_frames: Frames in a clip (T), even, at most 32.
        image_size: Height and width of a clip in pixels.
        structure: `released` (importable) or `paper`.
        recompute: Save memory in training on accelerators by computing activations twice; on a
            CPU that is done anyway, because there it is faster as well.
        **kwargs: As `ForgeryModule` takes them.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        num_frames: int = 32,
        image_size: int = 224,
        structure: Literal["released", "paper"] = "released",
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_frames, image_size, **kwargs)
        self.network = FTCNNetwork(
            structure=structure,
            num_frames=num_frames,
            image_size=image_size,
            recompute=recompute,
        )

    def forward(self, clip: Tensor) -> ForgeryOutput:
        """Score normalised clips of shape (B, 3, T, H, W), float."""
        logit, features = self.network(clip)
        return ForgeryOutput(logit=logit, features=features)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return two groups: batch-norm parameters are not decayed (official optimiser code)."""
        norm_parameters = {
            id(parameter)
            for module in self.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for parameter in module.parameters(recurse=False)
        }
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if id(p) not in norm_parameters]},
            {"params": [p for p in trained if id(p) in norm_parameters], "weight_decay": 0.0},
        ]

    def backbone_modules(self) -> list[nn.Module]:
        """Return the temporal convolution network, all but the transformer."""
        return [self.network.backbone]

    def evidence_layers(self) -> list[nn.Module]:
        """Return the 3-D network as a whole, which so runs as fast as ever.

        Of small faces its last map has less than four places along a side, which tell no part of a
        face from another: an earlier one is looked for.
        """
        return [self.network.backbone] if self.image_size >= 64 else []
