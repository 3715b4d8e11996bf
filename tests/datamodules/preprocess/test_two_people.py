"""Two real people in one picture, who change places at a cut."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.store.prepared import TrackReader
from datamodules.video.reader import open_video
from weights import catalog

NUM_FRAMES, CUT = 30, 18
#: Width and height of a half of the picture.
HALF = (240, 240)


def heads(path: Path, zoom: float) -> list[NDArray[np.uint8]]:
    """Read square pictures of a head, shrunk by `zoom` onto a grey ground."""
    with open_video(path, "decord", None) as reader:
        frames = [cv2.resize(frame, HALF) for frame in islice(reader, NUM_FRAMES)]
    matrix = np.array([[zoom, 0, HALF[0] * (1 - zoom) / 2], [0, zoom, HALF[1] * (1 - zoom) / 2]])
    return [cv2.warpAffine(f, matrix, HALF, borderValue=(90, 90, 90)) for f in frames]


@pytest.fixture(scope="module")
def video(shared_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not all((catalog.FILES / entry.name).is_file() for entry in catalog.CATALOG):
        pytest.skip("the face detector is not installed (python -m weights.catalog)")
    left = heads(shared_videos / "real" / "damie_singer_595.mp4", 1.0)
    right = heads(shared_videos / "real" / "michael_rosen_032.mp4", 0.7)
    pairs = [
        (a, b) if k < CUT else (b, a) for k, (a, b) in enumerate(zip(left, right, strict=True))
    ]
    path = tmp_path_factory.mktemp("two") / "two.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 2 * HALF[0], HALF[1], "yuv420p"
        for pair in pairs:
            frame = av.VideoFrame.from_ndarray(np.hstack(pair), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def prepare(video: Path, out: Path, **options: Any) -> dict[str, Any]:
    return prepare_video(VideoTask(video.parent, out, video.name, "v", PrepareOptions(**options)))


def test_two_people_are_four_tracks_around_a_cut(video: Path, tmp_path: Path) -> None:
    result = prepare(video, tmp_path)
    assert result["cuts"] == [CUT]
    tracks = result["tracks"]
    spans = [(t["first_frame"], t["last_frame"], t["person"]) for t in tracks]
    ends = (0, CUT - 1), (CUT, NUM_FRAMES - 1)
    assert spans == [(*ends[0], 0), (*ends[0], 1), (*ends[1], 2), (*ends[1], 3)]
    sides, sizes = [], []
    for row in tracks:
        reader = TrackReader(tmp_path / row["path"])
        sides.append(bool(reader.track.box[:, 0].mean() > HALF[0]))
        sizes.append(row["face_px"])
        assert reader.figures["person"] == row["person"]
        assert reader.track.forehead is not None
        assert row["kept"] == 1.0
    assert sides == [False, True, False, True]  # left to right
    # The larger face is the main one, on whichever side it is.
    assert [row["rank"] for row in tracks] == [
        int(sizes[i] < sizes[i ^ 1]) for i in range(len(tracks))
    ]
    again = prepare(video, tmp_path / "again")
    assert again["tracks"] == tracks


def test_the_main_person_alone(video: Path, tmp_path: Path) -> None:
    tracks = prepare(video, tmp_path, people="main")["tracks"]
    assert [(t["person"], t["rank"], t["num_frames"]) for t in tracks] == [
        (0, 0, CUT),
        (3, 0, NUM_FRAMES - CUT),
    ]
