"""Fakes look for faces where those of their genuine video are."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.datasets.folder import read_folder
from datamodules.errors import DataError
from datamodules.faces.detect import Face, FaceBackend, face_backend, five_points
from datamodules.faces.finding import FaceFinder
from datamodules.faces.known_faces import KnownFaces
from datamodules.preprocess.batch import prepare_folder
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore, TrackReader
from datamodules.video.reader import VideoInfo, probe_video
from tests.support.cartoon import blank, draw_face
from tests.support.raw_folder import face_rows, write_clip
from tests.support.stores import write_track
from weights import catalog

if TYPE_CHECKING:
    from datamodules.datasets.records import SourceFolder

GIVEN = PrepareOptions(backend="given")


class CountingBackend:
    """Finds a face at 10 by the detector; at any known place but those around 90."""

    name = "counting"
    version = "1"

    def __init__(self) -> None:
        self.detections = 0

    def begin(self, video: Path) -> None:
        pass

    def faces(self, frame_rgb: NDArray[np.uint8]) -> list[Face]:
        self.detections += 1
        return [face_at(10)]

    def points(self, frame_rgb: NDArray[np.uint8], known: list[Face]) -> list[Face | None]:
        return [None if face.box[0] == 90 else face for face in known]


def face_at(left: float, score: float = 0.9) -> Face:
    points = np.random.default_rng(0).uniform(left, left + 20, (68, 2)).astype(np.float32)
    box = np.array([left, 10, left + 20, 30], np.float32)
    return Face(box, score, points, five_points(points))


def test_the_detector_runs_only_where_it_has_to() -> None:
    backend = CountingBackend()
    known = {0: [face_at(40)], 1: [face_at(40), face_at(90)], 3: [face_at(900)]}
    finder = FaceFinder(backend, known)
    found = [[face.box[0] for face in finder.faces(blank(60, 120))] for _ in range(4)]
    # Frame 1: one of two is lost; frame 2: nothing known; frame 3: outside of this frame.
    assert found == [[40], [10], [10], []]
    assert (finder.num_reused, backend.detections) == (2, 2)


def test_a_backend_without_a_detector_is_asked_as_ever() -> None:
    backend = face_backend("given")
    finder = FaceFinder(backend, {0: [face_at(40)]})
    assert finder.faces(blank(60, 120)) == []
    assert finder.num_reused == 0


@pytest.fixture
def known(tmp_path: Path) -> KnownFaces:
    for number in range(2):
        write_track(tmp_path / f"{number}.zip", 12, frames=range(number, 12), seed=number)
    return KnownFaces((tmp_path / "0.zip", tmp_path / "1.zip"), 12)


def info(num_frames: int, height: int = 120) -> VideoInfo:
    times = np.arange(num_frames) / 25
    return VideoInfo(
        num_frames, 25.0, height, 160, "decord", num_frames / 25, "0" * 64, "", "", times
    )


def test_faces_of_all_tracks_are_known_by_frame(known: KnownFaces) -> None:
    faces = known.by_frame(info(12), "all")
    assert [len(faces[frame]) for frame in range(12)] == [1] + [2] * 11
    first = TrackReader(known.tracks[0]).track
    np.testing.assert_array_equal(faces[5][0].points68, first.points68[5])
    assert faces[5][0].forehead is None
    # Frame numbers agree also where the forgery ends earlier; pictures of another size do not.
    assert known.by_frame(info(9), "all").keys() == faces.keys()
    assert known.by_frame(info(12, height=90), "all") == {}


def test_frames_spread_over_videos_of_other_lengths_are_not_the_same(known: KnownFaces) -> None:
    assert known.by_frame(info(12), "spread:6")
    assert known.by_frame(info(9), "spread:6") == {}
    assert known.by_frame(info(9), "first:6")


@pytest.fixture(scope="module")
def mesh() -> FaceBackend:
    if not all((catalog.FILES / entry.name).is_file() for entry in catalog.CATALOG):
        pytest.skip("the face detector is not installed (python -m weights.catalog)")
    return face_backend("mesh")


def test_the_mesh_finds_a_face_again_or_says_so(mesh: FaceBackend) -> None:
    frame = draw_face(blank(240, 320), (160, 120), 50)
    (face,) = mesh.faces(frame)
    finder = FaceFinder(mesh, {k: [face] for k in range(3)})
    (again,) = finder.faces(frame)
    eyes = np.linalg.norm(face.points5[1] - face.points5[0])
    assert np.linalg.norm(again.points68 - face.points68, axis=1).mean() < 0.03 * eyes
    assert again.score == face.score
    (moved,) = finder.faces(draw_face(blank(240, 320), (164, 118), 50))
    np.testing.assert_allclose(moved.points5 - face.points5, [[4, -2]] * 5, atol=0.05 * eyes)
    assert finder.num_reused == 2
    # Elsewhere, so that nothing is at its place: the detector finds it.
    (elsewhere,) = finder.faces(draw_face(blank(240, 320), (60, 180), 40))
    assert elsewhere.box[2] < 160
    assert finder.num_reused == 2


def test_a_fake_has_the_tracks_of_its_genuine_video(
    shared_videos: Path, mesh: FaceBackend, tmp_path: Path
) -> None:
    options = PrepareOptions(max_frames=12)
    real = "real/ffpp_519_c23.mp4"
    fake = "fake/ffpp_Deepfakes/ffpp_Deepfakes_519_515_c23.mp4"
    genuine = prepare_video(VideoTask(shared_videos, tmp_path, real, "real", options))
    faces = KnownFaces(
        tuple(tmp_path / track["path"] for track in genuine["tracks"]), genuine["num_frames"]
    )
    task = VideoTask(shared_videos, tmp_path, fake, "fake", options)
    plain = prepare_video(task)
    plain_points = TrackReader(tmp_path / plain["tracks"][0]["path"]).track.points5
    told = VideoTask(shared_videos, tmp_path, fake, "told", options, known=faces)
    reused = prepare_video(told)
    assert reused["reused_frames"] == 12
    assert plain["reused_frames"] == 0
    points = TrackReader(tmp_path / reused["tracks"][0]["path"]).track.points5
    eyes = np.linalg.norm(points[:, 1] - points[:, 0], axis=1).mean()
    assert np.linalg.norm(points - plain_points, axis=2).mean() < 0.03 * eyes


def write_heads(path: Path, num_frames: int, left: float, mouth: int = 0) -> None:
    """Write a video of a drawn head; `mouth` paints over the middle of the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(num_frames):
            frame = draw_face(blank(120, 160), (left + number / 2, 60), 30)
            frame[78:82, 70:90] += np.uint8(mouth)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def pair(tmp_path: Path) -> SourceFolder:
    """A genuine video of 10 frames, its fake of 12, and a fake of unknown footage."""
    root = tmp_path / "raw"
    write_heads(root / "real" / "a.mp4", 10, 80)
    write_heads(root / "fake" / "swap" / "a.mp4", 12, 80, mouth=9)
    write_heads(root / "fake" / "swap" / "b.mp4", 10, 70)
    lines = ["path,label,method,split,paired_real", "real/a.mp4,real,none,train,"]
    lines += ["fake/swap/a.mp4,fake,swap,train,real/a.mp4", "fake/swap/b.mp4,fake,swap,train,"]
    (root / "manifest.csv").write_text("\n".join(lines))
    return read_folder(open_root(root))


