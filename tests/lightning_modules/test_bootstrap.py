from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest

from experiments.evaluation.figures import figures
from lightning_modules.bootstrap import (
    Evidence,
    bootstrap_interval,
    resampled_aucs,
    resampled_figures,
)
from lightning_modules.dependence import (
    GroupVariance,
    auc_influence,
    shared_identities,
    widening,
)
from lightning_modules.metrics import roc_auc


def test_interval_equals_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    label = np.arange(40) % 2
    score = np.round(generator.normal(size=40) + label, 1)  # with ties
    group = np.arange(40) // 2 * 10  # any numbers
    draws = np.random.default_rng(0).integers(20, size=(200, 20))
    areas = []
    for drawn in draws:
        rows = np.concatenate([[2 * g, 2 * g + 1] for g in drawn])
        areas.append(roc_auc(label[rows], score[rows]))
    # 20 groups: Student's 97.5 % quantile of 19 degrees of freedom is 2.093.
    area = roc_auc(label, score)
    error = np.std(areas, ddof=1) * math.sqrt(20 / 19) / (area * (1 - area))
    odds = math.log(area / (1 - area)) + 2.09302405 * error * np.array([-1, 1])
    found = bootstrap_interval(label, score, group, num_resamples=200)
    assert found == pytest.approx(tuple(1 / (1 + np.exp(-odds))), abs=1e-8)


def test_of_few_groups_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # 300 rounds have a standard error of 0.0126; plain percentiles hold it in 0.83.
    truth = 0.9  # Phi(1.8124 / sqrt 2): normal scores so many standard deviations apart
    hits = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        group = np.repeat(np.arange(8), 4)
        label = np.arange(32) % 2
        shared = generator.normal(size=(8, 2))[group, label]
        score = (shared + generator.normal(size=32)) / math.sqrt(2) + 1.8124 * label
        low, high = bootstrap_interval(label, score, group, num_resamples=200, seed=seed)
        assert 0 <= low < high <= 1
        hits += low <= truth <= high
    assert 0.92 <= hits / 300 <= 0.985


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_ranking_of_few_people_proves_little(sign: int) -> None:
    # Wilson's interval of 16 trials without a failure: n / (n + z^2), z = t(7) * sqrt(8 / 7).
    label = np.arange(32) % 2
    score = sign * label.astype(np.float64)
    low, high = bootstrap_interval(label, score, np.repeat(np.arange(8), 4))
    wanted = 16 / (16 + 2.36462425**2 * 8 / 7)
    assert (low, high) == pytest.approx((wanted, 1.0) if sign > 0 else (0.0, 1 - wanted))
    many = bootstrap_interval(np.tile(label, 50), np.tile(score, 50))
    assert many[1] - many[0] < 0.01


def pairing(
    generator: np.random.Generator, people: int, fakes: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, ...]]]:
    """Two real videos of each person, and fakes of any two; both people shape a fake's score."""
    target = generator.integers(people, size=fakes)
    source = (target + generator.integers(1, people, size=fakes)) % people
    shown = [(f"{i % people}",) for i in range(2 * people)]
    shown += [(f"{a}", f"{b}") for a, b in zip(target, source, strict=True)]
    label = np.r_[np.zeros(2 * people, np.int64), np.ones(fakes, np.int64)]
    look, mask = generator.normal(size=(2, people))
    score = generator.normal(size=len(label)) * math.sqrt(0.5) + 1.8124 * label
    score[: 2 * people] += math.sqrt(0.5) * np.tile(look, 2)
    score[2 * people :] += math.sqrt(0.1) * look[target] + math.sqrt(0.4) * mask[source]
    return label, score, shown


def test_intervals_know_the_second_person_of_a_fake() -> None:
    hits = np.zeros(2)
    for seed in range(200):
        label, score, shown = pairing(np.random.default_rng(seed), 30, 180)
        first = np.unique([names[0] for names in shown], return_inverse=True)[1]
        for column, shared in enumerate((None, shared_identities(shown))):
            low, high = bootstrap_interval(
                label, score, first, shared=shared, num_resamples=100, seed=seed
            )
            hits[column] += low <= 0.9 <= high
    # By the first person alone 0.88 hold the truth; 200 rounds have a standard error of 0.016.
    assert hits[1] > hits[0]
    assert 0.91 <= hits[1] / 200 <= 0.985


def test_widening_equals_the_sum_over_all_pairs() -> None:
    label, score, shown = pairing(np.random.default_rng(5), 6, 12)
    shared = shared_identities(shown)
    _, influence = auc_influence(label, score)
    first = np.unique([names[0] for names in shown], return_inverse=True)[1]
    within = sum(
        influence[i] * influence[j]
        for i in range(len(shown))
        for j in range(len(shown))
        if set(shown[i]) & set(shown[j])
    )
    alone = GroupVariance.of(influence, label, first).corrected
    # 6 people in the reals, and in the fakes 6 of which each video has two: 3.
    wanted = math.sqrt(max(1.0, within * 3 / 2 / alone))
    assert widening(influence, label, alone, shared) == pytest.approx(wanted)
    assert wanted > 1
    assert shared_identities([("a",), ("b",), ("a",)]) is None
    assert widening(influence, label, alone, None) == 1.0


