"""Run StA's blocks for the class token: less memory in training, several times faster on a CPU.

Same numbers as the modules one by one, up to rounding. Of the last block only what the class token
sees is computed. In training, what is cheap is computed a second time in the backward pass instead
of being kept. Without gradients frames pass the tower's part of a block one after the other, in
place, the norms of the adapter are folded into its convolutions, and products of matrices are
oneDNN's.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from lightning_modules.backbones.fusing import is_hooked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_modules.backbones.sta import StABackbone, StABlock
    from lightning_modules.backbones.sta_adapter import Adapter, Attention, Grid

#: [ours, measured] Rows of an attention matrix that are computed at a time on a CPU.
ATTENTION_ROWS = 256


def is_applicable(backbone: StABackbone) -> bool:
    """Say whether this gives what the modules one by one would give."""
    if not backbone.fused or torch.compiler.is_compiling():
        return False
    # What comes before the blocks is called as it is, and may be looked into.
    parts = [*backbone.blocks.modules(), backbone.ln_post]
    return all(map(_is_plain, parts)) and not any(map(is_hooked, parts))


def _is_plain(module: nn.Module) -> bool:
    if not isinstance(module, nn.modules.batchnorm._NormBase):
        return True
    known = type(module) in (nn.BatchNorm3d, nn.SyncBatchNorm)
    return known and module.affine and module.track_running_stats


def class_tokens(backbone: StABackbone, tokens: Tensor) -> Tensor:
    """Map tokens (B * T, 1 + H * W, C) to the normed class token of each frame, (B * T, C).

    Args:
        backbone: Of the blocks.
        tokens: What the first block takes; without gradients they are overwritten.
    """
    *first, last = backbone.stages()
    keeps = torch.is_grad_enabled()
    for block in first:
        if keeps:
            tokens = _block(block, tokens, backbone.grid, backbone.recompute)
        else:
            _block_in_place(block, tokens, backbone.grid)
    classes = [_last_block(last, part) for part in _parts(tokens)]
    out: Tensor = backbone.ln_post(torch.cat(classes))[:, 0]
    return out


def _parts(tokens: Tensor) -> tuple[Tensor, ...]:
    """Split tokens (B * T, N, C) into what is computed at a time."""
    one_by_one = tokens.device.type == "cpu" and not torch.is_grad_enabled()
    # Mixed precision would convert frozen weights anew for each.
    one_by_one = one_by_one and not torch.is_autocast_enabled("cpu")
    return torch.split(tokens, 1 if one_by_one else max(1, len(tokens)))


def _last_block(block: StABlock, tokens: Tensor) -> Tensor:
    """Return what the last block makes of class tokens, (N, 1, C): all that is left is theirs."""
    normed, width = block.ln_1(tokens), tokens.shape[-1]
    weight_q, weight_kv = block.attn.in_proj_weight.split([width, 2 * width])
    bias_q, bias_kv = block.attn.in_proj_bias.split([width, 2 * width])
    q = _linear(normed[:, :1], weight_q, bias_q)
    k, v = _linear(normed, weight_kv, bias_kv).chunk(2, -1)
    classes = tokens[:, :1] + _attended(block.attn, q, k, v)
    classes = classes + block.mlp(block.ln_2(classes))
    adapter = block.adapter
    out: Tensor = classes + F.gelu(adapter.up(F.gelu(adapter.down(classes))))
    return out


def _attended(attention: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shape = (attention.num_heads, attention.head_dim)
    q, k, v = (x.reshape(*x.shape[:2], *shape).transpose(1, 2) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return _linear(attended, attention.out_proj.weight, attention.out_proj.bias)


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """Multiply rows (..., C) by a matrix (D, C), through a GELU if asked for.

    On some CPUs oneDNN takes half the time of the library that torch has for float32.
    """
    if _is_for_onednn(rows):
        name, variant = ("gelu", "none") if gelu else ("none", "")
        product = torch.ops.mkldnn._linear_pointwise
        out: Tensor = product(rows.contiguous(), weight, bias, name, [], variant)
        return out
    out = F.linear(rows, weight, bias)
    return F.gelu(out) if gelu else out


def _is_for_onednn(rows: Tensor) -> bool:
    if torch.is_grad_enabled() or rows.device.type != "cpu" or rows.dtype != torch.float32:
        return False
    if torch.is_autocast_enabled("cpu") or not rows.numel():
        return False
    # Of torch's builds without oneDNN, and of users who switched it off.
    return bool(torch._C._has_mkldnn and torch.backends.mkldnn.enabled)


# Training


def _block(block: StABlock, tokens: Tensor, grid: Grid, recompute: bool) -> Tensor:
    def perceptron(tokens: Tensor) -> Tensor:
        out: Tensor = tokens + block.mlp(block.ln_2(tokens))
        return out

    qkv = F.linear(block.ln_1(tokens), block.attn.in_proj_weight, block.attn.in_proj_bias)
    tokens = tokens + _attended(block.attn, *qkv.chunk(3, -1))
    tokens = _twice(perceptron, tokens) if recompute else perceptron(tokens)
    return _adapted(block.adapter, tokens, grid, recompute)


def _twice(function: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Call a function once now, and again in the backward pass instead of keeping its insides."""
    # Nothing here draws random numbers.
    out: Tensor = checkpoint(function, tokens, use_reentrant=False, preserve_rng_state=False)
    return out


