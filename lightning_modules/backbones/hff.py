"""The two-stream network of HFF: one Xception sees the image, another its high frequencies."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones import fused_hff
from lightning_modules.backbones.cross_modality_attention import DualCrossModalityAttention
from lightning_modules.backbones.precision import at_least_float32, without_autocast
from lightning_modules.backbones.srm import ResidualAttention, SRMImage, SRMLayout, SRMSeparate
from lightning_modules.backbones.xception import WIDTHS, XceptionTrunk, map_size, widths_of

Fusion = Literal["residual", "multiply"]
"""What the channel attention c does to the fused map f: f + f * c, or f * c."""

Head = Literal["linear", "angle_linear"]
"""Logits of a linear layer, or cosines between the feature and a direction for each class."""

#: Channels over channels of the channel attention's middle.
REDUCTION = 16


class HFFScores(NamedTuple):
    """What the network returns for N images.

    Attributes:
        logits: For real and fake, shape (N, 2), float: logits of a softmax, or cosines in [-1, 1]
            if the head is `angle_linear`.
        features: What the head sees, shape (N, D).
        attention: Where the residual makes the RGB stream look, shape (N, 1, H', W'), in [0, 1].
    """

    logits: Tensor
    features: Tensor
    attention: Tensor


class AngleLinear(nn.Module):
    """Cosines between features and one direction for each class; no bias.

    Args:
        in_features: Channels of a feature.
        out_features: Classes.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        # Stored (in, out), as officially.
        columns = F.normalize(torch.randn(in_features, out_features), dim=0)
        self.weight = nn.Parameter(columns)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features), in [-1, 1], float32 at least."""
        with without_autocast(features):
            features, weight = at_least_float32(features, self.weight)
            return (F.normalize(features, dim=1) @ F.normalize(weight, dim=0)).clamp(-1, 1)


class _ChannelAttention(nn.Module):
    """Attention of channels from their mean and largest position (CBAM, arXiv 1807.06521)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // REDUCTION, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // REDUCTION, channels, 1, bias=False),
        )
        for module in self.mlp:
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain=0.02)  # official initialiser

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 1, 1), in [0, 1]."""
        mean = self.mlp(maps.mean((2, 3), keepdim=True))
        return torch.sigmoid(mean + self.mlp(maps.amax((2, 3), keepdim=True)))


class FeatureFusion(nn.Module):
    """Mix two streams, and weigh the channels of the mixture.

    Args:
        channels: Channels C of each stream and of the result.
        mode: See `Fusion`.
    """

    def __init__(self, channels: int, mode: Fusion) -> None:
        super().__init__()
        self.mode = mode
        self.mix = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.attention = _ChannelAttention(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map two maps (N, C, H, W) to one, not negative."""
        maps: Tensor = self.mix(torch.cat([x, y], 1))
        weighed: Tensor = maps * self.attention(maps)
        return maps + weighed if self.mode == "residual" else weighed


