from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from datamodules.clip_sampling import mirror_padding_index
from datamodules.preprocess.align import clip_transform, warp_crops
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.store.prepared import (
    MANIFEST_NAME,
    PreparedInfo,
    TrackReader,
    write_prepared_info,
)
from experiments import predict
from experiments.detector import load_detector
from tests.support.cases import METHOD_CASES
from tests.support.runs import write_run
from tests.support.stores import FACE_POINTS5
from tests.support.videos import truncate_file, write_video

CASE = next(case for case in METHOD_CASES if case.name == "ftcn_tt")
T = CASE.num_frames
#: Left ends of the two places where faces are put.
LEFT, RIGHT = 8, 72

Faces = dict[int, Sequence[int]]
"""Frames by the left end of the face that is seen in them."""


def give_faces(video: Path, faces: Faces) -> None:
    """Write the faces of a video where the backend `given` finds them."""
    rows = [(frame, x) for x, frames in faces.items() for frame in frames]
    corners = np.array([(x + frame % 5, 24) for frame, x in rows], np.float32).reshape(-1, 2)
    points5 = corners[:, None] + FACE_POINTS5[None] * 0.6
    points68 = np.repeat(points5, 14, axis=1)[:, :68]
    # the suite derives the five points from these of the 68
    points68[:, 36:42], points68[:, 42:48] = points5[:, None, 0], points5[:, None, 1]
    points68[:, 30], points68[:, 48], points68[:, 54] = points5[:, 2], points5[:, 3], points5[:, 4]
    np.savez(
        video.with_suffix(".faces.npz"),
        frame_index=np.array([frame for frame, _ in rows], np.int64),
        box=np.concatenate([corners, corners + 38], axis=1),
        points68=points68,
        score=np.linspace(0.95, 0.9, len(rows)),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "ftcn", CASE)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 frames without faces of its own."""
    return write_video(tmp_path_factory.mktemp("videos") / "source.mp4", num_frames=40)


@pytest.fixture
def video(source: Path, tmp_path: Path) -> Path:
    """The same video where a test may put faces."""
    return Path(shutil.copy(source, tmp_path / "talk.mp4"))


def call(video: Path, run: Path, *more: str) -> int:
    words = ["--video", str(video), "--run", str(run), "--backend", "given", "--device", "cpu"]
    return predict.main([*words, "--engine", "torch", *more])


def score(video: Path, run: Path, out: Path, *more: str) -> dict[str, Any]:
    assert call(video, run, "--out", str(out), *more) == 0
    names = ["annotated.mp4", "report.json", "segments.csv", "segments.vtt", "timeline.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert cv2.imread(str(out / "timeline.png")) is not None
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def by_hand(video: Path, run: Path, work: Path) -> list[NDArray[np.float64]]:
    """Score every window of each track, one at a time; one array a track."""
    options = PrepareOptions(backend="given", max_frames=0)
    found = prepare_video(VideoTask(video.parent, work, video.name, "hand", options))
    detector = load_detector(run, device="cpu")
    scores = []
    for row in found["tracks"]:
        reader = TrackReader(work / row["path"])
        order = mirror_padding_index(len(reader), T)
        probs = []
        for first in range(len(order) - T + 1):
            rows = list(order[first : first + T])
            matrix = clip_transform(reader.track.points5[rows], CASE.image_size)
            crops, boxes = reader.crops(rows), reader.crop_boxes[rows]
            clip = torch.from_numpy(warp_crops(crops, boxes, matrix, CASE.image_size))
            with torch.no_grad():
                logit = detector.model(detector.model.normalise(clip[None])).logit
            probs.append(1 / (1 + np.exp(-logit.item())))
        reader.close()
        scores.append(np.array(probs))
    return scores


def test_a_method_of_single_frames_scores_each_frame(video: Path, tmp_path: Path) -> None:
    case = next(case for case in METHOD_CASES if case.name == "xception")
    case = replace(case, num_frames=1, tiny={**case.tiny, "video_rule": "max"})
    give_faces(video, {LEFT: range(8)})
    report = score(video, write_run(tmp_path / "run", case), tmp_path / "out")
    (found,) = report["tracks"]
    clips = [clip["score"] for clip in found["models"][0]["clips"]]
    assert [clip["first_frame"] for clip in found["models"][0]["clips"]] == list(range(8))
    assert found["frames"]["score"] == clips
    assert report["video_score"] == found["score"] == max(clips)
    assert report["models"][0]["settings"]["video_rule"] == "max"


@pytest.mark.parametrize(("frame_rule", "video_rule"), [("mean", "max"), ("top_k", "mean")])
def test_frames_have_scores_of_their_own_in_clips_of_several(
    frame_rule: str, video_rule: str, video: Path, tmp_path: Path
) -> None:
    case = next(case for case in METHOD_CASES if case.name == "xception")
    rules = {"frame_rule": frame_rule, "video_rule": video_rule, "top_k": 2}
    case = replace(case, tiny={**case.tiny, **rules, "encoder": "test_resnet"})
    give_faces(video, {LEFT: range(10)})
    run = write_run(tmp_path / "run", case)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["init_args"]["alignment"] = "box"  # of each frame, whatever clip it is in
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    report = score(video, run, tmp_path / "out")
    (track,) = report["tracks"]
    frames = np.array(track["frames"]["score"])
    assert len(set(frames.tolist())) == 10
    assert [clip["first_frame"] for clip in track["models"][0]["clips"]] == [0, 4, 6]
    for clip in track["models"][0]["clips"]:
        own = np.sort(frames[clip["first_frame"] : clip["last_frame"] + 1])
        assert clip["score"] == pytest.approx(own[{"mean": 0, "top_k": -2}[frame_rule] :].mean())
    clips = [clip["score"] for clip in track["models"][0]["clips"]]
    weights = [clip["weight"] for clip in track["models"][0]["clips"]]
    assert weights == [2.5, 3.0, 1.5]  # windows that begin at 0, 4 and 6 of 7
    pools = {"mean": np.average(clips, weights=weights), "max": max(clips)}
    assert report["video_score"] == pytest.approx(pools[video_rule])
    rule = {"mean": "mean", "top_k": "mean of the 2 highest"}[frame_rule]
    assert report["models"][0]["settings"]["frame_rule"] == rule


def test_stride_1_is_the_mean_over_all_windows(video: Path, run: Path, tmp_path: Path) -> None:
    give_faces(video, {LEFT: range(40), RIGHT: range(10, 30)})
    report = score(video, run, tmp_path / "out", "--stride", "1", "--batch", "3")
    wanted = by_hand(video, run, tmp_path / "hand")
    assert [len(track["models"][0]["clips"]) for track in report["tracks"]] == [37, 17]
    assert report["video_score"] == pytest.approx(np.concatenate(wanted).mean(), abs=2e-6)
    for track, probs in zip(report["tracks"], wanted, strict=True):
        assert track["score"] == pytest.approx(probs.mean(), abs=2e-6)
        given = [clip["score"] for clip in track["models"][0]["clips"]]
        np.testing.assert_allclose(given, probs, atol=2e-6)
        # frame 5 of the track is in the windows that start at 2, 3, 4 and 5
        assert track["frames"]["score"][5] == pytest.approx(probs[2:6].mean(), abs=2e-6)
    first, second = report["tracks"]
    assert first["score"] != pytest.approx(second["score"], abs=1e-6)


def test_clips_are_aligned_as_in_training(video: Path, run: Path, tmp_path: Path) -> None:
    give_faces(video, {LEFT: range(40)})
    other = Path(shutil.copytree(run, tmp_path / "run"))
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["data"].setdefault("init_args", {})["alignment"] = "box"
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    boxes, clips = (score(video, r, tmp_path / f"out{r is run}") for r in (other, run))
    assert boxes["models"][0]["settings"]["alignment"] == "box"
    assert clips["models"][0]["settings"]["alignment"] == "clip"
    found = (r["tracks"][0]["models"][0]["clips"] for r in (boxes, clips))
    one, two = ([clip["score"] for clip in part] for part in found)
    assert len(one) == len(two)
    assert one != two


def test_a_short_track_is_mirrored(tmp_path: Path, run: Path) -> None:
    video = write_video(tmp_path / "short.mp4", num_frames=3)
    give_faces(video, {LEFT: range(3)})
    report = score(video, run, tmp_path / "out", "--stride", "1")
    (wanted,) = by_hand(video, run, tmp_path / "hand")
    assert len(wanted) == 3 + T - 1
    assert report["video_score"] == pytest.approx(wanted.mean(), abs=2e-6)
    assert report["tracks"][0]["frame_range"] == [0, 2]
    assert all(clip["end_s"] <= 0.121 for clip in report["tracks"][0]["models"][0]["clips"])


def test_the_report_says_what_was_scored_by_what(video: Path, run: Path, tmp_path: Path) -> None:
    give_faces(video, {LEFT: range(40)})
    report = score(video, run, tmp_path / "out", "--stride", "2")
    assert report["schema_version"] == 3
    assert report["status"] == "ok"
    assert report["video"] == {
        "name": "talk.mp4",
        "sha256": hashlib.sha256(video.read_bytes()).hexdigest(),
        "fps": 25.0,
        "num_frames": 40,
        "duration_s": pytest.approx(1.6),
        "height": 96,
        "width": 128,
        "decoder": "decord",
    }
    checkpoint = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert report["models"][0]["checkpoint_sha256"] == hashlib.sha256(checkpoint).hexdigest()
    assert report["models"][0]["method"] == "FTCN"
    assert report["models"][0]["settings"]["stride"] == 2
    assert (report["settings"]["backend"], report["settings"]["backend_version"]) == ("given", "1")
    assert report["code"]
    assert report["decision"]["call"] == "abstain"
    assert any("no decision is given" in text for text in report["limits"])


def test_another_face_backend_than_the_run_s_is_said(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", CASE)
    monkeypatch.chdir(tmp_path)
    give_faces(video, {LEFT: range(8)})
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / MANIFEST_NAME).touch()
    for number, (backend, said) in enumerate({"mesh": True, "given": False}.items()):
        made_by = {"backend": backend, "backend_version": "1"}
        write_prepared_info(
            prepared, PreparedInfo(**made_by, parameters={}, libraries={}, counts={})
        )
        report = score(video, run, tmp_path / f"out{number}")
        assert any("trained on by mesh 1" in text for text in report["limits"]) == said


def test_a_run_on_demo_data_warns_first(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", CASE)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("FolderData", "SyntheticData"))
    give_faces(video, {LEFT: range(8)})
    report = score(video, run, tmp_path / "out")
    assert "scores of real footage mean nothing" in report["limits"][0]
    assert "note: this run was trained on small synthetic demo videos" in capsys.readouterr().out


def test_clips_have_frames_and_times(video: Path, run: Path, tmp_path: Path) -> None:
    give_faces(video, {LEFT: range(5, 16)})
    (track,) = score(video, run, tmp_path / "out", "--stride", "4")["tracks"]
    spans = [(clip["first_frame"], clip["last_frame"]) for clip in track["models"][0]["clips"]]
    assert spans == [(5, 8), (9, 12), (12, 15)]
    assert track["models"][0]["clips"][1]["start_s"] == pytest.approx(9 / 25)
    assert track["models"][0]["clips"][1]["end_s"] == pytest.approx(13 / 25)
    assert track["frame_range"] == [5, 15]
    assert track["time_ranges_s"] == [pytest.approx([0.2, 0.64])]
    assert track["frames"]["frame"] == list(range(5, 16))
    assert None not in track["frames"]["score"]


def test_times_are_those_of_a_variable_frame_rate(run: Path, tmp_path: Path) -> None:
    ticks = [*range(10), *range(20, 40, 2)]
    video = write_video(tmp_path / "vfr.mp4", num_frames=20, ticks=ticks, b_frames=0)
    give_faces(video, {LEFT: range(20)})
    report = score(video, run, tmp_path / "out", "--stride", "1")
    clip = report["tracks"][0]["models"][0]["clips"][12]
    assert (clip["first_frame"], clip["last_frame"]) == (12, 15)
    assert clip["start_s"] == pytest.approx(24 / 25, abs=1e-3)
    assert clip["end_s"] == pytest.approx(32 / 25, abs=1e-3)


def test_missed_frames_are_a_gap_and_named(video: Path, run: Path, tmp_path: Path) -> None:
    give_faces(video, {LEFT: [*range(10), *range(13, 25), *range(35, 40)]})
    report = score(video, run, tmp_path / "out", "--stride", "1")
    frames = [track["frames"]["frame"] for track in report["tracks"]]
    assert [frame for part in frames for frame in part][:22] == [*range(10), *range(13, 25)]
    for track in report["tracks"]:
        for clip in track["models"][0]["clips"]:
            assert clip["last_frame"] - clip["first_frame"] == T - 1
    dropped = [(row["first_frame"], row["last_frame"]) for row in report["dropped"]]
    assert (10, 12) in dropped
    assert all(row["reason"] for row in report["dropped"])


def test_a_video_without_faces_has_no_score(
    video: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_faces(video, {})
    report = score(video, run, tmp_path / "out")
    assert report["status"] == "no_face"
    assert report["video_score"] is None
    assert report["tracks"] == []
    assert report["dropped"][0]["last_frame"] == 39
    assert capsys.readouterr().out.startswith("no score: no face found\n")


def test_scores_and_places_are_printed(
    video: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_faces(video, {LEFT: range(40), RIGHT: range(40)})
    out = tmp_path / "out"
    report = score(video, run, out)
    printed = capsys.readouterr()
    assert f"person 2: {report['tracks'][1]['score']:.4f} (0.0 to 1.6 s)" in printed.out
    assert f"video: {report['video_score']:.4f}" in printed.out
    assert str(out / "timeline.png") in printed.out
    assert printed.err == ""


def test_the_folder_is_named_by_the_video(
    video: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_faces(video, {LEFT: range(8)})
    monkeypatch.chdir(tmp_path)
    assert call(video, run) == 0
    (folder,) = (tmp_path / "predictions").iterdir()
    assert folder.name.startswith("talk-2")


def damaged(tmp_path: Path, source: Path) -> Path:
    return truncate_file(source, tmp_path / "cut.mp4", 0.3)


def empty(tmp_path: Path, source: Path) -> Path:
    (tmp_path / "empty.mp4").touch()
    return tmp_path / "empty.mp4"


def text(tmp_path: Path, source: Path) -> Path:
    (tmp_path / "text.mp4").write_text("no video")
    return tmp_path / "text.mp4"


@pytest.mark.parametrize("make", [damaged, empty, text])
def test_an_unreadable_video_is_one_line(
    make: Any, source: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make(tmp_path, source)
    give_faces(video, {LEFT: range(40)})
    out = tmp_path / "results" / "out"
    assert call(video, run, "--out", str(out)) == 2
    assert_one_line(capsys, str(video))
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--video", "not/here.mp4", "--run", "RUN"], "--video: not/here.mp4 does not exist"),
        (["--video", "full", "--run", "RUN"], "--video: full holds no video"),
        (["--video", "https://a.b/x.mp4", "--run", "RUN"], "type --allow-url"),
        (["--video", "VIDEO", "--weights", "nope:VIDEO"], "unknown method 'nope'"),
        (["--video", "VIDEO", "--weights", "hff:not/here.pth"], "there is no file not/here.pth"),
        (["--video", "VIDEO", "--exp", "hff"], "no finished run of hff"),
        (["--video", "VIDEO", "--exp", "nope"], "unknown experiment 'nope'"),
        (["--video", "VIDEO", "--run", "not/here"], "no run folder not/here"),
        (["--video", "VIDEO", "--run", "."], "it has no config.yaml"),
        (["--video", "VIDEO"], "--run"),
        (["--video", "VIDEO", "--run", "RUN", "--stride", "0"], "'0'"),
        (["--video", "VIDEO", "--run", "RUN", "--batch", "x"], "'x'"),
        (["--video", "VIDEO", "--run", "RUN", "--backend", "eye"], "eye"),
        (["--video", "VIDEO", "--run", "RUN", "--device", "cuda:77"], "cuda:77"),
        (["--video", "VIDEO", "--run", "RUN", "--out", "FULL"], "not empty"),
        (["--video", "VIDEO", "--run", "RUN", "--backend", "given"], "faces"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line(
    words: list[str],
    named: str,
    video: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    places = {"VIDEO": str(video), "RUN": str(run), "FULL": str(full)}
    assert predict.main([places.get(word, word) for word in words]) == 2
    assert_one_line(capsys, named)
    assert not list(tmp_path.glob("predictions/*"))
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_ends_early_leaves_nothing(
    error: BaseException,
    video: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("experiments.predicting.outputs.write_report", refuse)
    give_faces(video, {LEFT: range(8)})
    out = tmp_path / "results" / "out"
    assert call(video, run, "--out", str(out)) == (2 if isinstance(error, OSError) else 130)
    assert_one_line(capsys, "nothing was written")
    assert list(out.parent.iterdir()) == []


def test_a_diverged_network_gives_no_score(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", CASE)
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    for tensor in content["state_dict"].values():
        tensor.fill_(float("nan")) if tensor.is_floating_point() else None
    torch.save(content, path)
    give_faces(video, {LEFT: range(8)})
    assert call(video, run, "--out", str(tmp_path / "out")) == 2
    assert_one_line(capsys, "not finite")


def assert_one_line(capsys: pytest.CaptureFixture[str], words: str) -> None:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert words in printed.err
    assert "Traceback" not in printed.err
