"""Which videos an epoch shows in which order: pure functions of seed and epoch, cut by rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Sampler

from datamodules.errors import DataError
from datamodules.schema import ClipSample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

#: Tell the streams that mix both classes, and those of generated fakes, from those of one class
#: (0 and 1) in the seeds.
_BOTH, _FORGED, _PLACES = 2, 3, 4


class ClipKey(NamedTuple):
    """What a training dataset is asked for.

    The key carries the epoch, so that persistent workers need not be told of it.

    Attributes:
        epoch: Counted from 0.
        slot: Position in the epoch, over all ranks.
        row: Position among the dataset's videos.
        forged: Whether a fake shall be made out of that video, which is real.
        paired: Whether it is one of a real clip and the fake that is made of it, which lie at slots
            2k and 2k + 1, in either order.
    """

    epoch: int
    slot: int
    row: int
    forged: bool = False
    paired: bool = False


class Dealt(NamedTuple):
    """What is shown at one place of an epoch.

    Attributes:
        row: Position of the video.
        forged: Whether a fake shall be made out of that video, which is real.
        paired: Whether it is one of a real clip and the fake that is made of it.
    """

    row: int
    forged: bool = False
    paired: bool = False


def epoch_rows(
    labels: Sequence[int],
    num_clips: int,
    balance: bool,
    seed: int,
    epoch: int,
    real_fakes: float = 1.0,
    pair: bool = False,
) -> list[Dealt]:
    """Choose the videos of an epoch.

    Videos are dealt like cards: every one once, in random order, before any is dealt again,
    and the dealing goes on from one epoch to the next. So all are shown equally often in the
    long run, also when an epoch is too short to show all.

    Args:
        labels: 0 real or 1 fake, for each video.
        num_clips: Clips in an epoch.
        balance: Deal real and fake videos from decks of their own, in turns, so that any even
            number of neighbours from an even position on holds as many of each. [ours: the FTCN
            trainer was never released]
        seed: Of the order.
        epoch: Counted from 0.
        real_fakes: Share of the fakes that are fake videos; the others shall be made of real
            videos, which are dealt for it from one more deck. With `balance` the share is exact,
            over all epochs; without fake videos it counts as 0.
        pair: With `balance`, make each fake of the real video beside it, not of one from the
            further deck.

    Returns:
        `num_clips` positions in `labels`.

    Raises:
        ValueError: If there is no video, or a class is missing that should be balanced.
    """
    decks = [[i for i, label in enumerate(labels) if label == c] for c in (0, 1)]
    if not balance:
        rows = _deal(list(range(len(labels))), num_clips, epoch * num_clips, (seed, _BOTH))
        return _some_forged(rows, decks, seed, epoch, real_fakes)
    half = math.ceil(num_clips / 2)
    real = [Dealt(row) for row in _deal(decks[0], half, epoch * half, (seed, 0))]
    fake = _fakes(decks, half, seed, epoch, real_fakes)
    if pair:
        real, fake = _paired(real, fake)
    return _in_turns(real, fake, seed, epoch)[:num_clips]


def _in_turns(real: list[Dealt], fake: list[Dealt], seed: int, epoch: int) -> list[Dealt]:
    """Put real and fake ones side by side; which one comes first is drawn."""
    # It matters to batches of odd size alone.
    swap = np.random.default_rng(np.random.SeedSequence([seed, epoch])).random(len(real)) < 0.5
    pairs = [
        pair[::-1] if swapped else pair
        for swapped, *pair in zip(swap.tolist(), real, fake, strict=True)
    ]
    return [card for pair in pairs for card in pair]


def _fakes(
    decks: list[list[int]], count: int, seed: int, epoch: int, real_fakes: float
) -> list[Dealt]:
    """Deal the fakes of a balanced epoch; of all so far, the share of videos is exact."""
    if real_fakes == 1.0:
        return [Dealt(row) for row in _deal(decks[1], count, epoch * count, (seed, 1))]
    share = real_fakes if decks[1] else 0.0
    first, end = (math.floor(e * count * share) for e in (epoch, epoch + 1))
    videos = _deal(decks[1], end - first, first, (seed, 1)) if end > first else []
    made = _deal(decks[0], count - len(videos), epoch * count - first, (seed, _FORGED))
    cards = [*map(Dealt, videos), *(Dealt(row, forged=True) for row in made)]
    order = np.random.default_rng(np.random.SeedSequence([seed, _PLACES, epoch]))
    return [cards[i] for i in order.permutation(count)]


def _paired(real: list[Dealt], fake: list[Dealt]) -> tuple[list[Dealt], list[Dealt]]:
    """Let fakes that are to be made be made of the real videos beside them."""
    real = [card._replace(paired=other.forged) for card, other in zip(real, fake, strict=True)]
    fake = [
        card._replace(forged=True) if card.paired else other
        for card, other in zip(real, fake, strict=True)
    ]
    return real, fake


def _some_forged(
    rows: list[int], decks: list[list[int]], seed: int, epoch: int, real_fakes: float
) -> list[Dealt]:
    """Put fakes that are to be made in the place of some fake videos."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, _FORGED, epoch]))
    videos, real = set(decks[1]), decks[0]
    dealt = []
    for row in rows:
        replaced = row in videos and real and rng.random() >= real_fakes
        dealt.append(Dealt(real[rng.integers(len(real))], True) if replaced else Dealt(row))
    return dealt


