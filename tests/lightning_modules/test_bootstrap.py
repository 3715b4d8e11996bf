from __future__ import annotations

import math
import time

import numpy as np
import pytest

from experiments.evaluation.figures import figures
from lightning_modules.bootstrap import bootstrap_interval, resampled_aucs, resampled_figures
from lightning_modules.metrics import roc_auc


def test_interval_equals_a_plain_loop() -> None:
    generator = np.random.default_rng(3)
    label = generator.integers(0, 2, 40)
    score = np.round(generator.normal(size=40) + label, 1)  # with ties
    group = np.arange(40) // 2 * 10  # any numbers
    draws = np.random.default_rng(0).integers(20, size=(200, 20))
    areas = []
    for drawn in draws:
        rows = np.concatenate([[2 * g, 2 * g + 1] for g in drawn])
        areas.append(roc_auc(label[rows], score[rows]))
    low, high = np.quantile(areas, [0.025, 0.975])
    found = bootstrap_interval(label, score, group, num_resamples=200)
    assert found == pytest.approx((low, high), abs=1e-12)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = 0.7602  # Phi(1 / sqrt 2): normal scores one standard deviation apart
    hits = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        label = np.arange(120) % 2
        score = generator.normal(size=120) + label
        low, high = bootstrap_interval(label, score, num_resamples=300)
        hits += low <= truth <= high
    assert 0.90 <= hits / 200 <= 0.99


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
