from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from callbacks.ledger import LedgerError
from experiments.evaluation.comparison import Comparison, compare, delong, delong_p, two_sided
from experiments.evaluation.figures import counted_videos
from experiments.evaluation.intervals import video_intervals
from experiments.evaluation.ledgers import read_evaluations
from lightning_modules.bootstrap import bootstrap_interval, resampled_aucs
from lightning_modules.dependence import shared_identities
from lightning_modules.video_scores import VideoScores
from tests.support.ledgers import SOURCE, toy_record, write_toy

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def brute_delong(label: Ints, scores: Floats) -> tuple[Floats, Floats]:
    """AUCs and covariance by the definition: the kernel of each pair, and its projections."""
    fakes, reals = scores[:, label == 1], scores[:, label == 0]
    kernel = np.array(
        [
            [[1.0 if f > r else 0.5 if f == r else 0.0 for r in real] for f in fake]
            for fake, real in zip(fakes, reals, strict=True)
        ]
    )
    covariance = np.zeros((len(scores), len(scores)))
    for axis, count in ((2, fakes.shape[1]), (1, reals.shape[1])):
        part = kernel.mean(axis=axis)
        for i in range(len(scores)):
            for j in range(len(scores)):
                gaps = (part[i] - part[i].mean()) * (part[j] - part[j].mean())
                covariance[i, j] += gaps.sum() / (count - 1) / count
    return kernel.mean(axis=(1, 2)), covariance


@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_delong_equals_all_pairs(seed: int, decimals: int) -> None:
    generator = np.random.default_rng(seed)
    label = np.r_[0, 0, 1, 1, generator.integers(0, 2, 30)]
    scores = np.round(generator.normal(size=(3, 34)) + label, decimals)
    found, wanted = delong(label, scores), brute_delong(label, scores)
    np.testing.assert_allclose(found.auc, wanted[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, wanted[1], rtol=0, atol=1e-12)
    # Groups of one video are videos.
    alone = delong(label, scores, generator.permutation(34))
    np.testing.assert_allclose(alone.covariance, wanted[1], rtol=0, atol=1e-12)


def dependent(
    generator: np.random.Generator, num_groups: int, mixed: bool = True
) -> tuple[Ints, Floats, Ints]:
    """Groups of one to five videos, of both classes or of one, that share most of their noise."""
    group = np.repeat(np.arange(num_groups), generator.integers(1, 6, num_groups))
    label = (generator.random(len(group)) < 0.5).astype(np.int64)
    label = label if mixed else label[np.searchsorted(group, group)]
    shared = generator.normal(size=(2, num_groups))[:, group]
    return label, label + 2 * shared + generator.normal(size=(2, len(group))), group


@pytest.mark.parametrize("mixed", [True, False])
def test_delong_of_groups_spreads_as_new_samples_do(mixed: bool) -> None:
    generator = np.random.default_rng(0)
    samples = [dependent(generator, 80, mixed) for _ in range(1500)]
    found = [delong(*sample) for sample in samples]
    told = np.mean([one.covariance for one in found], axis=0)
    seen = np.cov(np.stack([one.auc for one in found]).T)
    np.testing.assert_allclose(told, seen, rtol=0.12, atol=0.12 * seen[0, 0])
    # Equal AUCs are called different as rarely as they should; taken one by one they are not.
    grouped = np.mean([delong_p(one) < 0.05 for one in found])
    assert 0.03 < grouped < 0.075
    if not mixed:
        alone = [delong(label, scores) for label, scores, _ in samples]
        assert np.mean([delong_p(one) < 0.05 for one in alone]) > 2 * grouped


def test_delong_of_groups_agrees_with_the_bootstrap_of_groups() -> None:
    label, scores, group = dependent(np.random.default_rng(1), 200)
    areas = np.stack(resampled_aucs(label, list(scores), group, num_resamples=4000))
    np.testing.assert_allclose(delong(label, scores, group).covariance, np.cov(areas), rtol=0.1,
                               atol=0.1 * np.var(areas[0]))  # fmt: skip


def test_delong_p_of_a_known_normal_difference() -> None:
    label = np.r_[np.zeros(20, dtype=np.int64), np.ones(20, dtype=np.int64)]
    scores = np.random.default_rng(4).normal(size=(2, 40)) + label
    found = delong(label, scores)
    variance = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
    z = (found.auc[0] - found.auc[1]) / np.sqrt(variance)
    assert delong_p(found) == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(abs(z) / 2**0.5))))
    same = delong(label, np.stack([scores[0], 3 * scores[0] - 1]))
    assert delong_p(same) == 1.0
    # One ranks perfectly, the other perfectly wrong: a difference, and no variance to hold it to.
    assert math.isnan(delong_p(delong(label, np.stack([label, -label]).astype(np.float64))))


