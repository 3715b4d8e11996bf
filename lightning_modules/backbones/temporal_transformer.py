"""A transformer over time: one class token, learned positions, a logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class EncoderLayer(nn.Module):
    """A pre-norm encoder layer: attention, then a two-layer perceptron, each with a residual.

    Args:
        dim: Channels of a token (D).
        num_heads: Attention heads.
        head_dim: Channels of a head; num_heads * head_dim need not be `dim`.
        mlp_dim: Hidden channels of the perceptron.
        dropout: Probability behind the attention and behind both perceptron layers; the
            attention matrix itself has none (official code).
    """

    def __init__(
        self, dim: int, num_heads: int, head_dim: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner_dim, bias=False)
        self.attention_out = nn.Linear(inner_dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, mlp_dim)
        self.mlp_out = nn.Linear(mlp_dim, dim)
        self.gelu = nn.GELU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, token: Tensor) -> Tensor:
        """Map tokens (B, N, D) to (B, N, D)."""
        token = token + self._attend(self.attention_norm(token))
        hidden = self.dropout(self.gelu(self.mlp_in(self.mlp_norm(token))))
        output: Tensor = token + self.dropout(self.mlp_out(hidden))
        return output

    def _attend(self, token: Tensor) -> Tensor:
        split = self.qkv(token).unflatten(2, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.dropout(self.attention_out(attended.transpose(1, 2).flatten(2)))
        return output


class TemporalTransformer(nn.Module):
    """Score a sequence of frame features.

    The head of FTCN (Zheng et al., ICCV 2021, https://arxiv.org/abs/2108.06693, section 3.3), as
    the official code (commit 853256a) builds it. Class token and positions start from a standard
    normal, all linear layers from PyTorch's default (executed).

    Args:
        in_channels: Channels of a feature; a linear layer maps them to `dim` where they differ.
        dim: Channels of a token (D).
        num_heads: Attention heads.
        head_dim: Channels of a head.
        mlp_dim: Hidden channels of the perceptrons.
        depth: Encoder layers.
        max_tokens: Longest sequence; shorter ones use the first rows of the position table.
        dropout: Probability on tokens, attention output and perceptrons.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        num_heads: int,
        head_dim: int,
        mlp_dim: int,
        depth: int,
        max_tokens: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(in_channels, dim) if in_channels != dim else nn.Identity()
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, max_tokens + 1, dim))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(dim, num_heads, head_dim, mlp_dim, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.logit = nn.Linear(dim, 1)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Score sequences.

        Args:
            feature: Features in time order, shape (B, N, in_channels), float, N <= max_tokens.

        Returns:
            Log-odds of fake, shape (B,), and the normalised class token, shape (B, D).
        """
        token = self.projection(feature)
        token = torch.cat([self.class_token.expand(len(token), -1, -1), token], dim=1)
        token = self.dropout(token + self.positions[:, : token.shape[1]])
        for layer in self.layers:
            token = layer(token)
        summary = self.norm(token[:, 0])
        return self.logit(summary).squeeze(1), summary
