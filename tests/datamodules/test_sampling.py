"""Samplers: balanced, the same on any number of ranks, resumable, nothing lost."""

from __future__ import annotations

from collections import Counter

import pytest

from datamodules.sampling import ClipKey, EvalSampler, TrainSampler, epoch_rows

LABELS = [0] * 3 + [1] * 10


def _counts(rows: list[int]) -> Counter[int]:
    return Counter(LABELS[row] for row in rows)


def test_rows_depend_on_seed_and_epoch_alone() -> None:
    rows = epoch_rows(LABELS, 20, balance=True, seed=1, epoch=3)
    assert rows == epoch_rows(LABELS, 20, balance=True, seed=1, epoch=3)
    assert rows != epoch_rows(LABELS, 20, balance=True, seed=2, epoch=3)
    assert rows != epoch_rows(LABELS, 20, balance=True, seed=1, epoch=4)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_balanced_epochs_show_as_many_real_as_fake_in_every_pair(epoch: int) -> None:
    rows = epoch_rows(LABELS, 26, balance=True, seed=0, epoch=epoch)
    assert _counts(rows) == {0: 13, 1: 13}
    for i in range(0, 26, 2):
        assert {LABELS[row] for row in rows[i : i + 2]} == {0, 1}


def test_an_odd_number_of_balanced_clips_is_kept() -> None:
    rows = epoch_rows(LABELS, 7, balance=True, seed=0, epoch=0)
    assert len(rows) == 7
    assert abs(_counts(rows)[0] - _counts(rows)[1]) == 1


@pytest.mark.parametrize("balance", [False, True])
def test_all_videos_of_a_class_are_shown_equally_often_over_epochs(balance: bool) -> None:
    shown: Counter[int] = Counter()
    for epoch in range(30):
        shown.update(epoch_rows(LABELS, 14, balance, seed=5, epoch=epoch))
    for label in (0, 1):
        times = [shown[row] for row, c in enumerate(LABELS) if c == label]
        assert max(times) - min(times) <= 1


def test_without_balance_an_epoch_shows_every_video_once() -> None:
    rows = epoch_rows(LABELS, len(LABELS), balance=False, seed=0, epoch=2)
    assert sorted(rows) == list(range(len(LABELS)))


def test_an_absent_class_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="no video"):
        epoch_rows([1, 1], 4, balance=True, seed=0, epoch=0)
    with pytest.raises(ValueError, match="no video"):
        epoch_rows([], 4, balance=False, seed=0, epoch=0)


def _batches(sampler: TrainSampler) -> list[list[ClipKey]]:
    keys = list(sampler)
    size = sampler.batch_size
    return [keys[i : i + size] for i in range(0, len(keys), size)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(world_size: int) -> None:
    whole = TrainSampler(LABELS, 2, 8, balance=True, seed=3)
    shares = [
        TrainSampler(LABELS, 2, 8 // world_size, True, 3, rank, world_size)
        for rank in range(world_size)
    ]
    for sampler in (whole, *shares):
        sampler.set_epoch(4)
    together = [
        [key for batch in step for key in batch]
        for step in zip(*(_batches(share) for share in shares), strict=True)
    ]
    assert together == _batches(whole)
    assert {len(share) for share in shares} == {len(whole) // world_size}
    for share in shares:
        for batch in _batches(share):
            assert Counter(LABELS[key.row] for key in batch)[0] == len(batch) / 2


def test_an_epoch_is_filled_up_to_whole_batches() -> None:
    sampler = TrainSampler(LABELS, 1, 8, balance=False, seed=0)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 16
    assert [key.slot for key in keys] == list(range(16))
    assert set(range(13)) == {key.row for key in keys}


@pytest.mark.parametrize("world_size", [1, 2])
def test_skipping_batches_leaves_the_rest_and_the_length_as_they_were(world_size: int) -> None:
    sampler = TrainSampler(LABELS, 3, 4, True, 0, world_size - 1, world_size)
    sampler.set_epoch(2)
    whole, length = _batches(sampler), len(sampler)
    sampler.skip_batches = 3
    assert _batches(sampler) == whole[3:]
    assert len(sampler) == length


def test_the_epoch_is_that_of_the_start_of_an_iteration() -> None:
    sampler = TrainSampler(LABELS, 1, 4, balance=True, seed=0)
    keys = iter(sampler)
    first = next(keys)
    sampler.set_epoch(9)
    assert {key.epoch for key in [first, *keys]} == {0}


@pytest.mark.parametrize(("num_clips", "world_size"), [(10, 1), (10, 3), (9, 2), (2, 5)])
def test_evaluation_shares_are_equal_and_cover_all(num_clips: int, world_size: int) -> None:
    shares = [list(EvalSampler(num_clips, rank, world_size)) for rank in range(world_size)]
    assert {len(share) for share in shares} == {len(EvalSampler(num_clips, 0, world_size))}
    assert {i for share in shares for i in share} == set(range(num_clips))
    assert sum(map(len, shares)) - num_clips < world_size
    assert shares[0] == list(range(len(shares[0])))
