"""HFF: two Xceptions, of which one sees the high frequencies of a frame."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional

from lightning_modules.backbones.hff import Fusion, Head, HFFNetwork
from lightning_modules.backbones.srm import SRMLayout
from lightning_modules.frame_method import FrameMethod
from lightning_modules.losses import MarginType, am_softmax, margin_cross_entropy
from lightning_modules.normalisation import HALF
from lightning_modules.outputs import ForgeryOutput, FrameScores
from weights.convert import LAYOUTS
from weights.loading import LoadReport, load_official, load_weights
from weights.pretrained import DEFAULT, fetching, timm_options

Loss = Literal["am_softmax", "bench", "cross_entropy"]
"""What is trained: see `HFF`."""

#: The encoder of timm that both streams can start from.
ENCODER = "legacy_xception"

#: Head that each loss is for.
_HEADS: dict[Loss, Head] = {
    "am_softmax": "angle_linear",
    "bench": "linear",
    "cross_entropy": "linear",
}


class HFF(FrameMethod):
    """Two-stream Xception with high-frequency residuals, on single frames.

    Luo, Zhang, Yan, Liu: "Generalizing Face Forgery Detection with High-frequency Features", CVPR
    2021, https://arxiv.org/abs/2103.12376. The authors released network and loss; the recipe is of
    the paper and of DeepfakeBench (see the YAML). Three pairs of head and loss:

    - `angle_linear` and `am_softmax`: cosines, and the paper's loss on them (default);
    - `linear` and `bench`: DeepfakeBench's loss, the same formula on logits that are no cosines;
    - `linear` and `cross_entropy`.

    The log-odds of fake is the difference of both logits, of cosines `scale` times theirs; margins
    are for training alone.

    Deviations: the released network ends in a linear layer although its loss takes cosines; that
    network, which published weights need, is `head: linear`. One size only, see `HFFNetwork`.

    Args:
        optimizer: Builds the optimiser from parameter groups.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a frame in pixels.
        loss: What is trained, see above.
        head: How the network ends, see above.
        fusion: How the streams' mixture is weighed: `residual`, or `multiply` (DeepfakeBench).
        srm_layout: Order of the fixed filters: `official`, or `intended`, where each channel sees
            all three.
        dropout: Probability in front of the head.
        margin: Of `am_softmax` and `bench`. [0.45: the authors, as DeepfakeBench tells; 0.5 in
            their code]
        scale: Of `am_softmax` and `bench`.
        gamma: Exponent of the focal factor of `am_softmax`; 0 switches it off.
        margin_type: Of `am_softmax`: on the cosine (`cos`) or the angle (`arc`).
        hard_factor: The t of `am_softmax`, by which hard examples are raised; 1 switches it off.
        width: Channels of the first layer; everything else scales with it.
        **kwargs: As `FrameMethod` takes them. `weights` are `none`; `imagenet`, timm's Xception in
            both streams; a file of that or of cadene's Xception; the authors' or DeepfakeBench's
            layout; or a checkpoint of this suite.

    Raises:
        ValueError: If loss and head do not belong together, or a number of theirs means nothing.
    """

    normalisation = HALF

    def __init__(
        self,
        optimizer: OptimizerCallable,
        num_frames: int = 1,
        image_size: int = 256,
        loss: Loss = "am_softmax",
        head: Head = "angle_linear",
        fusion: Fusion = "residual",
        srm_layout: SRMLayout = "official",
        dropout: float = 0.5,
        margin: float = 0.45,
        scale: float = 30.0,
        gamma: float = 0.0,
        margin_type: MarginType = "cos",
        hard_factor: float = 1.0,
        width: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_frames, image_size, **kwargs)
        if loss not in _HEADS:
            raise ValueError(f"There is no loss {loss!r}; there are {get_args(Loss)}.")
        if _HEADS[loss] != head:
            raise ValueError(f"loss {loss} belongs to head {_HEADS[loss]}, not {head}; set both.")
        if scale <= 0 or margin < 0 or gamma < 0 or hard_factor < 1:
            raise ValueError(
                "scale must be above 0, margin and gamma at least 0, hard_factor at least 1; got "
                f"scale {scale}, margin {margin}, gamma {gamma}, hard_factor {hard_factor}"
            )
        self.loss, self.margin, self.scale = loss, margin, scale
        self.gamma, self.margin_type, self.hard_factor = gamma, margin_type, hard_factor
        self.network = HFFNetwork(
            image_size,
            width=width,
            srm_layout=srm_layout,
            fusion=fusion,
            head=head,
            dropout=dropout,
        )

    def score_frames(self, frames: Tensor) -> FrameScores:
        """Score normalised frames of shape (N, 3, H, W), float."""
        logits, features, _ = self.network(frames)
        logit = logits[:, 1] - logits[:, 0]
        if self.loss == "am_softmax":
            logit = self.scale * logit
        return FrameScores(logit, features, {"logits": logits})

    def frame_losses(self, output: ForgeryOutput, label: Tensor) -> dict[str, Tensor]:
        """Return the loss of N frames."""
        logits = output.extras["logits"]
        if self.loss == "cross_entropy":
            return {"cross_entropy": functional.cross_entropy(logits, label.long())}
        if self.loss == "bench":
            options = {"margin": self.margin, "scale": self.scale}
            return {"bench": margin_cross_entropy(logits, label, **options)}
        loss = am_softmax(
            logits,
            label,
            margin=self.margin,
            scale=self.scale,
            gamma=self.gamma,
            margin_type=self.margin_type,
            t=self.hard_factor,
        )
        return {"am_softmax": loss}

    def backbone_modules(self) -> list[nn.Module]:
        """Return all but the head."""
        return [part for name, part in self.network.named_children() if name != "classifier"]

    def evidence_layers(self) -> list[nn.Module]:
        """Return both streams amid their middle flow, before they attend each other anew."""
        return [stream.get_submodule("block7") for stream in (self.network.rgb, self.network.high)]

    def load_pretrained(self, weights: str) -> LoadReport:
        """Load weights of the whole network, or of an Xception into both streams.

        Args:
            weights: As given to the constructor.

        Raises:
            WeightsError: If they cannot be had or do not fit.
        """
        if weights != DEFAULT:
            return load_weights(self, weights)
        import timm

        with fetching(ENCODER, weights):
            encoder = timm.create_model(ENCODER, num_classes=0, **timm_options(ENCODER, weights))
        return load_official(self.network, encoder.state_dict(), LAYOUTS["xception"], weights)
