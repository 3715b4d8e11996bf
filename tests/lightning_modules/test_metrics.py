from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from lightning_modules.bootstrap import bootstrap_interval
from lightning_modules.metrics import (
    average_precision,
    equal_error_rate,
    merge_clips,
    roc_auc,
    tpr_at_fpr,
    video_table,
)
from lightning_modules.pooling import Pooling, Rule
from lightning_modules.video_scores import VideoScores
from tests.support.trainers import make_records

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


def draw(seed: int, decimals: int) -> tuple[Ints, Floats]:
    """Labels and scores; few decimals make many ties."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, 60)
    label[:2] = 0, 1
    return label, np.round(generator.normal(size=60) + 0.8 * label, decimals)


def brute_auc(label: Ints, score: Floats) -> float:
    wins = [
        1.0 if fake > real else 0.5 if fake == real else 0.0
        for fake in score[label == 1]
        for real in score[label == 0]
    ]
    return sum(wins) / len(wins)


def brute_roc(label: Ints, score: Floats) -> list[tuple[float, float]]:
    """False- and true-positive rate at each threshold, from none accused to all."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(score.tolist()), reverse=True):
        accused = [s >= threshold for s in score]
        false = sum(a for a, k in zip(accused, label, strict=True) if k == 0)
        true = sum(a for a, k in zip(accused, label, strict=True) if k == 1)
        points.append((false / int((label == 0).sum()), true / int((label == 1).sum())))
    return points


def brute_eer(label: Ints, score: Floats) -> float:
    points = brute_roc(label, score)
    for (f0, t0), (f1, t1) in itertools.pairwise(points):
        for share in np.linspace(0, 1, 2001):
            false, true = f0 + share * (f1 - f0), t0 + share * (t1 - t0)
            if 1 - true <= false:
                return float(false)
    raise AssertionError("the curve ends where all are accused")


def brute_ap(label: Ints, score: Floats) -> float:
    total = before = 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        accused = score >= threshold
        recall = float((label[accused] == 1).sum() / (label == 1).sum())
        total += (recall - before) * float((label[accused] == 1).mean())
        before = recall
    return total


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_equal_brute_force(seed: int, decimals: int) -> None:
    label, score = draw(seed, decimals)
    assert roc_auc(label, score) == pytest.approx(brute_auc(label, score), abs=1e-12)
    assert average_precision(label, score) == pytest.approx(brute_ap(label, score), abs=1e-12)
    assert equal_error_rate(label, score) == pytest.approx(brute_eer(label, score), abs=1e-3)
    allowed = [true for false, true in brute_roc(label, score) if false <= 0.1]
    assert tpr_at_fpr(label, score, 0.1) == pytest.approx(max(allowed), abs=1e-12)


@pytest.mark.parametrize(
    ("score", "auc", "eer"),
    [
        ([0, 0, 1, 1], 1.0, 0.0),
        ([1, 1, 0, 0], 0.0, 1.0),
        ([5, 5, 5, 5], 0.5, 0.5),
        ([0, 2, 1, 3], 0.75, 0.5),
    ],
)
def test_known_cases(score: list[int], auc: float, eer: float) -> None:
    label, value = np.array([0, 0, 1, 1]), np.array(score, dtype=np.float64)
    assert roc_auc(label, value) == auc
    assert equal_error_rate(label, value) == pytest.approx(eer)


@pytest.mark.parametrize("label", [0, 1])
def test_an_absent_class_is_nan_and_not_a_half(label: int) -> None:
    labels, score = np.full(4, label), np.arange(4.0)
    for figure in (roc_auc, average_precision, equal_error_rate):
        assert math.isnan(figure(labels, score))
    assert math.isnan(tpr_at_fpr(labels, score, 0.1))


