from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.clip_sampling import num_windows, window_positions
from datamodules.preprocess.align import warp_crops
from datamodules.preprocess.alignments import frame_matrices
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.store.prepared import TrackReader
from experiments.predicting import cutting
from experiments.predicting.outputs import write_outputs
from experiments.predicting.scorer import ClipScores
from experiments.predicting.video import ScoringOptions, score_video
from tests.experiments.test_predict import LEFT, RIGHT, give_faces
from tests.support.cartoon import blank, draw_face
from tests.support.programs import ROOT
from tests.support.scorers import BrightnessScorer, clip_spec
from tests.support.videos import write_video
from weights import catalog

GIVEN = ScoringOptions(backend="given", stride=1)

Frames = list[NDArray[np.uint8]]
"""RGB, each of shape (H, W, 3)."""


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = write_video(tmp_path / "talk.mp4", num_frames=30)
    give_faces(path, {LEFT: range(30), RIGHT: [*range(5, 9), *range(12, 25)]})
    return path


def stored_clips(video: Path, work: Path, scorer: BrightnessScorer) -> list[NDArray[np.uint8]]:
    """Cut all windows of all tracks out of a prepared store."""
    spec, clips = scorer.spec, []
    options = PrepareOptions(backend="given", max_frames=0)
    found = prepare_video(VideoTask(video.parent, work, video.name, "hand", options))
    for row in found["tracks"]:
        reader = TrackReader(work / row["path"])
        index = reader.track.frame_index
        size = (reader.meta.height, reader.meta.width)
        for window in range(num_windows(index, spec.num_frames)):
            rows = np.array(window_positions(index, spec.num_frames, window))
            matrices = frame_matrices(spec.alignment, reader.track, rows, size, spec.image_size)
            crops = reader.crops(rows.tolist())
            clips.append(warp_crops(crops, reader.crop_boxes[rows], matrices, spec.image_size))
        reader.close()
    return clips


