"""StA's cross attention as released: torch's module, which is asked for its matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F  # noqa: N812

from lightning_modules.backbones.sta_adapter import Attention

if TYPE_CHECKING:
    from torch import Tensor


class ExplicitAttention(Attention):
    """The same numbers, by way of matrices of all tokens with all tokens, that are kept."""

    def forward(self, query: Tensor, source: Tensor) -> Tensor:
        """Let query tokens (B, N, C') attend to source tokens (B, M, C'); gives (B, N, C')."""
        first, second = query.transpose(0, 1), source.transpose(0, 1)
        out, _ = F.multi_head_attention_forward(
            first,
            second,
            second,
            embed_dim_to_check=query.shape[-1],
            num_heads=self.num_heads,
            in_proj_weight=self.in_proj_weight,
            in_proj_bias=self.in_proj_bias,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.out_proj.weight,
            out_proj_bias=self.out_proj.bias,
            training=self.training,
            need_weights=True,
        )
        return out.transpose(0, 1)
