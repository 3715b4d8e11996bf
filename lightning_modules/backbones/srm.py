"""Fixed high-pass filters (SRM, "steganalysis rich model") and the layers made of them.

Luo, Zhang, Yan, Liu: "Generalizing Face Forgery Detection with High-frequency Features", CVPR 2021,
https://arxiv.org/abs/2103.12376; the numbers are those of the authors' code at commit bcdb903.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

SRMLayout = Literal["official", "intended"]
"""Which filters an input channel of `SRMSeparate` sees."""

_KB = ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0))
_KV = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)
_H2 = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))

#: Taps and divisor of each filter, in the official order.
FILTERS = ((_KB, 4), (_KV, 12), (_H2, 2))

#: Responses are truncated to plus and minus this.
TRUNCATION = 3.0


def srm_filters() -> Tensor:
    """Return the three filters, shape (3, 5, 5), float32."""
    return torch.stack([torch.tensor(taps, dtype=torch.float32) / by for taps, by in FILTERS])


def separate_bank(channels: int, layout: SRMLayout) -> Tensor:
    """Lay the filters out as a bank for `channels` groups.

    A grouped convolution gives output maps 3c, 3c + 1 and 3c + 2 to input channel c. The official
    bank repeats whole blocks (first one filter for a third of all maps, then the next), so that
    nearly every channel sees one filter three times; `intended` gives each channel all three.

    Args:
        channels: Input channels C.
        layout: `official`, which published weights need, or `intended`.

    Returns:
        Kernel, shape (3 * C, 1, 5, 5), float32.

    Raises:
        ValueError: If there is no such layout.
    """
    if layout not in get_args(SRMLayout):
        raise ValueError(f"There is no SRM layout {layout!r}; there are {get_args(SRMLayout)}.")
    filters = srm_filters()
    if layout == "official":
        return filters.repeat_interleave(channels, 0).unsqueeze(1)
    return filters.repeat(channels, 1, 1).unsqueeze(1)


class SRMImage(nn.Module):
    """Residual of an image: three maps, each one filter summed over the three colours.

    The kernel is no parameter: it is never trained, but it is part of the state.
    """

    #: Buffers that never change: weights from elsewhere must have the same.
    constants = ("kernel",)

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        kernel = srm_filters().unsqueeze(1).expand(3, 3, 5, 5)
        self.register_buffer("kernel", kernel.contiguous())
        self.truncation = nn.Hardtanh(-TRUNCATION, TRUNCATION)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, H, W), float."""
        out: Tensor = self.truncation(F.conv2d(image, self.kernel, padding=2))
        return out


class SRMSeparate(nn.Module):
    """Residuals of feature maps: a fixed bank on each channel, truncation, a learnt mixture.

    Args:
        channels: Channels C.
        layout: See `separate_bank`.
    """

    #: Buffers that never change: weights from elsewhere must have the same.
    constants = ("kernel",)

    kernel: Tensor

    def __init__(self, channels: int, layout: SRMLayout = "official") -> None:
        super().__init__()
        self.register_buffer("kernel", separate_bank(channels, layout))
        self.truncation = nn.Hardtanh(-TRUNCATION, TRUNCATION)
        self.mix = nn.Sequential(
            nn.Conv2d(3 * channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W), float."""
        responses = F.conv2d(maps, self.kernel, padding=2, groups=maps.shape[1])
        out: Tensor = self.mix(self.truncation(responses))
        return out


class _SpatialAttention(nn.Module):
    """Attention of positions from the mean and the largest channel (CBAM, arXiv 1807.06521)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 1, H, W), in [0, 1]."""
        stacked = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        out: Tensor = torch.sigmoid(self.conv(stacked))
        return out


class ResidualAttention(nn.Module):
    """Attention of positions that the residual of an image guides.

    Filters its input once more: given a residual, the filters are applied twice, as officially.

    Args:
        channels: Channels of the trunk's first and second layer, whose positions it matches.
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        first, second = channels
        self.srm = SRMImage()
        self.conv = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(inplace=True),
        )
        self.attention = _SpatialAttention()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=1)  # official initialiser

    def forward(self, residual: Tensor) -> Tensor:
        """Map the residual of an image, (N, 3, H, W), to (N, 1, H', W'), in [0, 1]."""
        out: Tensor = self.attention(self.conv(self.srm(residual)))
        return out
