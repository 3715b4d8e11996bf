from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from datamodules.clip_sampling import num_windows, window_positions
from datamodules.kept_frames import KeptFrames, clip_positions
from experiments.predicting.windows import plan_clips
from tests.support.scorers import clip_spec

T = 4
SPEC = clip_spec(num_frames=T)
CASES = {
    "official": (range(10), 1, list(range(7))),
    "with the last": (range(10), 4, [0, 4, 6]),
    "one clip": (range(4), 4, [0]),
    "two runs": ([*range(6), *range(9, 15)], 2, [0, 2, 3, 5]),
    "short run left out": ([0, 1, 2, *range(9, 15)], 2, [0, 2]),
    "mirrored": ([0], 3, [0, 3]),
    "three mirrored": (range(3), 1, list(range(6))),
}


@pytest.mark.parametrize(("frames", "stride", "wanted"), CASES.values(), ids=CASES.keys())
def test_windows_of_a_stride(frames: Sequence[int], stride: int, wanted: list[int]) -> None:
    index = np.array(frames, np.int64)
    plan = plan_clips(SPEC, index, stride)
    shown = [tuple(place.positions) for place in plan]
    assert shown == [window_positions(index, T, number) for number in wanted]
    assert len(plan) == len(wanted)
    assert stride > 1 or len(wanted) == num_windows(index, T)


@pytest.mark.parametrize(("frames", "stride", "wanted"), CASES.values(), ids=CASES.keys())
def test_a_place_tells_what_must_have_come_and_what_may_go(
    frames: Sequence[int], stride: int, wanted: list[int]
) -> None:
    plan = plan_clips(SPEC, np.array(frames, np.int64), stride)
    places = list(plan)
    assert [place.last for place in places] == sorted(place.last for place in places)
    for number, place in enumerate(places):
        assert max(place.positions) <= place.last
        assert place.first <= min(min(later.positions) for later in places[number:])
    mask = plan.shown(len(frames))
    assert set(np.flatnonzero(mask)) == {p for place in places for p in place.positions}


def test_windows_left_out_count_half_for_either_neighbour() -> None:
    weights = [place.weight for place in plan_clips(SPEC, np.arange(16), 5)]
    assert weights == [3.0, 5.0, 4.0 - 0.5, 1.5]  # windows at 0, 5, 10 and 12
    assert sum(weights) == num_windows(range(16), T)
    assert {place.weight for place in plan_clips(SPEC, np.arange(16), 1)} == {1.0}


def test_spread_clips_are_those_of_a_test() -> None:
    kept = KeptFrames(spacing="spread", count=16)
    index = np.arange(40)
    plan = plan_clips(clip_spec(spread=kept), index, 1)
    assert [tuple(p.positions) for p in plan] == [
        clip_positions(index, T, number, kept) for number in range(4)
    ]


def test_a_track_without_frames_has_no_clips() -> None:
    assert list(plan_clips(SPEC, np.empty(0, np.int64), 1)) == []