def test_equal_keys_are_merged_and_the_first_stays() -> None:
    key = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])
    clips = merge_clips(np.array([1.0, 2.0, 9.0, 4.0]), np.array([1, 0, 1, 0]), key)
    assert clips.video_index.tolist() == [0, 0, 1]
    assert clips.clip_index.tolist() == [0, 1, 0]
    assert clips.logit.tolist() == [4.0, 2.0, 1.0]
    assert clips.label.tolist() == [0, 0, 1]


def test_videos_are_means_of_probabilities_not_of_logits() -> None:
    key = np.array([[3, 0], [3, 1], [8, 0]])
    videos = video_table(merge_clips(np.array([0.0, 1000.0, -1000.0]), np.array([1, 1, 0]), key))
    assert videos.video_index.tolist() == [3, 8]
    assert videos.score.tolist() == [0.75, 0.0]
    assert videos.label.tolist() == [1, 0]
    assert videos.num_clips.tolist() == [2, 1]


@pytest.mark.parametrize(("rule", "score"), [("mean", 0.5), ("max", 0.9), ("top_k", 0.7)])
def test_videos_are_pooled_by_the_rule(rule: Rule, score: float) -> None:
    prob = np.array([0.1, 0.9, 0.5, 0.3])
    key = np.array([[0, 0], [0, 1], [0, 2], [9, 0]])
    clips = merge_clips(np.log(prob / (1 - prob)), np.array([1, 1, 1, 0]), key)
    videos = video_table(clips, Pooling(rule, 2))
    assert videos.score.tolist() == pytest.approx([score, 0.3])


def framed(copies: int = 0) -> tuple[VideoScores, torch.Tensor, torch.Tensor]:
    """Six clips of three frames; the first ones come again, with other frames."""
    logit = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    label, index = torch.tensor([0, 1, 0, 1, 1, 0]), torch.arange(6)
    metric = VideoScores()
    metric.update(logit.mean(1), label, index, index, logit)
    part = index[:copies]
    metric.update(logit[part].mean(1), label[part], part, part, -logit[part])
    return metric, logit, label


@pytest.mark.parametrize("copies", [0, 2])
def test_frames_carry_the_label_of_their_clip_and_copies_do_not_count(copies: int) -> None:
    metric, logit, label = framed(copies)
    wanted = brute_auc(label.repeat_interleave(3).numpy(), logit.flatten().double().numpy())
    values = metric.compute()
    assert float(values["frame_auc"]) == pytest.approx(wanted, abs=1e-6)
    assert float(values["frame_auc"]) != pytest.approx(float(values["clip_auc"]), abs=1e-6)
    assert values["num_frames"] == 18


def test_clips_of_one_frame_have_the_auc_of_frames() -> None:
    metric, (logit, label) = VideoScores(), (torch.randn(6), torch.tensor([0, 1] * 3))
    metric.update(logit, label, torch.arange(6), torch.arange(6), logit[:, None])
    values = metric.compute()
    assert values["frame_auc"] == values["clip_auc"]


def test_frames_that_are_not_there_or_not_finite() -> None:
    assert "frame_auc" not in filled().compute()
    metric, _, _ = framed()
    with pytest.raises(ValueError, match=r"\(2, T\), got \(6,\)"):
        metric.update(*(torch.zeros(2) for _ in range(4)), frame_logit=torch.zeros(6))
    seven = torch.tensor([7])
    # A clip can be finite though one of its frames is not: by the largest of them, say.
    frames = torch.tensor([[0.0, float("-inf"), 1.0]])
    metric.update(torch.ones(1), torch.ones(1), seven, seven, frames)
    with pytest.raises(FloatingPointError, match="video 7 clip 7"):
        metric.compute()


def test_a_video_with_two_labels_is_refused() -> None:
    clips = merge_clips(np.zeros(2), np.array([0, 1]), np.array([[4, 0], [4, 1]]))
    with pytest.raises(ValueError, match="video 4"):
        video_table(clips)


