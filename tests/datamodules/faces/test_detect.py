import json
import sys
import types
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.faces import blazeface
from datamodules.faces.detect import FaceBackend, PlacesPoints, face_backend, five_points
from tests.support.cartoon import blank, draw_face
from weights import catalog
from weights.errors import WeightsError


@pytest.fixture(scope="module")
def mesh() -> FaceBackend:
    for entry in catalog.CATALOG:
        if not (catalog.FILES / entry.name).is_file():
            pytest.skip(f"{entry.name} is not installed (python -m weights.catalog)")
    return face_backend("mesh")


def assert_on_face(
    face: Any, centre: tuple[float, float], radius: float, tilt: float = 0.0
) -> None:
    """Check eyes and mouth corners against the drawing, to a fifth of the eye distance."""
    angle = np.deg2rad(tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    drawn = np.array([[-0.35, -0.12], [0.35, -0.12], [-0.3, 0.65], [0.3, 0.65]]) * radius
    expected = drawn @ turn.T + centre
    error = np.linalg.norm(face.points5[[0, 1, 3, 4]] - expected, axis=1).max()
    assert error < 0.2 * 0.7 * radius
    x0, y0, x1, y1 = face.box
    assert x0 < centre[0] < x1
    assert y0 < centre[1] < y1
    assert 1.2 * radius < x1 - x0 < 2.6 * radius


@pytest.mark.parametrize(
    ("size", "centre", "radius", "tilt"),
    [
        ((240, 320), (160, 120), 50, 0),
        ((240, 320), (160, 120), 50, 30),
        ((240, 320), (160, 120), 50, -30),
        ((36, 64), (30, 18), 8, 0),  # a tiny picture
        ((256, 256), (128, 120), 140, 0),  # fills the frame: the wide look
        ((1080, 1920), (1500, 300), 60, 0),
        ((700, 300), (150, 550), 40, 0),  # portrait
    ],
)
def test_mesh_finds_a_face(
    mesh: FaceBackend, size: tuple[int, int], centre: tuple[int, int], radius: int, tilt: float
) -> None:
    faces = mesh.faces(draw_face(blank(*size), centre, radius, tilt))
    assert len(faces) == 1
    face = faces[0]
    assert face.points68.shape == (68, 2)
    assert face.forehead is not None
    assert face.forehead.shape == (13, 2)
    assert {face.box.dtype, face.points68.dtype, face.points5.dtype} == {np.dtype(np.float32)}
    assert 0.5 <= face.score <= 1
    assert_on_face(face, centre, radius, tilt)


def test_mesh_finds_a_small_face_by_tiles(mesh: FaceBackend) -> None:
    """Too small for the whole look: found in a tile that shows it larger."""
    frame = draw_face(blank(1080, 1920), (1500, 700), 28)
    faces = mesh.faces(frame)
    assert len(faces) == 1
    assert_on_face(faces[0], (1500, 700), 28)


def test_mesh_finds_two_faces_and_the_same_again(mesh: FaceBackend) -> None:
    frame = draw_face(blank(300, 640), (480, 150), 50)
    frame[:, :320] = draw_face(blank(300, 320), (160, 150), 60)
    first = mesh.faces(frame)
    assert sorted(round(face.points5[2, 0] / 160) for face in first) == [1, 3]
    again = mesh.faces(frame)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.points68, two.points68)


@pytest.mark.parametrize("size", [(240, 320), (1, 1), (2, 500), (3000, 7)])
def test_mesh_finds_nothing_in_an_empty_frame(mesh: FaceBackend, size: tuple[int, int]) -> None:
    assert mesh.faces(blank(*size)) == []


def test_mesh_without_weights_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "FILES", tmp_path)
    with pytest.raises(WeightsError, match="make weights"):
        face_backend("mesh")


def test_letterbox_maps_points_back() -> None:
    frame = blank(100, 400)
    frame[40:60, 100:140] = 255
    window = blazeface._centred(400, 100, 500)
    picture, scale, offset = blazeface._letterbox(frame, window)
    assert picture.shape == (1, 3, 192, 192)
    rows, columns = np.nonzero(picture[0, 0] > 0.9)
    low = np.array([columns.min(), rows.min()]) / scale + offset
    high = np.array([columns.max() + 1, rows.max() + 1]) / scale + offset
    np.testing.assert_allclose(low, [100, 40], atol=500 / 192)
    np.testing.assert_allclose(high, [140, 60], atol=500 / 192)


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (640, 640), (3000, 400)])
def test_tiles_cover_the_frame_and_overlap(size: tuple[int, int]) -> None:
    seen: NDArray[np.int64] = np.zeros((size[1], size[0]), np.int64)
    tiles = blazeface._tiles(*size)
    for tile in tiles:
        assert tile.x0 >= 0
        assert tile.x0 + tile.side <= size[0]
        seen[tile.y0 : tile.y0 + tile.side, tile.x0 : tile.x0 + tile.side] += 1
    assert seen.min() >= 1
    # A face that a border cuts in one tile lies whole in a neighbour.
    assert len(tiles) >= 2 * max(size) / tiles[0].side - 1


def test_five_points_are_means_and_corners() -> None:
    points = np.arange(136, dtype=np.float32).reshape(68, 2)
    expected = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    np.testing.assert_allclose(five_points(points), expected)
    assert five_points(np.stack([points] * 3)).shape == (3, 5, 2)


def test_unknown_backend_lists_those_that_exist() -> None:
    with pytest.raises(DataError, match="mesh, fan, given"):
        face_backend("dlib")


