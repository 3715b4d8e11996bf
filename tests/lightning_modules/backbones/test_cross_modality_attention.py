"""Attention between the two streams."""

from __future__ import annotations

import torch

from lightning_modules.backbones.cross_modality_attention import DualCrossModalityAttention


def make(size: int = 3) -> DualCrossModalityAttention:
    torch.manual_seed(0)
    return DualCrossModalityAttention(16, size)


def test_a_new_one_is_the_identity() -> None:
    x, y = torch.randn(2, 16, 3, 3), torch.randn(2, 16, 3, 3)
    out_x, out_y = make()(x, y)
    assert torch.equal(out_x, x)
    assert torch.equal(out_y, y)


def test_x_reads_from_y_and_not_from_itself() -> None:
    module = make().double()
    module.gamma1.data.fill_(1)
    x, y = torch.randn(2, 2, 16, 3, 3, dtype=torch.float64)
    to_x, _ = module.attend(x, y)
    torch.testing.assert_close(to_x.sum(-1), torch.ones(2, 9, dtype=torch.float64))
    values = module.value2(y).flatten(2)
    expected = torch.einsum("ncj,nij->nci", values, to_x).view_as(x) + x
    out_x, out_y = module(x, y)
    torch.testing.assert_close(out_x, expected)
    assert torch.equal(out_y, y)


def test_large_energies_stay_finite_in_half_precision() -> None:
    module = make()
    for weight in module.parameters():
        weight.data.mul_(50)
    # 16 channels of 600: their products overflow float16 (65,504) by far.
    x, y = 600 * torch.randn(2, 1, 16, 3, 3)
    with torch.autocast("cpu", torch.float16):
        to_x, to_y = module.attend(x.half(), y.half())
    for rows in (to_x, to_y):
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.sum(-1), torch.ones(1, 9))
    expected, _ = module.attend(x.half().float(), y.half().float())
    torch.testing.assert_close(to_x, expected)