@pytest.mark.parametrize("alignment", ["clip", "bench", "box"])
@pytest.mark.parametrize("compressed", [False, True])
def test_clips_are_those_of_a_prepared_store(
    alignment: str,
    compressed: bool,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if compressed:  # as large crops wait
        monkeypatch.setattr(cutting, "_DECODED_PIXELS", 0)
    scorer = BrightnessScorer(clip_spec(alignment=alignment))
    score_video(video, [scorer], GIVEN)
    given = np.concatenate(scorer.given)
    wanted = stored_clips(video, tmp_path / "store", scorer)
    assert len(given) == len(wanted)
    left = {clip.tobytes() for clip in wanted}
    assert left == {clip.tobytes() for clip in given}


def test_several_scorers_share_clips_and_keep_their_own(video: Path) -> None:
    one, same = BrightnessScorer(clip_spec("one")), BrightnessScorer(clip_spec("same"))
    longer = BrightnessScorer(clip_spec("longer", num_frames=8, image_size=48, batch=5))
    report = score_video(video, [one, same, longer], GIVEN)
    assert all(a is b for a, b in zip(one.given, same.given, strict=True))
    assert longer.given[0].shape == (5, 8, 48, 48, 3)
    alone = score_video(video, [BrightnessScorer(longer.spec)], GIVEN)
    assert report.models[2].score == alone.score
    assert report.models[0].score == report.models[1].score
    assert report.score == pytest.approx(np.mean([model.score or 0 for model in report.models]))


def test_every_track_has_scores_of_its_own_clips(video: Path) -> None:
    class ByPlace(BrightnessScorer):
        def score_clips(self, clips: NDArray[np.uint8]) -> ClipScores:
            return ClipScores(np.linspace(-1, 1, len(clips)), None)

    report = score_video(video, [ByPlace(clip_spec(batch=1000))], GIVEN)
    (model,) = report.models
    frames = [[(c.first_frame, c.last_frame) for c in t.clips] for t in model.tracks]
    assert frames[0] == [(k, k + 3) for k in range(27)]
    assert frames[1] == [(5, 8), *((k, k + 3) for k in range(12, 22))]
    assert [face.person for face in report.faces] == [1, 2]
    for track in model.tracks:
        for number, frame in enumerate(track.frame_index):
            own = [c.score for c in track.clips if c.first_frame <= frame <= c.last_frame]
            assert track.frame_score[number] == pytest.approx(np.mean(own))


def test_only_crops_of_one_clip_are_kept(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    cut = cutting._OpenTrack.cut

    def watched(self: Any, *args: Any) -> Any:
        nonlocal most
        yield from cut(self, *args)
        most = max(most, len(self.crops))

    monkeypatch.setattr(cutting._OpenTrack, "cut", watched)
    score_video(video, [BrightnessScorer()], GIVEN)
    assert 0 < most <= 4


def test_progress_is_told_and_what_it_raises_ends_the_work(video: Path) -> None:
    told: list[tuple[str, int, int]] = []
    score_video(video, [BrightnessScorer()], GIVEN, lambda *row: told.append(row))
    assert ("finding faces", 30, 30) in told
    assert told[-1] == ("scoring faces", 30, 30)

    def stop(what: str, done: int, total: int) -> None:
        if what == "scoring faces":
            raise TimeoutError

    with pytest.raises(TimeoutError):
        score_video(video, [BrightnessScorer()], GIVEN, stop)


def test_videos_are_handled_without_torch(video: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from experiments.predicting.video import ScoringOptions, score_video\n"
        "from experiments.predicting.outputs import write_outputs\n"
        "from tests.support.scorers import BrightnessScorer\n"
        f"video = Path({str(video)!r})\n"
        "report = score_video(video, [BrightnessScorer()], ScoringOptions('given', 1))\n"
        "write_outputs(video.parent, video, report)\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def side_by_side(lefts: Frames, rights: Frames, path: Path) -> Path:
    """Make one video of the frames of two, each of 320 x 320 pixels."""
    with av.open(str(path), "w") as made:
        stream: Any = made.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 640, 320, "yuv420p"
        for pair in zip(lefts, rights, strict=True):
            frame = av.VideoFrame.from_ndarray(np.concatenate(pair, axis=1), format="rgb24")
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
    return path


def filmed(video: Path, num_frames: int = 24) -> Frames:
    with av.open(str(video)) as container:
        return [
            frame.to_ndarray(format="rgb24", width=320, height=320)
            for _, frame in zip(range(num_frames), container.decode(video=0), strict=False)
        ]


def drawn_head(x: int, light: int, num_frames: int = 24) -> Frames:
    empty = blank(320, 320) // 2 + np.uint8(light)
    return [draw_face(empty, (x + number / 2, 150), 60) for number in range(num_frames)]


@pytest.fixture(params=["drawn", "filmed"])
def two_people(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if not all((catalog.FILES / entry.name).is_file() for entry in catalog.CATALOG):
        pytest.skip("the face detector is not installed (python -m weights.catalog)")
    if request.param == "drawn":
        return side_by_side(drawn_head(150, 20), drawn_head(170, 90), tmp_path / "two.mp4")
    real = request.getfixturevalue("shared_videos") / "real"
    names = ("damie_singer_595.mp4", "michael_rosen_032.mp4")
    return side_by_side(*(filmed(real / name) for name in names), tmp_path / "two.mp4")


def test_two_people_have_tracks_scores_and_boxes_of_their_own(
    two_people: Path, tmp_path: Path
) -> None:
    scorer = BrightnessScorer(clip_spec(num_frames=8, image_size=64))
    report = score_video(two_people, [scorer])
    assert [face.person for face in report.faces] == [1, 2]
    assert report.track_score(0) != pytest.approx(report.track_score(1), abs=1e-3)
    for person, face in enumerate(report.faces):
        assert len(face.frame_index) == 24
        middles = (face.box[:, 0] + face.box[:, 2]) / 2
        assert ((middles >= 320 * person) & (middles < 320 * (person + 1))).all()
    write_outputs(tmp_path, two_people, report)
    with av.open(str(tmp_path / "annotated.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24")[:320, :640] for f in container.decode(video=0)]
    with av.open(str(two_people)) as container:
        plain = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    for number in (0, 12, 23):
        drawn = np.abs(frames[number].astype(int) - plain[number]).max(axis=2) > 60
        for face in report.faces:
            x0, y0, x1, y1 = face.box[number].round().astype(int).tolist()
            edge = drawn[y0 + 4 : y1 - 4, x0 - 2 : x0 + 3].any(axis=1)
            assert edge.mean() > 0.8  # the left side of the box
            inside = drawn[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8]
            assert inside.mean() < 0.1  # and nothing over the face
