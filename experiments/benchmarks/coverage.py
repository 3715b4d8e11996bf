"""How often the 95 % intervals of the AUC hold the truth, on made scores whose truth is known."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.benchmarks.machine import at_least_one
from lightning_modules.bootstrap import bootstrap_interval, interval, resampled_aucs
from lightning_modules.dependence import shared_identities

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Rng = np.random.Generator

#: True AUCs, and numbers of groups.
_TRUTHS = (0.76, 0.9, 0.98)
_GROUPS = (8, 12, 20, 50, 100)
#: People of the real videos, and of the fakes, where these are others.
_REALS, _FEW = 50, (2, 3, 5, 8, 12)
#: Share of the variance that comes from the person filmed, and from the one whose face is shown.
_FILMED, _SHOWN = 0.1, 0.4
#: Videos of people drawn one by one: two real and two fake ones.
_OF_ONE = 4


class _Set(NamedTuple):
    """Videos by the numbers of the person filmed and of the other one, -1 without one."""

    label: Ints
    filmed: Ints
    shown: Ints


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark.

    Args:
        parser: Of the command line.
    """
    parser.add_argument(
        "--rounds", type=at_least_one, default=1000, help="sets of each kind (1000)"
    )
    parser.add_argument(
        "--resamples", type=at_least_one, default=300, help="draws of each set (300)"
    )


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure.

    Args:
        options: As added.

    Yields:
        Lines for the screen.
    """
    rounds, draws = options.rounds, options.resamples
    yield f"share of {rounds} intervals that hold the truth (95 % wanted; nan: there are none)"
    yield "people with two real and two fake videos each: AUC, groups, ours, plain percentiles"
    for truth in _TRUTHS:
        for number in _GROUPS:
            ours, plain, _ = _coverage(partial(_alone, number), truth, rounds, draws)
            yield f"{truth:.2f}  {number:4d}  {ours:.3f}  {plain:.3f}"
    yield f"reals of {_REALS} people, fakes of others, AUC 0.9: groups, ours, plain percentiles"
    for number in _FEW:
        ours, plain, _ = _coverage(partial(_apart, number), 0.9, rounds, draws)
        yield f"{number:4d}  {ours:.3f}  {plain:.3f}"
    yield "fakes of two people, AUC 0.9: ours, by the first identity alone, by components"
    for name, make in _PAIRINGS.items():
        ours, _, others = _coverage(make, 0.9, rounds, draws)
        yield f"{name:44s}  {ours:.3f}  {others[0]:.3f}  {others[1]:.3f}"


def _alone(people: int, _: Rng) -> _Set:
    person = np.repeat(np.arange(people), _OF_ONE)
    return _Set(np.arange(len(person)) % 2, person, np.full(len(person), -1))


def _apart(people: int, _: Rng) -> _Set:
    person = np.repeat(np.arange(_REALS + people), _OF_ONE // 2)
    return _Set((person >= _REALS).astype(np.int64), person, np.full(len(person), -1))


def _swapped_in_pairs(pairs: int) -> _Set:
    """As in FaceForensics++: a and b, four fakes a_b and four b_a."""
    one = np.arange(2 * pairs)
    filmed = np.concatenate([one, np.repeat(one, 4)])
    shown = np.concatenate([np.full(len(one), -1), np.repeat(one ^ 1, 4)])
    return _Set((shown >= 0).astype(np.int64), filmed, shown)


def _swapped_with_many(rng: Rng, people: int, reals: int, strangers: int, fakes: int) -> _Set:
    """As in Celeb-DF: any two of the people, and real videos of some that were never swapped."""
    target = rng.integers(people, size=fakes)
    source = (target + rng.integers(1, people, size=fakes)) % people
    filmed = np.r_[np.repeat(np.arange(people), reals), people + np.arange(strangers), target]
    shown = np.r_[np.full(len(filmed) - fakes, -1), source]
    return _Set((shown >= 0).astype(np.int64), filmed, shown)


_PAIRINGS: dict[str, Callable[[Rng], _Set]] = {
    "FF++, 6 pairs": lambda _: _swapped_in_pairs(6),
    "FF++, 10 pairs": lambda _: _swapped_in_pairs(10),
    "FF++, 70 pairs (its test split)": lambda _: _swapped_in_pairs(70),
    "Celeb-DF, 59 people, 60 strangers, 340 fakes": lambda r: _swapped_with_many(r, 59, 2, 60, 340),
    "Celeb-DF, 20 people, 20 strangers, 120 fakes": lambda r: _swapped_with_many(r, 20, 3, 20, 120),
    "Celeb-DF, 12 people, 60 fakes": lambda r: _swapped_with_many(r, 12, 3, 0, 60),
}


def _coverage(
    make: Callable[[Rng], _Set], truth: float, rounds: int, draws: int
) -> tuple[float, float, tuple[float, float]]:
    """Count the intervals that hold the truth: ours, plain percentiles, first, components."""
    rng = np.random.default_rng(0)
    hits, known = np.zeros(4), np.zeros(4)
    for seed in range(rounds):
        videos = make(rng)
        score = _scores(rng, videos, truth)
        names = zip(videos.filmed.tolist(), videos.shown.tolist(), strict=True)
        shared = shared_identities((str(a), str(b)) if b >= 0 else (str(a),) for a, b in names)
        label, first = videos.label, videos.filmed
        bounds = partial(bootstrap_interval, label, score, num_resamples=draws, seed=seed)
        (areas,) = resampled_aucs(label, [score], first, num_resamples=draws, seed=seed)
        found = [bounds(first, shared=shared), interval(areas)]
        if shared is not None:
            found += [bounds(first), bounds(_components(videos))]
        hits[: len(found)] += [low <= truth <= high for low, high in found]
        known[: len(found)] += [not math.isnan(low) for low, _ in found]
    # Where there is no interval none is wrong either.
    ours, plain, alone, joined = (hits / np.where(known > 0, known, math.nan)).tolist()
    return ours, plain, (alone, joined)


def _scores(rng: Rng, videos: _Set, truth: float) -> NDArray[np.float64]:
    """Draw normal scores; who is filmed counts alike, but not the same, in real and fake videos."""
    from scipy.stats import norm

    fake, two = videos.label == 1, videos.shown >= 0
    own, looks = rng.normal(size=(2, videos.filmed.max() + 1, 3)) * math.sqrt(0.5)
    people = own + looks[:, :1]
    filmed = _FILMED if two.any() else 0.5
    noise = np.sqrt(1 - filmed - _SHOWN * two)
    score = noise * rng.normal(size=len(fake)) + math.sqrt(2) * norm.ppf(truth) * fake
    score += math.sqrt(filmed) * np.where(fake, people[videos.filmed, 1], people[videos.filmed, 0])
    score[two] += math.sqrt(_SHOWN) * people[videos.shown[two], 2]
    return np.asarray(score, np.float64)


def _components(videos: _Set) -> Ints:
    """Number the people that hang together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(videos.filmed.max()) + 1
    two = videos.shown >= 0
    ends = (videos.filmed[two], videos.shown[two])
    graph = coo_array((np.ones(two.sum()), ends), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)[videos.filmed]
