import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from datamodules.clip_sampling import num_windows
from datamodules.datasets.folder import read_folder
from datamodules.errors import DataError
from datamodules.preprocess.__main__ import main
from datamodules.preprocess.align import big_box
from datamodules.preprocess.batch import Preparation, prepare_folder
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore, TrackReader
from datamodules.video.reader import open_video
from tests.support.raw_folder import face_rows, write_clip, write_faces
from tests.support.videos import write_video

REPOSITORY = Path(__file__).parents[3]
GIVEN = PrepareOptions(backend="given", image_format="png")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos: two fine, one of two people with gaps, one without faces, one of no bytes."""
    root = tmp_path_factory.mktemp("folder") / "raw"
    write_clip(root / "real" / "a é 视频.mp4")
    write_clip(root / "real" / "b.mp4", face_rows(range(20), score=0.6))
    passing = face_rows(range(3, 6), left=90, side=12)
    second = face_rows(range(10, 20), left=5, side=20)
    write_clip(root / "fake" / "swap" / "c.mp4", face_rows([*range(8), *range(10, 20)]), second)
    write_clip(root / "fake" / "swap" / "d.mp4", face_rows(range(20)), passing)
    (root / "fake" / "swap" / "e.mp4").touch()
    return root


def prepare(
    raw: Path, out: Path, options: PrepareOptions = GIVEN, num_workers: int = 2, **source: Any
) -> Preparation:
    return prepare_folder(read_folder(open_root(raw), **source), out, options, num_workers)


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(raw, out)
    return out


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "copy"))


def report(out: Path) -> list[dict[str, str]]:
    with (out / "report.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    """Read everything that must not depend on how it was made."""
    files = [path for path in out.rglob("*") if path.is_file() and path.parent.name != "ledger"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def no_leftovers(out: Path) -> bool:
    return not [*out.rglob("*.partial")]


def test_store_holds_what_was_in_the_videos(raw: Path, prepared: Path) -> None:
    store = PreparedStore(prepared)
    records = {Path(record.path).name: record for record in store.records}
    assert {name: (r.status, len(r.tracks)) for name, r in records.items()} == {
        "a é 视频.mp4": ("ok", 1),
        "b.mp4": ("no_face", 0),
        "c.mp4": ("ok", 2),
        "d.mp4": ("ok", 1),
        "e.mp4": ("unreadable", 0),
    }
    record = records["a é 视频.mp4"]
    assert (record.num_frames, record.height, record.width, record.fps) == (20, 96, 128, 25.0)
    assert (store.info.backend, store.info.backend_version) == ("given", "1")
    assert store.info.counts["videos"] == 5
    assert no_leftovers(prepared)
    for track in (track for r in store.records for track in r.tracks):
        store.reader(track).verify()
    figures = store.reader(record.tracks[0]).figures
    assert (figures["face_px"], figures["score"]) == (30.0, 0.9)


def test_crops_are_the_big_boxes_of_the_frames(raw: Path, prepared: Path) -> None:
    store = PreparedStore(prepared)
    record = next(record for record in store.records if record.path == "fake/swap/c.mp4")
    with open_video(raw / record.path, record.decoder) as reader:
        for track in record.tracks:
            stored = store.reader(track)
            faces = stored.track
            frames = reader.read(faces.frame_index.tolist())
            for i, crop in enumerate(stored.crops(range(len(stored)))):
                x0, y0, x1, y1 = big_box(faces.box[i], 96, 128)
                assert stored.crop_boxes[i].tolist() == [x0, y0, x1, y1]
                np.testing.assert_array_equal(crop, frames[i][y0:y1, x0:x1])
    given = face_rows([*range(8), *range(10, 20)])
    faces = store.reader(record.tracks[0]).track
    np.testing.assert_array_equal(faces.frame_index, given["frame_index"])
    np.testing.assert_allclose(faces.points68, given["points68"], rtol=1e-6)
    np.testing.assert_allclose(faces.points5[:, 2], given["points68"][:, 30], rtol=1e-6)


def test_report_names_everything_dropped(prepared: Path) -> None:
    rows = report(prepared)
    videos = [row for row in rows if row["what"] == "video"]
    assert len(videos) == 5
    reasons = {Path(row["path"]).name: row["reason"] for row in videos}
    assert "no face is sure enough" in reasons["b.mp4"]
    assert reasons["e.mp4"].startswith("is empty")
    dropped = {
        (Path(row["path"]).name, row["what"], row["first_frame"], row["last_frame"]): row["reason"]
        for row in rows
        if row["what"].startswith("dropped")
    }
    assert dropped == {
        ("b.mp4", "dropped frames", "0", "19"): "no face of a kept track",
        ("c.mp4", "dropped frames", "8", "9"): "no face found",
        ("d.mp4", "dropped track", "3", "5"): "track of 3 frames, where another has 20",
    }
    track = next(row for row in rows if row["what"] == "track")
    assert float(track["face_px"]) == 30.0
    assert float(track["score"]) == 0.9
    assert float(track["blur"]) > 0


def test_one_worker_makes_the_same_bytes(raw: Path, prepared: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "out", num_workers=1)
    assert contents(tmp_path / "out") == contents(prepared)


def stamps(out: Path) -> dict[str, int]:
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in out.rglob("*.zip")}


def test_second_run_does_nothing(raw: Path, copy: Path) -> None:
    before = stamps(copy), contents(copy)
    assert prepare(raw, copy).num_kept == 5
    assert (stamps(copy), contents(copy)) == before


def test_second_run_mends_what_is_missing(raw: Path, copy: Path, prepared: Path) -> None:
    before = stamps(copy)
    (copy / "tracks/raw/unknown/swap/c/1.zip").unlink()
    (copy / "tracks/raw/unknown/swap/d/0.zip").write_bytes(b"cut off")
    (copy / "manifest.jsonl").unlink()
    (copy / "tracks/.0.zip.99.partial").touch()
    assert prepare(raw, copy).num_kept == 3
    assert contents(copy) == contents(prepared)
    assert no_leftovers(copy)
    kept = "tracks/raw/unknown/real/a é 视频/0.zip"
    assert stamps(copy)[kept] == before[kept]


def test_changed_videos_are_prepared_again(raw: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(raw, tmp_path / "raw"))
    out = tmp_path / "out"
    prepare(root, out)
    os.utime(root / "real" / "b.mp4", ns=(1, 1))  # the same bytes at another time
    assert prepare(root, out).num_kept == 5
    write_clip(root / "fake" / "swap" / "c.mp4", num_frames=12)
    done = prepare(root, out)
    assert done.num_kept == 4
    changed = next(record for record in done.records if record.path == "fake/swap/c.mp4")
    assert (changed.num_frames, len(changed.tracks)) == (12, 1)
    assert not (out / "tracks/raw/unknown/swap/c/1.zip").exists()  # of the earlier second person


def test_other_settings_prepare_again(raw: Path, copy: Path) -> None:
    other = replace(GIVEN, start_score=0.2, max_clips=1)
    before = contents(copy)
    with pytest.raises(DataError, match=r"--max-clips 0, not 1, --face-thres 0.8, not 0.2.*--redo"):
        prepare(raw, copy, other)
    assert contents(copy) == before
    done = prepare_folder(read_folder(open_root(raw)), copy, other, 2, redo=True)
    assert done.num_kept == 0
    assert {record.status for record in done.records} == {"ok", "unreadable"}


@pytest.mark.parametrize(
    ("changes", "frames", "reason"),
    [
        ({"max_frames": 7}, 7, "beyond the first 7 frames"),
        ({"max_clips": 1}, 32, "beyond the first 1 clip(s) of the track"),
    ],
)
def test_limits_cut_tracks_and_say_so(
    tmp_path: Path, changes: dict[str, Any], frames: int, reason: str
) -> None:
    write_clip(tmp_path / "real" / "long.mp4", num_frames=50)
    task = VideoTask(
        tmp_path, tmp_path / "out", "real/long.mp4", "a/b/c/d", replace(GIVEN, **changes)
    )
    result = prepare_video(task)
    assert [track["num_frames"] for track in result["tracks"]] == [frames]
    assert result["num_frames"] == 50
    row = result["dropped"][-1]
    assert (row["first_frame"], row["last_frame"], row["reason"]) == (frames, 49, reason)


def two_shots(path: Path) -> Path:
    """Write a video of two shots of 15 frames, a face at the same place in both."""
    frames = [np.full((96, 128, 3), (30, 60, 90), np.uint8) for _ in range(15)]
    frames += [np.full((96, 128, 3), (190, 160, 90), np.uint8) for _ in range(15)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_cut_ends_a_track_and_is_reported(tmp_path: Path) -> None:
    write_faces(two_shots(tmp_path / "raw" / "real" / "a.mp4"), face_rows(range(30)))
    prepare(tmp_path / "raw", tmp_path / "out", num_workers=1)
    rows = report(tmp_path / "out")
    found = [(r["what"], r["first_frame"], r["last_frame"], r["person"]) for r in rows[1:]]
    assert found == [("track", "0", "14", "0"), ("track", "15", "29", "1"), ("cut", "15", "", "")]
    assert rows[-1]["reason"] == "first frame of another shot"
    store = PreparedStore(tmp_path / "out")
    first = store.reader(store.records[0].tracks[0])
    assert first.figures["kept"] == 1.0
    assert {"yaw", "pitch", "roll", "yaw_range"} <= set(first.figures)
    assert num_windows(first.track.frame_index, 15) == 1


def test_of_two_people_all_or_the_main_one_are_kept(tmp_path: Path) -> None:
    second = face_rows(range(5, 20), left=5, side=20)
    write_clip(tmp_path / "real" / "a.mp4", second, face_rows(range(20)))
    task = VideoTask(tmp_path, tmp_path / "out", "real/a.mp4", "x", GIVEN)
    tracks = prepare_video(task)["tracks"]
    roles = [(t["first_frame"], t["person"], t["rank"]) for t in tracks]
    assert roles == [(0, 0, 0), (5, 1, 1)]
    result = prepare_video(replace(task, options=replace(GIVEN, people="main")))
    assert [(t["path"], t["person"]) for t in result["tracks"]] == [("tracks/x/0.zip", 0)]
    assert not (tmp_path / "out/tracks/x/1.zip").exists()
    row = result["dropped"][0]
    assert (row["what"], row["first_frame"]) == ("dropped track", 5)
    assert row["reason"] == "a person beside the main one of the shot"


def test_a_damaged_video_gives_the_frames_before(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "real" / "cut.mp4", num_frames=60)
    # With the index in front, so that the file opens without its tail.
    write_video(video, 60, container_options={"movflags": "+faststart"})
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 2 // 3])
    result = prepare_video(VideoTask(tmp_path, tmp_path / "out", "real/cut.mp4", "x", GIVEN))
    assert result["status"] == "ok"
    assert result["reason"].startswith("is damaged")
    assert result["reason"].endswith("the frames before the damage are used")
    assert result["decoder"] == "pyav_prefix"
    assert 10 < result["num_frames"] < 60
    assert result["tracks"][0]["num_frames"] == result["num_frames"]


def test_faces_outside_the_frame_are_left_out(tmp_path: Path) -> None:
    write_clip(tmp_path / "real" / "a.mp4", face_rows(range(20)), face_rows(range(20), left=900))
    result = prepare_video(VideoTask(tmp_path, tmp_path / "out", "real/a.mp4", "x", GIVEN))
    assert [track["num_frames"] for track in result["tracks"]] == [20]


def test_missing_faces_and_missing_files_are_records(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    (write_clip(root / "real" / "a.mp4").parent / "a.mp4.faces.npz").unlink()
    (root / "m.csv").write_text("path,label,split\nreal/a.mp4,real,train\nreal/z.mp4,real,train\n")
    done = prepare(root, tmp_path / "out", manifest=root / "m.csv")
    assert [record.status for record in done.records] == ["unreadable", "unreadable"]
    reasons = [row["reason"] for row in report(tmp_path / "out") if row["what"] == "video"]
    assert "put a.mp4.faces.npz into" in reasons[0]
    assert "cannot be read" in reasons[1]
    np.savez(root / "real" / "a.mp4.faces.npz", **face_rows(range(20)))  # type: ignore[arg-type]
    done = prepare(root, tmp_path / "out", manifest=root / "m.csv")
    assert [record.status for record in done.records] == ["ok", "unreadable"]


def test_stores_are_not_mixed(raw: Path, copy: Path, tmp_path: Path) -> None:
    info = copy / "prepared.json"
    text = info.read_text()
    info.write_text(text.replace('"backend_version": "1"', '"backend_version": "0"'))
    with pytest.raises(DataError, match=r"face backend given 0, not given 1.*never mixed"):
        prepare(raw, copy)
    info.write_text(text)
    with pytest.raises(DataError, match="holds the data set 'raw', not 'other'"):
        prepare(raw, copy, name="other")
    info.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        prepare(raw, copy)
    with pytest.raises(DataError, match="lies in the folder of the raw videos"):
        prepare(raw, raw)
    with pytest.raises(DataError, match="lies in the folder of the raw videos"):
        prepare(raw, raw / "prepared")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    with pytest.raises(DataError, match="not empty and no prepared folder"):
        prepare(raw, tmp_path / "full")


def test_command_line_takes_both_spellings_and_sums_up(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["-d", str(raw), "-o", str(out), "--backend", "given", "--workers", "2"]
    arguments += ["--max_frames", "15", "--face_thres", "0.2", "--bbox-thres", "0.1"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "5 videos: 4 with faces, 1 unreadable" in told
    assert f"Next: make train EXP=ftcn_tt DATA=folder ROOT={out}" in told
    parameters = PreparedStore(out).info.parameters
    assert (parameters["max_frames"], parameters["start_score"]) == (15, 0.2)
    more = ["--max-frames", "15", "--face-thres", "0.2", "--bbox_thres", "0.1", "--limit", "2"]
    assert main([*arguments[:8], *more]) == 0
    told = capsys.readouterr().out
    assert "2 of 5 videos are taken" in told
    assert "2 of the videos were there already" in told


def test_command_line_gives_one_line_for_a_wrong_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-d", str(tmp_path / "absent"), "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def start_program(raw: Path | str, out: Path | str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "datamodules.preprocess", "-d", str(raw), "-o", str(out)]
    command += ["--backend", "given", "--format", "png", "--workers", "2"]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve copies of a video that takes a while."""
    root = tmp_path_factory.mktemp("longer") / "raw"
    first = write_clip(root / "real" / "v00.mp4", num_frames=150)
    for i in range(1, 12):
        for name in ("{}", "{}.faces.npz"):
            source = first.with_name(name.format("v00.mp4"))
            shutil.copy(source, first.with_name(name.format(f"v{i:02d}.mp4")))
    return root


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_half_written_and_goes_on(longer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start_program(longer, out)
    wait_for(lambda: len(list(out.glob("ledger/*.json"))) >= 2, process)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.jsonl").exists()
    done = prepare(longer, out)
    assert 2 <= done.num_kept < 12
    assert [record.status for record in done.records] == ["ok"] * 12
    assert no_leftovers(out)
    for record in done.records:
        PreparedStore(out).reader(record.tracks[0]).verify()


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(child) for child in path.read_text().split()]
    return below + [grandchild for child in below for grandchild in children(child)]


def is_worker(pid: int) -> bool:
    line = Path(f"/proc/{pid}/cmdline").read_bytes()
    return b"popen_loky" in line


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers through /proc")
def test_a_killed_worker_costs_no_video(longer: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start_program(longer, out)
    wait_for(lambda: len(list(out.glob("ledger/*.json"))) >= 2, process)
    workers = [pid for pid in children(process.pid) if is_worker(pid)]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    assert [record.status for record in PreparedStore(out).records] == ["ok"] * 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_nothing_half_written(
    longer: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = small_disk / "out"
    arguments = ["-d", str(longer), "-o", str(out), "--backend", "given", "--format", "png"]
    assert main([*arguments, "--workers", "2"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: the disk of")
    assert "make room and run the same command again" in line
    assert no_leftovers(out)
    assert 0 < len(list(out.glob("ledger/*.json"))) < 12
    for path in out.rglob("*.zip"):
        TrackReader(path).verify()
