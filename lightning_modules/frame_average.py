"""FrameAverage: any image network, frame by frame; the baseline to beat."""

from __future__ import annotations

from typing import Any, Literal

from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from lightning_modules.backbones.image_encoder import FrameClassifier, ImageEncoder, Library
from lightning_modules.frame_method import FrameMethod
from lightning_modules.normalisation import CLIP, HALF, IMAGENET, Normalisation
from lightning_modules.outputs import FrameScores
from weights.errors import WeightsError
from weights.loading import LoadReport, is_checkpoint_of, load_weights
from weights.pretrained import (
    fetching,
    open_clip_options,
    published_colours,
    quietly,
    timm_options,
)

_NAMED = {"imagenet": IMAGENET, "half": HALF, "clip": CLIP}


class FrameAverage(FrameMethod):
    """An encoder of timm or open_clip with a linear classifier, on single frames.

    The image detectors that papers compare with: Xception (Rossler et al., ICCV 2019,
    https://arxiv.org/abs/1901.08971), EfficientNet, a frozen CLIP with a linear classifier (Ojha et
    al., CVPR 2023, https://arxiv.org/abs/2302.10174), as DeepfakeBench trains them (Yan et al.,
    NeurIPS 2023, https://arxiv.org/abs/2307.01426).

    Deviations from DeepfakeBench: one logit and binary cross-entropy, where it has two and
    cross-entropy, which is the same loss of their difference; its EfficientNet starts with a new
    first convolution, ours with the published one.

    Args:
        optimizer: Builds the optimiser from parameter groups.
        encoder: Name of the network in its library.
        library: `timm` or `open_clip`.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a frame in pixels.
        normalisation: `encoder` for what the network's published weights were trained with, those
            that its library takes by default; or that of `imagenet`, `half` (to [-1, 1]) or `clip`.
        tune_layer_norms: With `freeze_backbone`, train the encoder's layer norms all the same.
        **kwargs: As `FrameMethod` takes them. `weights` are `none`; `imagenet` for those timm takes
            for the network by default; another tag of either library, as `openai`; a file in the
            library's layout; or a checkpoint of this suite.

    Raises:
        ValueError: If there is no such network, or layer norms are to be trained that are not
            frozen or not there.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        encoder: str = "legacy_xception",
        library: Library = "timm",
        num_frames: int = 1,
        image_size: int = 256,
        normalisation: Literal["encoder", "imagenet", "half", "clip"] = "encoder",
        tune_layer_norms: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_frames, image_size, **kwargs)
        if tune_layer_norms and not self.freeze_backbone:
            raise ValueError("tune_layer_norms goes with freeze_backbone: without, all is trained")
        self.encoder, self.library, self.tune_layer_norms = encoder, library, tune_layer_norms
        with quietly():
            built = ImageEncoder(library, encoder, image_size)
        self.network = FrameClassifier(built)
        if tune_layer_norms and not self._layer_norms():
            raise ValueError(f"{encoder} has no layer norms to tune")
        self._takes_encoders = normalisation == "encoder"
        self.normalisation = _NAMED.get(normalisation, Normalisation(built.mean, built.std))

    def score_frames(self, frames: Tensor) -> FrameScores:
        """Score normalised frames of shape (N, 3, H, W), float."""
        logit, features = self.network(frames)
        return FrameScores(logit, features)

    def backbone_modules(self) -> list[nn.Module]:
        """Return the encoder."""
        return [self.network.encoder]

    def freeze_parts(self) -> None:
        """Freeze the encoder, its layer norms perhaps not."""
        super().freeze_parts()
        if self.tune_layer_norms:
            for norm in self._layer_norms():
                norm.requires_grad_(True)

    def load_pretrained(self, weights: str) -> LoadReport:
        """Load weights of the encoder, or a checkpoint of the whole.

        Args:
            weights: As given to the constructor.

        Raises:
            WeightsError: If they cannot be had or do not fit.
        """
        if is_checkpoint_of(self.network, weights):
            return load_weights(self, weights)
        options = {"timm": timm_options, "open_clip": open_clip_options}[self.library]
        loading = options(self.encoder, weights)
        self._require_normalisation(weights)
        rank_zero_info(f"starting from the weights {weights} of {self.encoder}")
        with fetching(self.encoder, weights):
            loaded = ImageEncoder(self.library, self.encoder, self.image_size, **loading)
        self.network.encoder.load_state_dict(loaded.state_dict())
        return LoadReport()

    def _require_normalisation(self, weights: str) -> None:
        published = published_colours(self.library, self.encoder, weights)
        if not self._takes_encoders or published in (None, self.normalisation):
            return
        names = [name for name, known in _NAMED.items() if known == published]
        raise WeightsError(
            f"the weights '{weights}' of {self.encoder} were trained on pictures normalised "
            "otherwise than its default weights; set model.init_args.normalisation to "
            f"{', '.join(names) or 'imagenet, half or clip, whichever is nearest'}"
        )

    def _layer_norms(self) -> list[nn.Module]:
        return [m for m in self.network.encoder.modules() if isinstance(m, nn.LayerNorm)]
