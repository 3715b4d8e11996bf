import numpy as np

from datamodules.faces.people import find_roles, in_order
from datamodules.faces.track import LinkedTrack
from tests.datamodules.faces.test_track import Toy


def track(frames: range, left: float, side: float = 40, score: float = 0.9) -> LinkedTrack[Toy]:
    box = np.array([left, 10.0, left + side, 10 + side])
    return LinkedTrack(list(frames), [Toy("a", box, score) for _ in frames])


def roles(tracks: list[LinkedTrack[Toy]], cuts: list[int] | None = None) -> list[tuple[int, int]]:
    return [(role.person, role.rank) for role in find_roles(tracks, cuts or [])]


def test_tracks_are_ordered_by_time_and_place_not_by_score() -> None:
    left, right = track(range(20), 0, score=0.81), track(range(20), 200, score=0.99)
    late = track(range(5, 20), 0)
    assert in_order([late, right, left]) == [left, right, late]


def test_people_beside_each_other_are_two_and_the_larger_is_the_main_one() -> None:
    assert roles([track(range(20), 0, side=30), track(range(20), 100)]) == [(0, 1), (1, 0)]
    # Longer counts as larger does.
    assert roles([track(range(9), 0), track(range(20), 100, side=30)]) == [(0, 1), (1, 0)]


def test_a_face_that_was_lost_for_a_while_is_the_same_person() -> None:
    tracks = [track(range(10), 0), track(range(30), 100), track(range(20, 30), 12)]
    assert roles(tracks) == [(0, 1), (1, 0), (0, 1)]
    # Elsewhere, or while the person is still there, it is another one.
    assert roles([track(range(10), 0), track(range(20, 30), 60)])[1][0] == 1
    assert roles([track(range(10), 0), track(range(5, 30), 0)])[1][0] == 1


def test_after_a_cut_everybody_is_new_and_ranked_anew() -> None:
    tracks = [track(range(20), 0), track(range(20), 100, side=20), track(range(20, 30), 0)]
    assert roles(tracks, [20]) == [(0, 0), (1, 1), (2, 0)]


def test_no_tracks_no_people() -> None:
    assert roles([]) == []