def _adapted(adapter: Adapter, tokens: Tensor, grid: Grid, recompute: bool) -> Tensor:
    narrow = F.gelu(adapter.down(tokens))
    calls = count()

    def streams(narrow: Tensor) -> Tensor:
        # Norms follow the batches they see, but must not see one twice.
        return torch.stack(_streams(adapter, narrow, grid, track=next(calls) == 0))

    # A norm over several processes has no such choice.
    plain = not any(isinstance(part, nn.SyncBatchNorm) for part in adapter.modules())
    both = _twice(streams, narrow) if recompute and plain else streams(narrow)
    to_temporal, to_spatial = adapter.cross(*both)
    mixed = F.gelu((to_temporal + to_spatial) / 2).reshape(len(tokens), -1, narrow.shape[2])
    return tokens + F.gelu(adapter.up(torch.cat([narrow[:, :1], mixed], 1)))


def _streams(
    adapter: Adapter, narrow: Tensor, grid: Grid, track: bool = True
) -> tuple[Tensor, Tensor]:
    """Map narrow tokens (B * T, 1 + H * W, C') to those of both streams, (B, T * H * W, C').

    Kernels are 1 in time or in space, so that two axes are enough: those of a frame, or time and
    the place in a frame.
    """
    (frames, height, width), channels = grid, narrow.shape[2]
    patches = narrow[:, 1:].contiguous()
    tokens = patches.view(-1, frames * height * width, channels)
    in_space = patches.view(-1, height, width, channels).permute(0, 3, 1, 2)
    in_time = patches.view(-1, frames, height * width, channels).permute(0, 3, 1, 2)
    # One branch at a time: without gradients its maps are free before the next one runs.
    spatial = (_branch(branch, in_space, 0, track) for branch in adapter.spatial)
    temporal = (_branch(branch, in_time, 4, track) for branch in adapter.temporal)
    return (
        _mean_onto(tokens, spatial, len(adapter.spatial)),
        _mean_onto(tokens, temporal, len(adapter.temporal)),
    )


def _mean_onto(tokens: Tensor, maps: Iterator[Tensor], number: int) -> Tensor:
    """Add the mean of some maps (N, C', H, W) to the tokens (B, T * H * W, C') that they are of."""
    total = next(maps)
    for other in maps:
        total = total + other
    rows = total.permute(0, 2, 3, 1).reshape(tokens.shape)
    return torch.add(tokens, rows, alpha=1 / number)


