"""Which clips of a video are kept, and where their maps are drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.explaining.drawing import FrameMaps, write_moments
from experiments.explaining.limits import MAP_LIMITS
from experiments.explaining.moments import ClipKeeper, KeptClip, Moment, explain_moments
from experiments.explaining.overlay import CLEAR, enlarge, lay_over, strengths, to_frame

T, SIZE = 2, 16


def seen_video(num_frames: int, people: int = 1) -> Any:
    """Describe a video in which each person is seen in all frames, at a place of their own."""
    index = np.arange(num_frames)
    tracks = []
    for person in range(people):
        points5 = np.array([[4, 4], [12, 4], [8, 8], [5, 12], [11, 12]], np.float32)
        points5 = np.repeat((points5 + 20 * person)[None], num_frames, axis=0)
        faces = SimpleNamespace(frame_index=index, points5=points5)
        tracks.append(SimpleNamespace(track=person, person=person, faces=faces))
    return SimpleNamespace(
        num_frames=num_frames,
        times_s=index / 25,
        tracks=tracks,
        info=SimpleNamespace(height=64, width=64),
    )


def spec(name: str = "one") -> Any:
    return SimpleNamespace(name=name, alignment="clip", image_size=SIZE)


def watch(keeper: ClipKeeper, seen: Any, scores: dict[int, float], track: int = 0) -> None:
    """Let a keeper see a clip at each of some frames."""
    for first, score in scores.items():
        batch: Any = SimpleNamespace(
            tracks=[track],
            places=[SimpleNamespace(positions=range(first, first + T))],
            clips=np.full((1, T, SIZE, SIZE, 3), first % 256, np.uint8),
        )
        keeper.watch(seen, spec(), batch, np.array([score]))


def test_the_highest_clip_of_each_part_is_kept_and_neighbours_are_left_out() -> None:
    keeper, seen = ClipKeeper(), seen_video(602)
    scores = {first: 0.1 + first / 6000 for first in range(0, 600, 2)}
    watch(keeper, seen, scores | {300: 0.9, 298: 0.89})
    kept = [(int(c.frame_index[0]), round(c.score, 2)) for c in keeper.clips("one")]
    assert (300, 0.9) in kept
    assert 298 not in dict(kept)
    assert 4 <= len(kept) <= 6
    starts = [first for first, _ in kept]
    assert starts == sorted(starts)
    assert min(np.diff(starts)) >= 50
    assert keeper.clips("another") == []


def test_memory_does_not_grow_with_the_video() -> None:
    keeper, seen = ClipKeeper(), seen_video(6000, people=5)
    for track in range(5):
        watch(keeper, seen, {first: first / 6000 for first in range(0, 5990, 20)}, track)
    assert len(keeper._best) <= 9


def test_every_one_of_the_main_people_has_a_moment() -> None:
    keeper, seen = ClipKeeper(), seen_video(60, people=2)
    watch(keeper, seen, {first: 0.9 for first in range(0, 50, 10)}, track=0)
    watch(keeper, seen, {20: 0.2, 30: 0.3}, track=1)
    own = [clip for clip in keeper.clips("one") if clip.person == 2]
    assert [clip.score for clip in own] == [0.3]
    # the faces are of the size of the aligned picture's: the matrix is a shift at the most
    assert own[0].matrices[0, :, 2] == pytest.approx(own[0].matrices[0, :, :2] @ [-20, -20], abs=6)


def moment(score: float = 1.0, shift: float = 20.0) -> Moment:
    matrices = np.repeat(np.array([[[1, 0, -shift], [0, 1, -shift]]], float), T, axis=0)
    frames = np.arange(5, 5 + T)
    pictures = np.full((T, SIZE, SIZE, 3), 90, np.uint8)
    maps = np.zeros((T, 4, 4), np.float32)
    maps[1, 1, 2] = 3
    maps[0, 0, 0] = 1
    return Moment(KeptClip("one", 0, 0, score, frames, frames / 25, matrices, pictures), maps)


def test_a_moment_shows_the_frame_with_most_evidence() -> None:
    one = moment(0.5)
    assert one.peak == 1
    np.testing.assert_allclose(one.curve, [0.25, 0.75])
    assert one.strength.max() == pytest.approx(0.5)
    facts = one.facts()
    assert (facts["frame"], facts["time_s"]) == (6, 0.24)


def test_maps_come_back_to_their_place_in_the_frame() -> None:
    frame = np.full((64, 64, 3), 90, np.uint8)
    maps = FrameMaps([moment()], (64, 64))
    assert maps.paint(frame, 4) is frame
    changed = (maps.paint(frame, 6) != frame).any(2)
    rows, columns = np.nonzero(changed)
    # the place (1, 2) of 4 x 4 in a picture of 16 pixels, 20 pixels from the frame's corner
    assert rows.mean() == pytest.approx(20 + 5.5, abs=0.7)
    assert columns.mean() == pytest.approx(20 + 9.5, abs=0.7)


def test_a_turned_face_gets_its_map_turned_back() -> None:
    matrix = cv2.getRotationMatrix2D((30, 30), 40, 0.5)
    matrix[:, 2] -= 22  # so that the middle of the picture is at (30, 30)
    picture = np.zeros((SIZE, SIZE), np.float32)
    picture[4, 10] = 1
    back = to_frame(picture, matrix, SIZE, (64, 64))
    y, x = np.unravel_index(back.argmax(), back.shape)
    assert matrix @ [x, y, 1] == pytest.approx([10, 4], abs=0.6)


def test_weak_places_and_clips_that_look_real_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
    weak = np.full((8, 8), CLEAR, np.float32)
    assert (lay_over(picture, weak) == picture).all()
    assert (lay_over(picture, np.ones((8, 8), np.float32)) != picture).any()
    maps = rng.random((T, 4, 4), np.float32)
    assert strengths(maps, 0.2).max() == pytest.approx(0.2)
    assert not strengths(np.zeros((1, 2, 2), np.float32), 1.0).any()
    large = enlarge(maps[0], 32, 24)
    assert large.shape == (32, 24)
    assert maps[0].min() <= large.min() <= large.max() <= maps[0].max()


class _Scorer:
    """Marks the upper left of every clip."""

    spec = spec()

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        maps = np.zeros((len(clips), T, 4, 4), np.float32)
        maps[:, :, 0, 0] = 1
        return maps


def test_moments_are_written_with_what_maps_cannot_tell(tmp_path: Path) -> None:
    keeper, seen = ClipKeeper(), seen_video(600)
    watch(keeper, seen, {first: 0.7 for first in range(0, 590, 10)})
    told: list[tuple[str, int, int]] = []
    scorers: Any = [_Scorer()]
    moments = explain_moments(keeper, scorers, lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2] == len(moments["one"])
    listed = write_moments(tmp_path, moments, MAP_LIMITS)
    content = json.loads((tmp_path / "moments.json").read_text())
    assert content["moments"] == listed
    assert content["limits"] == list(MAP_LIMITS)
    assert [m["frame"] for m in content["moments"]] == sorted(
        m["frame"] for m in content["moments"]
    )
    stills = [cv2.imread(str(tmp_path / m["image"])) for m in content["moments"]]
    for still in stills:
        height, width = still.shape[:2]
        assert width == 2 * height + 8
        assert np.array_equal(still[:, height : height + 8], np.full((height, 8, 3), 255))
    picture = cv2.imread(str(tmp_path / "moments.png"))
    assert picture is not None
    assert picture.shape[1] > 1000


def test_a_clip_that_repeats_one_frame_has_no_curve(tmp_path: Path) -> None:
    one = moment()
    still = replace(one, clip=replace(one.clip, frame_index=np.zeros(T, int), time_s=np.zeros(T)))
    heights = []
    for shown in (one, still):
        write_moments(tmp_path, {"one": [shown]}, MAP_LIMITS)
        heights.append(cv2.imread(str(tmp_path / "moments.png")).shape[0])
    assert heights[1] < heights[0]


def test_a_video_without_faces_has_no_picture(tmp_path: Path) -> None:
    assert write_moments(tmp_path, {"one": []}, MAP_LIMITS) == []
    assert json.loads((tmp_path / "moments.json").read_text())["moments"] == []
    assert not (tmp_path / "moments.png").exists()
