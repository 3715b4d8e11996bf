from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.preprocess.frame_choice import check_choice, frame_numbers, mean_step, taken
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.store.prepared import TrackReader
from datamodules.video.reader import open_video
from tests.support.frame_folders import write_frames
from tests.support.raw_folder import face_rows, write_clip, write_faces
from tests.support.videos import coded_frame


@pytest.mark.parametrize(
    ("choice", "num_frames", "numbers"),
    [
        ("all", 3, [0, 1, 2]),
        ("first:2", 5, [0, 1]),
        ("first:9", 3, [0, 1, 2]),
        ("spread:4", 10, [0, 3, 6, 9]),
        ("spread:3", 10, [0, 4, 9]),
        ("spread:1", 10, [0]),
        ("spread:12", 5, [0, 1, 2, 3, 4]),
    ],
)
def test_choices(choice: str, num_frames: int, numbers: list[int]) -> None:
    assert list(frame_numbers(choice, num_frames)) == numbers
    frames = [np.full((1, 1, 3), k, np.uint8) for k in range(num_frames)]
    assert [int(frame[0, 0, 0]) for frame in taken(frames, numbers)] == numbers


def test_thirty_two_of_three_hundred_are_those_of_the_bench() -> None:
    numbers = list(frame_numbers("spread:32", 300))
    assert (len(numbers), numbers[:4], numbers[-1]) == (32, [0, 9, 19, 28], 299)


@pytest.mark.parametrize("text", ["", "some", "first", "first:0", "spread:-1", "all:3", "first:2x"])
def test_other_choices_are_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"all, first:N, spread:N"):
        check_choice(text)


def test_step() -> None:
    assert mean_step([0, 10, 20]) == 10
    assert mean_step([4]) == 1


def test_spread_frames_follow_each_other(tmp_path: Path) -> None:
    """Of a video: tracks hold the frames taken, with the faces of just those."""
    video = write_clip(tmp_path / "v.mp4")
    options = PrepareOptions(backend="given", image_format="png", frames="spread:4")
    task = VideoTask(
        root=tmp_path, out=tmp_path / "out", path="v.mp4", video_id="v", options=options
    )
    result = prepare_video(task)
    numbers = [0, 6, 12, 19]
    assert (result["status"], result["num_frames"]) == ("ok", 20)
    track = TrackReader(tmp_path / "out" / result["tracks"][0]["path"])
    assert track.track.frame_index.tolist() == [0, 1, 2, 3]
    assert track.meta.fps == pytest.approx(25 / (19 / 3))
    np.testing.assert_allclose(track.track.box, face_rows(numbers)["box"])
    with open_video(video) as reader:
        frames = reader.read(numbers)
    for frame, crop, (x0, y0, x1, y1) in zip(
        frames, track.crops(range(4)), track.crop_boxes, strict=True
    ):
        np.testing.assert_array_equal(crop, frame[y0:y1, x0:x1])
    assert [row["reason"] for row in result["dropped"]] == [
        "4 frames taken (spread:4); tracks count those"
    ]


def test_gaps_in_the_names_tell_the_frame_rate(tmp_path: Path) -> None:
    pictures = [coded_frame(k, 96, 128) for k in range(5)]
    write_faces(write_frames(tmp_path / "v", pictures, [0, 10, 20, 30, 40]), face_rows(range(5)))
    for choice, fps in (("all", 2.5), ("first:3", 2.5), ("spread:3", 1.25)):
        options = PrepareOptions(backend="given", frames=choice)
        task = VideoTask(
            root=tmp_path, out=tmp_path / "out", path="v", video_id="v", options=options
        )
        track = prepare_video(task)["tracks"][0]
        assert TrackReader(tmp_path / "out" / track["path"]).meta.fps == fps