def _branch(branch: nn.Module, maps: Tensor, axis: int, track: bool) -> Tensor:
    """Filter maps (N, C', H, W) by a branch whose kernels are 1 along an axis of (T, H, W)."""
    for index in (1, 2, 3):
        conv, norm = branch.get_submodule(f"conv{index}"), branch.get_submodule(f"bn{index}")
        assert isinstance(conv, nn.Conv3d)
        assert isinstance(norm, nn.modules.batchnorm._NormBase)
        # Not squeezed: gradients would have strides of their own, which processes warn of and copy.
        weight = conv.weight.flatten(1, 2) if axis == 0 else conv.weight.flatten(3, 4)
        padding = tuple(extent // 2 for extent in weight.shape[2:])
        if torch.is_grad_enabled() or norm.training:
            maps = F.conv2d(maps, weight, conv.bias, padding=padding, groups=len(weight))
            maps = _normed(maps, norm, track)
            maps = maps.relu() if index < 3 else maps
        else:
            scale, shift = _affine(norm)
            bias = shift if conv.bias is None else shift + conv.bias * scale
            weight = weight * scale[:, None, None, None]
            maps = F.conv2d(maps, weight, bias, padding=padding, groups=len(weight))
            maps = maps.relu_() if index < 3 else maps
    return maps


def _normed(maps: Tensor, norm: nn.modules.batchnorm._NormBase, track: bool) -> Tensor:
    """Apply a norm of (N, C', T, H, W) to (N, C', H, W), its statistics following if asked to."""
    maps = maps.unsqueeze(2)
    if norm.training and not track:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        # What is computed twice must keep the same tensors both times, statistics among them.
        statistics = (norm.running_mean.clone(), norm.running_var.clone())
        affine = (norm.weight, norm.bias)
        return F.batch_norm(maps, *statistics, *affine, training=True, eps=norm.eps).squeeze(2)
    out: Tensor = norm(maps).squeeze(2)
    return out


# Evaluation


def _affine(norm: nn.modules.batchnorm._NormBase) -> tuple[Tensor, Tensor]:
    """Return what a norm multiplies by and adds in evaluation mode, both (C',)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _block_in_place(block: StABlock, tokens: Tensor, grid: Grid) -> None:
    for part in _parts(tokens):
        qkv = _linear(block.ln_1(part), block.attn.in_proj_weight, block.attn.in_proj_bias)
        part += _attended(block.attn, *qkv.chunk(3, -1))
        c_fc, activation, c_proj = block.mlp
        hidden = activation(_linear(block.ln_2(part), c_fc.weight, c_fc.bias))
        part += _linear(hidden, c_proj.weight, c_proj.bias)
    _adapt_in_place(block.adapter, tokens, grid)


def _adapt_in_place(adapter: Adapter, tokens: Tensor, grid: Grid) -> None:
    narrow = _linear(tokens, adapter.down.weight, adapter.down.bias, gelu=True)
    spatial, temporal = _streams(adapter, narrow, grid)
    mixed = _cross_attended(adapter.cross.spatial_to_temporal, temporal, spatial)
    mixed += _cross_attended(adapter.cross.temporal_to_spatial, spatial, temporal)
    narrow[:, 1:] = F.gelu(mixed.div_(2)).reshape(len(narrow), -1, narrow.shape[2])
    for part, bottleneck in zip(_parts(tokens), _parts(narrow), strict=True):
        part += _linear(bottleneck, adapter.up.weight, adapter.up.bias, gelu=True)


def _cross_attended(attention: Attention, query: Tensor, source: Tensor) -> Tensor:
    """Do what the module does; on a CPU with a few rows of the matrix at a time, by oneDNN."""
    if not _is_for_onednn(query):
        out: Tensor = attention(query, source)
        return out
    (tokens, channels), heads = query.shape[1:], attention.num_heads
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    scale = (channels // heads) ** -0.5
    q = _linear(query, weights[0], biases[0]).mul_(scale)
    k, v = (_linear(source, weights[i], biases[i]) for i in (1, 2))
    for clip in range(len(query)):
        for head in range(heads):
            part = slice(head * channels // heads, (head + 1) * channels // heads)
            keys, values = k[clip, :, part].contiguous(), v[clip, :, part].t().contiguous()
            for row in range(0, tokens, ATTENTION_ROWS):
                rows = (clip, slice(row, row + ATTENTION_ROWS), part)
                # Queries are not needed again, and make room for what they find.
                q[rows] = _linear(_linear(q[rows], keys, None).softmax(-1), values, None)
    return _linear(q, attention.out_proj.weight, attention.out_proj.bias)
