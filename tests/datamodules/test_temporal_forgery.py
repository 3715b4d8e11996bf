"""Temporal fakes: which frames of a window are left out or shown again."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.temporal_forgery import (
    TemporalDropout,
    TemporalRepeat,
    dropout_offsets,
    repeat_offsets,
)


def _draws(count: int = 300) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "max_run"), [(32, 8, 4), (32, 1, 1), (8, 8, 4), (4, 20, 2)]
)
def test_dropout_keeps_both_ends_and_leaves_out_runs(
    num_frames: int, max_frames: int, max_run: int
) -> None:
    numbers = set()
    for rng in _draws():
        offsets = dropout_offsets(num_frames, max_frames, max_run, rng)
        assert offsets is not None
        assert len(offsets) == num_frames
        assert offsets[0] == 0
        steps = np.diff(offsets)
        assert steps.min() == 1
        assert 1 < steps.max() <= 1 + max_run
        numbers.add(int(offsets[-1]) + 1 - num_frames)
    assert numbers == set(range(1, min(max_frames, num_frames // 2) + 1))


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "max_times"), [(32, 8, 3), (32, 1, 1), (8, 8, 3), (2, 8, 3)]
)
def test_repeat_shows_frames_again_in_place(
    num_frames: int, max_frames: int, max_times: int
) -> None:
    numbers = set()
    for rng in _draws():
        offsets = repeat_offsets(num_frames, max_frames, max_times, rng)
        assert offsets is not None
        assert len(offsets) == num_frames
        shown = [len(list(same)) for _, same in groupby(offsets.tolist())]
        # Nothing is left out, and nothing goes back.
        assert sorted(set(offsets.tolist())) == list(range(len(shown)))
        assert (np.diff(offsets) >= 0).all()
        assert 2 <= max(shown) <= 1 + max_times
        numbers.add(num_frames - len(shown))
    assert numbers == set(range(1, min(max_frames, num_frames // 2) + 1))


@pytest.mark.parametrize(
    ("num_frames", "longest_run", "possible"),
    [(32, 400, True), (32, 33, True), (32, 32, False), (32, 20, False), (1, 99, False)],
)
def test_dropout_needs_a_longer_track(num_frames: int, longest_run: int, possible: bool) -> None:
    for rng in _draws(20):
        offsets = TemporalDropout().offsets(num_frames, longest_run, rng)
        assert (offsets is not None) == possible
        if offsets is not None:
            assert offsets[-1] < longest_run


def test_repeat_is_possible_in_all_but_clips_of_one_frame() -> None:
    rng = np.random.default_rng(0)
    assert TemporalRepeat().offsets(32, 5, rng) is not None
    assert TemporalRepeat().offsets(2, 1, rng) is not None
    assert TemporalRepeat().offsets(1, 9, rng) is None


@pytest.mark.parametrize("draw", [dropout_offsets, repeat_offsets])
def test_a_draw_depends_on_the_generator_alone(draw: object) -> None:
    assert callable(draw)
    one, again, other = (draw(32, 8, 3, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_impossible_numbers_are_named() -> None:
    with pytest.raises(DataError, match=r"fake_from_real.temporal_dropout.max_run is 0; it must"):
        TemporalDropout(max_run=0)
    with pytest.raises(DataError, match=r"fake_from_real.temporal_repeat.weight is -1"):
        TemporalRepeat(weight=-1)
