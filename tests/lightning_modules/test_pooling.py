from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_modules.pooling import MEAN, Pooling, Rule, from_key, pooling

RULES: list[tuple[Rule, int]] = [("mean", 1), ("max", 1), ("top_k", 2), ("top_k", 9)]


def plainly(prob: list[float], rule: Rule, k: int) -> float:
    chosen = sorted(prob)[-{"mean": len(prob), "max": 1, "top_k": k}[rule] :]
    return sum(chosen) / len(chosen)


@pytest.mark.parametrize(("rule", "k"), RULES)
def test_log_odds_are_those_of_the_pooled_probability(rule: Rule, k: int) -> None:
    logit = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    prob = logit.sigmoid().tolist()
    wanted = [plainly(row, rule, k) for row in prob]
    pooled = Pooling(rule, k)
    assert pooled.log_odds(logit).sigmoid().tolist() == pytest.approx(wanted, rel=1e-12)
    assert [pooled.probability(row) for row in prob] == pytest.approx(wanted, rel=1e-12)


def test_the_mean_is_not_that_of_logits() -> None:
    logit = torch.tensor([[8.0, -1.0]])
    assert float(MEAN.log_odds(logit).sigmoid()) == pytest.approx(0.634303, abs=1e-5)
    assert float(logit.mean().sigmoid()) > 0.95


@pytest.mark.parametrize("far", [60.0, -60.0, 1000.0, -1000.0])
def test_scores_far_out_keep_their_order_and_their_gradient(far: float) -> None:
    logit = torch.tensor([[far, far], [far, far + 1], [far + 1, far + 1]], requires_grad=True)
    pooled = MEAN.log_odds(logit)
    assert pooled.isfinite().all()
    assert (pooled.diff() > 0).all()
    (gradient,) = torch.autograd.grad(pooled.sum(), logit)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient.sum(1), torch.ones(3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rule", "k"), RULES)
def test_one_part_is_the_whole_bit_by_bit(rule: Rule, k: int) -> None:
    logit = torch.randn(7, 1) * 10
    assert Pooling(rule, k).log_odds(logit).equal(logit.squeeze(1))


def test_narrow_logits_are_widened() -> None:
    assert MEAN.log_odds(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_part_that_is_not_finite_is_not_hidden() -> None:
    logit = torch.tensor([[0.0, float("nan"), 1.0]])
    assert all(Pooling(rule, k).log_odds(logit).isnan() for rule, k in RULES)


def test_a_rule_says_what_it_is_and_takes_something() -> None:
    assert str(MEAN) == "mean"
    assert str(Pooling("max")) == "max"
    assert str(Pooling("top_k", 2)) == "mean of the 2 highest"
    with pytest.raises(ValueError, match="at least 1, got 0"):
        pooling("top_k", 0)


@pytest.mark.parametrize(("rule", "k"), RULES)
def test_many_wholes_are_pooled_as_each_alone(rule: Rule, k: int) -> None:
    prob = np.random.default_rng(0).random(12)
    start = np.array([0, 1, 4, 10])
    wanted = [plainly(part.tolist(), rule, k) for part in np.split(prob, start[1:])]
    assert Pooling(rule, k).of_groups(prob, start).tolist() == pytest.approx(wanted, rel=1e-14)
    assert Pooling(rule, k).of_groups(prob[:0], start[:0]).tolist() == []


@pytest.mark.parametrize("rule", [Pooling(), Pooling("max"), Pooling("top_k", 3)])
def test_a_rule_is_known_by_its_key(rule: Pooling) -> None:
    assert from_key(rule.key) == rule


@pytest.mark.parametrize("key", ["median", "top_", "top_x", ""])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no rule of pooling"):
        from_key(key)
