from __future__ import annotations

import pytest

from lightning_modules.schedules import WarmupCosine


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [
        (0, 0.01),
        (5, 0.0537764),
        (10, 0.0975528),
        (25, 0.0853553),
        (50, 0.05),
        (75, 0.0146447),
        (90, 0.0024472),
        (99, 2.467e-5),
        (100, 0.0),
    ],
)
def test_follows_the_recipe_of_ftcn(epoch: int, lr: float) -> None:
    schedule = WarmupCosine(warmup_fraction=0.1, start_factor=0.1)
    assert 0.1 * schedule.factor(epoch / 100) == pytest.approx(lr, rel=1e-4, abs=1e-9)


def test_refuses_fractions_out_of_range() -> None:
    with pytest.raises(ValueError, match="warmup_fraction"):
        WarmupCosine(warmup_fraction=1.0, start_factor=0.1)
    with pytest.raises(ValueError, match="start_factor"):
        WarmupCosine(warmup_fraction=0.1, start_factor=1.5)
