"""Videos that depend on each other: those that show, or were made of, the same people.

A forged video has two people, so that videos hang together in chains: a with a_b, a_b with b. The
bootstrap draws groups that do not overlap, and would take a_b and b for independent. How much
wider intervals must be for that is measured here, on the AUC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


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
    of_fakes = (whole[fake] - _midranks(score[fake])) / num_reals
    of_reals = 1 - (whole[~fake] - _midranks(score[~fake])) / num_fakes
    parts = np.empty(len(label))
    parts[fake] = (of_fakes - of_fakes.mean()) / num_fakes
    parts[~fake] = (of_reals - of_reals.mean()) / num_reals
    return float(of_fakes.mean()), parts


def widening(influence: Floats, label: Ints, group: Ints, shared: Shared | None) -> float:
    """Tell how much wider an interval must be than groups of first identities make it.

    The variance of a sum of parts is the sum over all pairs of videos that may depend on each
    other, here those with an identity in common (the dyadic robust variance of Aronow, Samii and
    Assenova, Political Analysis 23, 2015), times n / (n - 1) for the n identities that a class has
    for each one of a video [ours]. Connected components would join nearly all videos of sets in
    which everyone was swapped with many.

    Args:
        influence: Of each video, shape (N,), float64.
        label: 0 real, 1 fake, shape (N,), int64.
        group: Number of the first identity, shape (N,), int64.
        shared: Whom they show; None where each has one identity.

    Returns:
        At least 1, the ratio of the standard errors.
    """
    first = np.bincount(np.unique(group, return_inverse=True)[1], influence)
    if shared is None or len(first) < 2 or not (first**2).sum() > 0:
        return 1.0
    size = shared.people.shape[0]
    sums = np.bincount(shared.cast, influence, size)
    tied = (shared.people @ shared.people.T).sign()
    factors = [_small_sample(shared, label == side) for side in (0, 1)]
    within = float(sums @ (tied @ sums)) * max(factors)
    plain = float((first**2).sum()) * len(first) / (len(first) - 1)
    return float(np.sqrt(max(1.0, within / plain)))


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