def filled(copies: int = 0) -> VideoScores:
    """Eight clips of four videos in two batches, some of them twice."""
    metric = VideoScores()
    logit = torch.tensor([-2.0, 0.5, 0.1, 3.0, -1.0, -1.0, 2.0, 0.7])
    index = torch.arange(8)
    for part in (index[:5], torch.cat([index[5:], index[:copies]])):
        metric.update(logit[part], (part // 2 % 2).float(), part // 2, part % 2)
    return metric


def test_padded_duplicates_count_once() -> None:
    plain, padded = filled().compute(), filled(copies=3).compute()
    assert plain["num_clips"] == 8
    assert plain["num_videos"] == 4
    assert plain == padded


def test_metric_equals_its_parts() -> None:
    values = filled().compute()
    label = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    logit = np.array([-2.0, 0.5, 0.1, 3.0, -1.0, -1.0, 2.0, 0.7])
    score = (1 / (1 + np.exp(-logit))).reshape(4, 2).mean(axis=1)
    video = np.array([0, 1, 0, 1])
    assert float(values["clip_auc"]) == pytest.approx(brute_auc(label, logit), abs=1e-6)
    assert float(values["video_auc"]) == pytest.approx(brute_auc(video, score), abs=1e-6)
    assert float(values["video_eer"]) == pytest.approx(brute_eer(video, score), abs=1e-3)
    assert float(values["video_ap"]) == pytest.approx(brute_ap(video, score), abs=1e-6)
    assert all(value.shape == () and value.dtype == torch.float32 for value in values.values())
    assert "video_auc_low" not in values  # only where it is asked for


def test_one_class_is_nan_and_still_counted() -> None:
    metric = VideoScores(num_resamples=10)
    metric.update(torch.zeros(3), torch.ones(3), torch.arange(3), torch.zeros(3, dtype=torch.int64))
    values = metric.compute()
    assert values["num_videos"] == 3
    for name in ("clip_auc", "video_auc", "video_eer", "video_ap", "video_auc_low"):
        assert values[name].isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_narrow_logits_keep_their_order(dtype: torch.dtype) -> None:
    metric = VideoScores()
    logit = torch.tensor([20.0, 20.25, 20.5, 21.0], dtype=dtype)
    metric.update(logit, torch.tensor([0, 0, 1, 1]), torch.arange(4), torch.zeros(4).long())
    assert metric.compute()["video_auc"] == 1.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_is_named(bad: float) -> None:
    metric = VideoScores()
    index = torch.arange(4)
    metric.update(torch.tensor([0.0, bad, 0.0, 0.0]), index % 2, index, index * 0)
    with pytest.raises(FloatingPointError, match=r"1 of 4 .*video 1 clip 0"):
        metric.compute()
    metric.describe(make_records())
    with pytest.raises(FloatingPointError, match="tiny/c23/Deepfakes/001 clip 0"):
        metric.compute()


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        VideoScores().update(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3), torch.zeros(3))


def test_interval_draws_videos_of_one_footage_together() -> None:
    index = torch.arange(40)
    logit = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    records = [
        replace(make_records()[0], video_id=f"{i}", group_ids=(f"{i // 4}", "all")) for i in index
    ]
    metric = VideoScores(num_resamples=200)
    label, score = (index % 2).numpy(), logit.sigmoid().numpy()
    for group in (None, index.numpy() // 4):
        metric.reset()
        metric.update(logit, index % 2, index, index * 0)
        values = metric.compute()
        expected = bootstrap_interval(label, score, group, num_resamples=200)
        found = (float(values["video_auc_low"]), float(values["video_auc_high"]))
        assert found == pytest.approx(expected, abs=1e-6)
        metric.describe(records)  # the second round knows the groups


def test_reset_forgets() -> None:
    metric = filled()
    metric.reset()
    metric.update(torch.ones(1), torch.ones(1), torch.ones(1).long(), torch.ones(1).long())
    assert metric.compute()["num_clips"] == 1