class TrainSampler(Sampler[ClipKey]):
    """Keys of one rank's training clips, batch by batch.

    The batch of a step, taken over all ranks, depends on their number only through its size.
    An epoch is filled up to whole batches by further clips, so nothing is dropped and ranks
    stay in step.

    Args:
        labels: 0 real or 1 fake, for each video.
        clips_per_video: Clips drawn for each video and epoch, on average.
        batch_size: Clips in a batch of one rank.
        balance: As many real as fake clips; see `epoch_rows`.
        seed: Of the order.
        rank: This process.
        world_size: How many there are.
        real_fakes: Share of the fakes that are fake videos; see `epoch_rows`.
        pair: Make fakes of the real videos beside them; needs `balance`, and batches of an even
            size.
    """

    def __init__(
        self,
        labels: Sequence[int],
        clips_per_video: int,
        batch_size: int,
        balance: bool,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        real_fakes: float = 1.0,
        pair: bool = False,
    ) -> None:
        self.labels = labels
        self.batch_size = batch_size
        self.balance = balance
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.real_fakes = real_fakes
        self.pair = pair
        self.num_batches = math.ceil(len(labels) * clips_per_video / (batch_size * world_size))
        #: Batches that the next iteration leaves out, because they were trained on before.
        self.skip_batches = 0
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[ClipKey]:
        epoch, step_size = self.epoch, self.batch_size * self.world_size
        num_clips = self.num_batches * step_size
        options = (self.balance, self.seed, epoch, self.real_fakes, self.pair)
        dealt = epoch_rows(self.labels, num_clips, *options)
        for batch in range(self.skip_batches, self.num_batches):
            first = batch * step_size + self.rank * self.batch_size
            for slot in range(first, first + self.batch_size):
                yield ClipKey(epoch, slot, *dealt[slot])


class EvalSampler(Sampler[int]):
    """One rank's share of the clips, in order; neighbours, which lie in one file, stay together.

    Shares are made equal by repeating clips; scores are merged by their key later.

    Args:
        num_clips: Clips over all ranks.
        rank: This process.
        world_size: How many there are.
    """

    def __init__(self, num_clips: int, rank: int = 0, world_size: int = 1) -> None:
        self.num_clips = num_clips
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return math.ceil(self.num_clips / self.world_size)

    def __iter__(self) -> Iterator[int]:
        for i in range(self.rank * len(self), (self.rank + 1) * len(self)):
            yield i % self.num_clips


class ClipLoader(DataLoader[ClipSample]):
    """A loader whose workers report mistakes in the data in one line."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        try:
            yield from batches
        except Exception as error:
            # Left to the garbage collector, every worker would be waited for five seconds.
            getattr(batches, "_shutdown_workers", lambda: None)()
            if not isinstance(error, DataError):
                raise
            # A worker's error arrives with its whole traceback as the message.
            line = str(error).strip().splitlines()[-1]
            raise DataError(line.rpartition(f"{DataError.__name__}: ")[2]) from error


class TrainLoader(ClipLoader):
    """A loader that starts where the epoch stands.

    Its iterators do nothing before the first batch is asked for. Lightning makes the first one
    long before it reads the checkpoint that it resumes from (whenever an optimiser asks for the
    number of steps), and workers would have begun with the wrong clips by then.

    Args:
        batches_done: Tells how many batches of the epoch were trained on; called when the first
            batch of an iteration is wanted.
        **options: As for a `DataLoader`; its sampler is a `TrainSampler`.
    """

    def __init__(self, batches_done: Callable[[], int], **options: Any) -> None:
        super().__init__(**options)
        self.batches_done = batches_done

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if isinstance(self.sampler, TrainSampler):
            self.sampler.skip_batches = self.batches_done()
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Say that the loader can be resumed; Lightning warns about those without a state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take no state: the position is read off the trainer's own counters."""


def _deal(deck: list[int], count: int, start: int, seed: tuple[int, int]) -> list[int]:
    """Deal cards number start, ..., start + count - 1 of an endless series of shuffled decks."""
    if not deck:
        raise ValueError("there is no video to draw from, of one class or at all")
    cards: list[int] = []
    for cycle in range(start // len(deck), (start + count - 1) // len(deck) + 1):
        order = np.random.default_rng(np.random.SeedSequence([*seed, cycle])).permutation(deck)
        cards += order.tolist()
    offset = start % len(deck)
    return cards[offset : offset + count]
