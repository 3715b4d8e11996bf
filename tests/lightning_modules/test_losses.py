from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_modules.losses import am_softmax, binary_cross_entropy, margin_cross_entropy
from weights.golden_numbers import read_golden


def test_equals_the_formula() -> None:
    logit, label = torch.tensor([0.3, -1.2], dtype=torch.float64), torch.tensor([1.0, 0.0])
    prob = logit.sigmoid()
    expected = -(prob[0].log() + (1 - prob[1]).log()) / 2
    assert binary_cross_entropy(logit, label).item() == pytest.approx(expected.item(), rel=1e-12)


def test_half_precision_is_summed_in_single() -> None:
    loss = binary_cross_entropy(torch.tensor([20.0], dtype=torch.bfloat16), torch.tensor([0.0]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(20.0)


GOLDEN = read_golden("hff_two_stream.json")["am_softmax"]
COSINES = torch.tensor(GOLDEN["cos_theta"], dtype=torch.float64)
TARGET = torch.tensor(GOLDEN["target"])


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ('{"m": 0.5, "s": 30}', {}),
        ('{"m": 0.45, "s": 30}', {"margin": 0.45}),
        ('{"gamma": 2.0, "m": 0.5, "s": 30}', {"gamma": 2.0}),
        ('{"m": 0.5, "margin_type": "arc", "s": 30}', {"margin_type": "arc"}),
    ],
)
def test_am_softmax_equals_the_official_numbers(key: str, options: dict[str, Any]) -> None:
    loss = am_softmax(COSINES, TARGET, **options)
    assert loss.item() == pytest.approx(GOLDEN["loss"][key], rel=1e-12)
    # Labels of a batch are floats.
    assert am_softmax(COSINES, TARGET.double(), **options).item() == loss.item()


def test_hard_examples_are_raised_and_easy_ones_are_not() -> None:
    # Row 0 is easy (0.9 - 0.5 > -0.2), row 1 is hard (0.1 - 0.5 < 0.3).
    for row, raised in ((0, -0.2), (1, 1.2 * 0.3 + 0.2)):
        true = COSINES[row, 0] - 0.5
        expected = math.log1p(math.exp(30 * (raised - true)))
        loss = am_softmax(COSINES[row : row + 1], TARGET[row : row + 1], t=1.2)
        assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_arc_margin_has_a_finite_slope_at_the_class_itself_and_beyond() -> None:
    cosine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    am_softmax(cosine, torch.tensor([0, 0]), margin_type="arc").backward()
    assert cosine.grad is not None
    assert cosine.grad.isfinite().all()


def test_bench_variant_is_cross_entropy_of_scaled_logits() -> None:
    logits = torch.tensor([[2.0, -1.5], [0.3, 0.1]], dtype=torch.float64)
    loss = margin_cross_entropy(logits, torch.tensor([0.0, 1.0]))
    gaps = [30 * (-1.5 - (2.0 - 0.45)), 30 * (0.3 - (0.1 - 0.45))]
    assert loss.item() == pytest.approx(sum(math.log1p(math.exp(g)) for g in gaps) / 2, rel=1e-12)


def test_margins_work_in_half_precision_and_refuse_unknown_types() -> None:
    half = COSINES.bfloat16()
    assert am_softmax(half, TARGET).dtype == torch.float32
    assert margin_cross_entropy(half, TARGET).dtype == torch.float32
    with pytest.raises(ValueError, match="no margin 'angle'"):
        am_softmax(COSINES, TARGET, margin_type="angle")  # type: ignore[arg-type]
