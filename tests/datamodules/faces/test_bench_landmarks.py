from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.faces.bench_landmarks import landmark_file, read_landmarks
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.store.prepared import TrackReader
from tests.support.frame_folders import write_bench_video, write_landmarks

BENCH = PrepareOptions(backend="bench", image_format="png")


def task_of(root: Path, path: str, **more: object) -> VideoTask:
    out = root / "out"
    return VideoTask(root=root, out=out, path=path, video_id="v", options=BENCH, **more)  # type: ignore[arg-type]


def test_landmarks_lie_beside_the_frames() -> None:
    path = Path("/my frames/frames/set/frames/000_003/012.png")
    assert landmark_file(path) == Path("/my frames/frames/set/landmarks/000_003/012.npy")
    assert landmark_file(path.parent) == path.parent.parent.parent / "landmarks/000_003"
    assert landmark_file(Path("a/frames_all/x")) == Path("a/landmarks_all/x")
    with pytest.raises(DataError, match="below no folder 'frames'"):
        landmark_file(Path("/set/videos/000.png"))


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint32, np.float32, np.float64])
def test_all_kinds_of_numbers(tmp_path: Path, dtype: type) -> None:
    file = write_landmarks(tmp_path / "000.npy", dtype=dtype)
    points = read_landmarks(file)
    assert (points.shape, points.dtype) == ((81, 2), np.float32)
    np.testing.assert_allclose(points, np.load(file), rtol=1e-6)


def test_raw_bytes_and_points_outside(tmp_path: Path) -> None:
    points = np.arange(162, dtype=np.int32).reshape(81, 2) - 5
    (tmp_path / "raw.npy").write_bytes(points.tobytes())
    np.save(tmp_path / "wrapped.npy", points.view(np.uint32))
    for name in ("raw.npy", "wrapped.npy"):
        np.testing.assert_array_equal(read_landmarks(tmp_path / name), points)


@pytest.mark.parametrize(
    "content", [np.zeros((68, 2)), np.full((81, 2), np.nan), np.array(["x"]), b"", b"\x93NUMPY"]
)
def test_other_files_are_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "000.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"000\.npy"):
        read_landmarks(file)


def test_landmarks_are_the_faces(tmp_path: Path) -> None:
    folder = "UADFV/fake/frames/0001_fake"
    numbers = [0, 9, 18, 27, 36]
    write_bench_video(tmp_path, folder, numbers)
    (tmp_path / "UADFV/fake/landmarks/0001_fake/018.npy").unlink()
    result = prepare_video(task_of(tmp_path, folder))
    assert (result["status"], result["decoder"]) == ("ok", "frames")
    assert len(result["inputs"]) == 5 + 4
    track = TrackReader(tmp_path / "out" / result["tracks"][0]["path"])
    assert track.track.frame_index.tolist() == [0, 1, 3, 4]
    assert (track.meta.backend, track.meta.backend_version) == ("bench", "1")
    whole = np.load(tmp_path / "UADFV/fake/landmarks/0001_fake/027.npy")
    np.testing.assert_array_equal(track.track.points68[2], whole[:68])
    assert [row["reason"] for row in result["dropped"]] == ["no face found"]


def test_only_the_landmarks_of_the_video_are_read(tmp_path: Path) -> None:
    folder = "a/frames/v"
    write_bench_video(tmp_path, folder, [0, 1, 2, 3])
    (tmp_path / "a/landmarks/v/000.npy").write_bytes(b"damaged")
    result = prepare_video(task_of(tmp_path, folder, frames=("002.png", "003.png")))
    assert (result["status"], result["num_frames"]) == ("ok", 2)
    result = prepare_video(task_of(tmp_path, folder))
    assert result["status"] == "unreadable"
    assert "000.npy" in result["reason"]


def test_videos_without_landmarks_say_so(tmp_path: Path) -> None:
    write_bench_video(tmp_path, "a/frames/v", [0])
    (tmp_path / "a/landmarks/v/000.npy").unlink()
    (tmp_path / "a/landmarks/v").rmdir()
    result = prepare_video(task_of(tmp_path, "a/frames/v"))
    assert "use another backend" in result["reason"]
    result = prepare_video(task_of(tmp_path, "a/frames/v/000.png"))
    assert "use another backend" in result["reason"]
