from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.clip_sampling import (
    clip_times,
    consecutive_runs,
    every_window,
    mirror_padding_index,
    num_windows,
    random_window,
    spread_windows,
    window_positions,
)

PADDING: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "weights" / "golden" / "preprocess.json").read_text()
)["padding"]


@pytest.mark.parametrize("case", PADDING["cases"], ids=lambda case: str(case["track_length"]))
def test_mirror_padding_golden(case: dict[str, Any]) -> None:
    length = case["track_length"]
    padded = mirror_padding_index(length, 32)
    # the golden file lists the indices of some lengths; numpy mirrors by the same rule
    if length < 32:
        np.testing.assert_array_equal(padded, np.pad(np.arange(length), 31, mode="reflect"))
    assert list(padded) == case.get("padded_index", list(padded))
    assert len(padded) == case["padded_length"]
    assert num_windows(range(length), 32) == case["number_of_clips"]
    windows = [window_positions(range(length), 32, w) for w in range(case["number_of_clips"])]
    assert windows == [padded[w : w + 32] for w in range(len(windows))]


@pytest.mark.parametrize(
    ("frames", "runs"),
    [
        ([], []),
        ([7], [(0, 1)]),
        ([3, 4, 5], [(0, 3)]),
        ([0, 1, 5, 6, 7, 9], [(0, 2), (2, 5), (5, 6)]),
    ],
)
def test_consecutive_runs(frames: list[int], runs: list[tuple[int, int]]) -> None:
    assert consecutive_runs(frames) == [range(*run) for run in runs]


@pytest.mark.parametrize(
    ("frames", "windows"),
    [
        pytest.param([4, 5, 6, 7], [(0, 1, 2), (1, 2, 3)], id="every start"),
        pytest.param([4, 5, 6], [(0, 1, 2)], id="just long enough"),
        pytest.param(
            [0, 1, 2, 3, 9, 10, 11], [(0, 1, 2), (1, 2, 3), (4, 5, 6)], id="not over a gap"
        ),
        pytest.param([0, 1, 5, 6, 7, 9], [(2, 3, 4)], id="short runs are left out"),
        pytest.param(
            [0, 1], [(0, 1, 0), (1, 0, 1), (0, 1, 0), (1, 0, 1)], id="a short track is mirrored"
        ),
        pytest.param([8], [(0, 0, 0)] * 3, id="one frame"),
        pytest.param(
            [0, 4, 5, 8],
            [(1, 2, 1), (2, 1, 2), (1, 2, 1), (2, 1, 2)],
            id="of short runs the longest is mirrored",
        ),
        pytest.param([], [], id="empty"),
    ],
)
def test_windows_of_three_frames(frames: list[int], windows: list[tuple[int, ...]]) -> None:
    found = [window_positions(frames, 3, w) for w in range(num_windows(frames, 3))]
    assert found == windows
    assert found == [window_positions(np.array(frames), 3, w) for w in range(len(windows))]
    for outside in (-1, len(windows)):
        with pytest.raises(IndexError, match=f"window {outside} of a track of {len(windows)}"):
            window_positions(frames, 3, outside)


@pytest.mark.parametrize(
    ("counts", "num_clips", "expected"),
    [
        ([10], 1, [(0, 4)]),
        ([10], 2, [(0, 0), (0, 9)]),
        ([10], 4, [(0, 0), (0, 3), (0, 6), (0, 9)]),
        ([3], 8, [(0, 0), (0, 1), (0, 2)]),
        ([2], None, [(0, 0), (0, 1)]),
        ([3, 2], None, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]),
        ([100, 100], 4, [(0, 0), (0, 99), (1, 0), (1, 99)]),
        ([300, 100], 4, [(0, 0), (0, 150), (0, 299), (1, 49)]),
        ([90, 1, 9], 2, [(0, 44), (1, 0), (2, 4)]),
        ([5, 0], 2, [(0, 0), (0, 4)]),
        ([], 4, []),
    ],
)
def test_spread_windows(
    counts: list[int], num_clips: int | None, expected: list[tuple[int, int]]
) -> None:
    assert spread_windows(counts, num_clips) == expected


def test_spread_windows_never_repeat() -> None:
    for count in range(1, 40):
        for num_clips in range(1, 40):
            windows = spread_windows([count], num_clips)
            assert windows == sorted(set(windows))
            assert len(windows) == min(count, num_clips)


@pytest.mark.parametrize("length", [1, 20, 32, 33, 100, 299])
def test_clips_of_one_frame_are_spread_as_deepfakebench_spreads_frames(length: int) -> None:
    assert num_windows(range(length), 1) == length
    chosen = spread_windows([length], 32)
    shown = [window_positions(range(length), 1, window) for _, window in chosen]
    # its rule: truncated to whole frames, where ours is rounded
    wanted = np.unique(np.linspace(0, length - 1, 32, dtype=int))
    assert len(shown) == len(wanted) == min(length, 32)
    assert all(abs(frame - other) <= 1 for (frame,), other in zip(shown, wanted, strict=True))
    assert shown[-1] == (length - 1,)


def test_every_window_with_a_stride() -> None:
    assert every_window([5, 1], stride=2) == [(0, 0), (0, 2), (0, 4), (1, 0)]
    assert every_window([2, 1]) == [(0, 0), (0, 1), (1, 0)]


def test_random_windows_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(random_window([3, 0, 1], rng) for _ in range(4000))
    assert set(drawn) == {(0, 0), (0, 1), (0, 2), (2, 0)}
    assert max(drawn.values()) - min(drawn.values()) < 200
    again = np.random.default_rng(0)
    assert random_window([9, 9], np.random.default_rng(0)) == random_window([9, 9], again)
    for empty in ([], [0]):
        with pytest.raises(ValueError, match="no window"):
            random_window(empty, rng)


def test_clip_times() -> None:
    assert clip_times([10, 11, 12], 25.0) == pytest.approx((0.4, 0.52))
    assert clip_times([2, 1, 0, 1, 2], 25.0) == pytest.approx((0.0, 0.12))
    irregular = np.array([0.0, 0.1, 0.5, 0.6])
    assert clip_times([1, 2], 10.0, irregular) == pytest.approx((0.1, 0.6))
    assert clip_times([2, 3], 10.0, irregular) == pytest.approx((0.5, 0.7))
