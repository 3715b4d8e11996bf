"""FTCN with a temporal transformer: the whole network."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from lightning_modules.backbones.resnet3d import ResNet3D
from lightning_modules.backbones.temporal_transformer import TemporalTransformer

#: Residual stages and attention heads. `released`: the official configuration `ftcn_tt.yaml`, of
#: which weights were published. `paper`: what gives the paper's 26.6 M parameters.
STRUCTURES = {"released": (3, 16), "paper": (4, 12)}


class FTCNNetwork(nn.Module):
    """Fully temporal convolution network and temporal transformer.

    Zheng, Bao, Chen, Zeng, Wen: "Exploring Temporal Coherence for More General Video Face Forgery
    Detection", ICCV 2021, https://arxiv.org/abs/2108.06693. 14,765,889 parameters as released,
    26,585,921 in the structure of the paper.

    Deviations from the official code: the mean is taken over all positions of the last map, not
    over its first 14 x 14 (the same at 224 x 224); clips of another length or size than the
    network was built for are refused instead of being mixed up silently; the result is a logit.

    Args:
        structure: `released` or `paper`.
        num_frames: Frames in a clip (T), even. The position table has room for `max_frames`.
        image_size: Height and width of a clip in pixels; None takes any size.
        width: Channels of the stem (64 in both structures); everything else scales with it.
        depth: Encoder layers (1 in both structures).
        max_frames: Longest clip that the weights are made for (32 in both structures).
        dropout: Probability in the transformer (0.1 in the official code).
        recompute: Save memory in training on accelerators by computing activations twice; on a
            CPU that is done anyway, because there it is faster as well.
    """

    def __init__(
        self,
        structure: Literal["released", "paper"] = "released",
        num_frames: int = 32,
        image_size: int | None = 224,
        *,
        width: int = 64,
        depth: int = 1,
        max_frames: int = 32,
        dropout: float = 0.1,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if structure not in STRUCTURES:
            raise ValueError(f"Structure {structure!r} is unknown; there are {[*STRUCTURES]}.")
        if num_frames % 2 or not 2 <= num_frames <= max_frames:
            raise ValueError(
                f"{num_frames} frames a clip: FTCN takes an even number from 2 to {max_frames}."
            )
        num_stages, num_heads = STRUCTURES[structure]
        self.num_frames = num_frames
        self.image_size = image_size
        self.backbone = ResNet3D(num_stages, width, recompute=recompute)
        if image_size is not None:
            self._check_size(image_size, image_size)
        self.head = TemporalTransformer(
            in_channels=self.backbone.num_features,
            dim=16 * width,
            num_heads=num_heads,
            head_dim=width,
            mlp_dim=32 * width,
            depth=depth,
            max_tokens=max_frames // 2,
            dropout=dropout,
        )

    def forward(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Score clips.

        Args:
            clip: Normalised RGB, shape (B, 3, T, H, W), float.

        Returns:
            Log-odds of fake, shape (B,), and features of the clip, shape (B, 16 * width).

        Raises:
            ValueError: If the clip is not what the network was built for.
        """
        self._check_clip(clip)
        feature = self.backbone(clip).mean((3, 4)).transpose(1, 2)
        logit, summary = self.head(feature)
        return logit, summary

    def _check_clip(self, clip: Tensor) -> None:
        shape = tuple(clip.shape)
        if clip.ndim != 5 or shape[1] != 3:
            raise ValueError(f"FTCN takes clips of shape (B, 3, T, H, W), not {shape}.")
        if shape[2] != self.num_frames:
            raise ValueError(
                f"This FTCN was built for clips of {self.num_frames} frames and got {shape[2]}; "
                "set num_frames alike for the network and the data."
            )
        if self.image_size is None:
            self._check_size(*shape[3:])
        elif shape[3:] != (self.image_size, self.image_size):
            raise ValueError(
                f"This FTCN was built for frames of {self.image_size} x {self.image_size} pixels "
                f"and got {shape[3]} x {shape[4]}; set image_size alike for network and data."
            )

    def _check_size(self, height: int, width: int) -> None:
        needed = self.backbone.smallest_size
        if min(height, width) < needed:
            raise ValueError(
                f"Frames of {height} x {width} pixels are too small: FTCN halves them until "
                f"nothing is left; it needs {needed} x {needed} at least."
            )
