"""Samplers: balanced, the same on any number of ranks, resumable, nothing lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from datamodules.sampling import ClipKey, EvalSampler, TrainSampler, epoch_rows

LABELS = [0] * 3 + [1] * 10


def _counts(rows: list[int]) -> Counter[int]:
    return Counter(LABELS[row] for row in rows)


def _rows(*args: Any, **options: Any) -> list[int]:
    """Choose the videos of an epoch without fakes that are to be made."""
    dealt = epoch_rows(*args, **options)
    assert not any(card.forged for card in dealt)
    return [card.row for card in dealt]


def test_rows_depend_on_seed_and_epoch_alone() -> None:
    rows = _rows(LABELS, 20, balance=True, seed=1, epoch=3)
    assert rows == _rows(LABELS, 20, balance=True, seed=1, epoch=3)
    assert rows != _rows(LABELS, 20, balance=True, seed=2, epoch=3)
    assert rows != _rows(LABELS, 20, balance=True, seed=1, epoch=4)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_balanced_epochs_show_as_many_real_as_fake_in_every_pair(epoch: int) -> None:
    rows = _rows(LABELS, 26, balance=True, seed=0, epoch=epoch)
    assert _counts(rows) == {0: 13, 1: 13}
    for i in range(0, 26, 2):
        assert {LABELS[row] for row in rows[i : i + 2]} == {0, 1}


def test_an_odd_number_of_balanced_clips_is_kept() -> None:
    rows = _rows(LABELS, 7, balance=True, seed=0, epoch=0)
    assert len(rows) == 7
    assert abs(_counts(rows)[0] - _counts(rows)[1]) == 1


@pytest.mark.parametrize("balance", [False, True])
def test_all_videos_of_a_class_are_shown_equally_often_over_epochs(balance: bool) -> None:
    shown: Counter[int] = Counter()
    for epoch in range(30):
        shown.update(_rows(LABELS, 14, balance, seed=5, epoch=epoch))
    for label in (0, 1):
        times = [shown[row] for row, c in enumerate(LABELS) if c == label]
        assert max(times) - min(times) <= 1


def test_without_balance_an_epoch_shows_every_video_once() -> None:
    rows = _rows(LABELS, len(LABELS), balance=False, seed=0, epoch=2)
    assert sorted(rows) == list(range(len(LABELS)))


def test_an_absent_class_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match="no video"):
        epoch_rows([1, 1], 4, balance=True, seed=0, epoch=0)
    with pytest.raises(ValueError, match="no video"):
        epoch_rows([], 4, balance=False, seed=0, epoch=0)


@pytest.mark.parametrize("real_fakes", [0.0, 0.3, 0.5])
def test_made_fakes_take_their_exact_share_and_are_made_of_real_videos(real_fakes: float) -> None:
    cards = [
        card
        for epoch in range(30)
        for card in epoch_rows(LABELS, 14, True, 5, epoch, real_fakes=real_fakes)
    ]
    for i in range(0, len(cards), 2):
        fake = [LABELS[card.row] == 1 or card.forged for card in cards[i : i + 2]]
        assert sorted(fake) == [False, True]
    made = [card.row for card in cards if card.forged]
    assert {LABELS[row] for row in made} == {0}
    assert len(made) == pytest.approx(30 * 7 * (1 - real_fakes), abs=1)
    for rows in (made, [c.row for c in cards if LABELS[c.row]], [c.row for c in cards]):
        times = Counter(rows)
        for label in (0, 1):
            shown = [times[row] for row in times if LABELS[row] == label]
            # Real ones come from two decks, of which each is dealt evenly.
            assert not shown or max(shown) - min(shown) <= 2


@pytest.mark.parametrize("real_fakes", [0.0, 0.3])
def test_made_fakes_of_pairs_lie_beside_the_real_videos_they_are_made_of(real_fakes: float) -> None:
    labels = [0] * 5 + [1] * 4
    made, first, real = 0, set(), Counter[int]()
    for epoch in range(10):
        alone = epoch_rows(labels, 40, True, 3, epoch, real_fakes)
        rows = epoch_rows(labels, 40, True, 3, epoch, real_fakes, pair=True)
        for one, other in zip(rows[::2], rows[1::2], strict=True):
            fakes = [card for card in (one, other) if card.forged or labels[card.row]]
            assert len(fakes) == 1
            assert one.paired == other.paired == fakes[0].forged
            if one.paired:
                assert one.row == other.row
                first.add(one.forged)
                made += 1
        # Real videos and fakes of the data set are shown as without pairs.
        for card, unpaired in zip(rows, alone, strict=True):
            assert card.forged == unpaired.forged
            assert card.forged or card.row == unpaired.row
        real.update(card.row for card in rows if card.paired and card.forged)
    assert made == pytest.approx(200 * (1 - real_fakes))
    assert first == {True, False}
    assert max(real.values()) - min(real.values()) <= 10 * real_fakes * 5


def test_places_of_made_fakes_differ_between_epochs() -> None:
    places = [
        [i // 2 for i, card in enumerate(epoch_rows(LABELS, 40, True, 0, e, 0.5)) if card.forged]
        for e in range(3)
    ]
    assert len({tuple(p) for p in places}) == 3
    assert all(p != sorted(range(20))[: len(p)] for p in places)


def test_without_fake_videos_all_fakes_are_made() -> None:
    cards = epoch_rows([0] * 4, 8, True, seed=0, epoch=3, real_fakes=0.5)
    assert sum(card.forged for card in cards) == 4
    assert {card.row for card in cards if card.forged} == {0, 1, 2, 3}


def test_without_balance_made_fakes_take_the_place_of_fake_videos() -> None:
    plain = epoch_rows(LABELS, 1300, False, seed=0, epoch=0)
    mixed = epoch_rows(LABELS, 1300, False, seed=0, epoch=0, real_fakes=0.25)
    for one, other in zip(plain, mixed, strict=True):
        if other.forged:
            assert (LABELS[one.row], LABELS[other.row]) == (1, 0)
        else:
            assert one == other
    assert sum(card.forged for card in mixed) == pytest.approx(750, abs=60)


def _batches(sampler: TrainSampler) -> list[list[ClipKey]]:
    keys = list(sampler)
    size = sampler.batch_size
    return [keys[i : i + size] for i in range(0, len(keys), size)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batches_of_one_process(world_size: int) -> None:
    whole = TrainSampler(LABELS, 2, 8, balance=True, seed=3, real_fakes=0.5)
    shares = [
        TrainSampler(LABELS, 2, 8 // world_size, True, 3, rank, world_size, 0.5)
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
            labels = [LABELS[key.row] or key.forged for key in batch]
            assert sum(labels) == len(batch) / 2


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