def reused(out: Path) -> dict[str, str]:
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["what"] == "video"]
    return {row["path"]: row["reused_frames"] for row in rows}


@pytest.mark.usefixtures("mesh")
def test_a_folder_is_prepared_genuine_videos_first(pair: SourceFolder, tmp_path: Path) -> None:
    options, out = PrepareOptions(reuse_boxes=True), tmp_path / "out"
    prepare_folder(pair, out, options, 1)
    counts = {"real/a.mp4": "0", "fake/swap/a.mp4": "10", "fake/swap/b.mp4": "0"}
    assert reused(out) == counts
    store = PreparedStore(out)
    assert store.info.counts["frames_with_reused_boxes"] == 10
    assert store.info.parameters["reuse_boxes"] is True
    assert prepare_folder(pair, out, options, 1).num_kept == 3
    # Other faces in the genuine video: its fake is looked at again, the other one is not.
    write_heads(tmp_path / "raw" / "real" / "a.mp4", 8, 81)
    assert prepare_folder(pair, out, options, 1).num_kept == 1
    assert reused(out)["fake/swap/a.mp4"] == "8"
    # Without the option everything is detected.
    assert prepare_folder(pair, out, PrepareOptions(), 1, redo=True).num_kept == 0
    assert set(reused(out).values()) == {"0"}


def test_backends_that_detect_nothing_refuse_it(pair: SourceFolder, tmp_path: Path) -> None:
    options = PrepareOptions(backend="given", reuse_boxes=True)
    with pytest.raises(DataError, match=r"backend given detects nothing.*leave out --reuse-boxes"):
        prepare_folder(pair, tmp_path / "out", options, 1)


def test_given_faces_ignore_what_is_known(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "real" / "a.mp4", face_rows(range(20)))
    assert probe_video(video).num_frames == 20
    write_track(tmp_path / "0.zip", 20)
    known = KnownFaces((tmp_path / "0.zip",), 20)
    task = VideoTask(tmp_path, tmp_path / "out", "real/a.mp4", "x", GIVEN, known=known)
    assert prepare_video(task)["reused_frames"] == 0