@pytest.mark.parametrize(
    ("gaps", "p"),
    [([0.1] * 99, 0.02), ([-0.1] * 99, 0.02), ([0.0] * 9, 1.0), ([0.1, -0.1, np.nan], 1.0)],
)
def test_two_sided_counts_the_rarer_side(gaps: list[float], p: float) -> None:
    assert two_sided(np.array(gaps), 10**9) == pytest.approx(p)
    assert p <= two_sided(np.array(gaps), 8) <= 1
    assert p == 1 or two_sided(np.array(gaps), 8) > 1.5 * p


def test_equal_runs_are_told_apart_in_5_of_100(tmp_path: Path) -> None:
    # 8 people with a real and four fakes each; two runs of the same skill.
    label, group = np.tile([0, 1, 1, 1, 1], 8), np.repeat(np.arange(8), 5)
    records = [
        toy_record(f"v/{i}", int(k), group_ids=(f"p{group[i]}",)) for i, k in enumerate(label)
    ]
    path = write_toy(tmp_path / "l.parquet", records, [[0.0]] * len(label))
    (blank,) = read_evaluations([path])
    generator = np.random.default_rng(0)
    wrong = outside = 0
    for seed in range(400):
        common = generator.normal(size=len(label)) * 0.7 + 1.2 * label
        pair = [
            replace(blank, videos=blank.videos.with_columns(
                score=pl.Series(common + generator.normal(size=len(label)) * 0.7)
            ))
            for _ in range(2)
        ]  # fmt: skip
        found = compare(*pair, num_resamples=200, seed=seed)
        wrong += found.p_bootstrap < 0.05
        outside += not found.low <= 0 <= found.high
    assert 0.02 < wrong / 400 < 0.075
    assert 0.02 < outside / 400 < 0.075


def test_equal_runs_are_not_told_apart_by_people_that_fakes_share(tmp_path: Path) -> None:
    # 12 people, two real videos each; 60 fakes of any two, of which the second one decides.
    generator = np.random.default_rng(0)
    target = generator.integers(12, size=60)
    source = (target + generator.integers(1, 12, size=60)) % 12
    people = [(f"p{i % 12}",) for i in range(24)]
    people += [(f"p{a}", f"p{b}") for a, b in zip(target, source, strict=True)]
    label = np.r_[np.zeros(24, np.int64), np.ones(60, np.int64)]
    records = [
        toy_record(f"v/{i}", int(label[i]), group_ids=names) for i, names in enumerate(people)
    ]
    (blank,) = read_evaluations([write_toy(tmp_path / "l.parquet", records, [[0.0]] * 84)])
    first = pl.col("group").map_elements(lambda name: [name], pl.List(pl.String))
    wrong, outside = np.zeros((2, 2)), 0
    for seed in range(200):
        runs = []
        for _ in range(2):
            score = 0.5 * generator.normal(size=84) + 1.2 * label
            score[24:] += generator.normal(size=12)[source]
            runs.append(replace(blank, videos=blank.videos.with_columns(score=pl.Series(score))))
        alone = [replace(run, videos=run.videos.with_columns(identities=first)) for run in runs]
        for row, pair in enumerate((runs, alone)):
            found = compare(*pair, num_resamples=300, seed=seed)
            wrong[row] += found.p_bootstrap < 0.05, found.p_delong < 0.05
            outside += row == 0 and not found.low <= 0 <= found.high
    assert wrong[0, 0] / 200 < 0.1
    # Percentiles further out in the same draws end with the draws: 0.19 left out 0.
    assert outside / 200 < 0.12
    assert (wrong[0] < wrong[1]).all()


def test_tables_and_tests_widen_by_the_second_person(tmp_path: Path) -> None:
    # Fakes of 20 people with the faces of two, one of which is found more easily.
    generator = np.random.default_rng(0)
    people = [(f"p{i}",) for i in range(20)] + [(f"p{i % 20}", f"star{i % 2}") for i in range(40)]
    label = np.r_[np.zeros(20, np.int64), np.ones(40, np.int64)]
    records = [
        toy_record(f"v/{i}", int(label[i]), group_ids=names) for i, names in enumerate(people)
    ]
    score = generator.normal(size=60) + label
    score[20:] += 3.0 * (np.arange(40) % 2)
    path = write_toy(tmp_path / "l.parquet", records, [[float(x)] for x in score])
    (found,) = read_evaluations([path])
    shared = shared_identities(people)
    first = np.unique([names[0] for names in people], return_inverse=True)[1]
    wide = bootstrap_interval(label, found.score, first, shared=shared, num_resamples=300)
    alone = bootstrap_interval(label, found.score, first, num_resamples=300)
    assert wide[1] - wide[0] > 1.1 * (alone[1] - alone[0])
    bounds = video_intervals(counted_videos(found), num_resamples=300).auc
    assert bounds == pytest.approx(wide)
    metric = VideoScores(num_resamples=300)
    metric.describe(records)
    index = torch.arange(60)
    metric.update(torch.tensor(score), torch.tensor(label), index, index * 0)
    values = metric.compute()
    ends = (float(values["video_auc_low"]), float(values["video_auc_high"]))
    assert ends == pytest.approx(wide, abs=1e-6)


