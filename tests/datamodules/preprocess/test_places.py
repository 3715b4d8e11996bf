"""The bytes of a store depend neither on who makes it nor on where anything lies."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.datasets.folder import read_folder
from datamodules.errors import DataError
from datamodules.preprocess.__main__ import main
from datamodules.preprocess.batch import Preparation, prepare_folder
from datamodules.storage.output import LocalOutput
from datamodules.storage.remote import RemoteRoot
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore, TrackReader
from datamodules.video_datamodule import VideoDataModule
from tests.datamodules.preprocess.test_prepare import GIVEN, start_program, wait_for
from tests.support.raw_folder import face_rows, write_clip


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos, one of no bytes, all of one time of modification."""
    root = tmp_path_factory.mktemp("places") / "raw"
    for i in range(4):
        write_clip(root / "real" / f"v{i}.mp4", num_frames=16 + i)
        second = face_rows(range(4, 14), left=5, side=20)
        write_clip(root / "fake" / "swap" / f"v{i}.mp4", face_rows(range(16)), second)
    (root / "real" / "v3.mp4").write_bytes(b"")
    rows = [
        f"{path.relative_to(root).as_posix()},{path.parts[-2 if 'real' in path.parts else -3]},"
        f"{('train', 'train', 'val', 'test')[int(path.stem[1])]},p{path.stem}"
        for path in sorted(root.rglob("*.mp4"))
    ]
    (root / "manifest.csv").write_text("\n".join(["path,label,split,identity_group", *rows]))
    return root


def prepare(raw: Path | str, out: Path | str, workers: int = 2, **more: Any) -> Preparation:
    source = read_folder(open_root(raw), name="places")
    return prepare_folder(source, out, GIVEN, workers, **more)


def contents(out: Path | str) -> dict[str, bytes]:
    """Read all files of a store; the lock, which is empty, is none of its data."""
    root = RemoteRoot(out) if isinstance(out, str) else LocalOutput(out)
    paths = [path for path in root.files() if path != "ledger/lock"]
    found = root.read_all(paths)
    assert sorted(found) == paths
    return found


