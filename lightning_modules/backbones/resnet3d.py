"""ResNet-50 in I3D form, whole or with purely temporal kernels: the networks of I3D and FTCN."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from lightning_modules.backbones import fused_i3d, fused_resnet3d, fusing
from lightning_modules.backbones.factorized_conv import FactorizedConv3d

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Temporal kernels of the first convolution of each block, stages 2 to 5 (official SlowFast
#: configuration "I3D 8x8 R50", kept by AltFreezing and by FTCN's rewrite).
TEMPORAL_KERNELS: tuple[tuple[int, ...], ...] = ((3, 3, 3), (3, 1, 3, 1), (3, 1) * 3, (1, 3, 1))

#: Channels at the end of a block per channel inside it (ResNet bottleneck).
EXPANSION = 4


class ConvNorm(nn.Module):
    """Convolve and normalise; H and W may be halved, in one of two ways.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        temporal_kernel: Kernel size over T, odd.
        spatial_kernel: Kernel size over H and W, odd.
        stride: Step over H and W: how I3D halves the map.
        pooled: Whether a 2 x 2 maximum follows the norm. FTCN's rewrite puts it there in place
            of a spatial stride, so that no convolution looks at neighbouring positions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        temporal_kernel: int = 1,
        spatial_kernel: int = 1,
        *,
        stride: int = 1,
        pooled: bool = False,
    ) -> None:
        super().__init__()
        self.conv = FactorizedConv3d(
            in_channels,
            out_channels,
            kernel_size=(temporal_kernel, spatial_kernel, spatial_kernel),
            stride=(1, stride, stride),
            padding=(temporal_kernel // 2, spatial_kernel // 2, spatial_kernel // 2),
            bias=False,
        )
        self.bn = nn.BatchNorm3d(out_channels)
        self.pooled = pooled
        self.pool = nn.MaxPool3d((1, 2, 2)) if pooled else nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C', T, H, W), or to half of H and W."""
        output: Tensor = self.pool(self.bn(self.conv(clip)))
        return output


class Stem(ConvNorm):
    """From pixels to the first map: a quarter of H and W.

    Args:
        width: Channels of the output.
        spatial: Whether the kernel looks at neighbouring positions.
    """

    def __init__(self, width: int, *, spatial: bool = False) -> None:
        if spatial:
            super().__init__(3, width, temporal_kernel=5, spatial_kernel=7, stride=2)
        else:
            super().__init__(3, width, temporal_kernel=5, pooled=True)
        self.relu = nn.ReLU()
        # The one window over space that FTCN's rewrite leaves in place.
        self.max_pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward(self, clip: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, T, H, W) to (B, width, T, H / 4, W / 4)."""
        output: Tensor = self.max_pool(self.relu(super().forward(clip)))
        return output


class Bottleneck(nn.Module):
    """A residual block: a temporal, a spatial and a 1 x 1 x 1 convolution, shortcut.

    Args:
        in_channels: Channels of the input.
        inner_channels: Channels inside; the output has four times as many.
        temporal_kernel: Kernel size of the first convolution over T.
        projected: Whether the shortcut is a convolution (first block of a stage).
        halved: Whether H and W are halved.
        spatial: Whether the second convolution is 3 x 3 over space and halving is its stride, as
            in I3D; or 1 x 1 and halving is a maximum behind the norm, as in FTCN.
    """

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        temporal_kernel: int,
        *,
        projected: bool,
        halved: bool,
        spatial: bool = False,
    ) -> None:
        super().__init__()
        out_channels = EXPANSION * inner_channels
        stride, pooled = (2, False) if halved and spatial else (1, halved)
        self.a = ConvNorm(in_channels, inner_channels, temporal_kernel)
        self.b = ConvNorm(
            inner_channels, inner_channels, 1, 3 if spatial else 1, stride=stride, pooled=pooled
        )
        self.c = ConvNorm(inner_channels, out_channels)
        self.shortcut = (
            ConvNorm(in_channels, out_channels, stride=stride, pooled=pooled)
            if projected
            else nn.Identity()
        )
        self.relu = nn.ReLU()

    def forward(self, clip: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C', T, H, W), or to half of H and W."""
        output = self.relu(self.a(clip))
        output = self.relu(self.b(output))
        output = self.c(output) + self.shortcut(clip)
        result: Tensor = self.relu(output)
        return result


class ResNet3D(nn.Module):
    """3-D ResNet-50, whole (I3D) or with temporal kernels only (FTCN).

    With `spatial`: SlowFast's I3D R50, as AltFreezing's official code builds it ("i3d_ori", commit
    f76b061; Wang et al., CVPR 2023, https://arxiv.org/abs/2307.08317). Without: Zheng et al., ICCV
    2021, https://arxiv.org/abs/2108.06693, as the official code builds it (commit 853256a): the
    spatial kernels are cut to 1 x 1 and the spatial strides replaced by 2 x 2 maxima behind the
    norms.

    With `fused` (the default) the layers run in a memory-saving and, on a CPU, much faster order
    (see `fused_resnet3d` and `fused_i3d`) wherever that gives the same numbers; what needs the
    modules one by one (hooks on inner layers, synchronised norms, export, gradients in evaluation
    mode) gets them one by one. Accelerators take the modules one by one unless `recompute` is set.

    Args:
        num_stages: Residual stages, 3 (FTCN as released) or 4.
        width: Channels of the stem; stage k ends with width * 2 ** (k + 1).
        spatial: Keep I3D's spatial kernels and strides.
        recompute: Save memory in training on accelerators too, by computing activations twice.
    """

    def __init__(
        self,
        num_stages: int,
        width: int = 64,
        *,
        spatial: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.spatial = spatial
        self.recompute = recompute
        self.fused = True
        self.stem = Stem(width, spatial=spatial)
        self.temporal_pool = nn.MaxPool3d((2, 1, 1))
        self.stages = nn.ModuleDict()
        in_channels = width
        for index, kernels in enumerate(TEMPORAL_KERNELS[:num_stages]):
            inner = width * 2**index
            self.stages[f"stage{index + 2}"] = _stage(
                in_channels, inner, kernels, halved=index > 0, spatial=spatial
            )
            in_channels = EXPANSION * inner
        self.num_features = in_channels
        _initialise(self)

    @property
    def residual_stages(self) -> list[list[Bottleneck]]:
        """The blocks of each stage; the pool over time stands behind the first stage."""
        return [cast("list[Bottleneck]", list(stage.children())) for stage in self.stages.values()]

    @property
    def spatial_reduction(self) -> int:
        """How many times smaller the last map is than the frames."""
        return 4 << (len(self.stages) - 1)

    @property
    def smallest_size(self) -> int:
        """The smallest height or width, in pixels, of which something is left in the end."""
        if self.spatial:
            return 1  # padded windows halve with ceil
        # The stem halves with floor, then with ceil; each later stage halves with floor.
        return self.spatial_reduction - 2

    def forward(self, clip: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, T, H, W) to (B, num_features, T / 2, H', W'), float."""
        if fusing.is_applicable(self, clip):
            run = fused_i3d.run if self.spatial else fused_resnet3d.run
            return run(self, clip)
        if clip.is_cuda:
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        output = self.stem(clip)
        for name, stage in self.stages.items():
            output = stage(output)
            if name == "stage2":
                output = self.temporal_pool(output)
        result: Tensor = output
        return result


def _stage(
    in_channels: int,
    inner_channels: int,
    kernels: Sequence[int],
    *,
    halved: bool,
    spatial: bool,
) -> nn.Sequential:
    blocks = [
        Bottleneck(
            in_channels if first else EXPANSION * inner_channels,
            inner_channels,
            kernel,
            projected=first,
            halved=halved and first,
            spatial=spatial,
        )
        for first, kernel in zip([True] + [False] * len(kernels), kernels, strict=False)
    ]
    return nn.Sequential(*blocks)


def _initialise(network: ResNet3D) -> None:
    """Draw the weights as the official codes end up with them (executed, spec of the ports).

    FTCN's initialiser runs before the convolutions are rewritten, so it survives only in those
    that were not replaced; the others (stem, every `b`, pooled shortcuts) keep PyTorch's default.
    The last norm of each block starts at scale 0, so that a block starts as its shortcut.
    """
    for name, layer in network.named_modules():
        if not isinstance(layer, ConvNorm):
            continue
        replaced = isinstance(layer, Stem) or name.endswith(".b") or layer.pooled
        if network.spatial or not replaced:
            conv = layer.conv
            fan_out = conv.out_channels * math.prod(conv.kernel_size)
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
        if name.endswith(".c"):
            nn.init.zeros_(layer.bn.weight)
