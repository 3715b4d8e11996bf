from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.faces.track import LinkedTrack, LinkRules, box_iou, link_faces

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "weights" / "golden" / "preprocess.json").read_text()
)["tracking"]["scenarios"]

#: As the official code has it, without bridging.
STRICT = LinkRules(max_gap=0)


@dataclass(frozen=True)
class Toy:
    name: str
    box: NDArray[np.float64]
    score: float


def square(name: str, x: float, y: float, side: float, score: float) -> Toy:
    return Toy(name, np.array([x, y, x + side, y + side]), score)


def a(t: int, score: float = 0.99, jump: float = 0) -> Toy:
    return square("a", 100 + 3 * t + jump, 100, 80, score)


def b(t: int) -> Toy:
    return square("b", 400 - 2 * t, 120, 90, 0.95)


def c(t: int) -> Toy:
    return square("c", 110 + 3 * t, 108, 80, 0.90)


def spans(tracks: list[LinkedTrack[Toy]]) -> list[tuple[str, int, int]]:
    """Tell person, first and last frame of tracks without gaps, and check that they are such."""
    found = []
    for track in tracks:
        names = {face.name for face in track.faces}
        assert len(names) == 1
        assert track.frame_index == list(range(track.frame_index[0], track.frame_index[-1] + 1))
        found.append((names.pop(), track.frame_index[0], track.frame_index[-1] + 1))
    return found


def test_two_people_side_by_side() -> None:
    tracks, dropped = link_faces([a(t), b(t)] for t in range(40))
    golden = GOLDEN["two_faces_40"]
    assert spans(tracks) == [("a", 0, 40), ("b", 0, 40)]
    assert [t.faces[0].box[0] for t in tracks] == golden["first_box_x_of_each_track"]
    assert not dropped


def test_a_second_detection_of_a_face_is_no_person() -> None:
    tracks, _ = link_faces([c(t), a(t)] for t in range(10))
    assert spans(tracks) == [("a", 0, 10)]
    assert len(tracks) == GOLDEN["second_overlaps_first"]["full_tracks"]


def test_a_track_starts_with_a_sure_face() -> None:
    """Officially a frame later: GOLDEN starts at 2."""
    frames = [[a(t, 0.79 if t == 0 else 0.99)] for t in range(10)]
    assert spans(link_faces(frames)[0]) == [("a", 1, 10)]
    assert GOLDEN["low_score_first_frame"]["segments"] == [[2, 10]]


@pytest.mark.parametrize(
    ("name", "gaps"), [("gap_at_20", [20]), ("two_gaps", [12, 30])], ids=["one", "two"]
)
def test_a_missed_frame_ends_a_track_and_loses_no_other(name: str, gaps: list[int]) -> None:
    """The official code loses the frame after a gap as well."""
    golden = GOLDEN[name]
    frames = [[] if t in gaps else [a(t)] for t in range(golden["frames"])]
    tracks, _ = link_faces(frames, STRICT)
    edges = [-1, *gaps, golden["frames"]]
    assert spans(tracks) == [("a", s + 1, e) for s, e in pairwise(edges)]
    official = [[s + (0 if s == 0 else -1), e] for s, e in golden["segments"]]
    assert official == [[s, e] for _, s, e in spans(tracks)]


@pytest.mark.parametrize(("missed", "tracks"), [(1, 1), (5, 1), (6, 2)])
def test_short_gaps_are_bridged_and_stay_empty(missed: int, tracks: int) -> None:
    frames = [[] if 20 <= t < 20 + missed else [square("a", 100, 100, 80, 0.9)] for t in range(60)]
    found, _ = link_faces(frames)
    assert len(found) == tracks
    kept = [t for track in found for t in track.frame_index]
    assert kept == [*range(20), *range(20 + missed, 60)]


def test_a_face_below_the_score_to_keep_is_a_missed_frame() -> None:
    frames = [[a(t, 0.49 if t == 5 else 0.51 if t == 7 else 0.9)] for t in range(10)]
    assert spans(link_faces(frames, STRICT)[0]) == [("a", 0, 5), ("a", 6, 10)]


def test_a_jump_is_a_cut_to_another_shot() -> None:
    frames = [[a(t, jump=200 if t >= 15 else 0)] for t in range(40)]
    tracks, _ = link_faces(frames)
    assert [[s, e] for _, s, e in spans(tracks)] == GOLDEN["jump_at_15"]["segments"]


def test_people_come_and_go() -> None:
    """The official code ignores who is not in the first frame."""
    tracks, _ = link_faces([a(t), b(t)] if 10 <= t < 30 else [a(t)] for t in range(50))
    assert spans(tracks) == [("a", 0, 50), ("b", 10, 30)]
    assert GOLDEN["second_face_appears_10_ends_30"]["full_tracks"] == 1


def test_a_face_belongs_to_the_track_that_it_overlaps_best() -> None:
    def left(t: int) -> Toy:
        return square("left", 100 + 2 * t, 100, 80, 0.9)

    def right(t: int) -> Toy:
        return square("right", 190 - 2 * t, 100, 80, 0.95)

    # they come as near as 50 pixels: each other's face overlaps, but less than the own one
    tracks, _ = link_faces([right(t), left(t)] for t in range(11))
    assert spans(tracks) == [("right", 0, 11), ("left", 0, 11)]


def test_short_tracks_are_dropped_with_a_reason() -> None:
    frames = [[a(t), b(t)] if t in (3, 4) else [a(t)] for t in range(12)]
    tracks, dropped = link_faces(frames, LinkRules(min_length=5))
    assert spans(tracks) == [("a", 0, 12)]
    assert [(d.first_frame, d.last_frame) for d in dropped] == [(3, 4)]
    assert dropped[0].reason == "track of 2 frames is shorter than 5"


def test_frames_are_taken_one_at_a_time() -> None:
    taken = []

    def stream() -> Iterator[list[Toy]]:
        for t in range(5):
            taken.append(t)
            yield [a(t)]

    frames = stream()
    tracks, _ = link_faces(frames)
    assert taken == list(range(5))
    assert len(tracks[0]) == 5
    assert link_faces([]) == ([], [])
    assert link_faces([[], []]) == ([], [])


def test_a_cut_ends_every_track() -> None:
    frames = [[a(t)] for t in range(20)]
    tracks, _ = link_faces(frames, cuts={7, 12})
    assert [track.frame_index for track in tracks] == [
        list(range(7)),
        list(range(7, 12)),
        list(range(12, 20)),
    ]
    # A face that is not sure goes on behind a cut as it would have without one.
    unsure = [*frames[:7], *([a(t, score=0.6)] for t in range(7, 12))]
    tracks, _ = link_faces(unsure, cuts={7})
    assert [len(track) for track in tracks] == [7, 5]
    # Also where the face is not found again at once.
    frames[7] = []
    tracks, _ = link_faces(frames, cuts={7})
    assert [track.frame_index for track in tracks] == [list(range(7)), list(range(8, 20))]


def test_box_iou() -> None:
    boxes = [np.array([0, 0, 10, 10]), np.array([5, 5, 5, 9])]
    others = [np.array([5, 0, 15, 10]), np.array([20, 20, 30, 30]), np.array([0, 0, 10, 10])]
    expected = np.array([[1 / 3, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(box_iou(boxes, others), expected)
    assert box_iou([], others).shape == (0, 3)
