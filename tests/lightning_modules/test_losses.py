from __future__ import annotations

import pytest
import torch

from lightning_modules.losses import binary_cross_entropy


def test_equals_the_formula() -> None:
    logit, label = torch.tensor([0.3, -1.2], dtype=torch.float64), torch.tensor([1.0, 0.0])
    prob = logit.sigmoid()
    expected = -(prob[0].log() + (1 - prob[1]).log()) / 2
    assert binary_cross_entropy(logit, label).item() == pytest.approx(expected.item(), rel=1e-12)


def test_half_precision_is_summed_in_single() -> None:
    loss = binary_cross_entropy(torch.tensor([20.0], dtype=torch.bfloat16), torch.tensor([0.0]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(20.0)