class HFFNetwork(nn.Module):
    """Two-stream Xception with high-frequency residuals, for images.

    Luo, Zhang, Yan, Liu: "Generalizing Face Forgery Detection with High-frequency Features", CVPR
    2021, https://arxiv.org/abs/2103.12376; equal to the authors' code at commit bcdb903, whose
    53,250,128 parameters are counted as these 53,238,380, the 7,650 taps of the fixed filters
    (buffers here, so that no optimiser sees them) and the 4,098 weights of the second stream's
    classifier, which is never used and not built: importing leaves it out. So each parameter gets
    a gradient, as plain data-parallel training asks.

    Args:
        image_size: Height and width of an image in pixels, from 7 on (256 officially). The
            attention between the streams learns over positions, so no other size is taken.
        width: Channels of the first layer (32 officially); everything else scales with it.
        srm_layout: Order of the fixed filters, see `srm.separate_bank`.
        fusion: How the streams' mixture is weighed; `multiply` is DeepfakeBench's variant.
        head: `linear`, as the published networks end, or `angle_linear`, whose cosines the paper's
            loss is meant for.
        dropout: Probability in front of the head (0.5 officially).

    Attributes:
        fused: Whether evaluation on a CPU may take `fused_hff`, which gives the same numbers.
        options: The options that no shape of a weight tells, by name.

    Raises:
        ValueError: If an option does not exist, or width or size are too small.
    """

    def __init__(
        self,
        image_size: int = 256,
        *,
        width: int = WIDTHS[0],
        srm_layout: SRMLayout = "official",
        fusion: Fusion = "residual",
        head: Head = "linear",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value, known in (("fusion", fusion, Fusion), ("head", head, Head)):
            if value not in get_args(known):
                raise ValueError(f"There is no {name} {value!r}; there are {get_args(known)}.")
        if width < 1:
            raise ValueError(f"width {width} leaves no channels: HFF takes 1 or more.")
        if map_size(image_size) < 1:
            raise ValueError(f"image_size {image_size} is too small: HFF takes 7 pixels or more.")
        self.image_size = image_size
        self.fused = True
        self.options = {"srm_layout": srm_layout, "fusion": fusion, "head": head}
        one, two, *_, middle, _, _, last = widths_of(width)
        self.rgb = XceptionTrunk(width)
        self.high = XceptionTrunk(width)
        self.residual = SRMImage()
        self.inject1 = SRMSeparate(one, srm_layout)
        self.inject2 = SRMSeparate(two, srm_layout)
        self.relu = nn.ReLU()
        self.guide = ResidualAttention((one, two))
        self.guided = nn.Sequential(nn.BatchNorm2d(two), nn.ReLU(inplace=True))
        self.cross0 = DualCrossModalityAttention(middle, map_size(image_size))
        self.cross1 = DualCrossModalityAttention(middle, map_size(image_size))
        self.fusion = FeatureFusion(last, fusion)
        self.dropout = nn.Dropout(dropout)
        self.classifier = (AngleLinear if head == "angle_linear" else nn.Linear)(last, 2)

    def forward(self, image: Tensor) -> HFFScores:
        """Score images.

        Args:
            image: RGB in [-1, 1], shape (N, 3, image_size, image_size), float.

        Raises:
            ValueError: If the images are not what the network was built for.
        """
        self._check(image)
        fused = fused_hff.is_applicable(self, image)
        maps, attention = fused_hff.run(self, image) if fused else self._maps(image)
        features = maps.mean((2, 3))
        return HFFScores(self.classifier(self.dropout(features)), features, attention)

    def _maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused maps (N, D, H, W), not negative, and the attention map."""
        residual = self.residual(image)
        x, y = self.rgb.first(image), self.high.first(residual)
        y = self.relu(y + self.inject1(x))
        x, y = self.rgb.second(x), self.high.second(y)
        # The injection comes before the RGB stream is guided.
        y = self.relu(y + self.inject2(x))
        attention = self.guide(residual)
        x = self.guided(x * attention + x)
        x, y = self.rgb.blocks(x, 1, 3), self.high.blocks(y, 1, 3)
        x, y = self.cross0(x, y)
        x, y = self.rgb.blocks(x, 4, 7), self.high.blocks(y, 4, 7)
        x, y = self.cross1(x, y)
        x, y = self.rgb.blocks(x, 8, 11), self.high.blocks(y, 8, 11)
        return self.fusion(self.rgb.last(x), self.high.last(y)), attention

    def _check(self, image: Tensor) -> None:
        shape = tuple(image.shape)
        if image.ndim != 4 or shape[1] != 3:
            raise ValueError(f"HFF takes images of shape (N, 3, H, W), not {shape}.")
        if shape[2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"This HFF was built for images of {self.image_size} x {self.image_size} pixels "
                f"(its attention learns over positions) and got {shape[2]} x {shape[3]}; set "
                "image_size alike for network and data."
            )
