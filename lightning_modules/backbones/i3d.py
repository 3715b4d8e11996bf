"""I3D ResNet-50 with one linear logit: the network of AltFreezing."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_modules.backbones.resnet3d import ResNet3D

#: Residual stages after the stem.
NUM_STAGES = 4


class I3DNetwork(nn.Module):
    """I3D R50 (SlowFast's "I3D 8x8 R50"), mean over all positions, dropout, one logit.

    The official "i3d_ori" of AltFreezing: Wang, Bao, Zhou, Wang, Li, "AltFreezing for More General
    Video Face Forgery Detection", CVPR 2023, https://arxiv.org/abs/2307.08317; 27,225,921
    parameters.

    Deviations from the official code: the mean is taken over the whole last map, not over windows
    of T / 2 x 7 x 7 (the same at 32 x 224 x 224). The official windows move by one position, so
    longer or larger clips silently gave several outputs each, and smaller ones failed; here a clip
    has one output at any size, and clips of another length or size than the network was built for
    are refused.

    Args:
        num_frames: Frames in a clip (T), even.
        image_size: Height and width of a clip in pixels; None takes any size.
        width: Channels of the stem (64 officially); everything else scales with it.
        dropout: Probability in front of the classifier (0.5 officially).
        recompute: Save memory in training on accelerators by computing activations twice; on a
            CPU that is done anyway, because there it is faster as well.
    """

    def __init__(
        self,
        num_frames: int = 32,
        image_size: int | None = 224,
        *,
        width: int = 64,
        dropout: float = 0.5,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if num_frames < 2 or num_frames % 2:
            raise ValueError(f"{num_frames} frames a clip: I3D takes an even number from 2 on.")
        self.num_frames = num_frames
        self.image_size = image_size
        self.backbone = ResNet3D(NUM_STAGES, width, spatial=True, recompute=recompute)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.backbone.num_features, 1)
        # Official initialiser (SlowFast's, `FC_INIT_STD`).
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Score clips.

        Args:
            clip: Normalised RGB, shape (B, 3, T, H, W), float.

        Returns:
            Log-odds of fake, shape (B,), and features of the clip, shape (B, 32 * width).

        Raises:
            ValueError: If the clip is not what the network was built for.
        """
        self._check_clip(clip)
        feature = self.backbone(clip).mean((2, 3, 4))
        logit = self.head(self.dropout(feature)).squeeze(1)
        return logit, feature

    def _check_clip(self, clip: Tensor) -> None:
        shape = tuple(clip.shape)
        if clip.ndim != 5 or shape[1] != 3:
            raise ValueError(f"I3D takes clips of shape (B, 3, T, H, W), not {shape}.")
        if shape[2] != self.num_frames:
            raise ValueError(
                f"This I3D was built for clips of {self.num_frames} frames and got {shape[2]}; "
                "set num_frames alike for the network and the data."
            )
        if self.image_size is not None and shape[3:] != (self.image_size, self.image_size):
            raise ValueError(
                f"This I3D was built for frames of {self.image_size} x {self.image_size} pixels "
                f"and got {shape[3]} x {shape[4]}; set image_size alike for network and data."
            )
