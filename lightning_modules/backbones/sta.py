"""The network of StA: a CLIP image tower with spatiotemporal adapters, one score a clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.backbones import fused_sta
from lightning_modules.backbones.clip_tower import blocks_of, make_tower
from lightning_modules.backbones.sta_adapter import Adapter, Grid

if TYPE_CHECKING:
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer


class StAScores(NamedTuple):
    """What the network says of B clips.

    Attributes:
        logits: Of real and fake, shape (B, 2).
        features: What the head saw, the mean class token of the frames, shape (B, C).
    """

    logits: Tensor
    features: Tensor


class StABlock(nn.Module):
    """A block of the tower, and the adapter after its MLP.

    Args:
        block: Of the tower.
        adapter: New.
    """

    def __init__(self, block: ResidualAttentionBlock, adapter: Adapter) -> None:
        super().__init__()
        self.ln_1, self.attn = block.ln_1, block.attn
        self.ln_2, self.mlp = block.ln_2, block.mlp
        self.adapter = adapter

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Transform tokens (B * T, 1 + H * W, C)."""
        normed = self.ln_1(tokens)
        tokens = tokens + self.attn(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + self.mlp(self.ln_2(tokens))
        out: Tensor = self.adapter(tokens, grid)
        return out

    def frozen_parts(self) -> list[nn.Module]:
        """Return the parts that are the tower's."""
        return [self.ln_1, self.attn, self.ln_2, self.mlp]


class StABackbone(nn.Module):
    """The tower with its adapters.

    Args:
        tower: Vision transformer of open_clip; its parts are taken over.
        num_frames: Frames in a clip (T).
        recompute: In training, compute hidden layers of MLPs and the streams of adapters a second
            time in the backward pass instead of keeping them.

    Attributes:
        fused: Whether blocks may run in the faster way of `fused_sta`.
    """

    def __init__(self, tower: VisionTransformer, num_frames: int, recompute: bool = True) -> None:
        super().__init__()
        self.recompute = recompute
        self.num_frames = num_frames
        self.image_size: int = tower.image_size[0]
        self.grid = Grid(num_frames, *tower.grid_size)
        self.width: int = tower.conv1.out_channels
        self.conv1 = tower.conv1
        self.class_embedding = tower.class_embedding
        self.positional_embedding = tower.positional_embedding
        self.temporal_embedding = nn.Parameter(torch.zeros(1, num_frames, self.width))
        self.ln_pre = tower.ln_pre
        self.blocks = nn.ModuleList(StABlock(b, Adapter(self.width)) for b in blocks_of(tower))
        self.ln_post = tower.ln_post
        self.fused = True

    def forward(self, clip: Tensor) -> Tensor:
        """Map clips (B, 3, T, H, W) to the class token of each frame, (B, T, C).

        Raises:
            ValueError: If clips are not of the size the network was built for.
        """
        self._check(clip)
        if fused_sta.is_applicable(self):
            tokens = fused_sta.class_tokens(self, self.embed(clip))
        else:
            tokens = self.embed(clip)
            for block in self.blocks:
                tokens = block(tokens, self.grid)
            tokens = self.ln_post(tokens)[:, 0]
        return tokens.reshape(-1, self.num_frames, self.width)

    def stages(self) -> list[StABlock]:
        """Return the blocks, first to last."""
        return [block for block in self.blocks if isinstance(block, StABlock)]

    def embed(self, clip: Tensor) -> Tensor:
        """Cut clips (B, 3, T, H, W) into tokens (B * T, 1 + H' * W', C), before the blocks."""
        patches = self.conv1(clip.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        classes = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([classes, patches], 1) + self.positional_embedding.to(patches.dtype)
        times = self.temporal_embedding.to(patches.dtype)[0, :, None]
        tokens = (tokens.unflatten(0, (-1, self.num_frames)) + times).flatten(0, 1)
        out: Tensor = self.ln_pre(tokens)
        return out

    def _check(self, clip: Tensor) -> None:
        wanted = (3, self.num_frames, self.image_size, self.image_size)
        if clip.ndim != 5 or tuple(clip.shape[1:]) != wanted:
            raise ValueError(
                f"This StA was built for clips (B, {', '.join(map(str, wanted))}) and got "
                f"{tuple(clip.shape)}; set num_frames and image_size alike for network and data."
            )


class StANetwork(nn.Module):
    """The whole network: the mean class token of the frames is classified.

    Args:
        tower: Vision transformer of open_clip, see `clip_tower`.
        num_frames: Frames in a clip (T).
        dropout: Probability in front of the head.
        recompute: As `StABackbone` takes it.
    """

    def __init__(
        self,
        tower: VisionTransformer,
        num_frames: int,
        dropout: float = 0.5,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = StABackbone(tower, num_frames, recompute)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.backbone.width, 2)

    def forward(self, clip: Tensor) -> StAScores:
        """Score normalised clips (B, 3, T, H, W)."""
        features = self.backbone(clip).mean(1)
        return StAScores(self.head(self.dropout(features)), features)

    def freeze_tower(self) -> None:
        """Train the adapters, the temporal embedding, the last norm and the head alone."""
        backbone = self.backbone
        kept: list[nn.Module] = [backbone.conv1, backbone.ln_pre]
        kept += [part for block in backbone.stages() for part in block.frozen_parts()]
        for part in kept:
            part.requires_grad_(False)
        backbone.class_embedding.requires_grad_(False)
        backbone.positional_embedding.requires_grad_(False)

    def freeze_unreached(self) -> None:
        """Do not train what cannot change a score.

        Only class tokens are scored, and those pass the streams of the last adapter by: their
        gradients are zero, and a decay of weights would shrink them to nothing.
        """
        for part in self.backbone.stages()[-1].adapter.unreached():
            part.requires_grad_(False)


def build_network(
    num_frames: int,
    image_size: int,
    patch_size: int,
    width: int,
    num_layers: int,
    num_heads: int,
) -> StANetwork:
    """Build the network around a tower of OpenAI's kind with these sizes, see `make_tower`."""
    tower = make_tower(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
    )
    return StANetwork(tower, num_frames)