def written(path: Path, label: Ints, score: Floats, run: str, lacking: int | None = None) -> Path:
    """A ledger of one clip a video, three videos to an identity."""
    records = [toy_record(f"v/{i}", int(k), group_ids=(f"p{i // 3}",)) for i, k in enumerate(label)]
    logits = [[] if i == lacking else [float(x)] for i, x in enumerate(score)]
    return write_toy(path, records, logits, source=replace(SOURCE, run=run))


def compared(tmp_path: Path, gain: float, lacking: int | None = None) -> Comparison:
    generator = np.random.default_rng(0)
    label = np.arange(90) % 2
    base = generator.normal(size=90) + 0.8 * label
    better = base + gain * label + 0.1 * generator.normal(size=90)
    one = written(tmp_path / "1.parquet", label, better, "better", lacking)
    two = written(tmp_path / "2.parquet", label, base, "base")
    return compare(*read_evaluations([one, two]), num_resamples=400)


def test_a_better_run_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    better = compared(tmp_path, 0.8)
    assert better.difference > 0.05
    assert 0 < better.low < better.difference < better.high
    assert better.p_bootstrap < 0.02
    assert better.p_delong < 0.02
    assert (better.num_videos, better.num_groups, better.num_left_out) == (90, 30, 0)
    same = compared(tmp_path, 0.0)
    assert same.low < 0 < same.high
    assert same.p_delong > 0.05
    assert same.p_bootstrap > 0.05


def test_only_videos_that_both_scored_are_compared(tmp_path: Path) -> None:
    found = compared(tmp_path, 0.8, lacking=5)
    assert (found.num_videos, found.num_left_out) == (89, 1)


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    label, score = np.array([0, 1, 1]), np.array([0.0, 1.0, 2.0])
    one = written(tmp_path / "1.parquet", label, score, "one")
    flipped = written(tmp_path / "2.parquet", 1 - label, score, "two")
    with pytest.raises(LedgerError, match="mean different videos by v/0"):
        compare(*read_evaluations([one, flipped]))
    other = write_toy(tmp_path / "3.parquet", [toy_record("w/0", 0)], [[1.0]], set="else")
    with pytest.raises(LedgerError, match="share no scored video"):
        compare(*read_evaluations([one, other]))
    ones = [written(tmp_path / f"{n}.parquet", np.ones(3), score, n) for n in ("4", "5")]
    found = compare(*read_evaluations(ones))
    assert math.isnan(found.difference)
    assert found.reason == "a class has no video scored by both"
    pair = [written(tmp_path / f"{n}.parquet", label, score, n) for n in ("6", "7")]
    found = compare(*read_evaluations(pair))
    assert found.reason == "real and fake videos of one identity group only: no interval"
    assert found.difference == 0


def clustered(seed: int, num_groups: int) -> tuple[Ints, Floats, Ints]:
    """Real and fake videos of people; those of one person share part of their score."""
    generator = np.random.default_rng(seed)
    group = np.repeat(np.arange(num_groups), 4)
    label = np.arange(4 * num_groups) % 2
    shared = generator.normal(size=(num_groups, 2)) * math.sqrt(0.5)
    own = generator.normal(size=4 * num_groups) * math.sqrt(0.5)
    return label, shared[group, label] + own + label, group


#: Phi(1 / sqrt 2): normal scores one standard deviation apart.
TRUTH = 0.7602499389065233


def coverage(rounds: int, num_groups: int, num_resamples: int) -> float:
    hits = 0
    for seed in range(rounds):
        label, score, group = clustered(seed, num_groups)
        low, high = bootstrap_interval(label, score, group, num_resamples=num_resamples, seed=seed)
        hits += low <= TRUTH <= high
    return hits / rounds


def test_intervals_of_dependent_videos_hold_the_truth() -> None:
    # 300 rounds have a standard error of 0.0126. Of videos drawn on their own 0.90 hold it.
    assert 0.92 <= coverage(300, 60, 300) <= 0.99


@pytest.mark.slow
def test_intervals_hold_the_truth_in_95_of_100() -> None:
    assert 0.93 <= coverage(2000, 100, 1000) <= 0.97
