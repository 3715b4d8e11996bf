"""Videos that depend on each other: those that show, or were made of, the same people.

A forged video has two people, so that videos hang together in chains: a with a_b, a_b with b. The
bootstrap draws groups that do not overlap, and would take a_b and b for independent. How much
wider intervals must be for that is measured here, on the AUC.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Rounding leaves a variance of some 1e-33 where there is none.
LEAST_VARIANCE = float(np.finfo(np.float64).eps ** 2)


class Shared(NamedTuple):
    """Whom N videos show.

    Attributes:
        cast: Number of each video's set of identities, shape (N,), int64.
        people: Which identities are in which of the D sets, shape (D, P), 0 or 1.
    """

    cast: Ints
    people: csr_array

    def of(self, wanted: NDArray[np.bool_]) -> Shared:
        """Keep some videos.

        Args:
            wanted: Which, shape (N,), bool.
        """
        return Shared(self.cast[wanted], self.people)


def shared_identities(identities: Iterable[Iterable[str]]) -> Shared | None:
    """Find which videos have identities in common beyond the first one.

    Args:
        identities: Of each video all its identities and sources.

    Returns:
        None where no video has more than one: groups of equal ones say all then.
    """
    from scipy.sparse import csr_array

    casts: dict[tuple[str, ...], int] = {}
    cast = [casts.setdefault(tuple(sorted(set(names))), len(casts)) for names in identities]
    if all(len(names) < 2 for names in casts):
        return None
    numbers: dict[str, int] = {}
    people = [numbers.setdefault(name, len(numbers)) for names in casts for name in names]
    starts = np.cumsum([0, *(len(names) for names in casts)])
    shape = (len(casts), len(numbers))
    table = csr_array((np.ones(len(people)), np.array(people), starts), shape=shape)
    return Shared(np.array(cast, dtype=np.int64), table)


def auc_influence(label: Ints, score: Floats) -> tuple[float, Floats]:
    """Measure the AUC, and what each video adds to its distance from the truth.

    These are the parts of DeLong et al. (Biometrics 44, 1988), by midranks (Sun and Xu 2014): the
    share of the other class that a video beats, less the mean, over the number of its class.

    Args:
        label: 0 real, 1 fake, both present, shape (N,), int64.
        score: Shape (N,), float64; ties count half.

    Returns:
        The AUC, and shape (N,), float64, of sum 0 in each class.
    """
    fake = label == 1
    num_fakes, num_reals = int(fake.sum()), int((~fake).sum())
    whole = _midranks(score)
    # Halves of whole numbers: equal AUCs are equal to the last digit.
    beaten = whole[fake] - _midranks(score[fake])
    of_fakes = beaten / num_reals
    of_reals = 1 - (whole[~fake] - _midranks(score[~fake])) / num_fakes
    parts = np.empty(len(label))
    parts[fake] = (of_fakes - of_fakes.mean()) / num_fakes
    parts[~fake] = (of_reals - of_reals.mean()) / num_reals
    return float(beaten.sum() / (num_reals * num_fakes)), parts


class GroupVariance(NamedTuple):
    """Variance of the AUC by groups that do not overlap.

    Attributes:
        drawn: What the bootstrap of groups draws.
        corrected: What it estimates without bias: draws of G groups spread too little by
            (G - 1) / G, and each class has its own G.
        freedom: Degrees of freedom of the latter (Satterthwaite, Biometrics Bulletin 2, 1946), not
            below those of the class of fewer groups, nor above those of all groups.
    """

    drawn: float
    corrected: float
    freedom: float

    @staticmethod
    def of(influence: Floats, label: Ints, group: Ints) -> GroupVariance:
        """Measure it.

        Args:
            influence: Of each video, shape (N,), float64.
            label: 0 real, 1 fake, shape (N,), int64; each class has at least two groups.
            group: Number of the first identity, shape (N,), int64.
        """
        member = np.unique(group, return_inverse=True)[1]
        size = int(member.max()) + 1
        sides = [np.bincount(member, influence * (label == side), size) for side in (0, 1)]
        counts = [len(np.unique(member[label == side])) for side in (0, 1)]
        own = [float(side @ side) for side in sides]
        both = 2 * float(sides[0] @ sides[1])
        parts = [var * count / (count - 1) for var, count in zip(own, counts, strict=True)]
        corrected = sum(parts) + both * size / (size - 1)
        spread = sum(var**2 / (count - 1) for var, count in zip(parts, counts, strict=True))
        freedom = corrected**2 / spread if spread > 0 else math.inf
        freedom = float(np.clip(freedom, min(counts) - 1, size - 1))
        return GroupVariance(sum(own) + both, corrected, freedom)


def widening(influence: Floats, label: Ints, alone: float, shared: Shared | None) -> float:
    """Tell how much wider an interval must be than groups of first identities make it.

    The variance of a sum of parts is the sum over all pairs of videos that may depend on each
    other, here those with an identity in common (the dyadic robust variance of Aronow, Samii and
    Assenova, Political Analysis 23, 2015), times n / (n - 1) for the n identities that a class has
    for each one of a video [ours]. It is summed by identities, less what that counts more than
    once, in memory that grows with the videos; two casts of three or more that share several
    identities count for each of them [ours]. Connected components would join nearly all videos of
    sets in which everyone was swapped with many.

    Args:
        influence: Of each video, shape (N,), float64.
        label: 0 real, 1 fake, shape (N,), int64.
        alone: The variance by groups, `GroupVariance.corrected`.
        shared: Whom they show; None where each has one identity.

    Returns:
        At least 1, the ratio of the standard errors.
    """
    if shared is None or not alone > LEAST_VARIANCE:
        return 1.0
    sums = np.bincount(shared.cast, influence, shared.people.shape[0])
    of_person = shared.people.T @ sums
    again = shared.people.sum(axis=1) - 1
    factors = [_small_sample(shared, label == side) for side in (0, 1)]
    within = float(of_person @ of_person - again @ sums**2) * max(factors)
    return float(np.sqrt(max(1.0, within / alone)))


def _small_sample(shared: Shared, wanted: NDArray[np.bool_]) -> float:
    videos = np.bincount(shared.cast[wanted], minlength=shared.people.shape[0])
    of_person = shared.people.T @ videos
    number = np.count_nonzero(of_person) * videos.sum() / max(1.0, of_person.sum())
    return float(number / (number - 1)) if number > 1 else 1.0


def _midranks(score: Floats) -> Floats:
    """Rank N scores from 1; ties share the middle of their ranks."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    middle: Floats = last - (count - 1) / 2
    return middle[place]
