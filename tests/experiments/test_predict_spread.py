"""Runs that were trained on frames spread over a video score others by such frames, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from datamodules.store.prepared import MANIFEST_NAME, PreparedInfo, write_prepared_info
from experiments import predict
from tests.experiments.test_predict import CASE, LEFT, give_faces
from tests.support.runs import write_run
from tests.support.videos import write_video

NUM_FRAMES = 40
SPREAD = {"spacing": "spread", "count": 16}
#: Of 16 frames spread over 40, four clips of 4 one behind the other.
KEPT = np.linspace(0, NUM_FRAMES - 1, 16).astype(int).reshape(4, 4)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = write_video(tmp_path / "talk.mp4", num_frames=NUM_FRAMES)
    give_faces(path, {LEFT: range(NUM_FRAMES)})
    return path


def run(folder: Path, **data: Any) -> Path:
    write_run(folder, CASE)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"]["init_args"] |= data
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def call(video: Path, run: Path, *more: str) -> int:
    words = ["--video", str(video), "--run", str(run), "--backend", "given", "--device", "cpu"]
    return predict.main([*words, "--engine", "torch", "--out", str(video.parent / "out"), *more])


def report(video: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((video.parent / "out" / "report.json").read_text())
    return content


@pytest.mark.parametrize("prepared", [False, True], ids=["kept_frames", "store"])
def test_clips_are_those_of_the_run_s_test(prepared: bool, video: Path, tmp_path: Path) -> None:
    if prepared:
        root = tmp_path / "store"
        root.mkdir()
        (root / MANIFEST_NAME).touch()
        given = PreparedInfo(
            backend="given",
            backend_version="1",
            parameters={"frames": "spread:16"},
            libraries={},
            counts={},
        )
        write_prepared_info(root, given)
        folder = run(tmp_path / "run", root=str(root))
    else:
        folder = run(tmp_path / "run", kept_frames=SPREAD)
    assert call(video, folder) == 0
    found = report(video)
    clips = [(c["first_frame"], c["last_frame"]) for c in found["tracks"][0]["models"][0]["clips"]]
    assert clips == [(int(clip[0]), int(clip[-1])) for clip in KEPT]
    scored = [score is not None for score in found["tracks"][0]["frames"]["score"]]
    assert np.flatnonzero(scored).tolist() == KEPT.ravel().tolist()
    assert found["models"][0]["settings"]["kept_frames"] == "spread:16"
    assert found["models"][0]["settings"]["stride"] is None


def test_dense_frames_change_nothing(video: Path, tmp_path: Path) -> None:
    assert call(video, run(tmp_path / "run", kept_frames={"spacing": "dense", "count": 16})) == 0
    found = report(video)
    # A quarter of a clip of 4 frames is 1.
    assert len(found["tracks"][0]["models"][0]["clips"]) == NUM_FRAMES - CASE.num_frames + 1
    assert found["models"][0]["settings"]["kept_frames"] is None


def test_a_stride_is_refused(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(video, run(tmp_path / "run", kept_frames=SPREAD), "--stride", "2") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "16 frames spread over a track" in line
    assert "drop --stride" in line
    assert not (tmp_path / "out").exists()
