"""The transformer over time, against the library's own encoder layer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_modules.backbones.temporal_transformer import EncoderLayer, TemporalTransformer


def test_encoder_layer_equals_the_library_s() -> None:
    mine = EncoderLayer(dim=12, num_heads=3, head_dim=4, mlp_dim=20, dropout=0.0).double().eval()
    other = nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    other = other.double().eval()
    other.load_state_dict(
        {
            "self_attn.in_proj_weight": mine.qkv.weight,
            "self_attn.in_proj_bias": torch.zeros(36),
            "self_attn.out_proj.weight": mine.attention_out.weight,
            "self_attn.out_proj.bias": mine.attention_out.bias,
            "linear1.weight": mine.mlp_in.weight,
            "linear1.bias": mine.mlp_in.bias,
            "linear2.weight": mine.mlp_out.weight,
            "linear2.bias": mine.mlp_out.bias,
            "norm1.weight": mine.attention_norm.weight,
            "norm1.bias": mine.attention_norm.bias,
            "norm2.weight": mine.mlp_norm.weight,
            "norm2.bias": mine.mlp_norm.bias,
        }
    )
    token = torch.randn(2, 5, 12, dtype=torch.float64)
    torch.testing.assert_close(mine(token), other(token))


def make(in_channels: int = 8, dropout: float = 0.0) -> TemporalTransformer:
    return TemporalTransformer(in_channels, 8, 2, 4, 16, 1, max_tokens=6, dropout=dropout)


def test_a_shorter_sequence_uses_the_first_positions() -> None:
    head = make().eval()
    feature = torch.randn(3, 4, 8)
    expected, summary = head(feature)
    assert expected.shape == (3,)
    assert summary.shape == (3, 8)
    with torch.no_grad():
        head.positions[:, 5:] = 1e6
    torch.testing.assert_close(head(feature)[0], expected)
    with torch.no_grad():
        head.positions[:, 4] += torch.randn(8)
    assert not torch.allclose(head(feature)[0], expected)


def test_order_of_frames_matters() -> None:
    head = make().eval()
    feature = torch.randn(1, 4, 8)
    assert not torch.allclose(head(feature)[0], head(feature.flip(1))[0])


def test_features_of_another_width_are_projected() -> None:
    assert isinstance(make().projection, nn.Identity)
    head = make(in_channels=10)
    assert head(torch.randn(2, 6, 10))[0].shape == (2,)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    head, feature = make(dropout=0.5), torch.randn(1, 4, 8)
    assert head(feature)[0] != head(feature)[0]
    head.eval()
    assert head(feature)[0] == head(feature)[0]


def test_initialisation_is_the_official_one() -> None:
    torch.manual_seed(0)
    head = TemporalTransformer(1024, 1024, 16, 64, 2048, 1, max_tokens=16, dropout=0.1)
    assert float(head.class_token.detach().std()) == pytest.approx(1, rel=0.1)
    assert float(head.positions.detach().std()) == pytest.approx(1, rel=0.03)
    layer = head.layers[0]
    for linear in (layer.qkv, layer.attention_out, layer.mlp_in, layer.mlp_out):
        bound = 1 / math.sqrt(linear.in_features)
        for weight in map(torch.Tensor.detach, linear.parameters()):
            assert float(weight.abs().max()) <= bound
            assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert layer.qkv.bias is None
    assert sum(p.numel() for p in head.parameters()) == 8_418_305