def given_arrays(num_rows: int = 3) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    return {
        "frame_index": np.array([0, 2, 2][:num_rows]),
        "box": rng.uniform(0, 50, (num_rows, 4)),
        "points68": rng.uniform(0, 50, (num_rows, 68, 2)),
        "score": np.array([0.9, 0.6, 0.8][:num_rows]),
    }


@pytest.mark.parametrize("name", ["clip.faces.npz", "clip.mp4.faces.npz", "clip.faces.json"])
def test_given_reads_faces_frame_by_frame(tmp_path: Path, name: str) -> None:
    arrays = given_arrays()
    if name.endswith("npz"):
        np.savez(tmp_path / name, **arrays)  # type: ignore[arg-type]
    else:
        values = {key: value.tolist() for key, value in arrays.items()}
        (tmp_path / name).write_text(json.dumps(values))
    backend = face_backend("given")
    for _ in range(2):  # begin starts again at the first frame
        backend.begin(tmp_path / "clip.mp4")
        found = [backend.faces(blank(4, 4)) for _ in range(4)]
        assert [len(faces) for faces in found] == [1, 0, 2, 0]
        assert [face.score for face in found[2]] == [0.8, 0.6]
        np.testing.assert_allclose(found[0][0].points68, arrays["points68"][0], rtol=1e-6)


def test_given_takes_81_points_for_68_and_a_forehead(tmp_path: Path) -> None:
    arrays = given_arrays()
    points = np.random.default_rng(1).uniform(0, 50, (3, 81, 2))
    del arrays["points68"]
    np.savez(tmp_path / "clip.faces.npz", points81=points, **arrays)  # type: ignore[arg-type]
    backend = face_backend("given")
    backend.begin(tmp_path / "clip.mp4")
    face = backend.faces(blank(4, 4))[0]
    np.testing.assert_allclose(face.points68, points[0, :68], rtol=1e-6)
    assert face.forehead is not None
    np.testing.assert_allclose(face.forehead, points[0, 68:], rtol=1e-6)


def test_given_mirrors_the_folders_of_the_videos(tmp_path: Path) -> None:
    videos, faces = tmp_path / "videos", tmp_path / "faces"
    (faces / "real").mkdir(parents=True)
    np.savez(faces / "real" / "a.faces.npz", **given_arrays())  # type: ignore[arg-type]
    backend = face_backend("given", folder=faces, root=videos)
    backend.begin(videos / "real" / "a.mp4")
    assert len(backend.faces(blank(4, 4))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points68": None}, "lacks points68"),
        ({"box": np.zeros((3, 3))}, r"box has shape \(3, 3\)"),
        ({"score": np.full(3, np.nan)}, "no numbers"),
    ],
)
def test_given_refuses_other_arrays(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {k: v for k, v in {**given_arrays(), **change}.items() if v is not None}
    np.savez(tmp_path / "clip.faces.npz", **arrays)
    with pytest.raises(DataError, match=message):
        face_backend("given").begin(tmp_path / "clip.mp4")


def test_given_names_the_missing_or_broken_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"put clip\.mp4\.faces\.npz into"):
        face_backend("given").begin(tmp_path / "clip.mp4")
    (tmp_path / "clip.faces.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read as given faces"):
        face_backend("given").begin(tmp_path / "clip.mp4")


def fake_face_alignment(failure: Exception | None) -> types.ModuleType:
    """Stand in for the package: its weights cannot be had here."""
    module = types.ModuleType("face_alignment")

    class Detector:
        def detect_from_image(self, _: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
            return [np.array(b, np.float32) for b in ([0, 0, 9, 9, 0.6], [1, 1, 8, 8, 0.9])]

    class FaceAlignment:
        def __init__(self, kind: object, *, device: str, face_detector: str, compile: bool) -> None:
            assert (device, face_detector, compile) == ("cpu", "sfd", False)
            if failure is not None:
                raise failure
            self.face_detector = Detector()

        def get_landmarks_from_image(
            self, _: NDArray[np.uint8], *, detected_faces: list[NDArray[np.float32]]
        ) -> list[NDArray[np.float32]]:
            return [np.full((68, 2), face[0], np.float32) for face in detected_faces]

    module.FaceAlignment = FaceAlignment  # type: ignore[attr-defined]
    module.LandmarksType = types.SimpleNamespace(TWO_D=1)  # type: ignore[attr-defined]
    return module


def test_fan_orders_faces_by_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", fake_face_alignment(None))
    monkeypatch.setattr("datamodules.faces.fan.version", lambda _: "9.9")
    backend = face_backend("fan", device="cpu")
    assert (backend.name, backend.version) == ("fan", "9.9")
    faces = backend.faces(blank(10, 10))
    assert [round(face.score, 1) for face in faces] == [0.9, 0.6]
    assert faces[0].points68[0, 0] == 1
    assert faces[0].points5.shape == (5, 2)
    assert isinstance(backend, PlacesPoints)
    (again,) = backend.points(blank(10, 10), faces[:1])
    assert again is not None
    np.testing.assert_array_equal(again.points68, faces[0].points68)
    assert again.score == pytest.approx(faces[0].score)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (URLError("Name or service not known"), r"could not be fetched.*s3fd-619a316812\.pth"),
        (RuntimeError("PytorchStreamReader failed\nmore"), "damaged"),
    ],
)
def test_fan_without_weights_names_files_and_folder(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", fake_face_alignment(failure))
    with pytest.raises(WeightsError, match=message) as caught:
        face_backend("fan", device="cpu")
    assert "\n" not in str(caught.value)
    assert "checkpoints" in str(caught.value)


def test_fan_without_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(DataError, match=r"pip install -e '\.\[fan\]'"):
        face_backend("fan")
