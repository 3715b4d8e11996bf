"""The spatiotemporal adapter of StA: two streams of depthwise convolutions that attend each other.

Yan et al., CVPR 2025, https://arxiv.org/abs/2408.17065; released code of StA4Deepfake, commit
1a00b32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

#: Extents of the kernels, of both streams (released code).
KERNELS = (3, 5, 7)

#: Heads of the cross attention (released code).
NUM_HEADS = 2

#: Channels of an adapter in units of the tower's (released code).
RATIO = 0.5


class Grid(NamedTuple):
    """How the patches of a clip lie.

    Attributes:
        frames: T.
        height: In patches.
        width: In patches.
    """

    frames: int
    height: int
    width: int


class DepthwiseBranch(nn.Module):
    """Three depthwise convolutions with norms, and ReLUs between them.

    Args:
        channels: C'.
        kernel: Extent in time, height and width.
    """

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        for index in (1, 2, 3):
            conv = nn.Conv3d(channels, channels, kernel, padding=padding, groups=channels)
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", nn.BatchNorm3d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Filter maps (B, C', T, H, W)."""
        for index in (1, 2, 3):
            maps = self.get_submodule(f"bn{index}")(self.get_submodule(f"conv{index}")(maps))
            if index < 3:
                maps = maps.relu()
        return maps


class Attention(nn.Module):
    """Multi-head attention of one set of tokens to another, whose matrices are not kept.

    Args:
        channels: C'.
        num_heads: Of the attention.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        """Let query tokens (B, N, C') attend to source tokens (B, M, C'); gives (B, N, C')."""
        shape = (self.num_heads, query.shape[-1] // self.num_heads)
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).view(*x.shape[:2], *shape).transpose(1, 2)
            for x, weight, bias in zip((query, source, source), weights, biases, strict=True)
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(attended)
        return out


class CrossAttention(nn.Module):
    """Attention of each stream to the other, over all patches of all frames of a clip.

    Args:
        channels: C'.
        num_heads: Of either attention.
    """

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.spatial_to_temporal = Attention(channels, num_heads)
        self.temporal_to_spatial = Attention(channels, num_heads)

    def forward(self, spatial: Tensor, temporal: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens (B, T * H * W, C') of both streams to what each takes from the other.

        The clips of a batch are an axis of their own, so that they cannot mix.
        """
        return (
            self.spatial_to_temporal(temporal, spatial),
            self.temporal_to_spatial(spatial, temporal),
        )


class Adapter(nn.Module):
    """Bottleneck beside a block of a frozen tower: what it adds is zero before training.

    Class tokens pass the bottleneck only; patches also pass both streams. `up` starts at zero, and
    the GELU of zero is zero.

    Args:
        width: Channels of the tower (C).
        ratio: Channels of the bottleneck (C') in units of C.
        num_heads: Of the cross attention.

    Raises:
        ValueError: If the bottleneck's channels do not go into heads.
    """

    def __init__(self, width: int, ratio: float = RATIO, num_heads: int = NUM_HEADS) -> None:
        super().__init__()
        channels = int(width * ratio)
        if not channels or channels % num_heads:
            raise ValueError(f"{channels} channels of an adapter do not go into {num_heads} heads")
        self.down = nn.Linear(width, channels)
        self.act_down = nn.GELU()
        self.spatial = nn.ModuleList(DepthwiseBranch(channels, (1, k, k)) for k in KERNELS)
        self.temporal = nn.ModuleList(DepthwiseBranch(channels, (k, 1, 1)) for k in KERNELS)
        self.cross = CrossAttention(channels, num_heads)
        self.act_mix = nn.GELU()
        self.up = nn.Linear(channels, width)
        self.act_up = nn.GELU()
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Add to tokens (B * T, 1 + H * W, C) what the adapter finds.

        Args:
            tokens: Of B clips, frame after frame, the class token of a frame first.
            grid: How the patches lie.
        """
        narrow = self.act_down(self.down(tokens))
        classes, patches = narrow[:, :1], narrow[:, 1:]
        maps = patches.unflatten(0, (-1, grid.frames)).unflatten(2, grid[1:]).movedim(-1, 1)
        spatial, temporal = (
            _rows(torch.stack([branch(maps) for branch in branches]).mean(0) + maps)
            for branches in (self.spatial, self.temporal)
        )
        to_temporal, to_spatial = self.cross(spatial, temporal)
        mixed = self.act_mix((to_temporal + to_spatial) / 2)
        mixed = mixed.unflatten(1, (grid.frames, -1)).flatten(0, 1)
        added: Tensor = self.act_up(self.up(torch.cat([classes, mixed], 1)))
        return tokens + added

    def unreached(self) -> list[nn.Module]:
        """Return the parts that change patches only: the class token passes them by."""
        return [self.spatial, self.temporal, self.cross]


def _rows(maps: Tensor) -> Tensor:
    """Lay maps (B, C', T, H, W) out as tokens (B, T * H * W, C')."""
    return maps.flatten(2).transpose(1, 2)