def test_a_person_in_all_videos_takes_no_memory_of_their_square() -> None:
    # A matrix of which videos share somebody would have 4e9 entries.
    number = 60_000
    label = np.arange(number) % 2
    score = np.random.default_rng(0).normal(size=number) + label
    shared = shared_identities([(f"p{i // 2}", "star") for i in range(number)])
    value, influence = auc_influence(label, score)
    assert value == pytest.approx(roc_auc(label, score), abs=1e-12)
    tracemalloc.start()
    evidence = Evidence.of(label, np.arange(number) // 2, influence, shared)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert evidence.widening >= 1


def test_the_class_of_few_groups_decides() -> None:
    # Reals of 50 people, fakes of 3 others; counting 53 groups in all, 0.86 hold the truth.
    hits = 0
    group = np.repeat(np.arange(53), 2)
    label = (group >= 50).astype(np.int64)
    for seed in range(200):
        generator = np.random.default_rng(seed)
        score = generator.normal(size=53)[group] + generator.normal(size=106)
        score = score / math.sqrt(2) + 1.8124 * label
        low, high = bootstrap_interval(label, score, group, num_resamples=100, seed=seed)
        hits += low <= 0.9 <= high
    assert hits / 200 >= 0.91
    influence = auc_influence(label, score)[1]
    by_hand = sum(
        count / (count - 1) * sum(influence[group == g].sum() ** 2 for g in groups)
        for count, groups in ((50, range(50)), (3, range(50, 53)))
    )
    found = GroupVariance.of(influence, label, group)
    assert found.corrected == pytest.approx(by_hand)
    assert 2 <= found.freedom < 10


def test_draws_that_differ_by_rounding_have_no_spread() -> None:
    # Each of 12 people has the same scores: all draws are a third.
    label, score = np.tile([0, 1, 1, 1], 12), np.tile([0.5, 0.1, 0.1, 0.9], 12)
    low, high = bootstrap_interval(label, score, np.repeat(np.arange(12), 4))
    assert low < 0.2 < 0.5 < high


def test_fakes_of_one_person_have_no_interval() -> None:
    group = np.minimum(np.arange(20), 10)
    label = (group == 10).astype(np.int64)
    score = np.random.default_rng(0).normal(size=20)
    assert np.isnan(bootstrap_interval(label, score, group)).all()
    assert np.isnan(bootstrap_interval(label, label.astype(np.float64), group)).all()
    why = Evidence.of(label, group, score).why_none()
    assert why == "fake videos of one identity group only: no interval"


def test_groups_widen_the_interval_of_copies() -> None:
    generator = np.random.default_rng(1)
    label = np.arange(60) % 2
    score = generator.normal(size=60) + label
    copies = np.repeat(np.arange(60), 5)

    def width(group: np.ndarray | None) -> float:
        low, high = bootstrap_interval(label[copies], score[copies], group)
        return high - low

    # Five copies of each video are no five times as much evidence.
    assert width(copies) > 1.8 * width(None)


def test_same_seed_same_interval_whatever_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    label, score = np.arange(50) % 2, generator.normal(size=50)
    whole = bootstrap_interval(label, score, seed=5)
    monkeypatch.setattr("lightning_modules.bootstrap._MAX_WEIGHTS", 50 * 7)
    assert bootstrap_interval(label, score, seed=5) == whole
    assert bootstrap_interval(label, score, seed=6) != whole


@pytest.mark.parametrize(
    ("label", "group"),
    [([1, 1, 1], None), ([0, 1, 1], [4, 4, 4]), ([], None)],
    ids=["one class", "one group", "nothing"],
)
def test_no_interval_where_there_is_none(label: list[int], group: list[int] | None) -> None:
    labels = np.array(label, dtype=np.int64)
    groups = None if group is None else np.array(group)
    low, high = bootstrap_interval(labels, np.arange(len(label), dtype=np.float64), groups)
    assert math.isnan(low)
    assert math.isnan(high)


def test_a_thousand_videos_take_no_time() -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 1000)
    score = generator.normal(size=1000)
    start = time.process_time()
    bootstrap_interval(label, score, num_resamples=1000)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("num_videos", [7, 60])
def test_all_figures_of_a_draw_are_those_of_its_videos(num_videos: int) -> None:
    generator = np.random.default_rng(num_videos)
    label = np.arange(num_videos) % 2
    score = np.round(generator.random(num_videos) * 0.7 + label * 0.3, 1)  # with ties
    group = np.arange(num_videos) % max(3, num_videos // 3) * 10
    options = {"num_resamples": 100, "seed": 4}
    found = resampled_figures(label, score, group, threshold=0.6, **options)
    (area,) = resampled_aucs(label, [score], group, **options)
    assert np.array_equal(found["auc"], area, equal_nan=True)
    drawn = np.random.default_rng(4).integers(len(set(group)), size=(100, len(set(group))))
    missed = 0
    for row, groups in enumerate(drawn):
        videos = np.concatenate([np.flatnonzero(group == np.unique(group)[g]) for g in groups])
        wanted = figures(label[videos], score[videos], 0.6)
        missed += math.isnan(wanted["auc"])
        for name, values in found.items():
            assert values[row] == pytest.approx(wanted[name], abs=1e-12, nan_ok=True), name
    assert missed < 100


def test_without_both_classes_there_is_no_figure() -> None:
    found = resampled_figures(np.ones(4, np.int64), np.arange(4.0))
    assert {len(values) for values in found.values()} == {0}
