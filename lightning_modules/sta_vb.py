"""StA: a frozen CLIP with spatiotemporal adapters."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn

from lightning_modules.backbones.clip_tower import build_tower
from lightning_modules.backbones.sta import StANetwork
from lightning_modules.base import ForgeryModule
from lightning_modules.normalisation import CLIP
from lightning_modules.outputs import ForgeryOutput
from weights.convert import LAYOUTS
from weights.errors import WeightsError
from weights.loading import LoadReport, load_official, load_weights
from weights.pretrained import fetching, is_file_name, open_clip_options, published_colours


class StAVB(ForgeryModule):
    """CLIP's image tower with a spatiotemporal adapter after each block, on short clips.

    Yan, Zhao, Chen, Guo, Fu, Yao, Ding, Wu, Yuan: "Generalizing Deepfake Video Detection with
    Plug-and-Play: Video-Level Blending and Spatiotemporal Adapter Tuning", CVPR 2025,
    https://arxiv.org/abs/2408.17065; StA is this network, VB a way to make fakes of real clips,
    which belongs to the data. The score is the difference of both logits, and binary cross-entropy
    on it the released cross-entropy of two.

    Trained are the adapters, the temporal embedding, the last norm and the head; a new adapter
    changes nothing, so that training starts at CLIP itself.

    Deviations from the released code: it leaves out to load CLIP, to zero the adapters and to
    freeze, which its own comments and the paper ask for. Its cross attention mixes the clips of a
    batch; ours is that of a single clip, whatever is beside it. The streams of the last adapter,
    which no class token sees, are kept for official files but neither run nor trained.

    Args:
        optimizer: Builds the optimiser from parameter groups.
        encoder: Model of open_clip whose image tower it is; OpenAI's weights need `-quickgelu`.
        num_layers: Blocks of the tower that are kept, counted from the first; None for all.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a frame in pixels, a multiple of the tower's patches.
        dropout: Probability in front of the head.
        tower: Sizes that replace those of `encoder`, for networks from scratch: `width`,
            `head_width`, `patch_size`, `mlp_ratio`.
        train_tower: Train the tower as well.
        decay_norms: Whether the optimiser's weight decay also goes to norms, biases and the
            temporal embedding, as released.
        recompute: Compute what is cheap a second time in the backward pass instead of keeping it,
            which takes 2.5 times as much memory.
        **kwargs: As `ForgeryModule` takes them. `weights` are `none`; a tag of open_clip for the
            encoder, as `openai`; a file of CLIP in the layout of OpenAI, open_clip or Hugging Face;
            the authors' layout; or a checkpoint of this suite. `freeze_backbone` trains the head
            alone.

    Raises:
        ValueError: If open_clip has no such tower, or the sizes do not go together.
    """

    normalisation = CLIP

    def __init__(
        self,
        optimizer: OptimizerCallable,
        encoder: str = "ViT-L-14-quickgelu",
        num_layers: int | None = 14,
        num_frames: int = 8,
        image_size: int = 224,
        dropout: float = 0.5,
        tower: dict[str, float] | None = None,
        train_tower: bool = False,
        decay_norms: bool = True,
        recompute: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_frames, image_size, **kwargs)
        self.encoder, self.decay_norms = encoder, decay_norms
        built = build_tower(encoder, image_size, num_layers, **(tower or {}))
        self.network = StANetwork(built, num_frames, dropout, recompute)
        if not train_tower:
            self.network.freeze_tower()
        self.network.freeze_unreached()

    def forward(self, clip: Tensor) -> ForgeryOutput:
        """Score normalised clips of shape (B, 3, T, H, W), float."""
        logits, features = self.network(clip)
        return ForgeryOutput(logits[:, 1] - logits[:, 0], features)

    def backbone_modules(self) -> list[nn.Module]:
        """Return all but the head."""
        return [self.network.backbone]

    @property
    def evidence_steps(self) -> int:
        """Two: the whole tower runs for each, and places rank as with 16 (0.998, demo) [ours]."""
        return 2

    def evidence_layers(self) -> list[nn.Module]:
        """Return what cuts frames into patches; the blocks so run as fast as ever."""
        return [self.network.backbone.conv1]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is trained; norms, biases and embeddings apart if they do not decay."""
        if self.decay_norms:
            return super().parameter_groups()
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        plain = {name for name, p in trained.items() if p.ndim < 2 or name.endswith("embedding")}
        decayed = [p for name, p in trained.items() if name not in plain]
        spared = [p for name, p in trained.items() if name in plain]
        return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]

    def load_pretrained(self, weights: str) -> LoadReport:
        """Load a CLIP, fetched or from a file, or a file of the whole network.

        Args:
            weights: As given to the constructor.

        Raises:
            WeightsError: If they cannot be had or do not fit.
        """
        if is_file_name(weights):
            return load_weights(self, weights)
        import open_clip

        options = open_clip_options(self.encoder, weights)
        if published_colours("open_clip", self.encoder, weights) not in (None, self.normalisation):
            raise WeightsError(
                f"the weights '{weights}' of {self.encoder} were trained on pictures normalised "
                "otherwise than OpenAI's CLIP, as StA's are; take another tag, as openai"
            )
        rank_zero_info(f"starting from the weights {weights} of {self.encoder}")
        with fetching(self.encoder, weights):
            # Both towers; positions are stretched to frames of another size.
            clip = open_clip.create_model(self.encoder, force_image_size=self.image_size, **options)
        state = clip.visual.state_dict()
        return load_official(self.network, state, LAYOUTS["clip"], source=weights)