def without_ledger(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out the ledger, which names when each raw file was written: a copy is younger."""
    return {path: content for path, content in files.items() if not path.startswith("ledger/")}


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(raw, out, 1)
    return out


def test_processes_and_engines_make_the_same_bytes(
    raw: Path, prepared: Path, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs the extra `cluster`")
    prepare(raw, tmp_path / "two", 2)
    prepare(raw, tmp_path / "dask", 2, engine="dask")
    expected = contents(prepared)
    assert len([path for path in expected if path.endswith(".zip")]) == 3 + 2 * 4
    # Every file, the ledger too.
    assert contents(tmp_path / "two") == expected
    assert contents(tmp_path / "dask") == expected
    # Each can go on where the other was.
    assert prepare(raw, tmp_path / "dask", 1).num_kept == 8
    (tmp_path / "two" / "ledger" / next((prepared / "ledger").glob("*.json")).name).unlink()
    assert prepare(raw, tmp_path / "two", 1, engine="dask").num_kept == 7
    assert contents(tmp_path / "two") == expected


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bytes(
    raw: Path, prepared: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(raw, tmp_path / "places")
    out = tmp_path / "out"
    for wanted in (2, 4):
        process = start_program(copy, out)
        wait_for(lambda n=wanted: len(list(out.glob("ledger/*.json"))) >= n, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert prepare(copy, out).num_kept >= 2
    assert contents(out) == contents(prepared)


def upload(folder: Path, url: str) -> None:
    root = RemoteRoot(url)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        root.write(path.relative_to(folder).as_posix(), path.read_bytes())


def test_buckets_and_folders_hold_the_same_bytes(
    raw: Path, prepared: Path, bucket: str, cache_folder: Path, tmp_path: Path
) -> None:
    upload(raw, f"{bucket}/raw")
    done = prepare(f"{bucket}/raw", f"{bucket}/out")
    assert (done.num_kept, done.failures, done.changed) == (0, {}, [])
    expected = without_ledger(contents(prepared))
    assert without_ledger(contents(f"{bucket}/out")) == expected
    assert not list((cache_folder / "work").iterdir())
    # A second run does nothing; a track and a result that are gone are made again.
    assert prepare(f"{bucket}/raw", f"{bucket}/out").num_kept == 8
    tracks = [path for path in expected if path.endswith(".zip")]
    ledger = [path for path in RemoteRoot(f"{bucket}/out").files() if path.startswith("ledger/")]
    RemoteRoot(f"{bucket}/out").remove([tracks[0], ledger[-1]])
    assert prepare(f"{bucket}/raw", f"{bucket}/out").num_kept in (6, 7)
    assert without_ledger(contents(f"{bucket}/out")) == expected
    # From a bucket into a folder.
    prepare(f"{bucket}/raw", tmp_path / "out", 1)
    assert without_ledger(contents(tmp_path / "out")) == expected
    # One video has changed since then.
    changed = write_clip(tmp_path / "v0.mp4", num_frames=16).read_bytes()
    changed = changed + b"\0" * (raw / "real" / "v0.mp4").stat().st_size
    size = (raw / "real" / "v0.mp4").stat().st_size
    RemoteRoot(f"{bucket}/raw").write("real/v0.mp4", changed[:size][::-1])
    done = prepare(f"{bucket}/raw", f"{bucket}/out")
    assert (done.num_kept, done.changed) == (7, ["real/v0.mp4"])


@pytest.mark.slow
def test_dask_makes_the_same_bytes_in_a_bucket(raw: Path, prepared: Path, bucket: str) -> None:
    upload(raw, f"{bucket}/raw")
    prepare(f"{bucket}/raw", f"{bucket}/out", engine="dask")
    assert without_ledger(contents(f"{bucket}/out")) == without_ledger(contents(prepared))


def batches(root: Path | str, num_workers: int) -> list[dict[str, torch.Tensor]]:
    data = VideoDataModule(root=root, num_frames=8, image_size=48, batch_size=4, seed=3)
    data.num_workers = num_workers
    data.setup("fit")
    found = [*data.train_dataloader(), *data.val_dataloader()]
    data.teardown("fit")
    return found


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_batches_from_a_bucket_are_those_of_the_folder(
    prepared: Path, bucket: str, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(prepared, f"{bucket}/out")
    monkeypatch.setenv("FORGERY_CACHE_GB", "0.0001")  # a few of the tracks
    near, far = batches(prepared, num_workers), batches(f"{bucket}/out", num_workers)
    assert len(near) == len(far) > 2
    for a, b in zip(near, far, strict=True):
        assert sorted(a) == sorted(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_changed_track_is_named(prepared: Path, bucket: str) -> None:
    upload(prepared, f"{bucket}/out")
    store = PreparedStore(f"{bucket}/out")
    first, second = next(record.tracks for record in store.records if len(record.tracks) > 1)
    files = RemoteRoot(f"{bucket}/out")
    files.write(first, files.read(second) or b"")
    store.reader(second).verify()
    with pytest.raises(DataError, match=rf"{first} has changed: its sha256 is"):
        store.reader(first)


@pytest.mark.slow
def test_a_killed_run_into_a_bucket_goes_on(raw: Path, prepared: Path, bucket: str) -> None:
    upload(raw, f"{bucket}/places")
    root = RemoteRoot(f"{bucket}/out")
    process = start_program(f"{bucket}/places", f"{bucket}/out")
    wait_for(lambda: len(root.files("ledger")) >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert root.size("manifest.jsonl") == -1
    for path in root.files("tracks"):
        with root.hold(path) as track:
            TrackReader(track).verify()
    assert 2 <= prepare(f"{bucket}/places", f"{bucket}/out").num_kept < 8
    assert without_ledger(contents(f"{bucket}/out")) == without_ledger(contents(prepared))


def test_places_that_cannot_be_are_one_line(
    raw: Path, bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*words: object) -> str:
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    upload(raw / "real", f"{bucket}/raw/real")
    assert "lies in the folder of the raw" in line("-d", raw, "-o", raw / "out")
    assert "lies in the folder of the raw" in line("-d", f"{bucket}/raw", "-o", f"{bucket}/raw/out")
    assert "there is no bucket" in line("-d", "s3://absent-bucket/x", "-o", tmp_path / "out")
    assert "holds no video" in line("-d", f"{bucket}/nothing", "-o", tmp_path / "out")
    assert "not empty and no prepared folder" in line("-d", raw, "-o", bucket)
    assert "is for ENGINE=dask" in line("-d", raw, "-o", tmp_path / "out", "--address", "tcp://x:1")
    assert "a number of gigabytes above 0, not '0'" in line(
        "-d", bucket, "-o", tmp_path, "--cache-gb", "0"
    )
    assert not (tmp_path / "out").exists()


def test_workers_with_other_software_are_refused(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datamodules.preprocess import batch, work

    monkeypatch.setattr(batch, "software", lambda: {**work.software(), "av": "0.1"})
    done = prepare(raw, tmp_path / "out", 1)
    assert len(done.failures) == 8
    assert all("install the same everywhere" in reason for reason in done.failures.values())
