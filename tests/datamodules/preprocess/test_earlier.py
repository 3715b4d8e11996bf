"""What becomes of a store when its raw videos, its options or its tracks are not as they were."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.datasets.adapter import LayoutOptions
from datamodules.datasets.layouts import read_layout
from datamodules.errors import DataError
from datamodules.preprocess import batch
from datamodules.preprocess.__main__ import main
from datamodules.preprocess.batch import Preparation, prepare_folder
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from tests.support.raw_folder import face_rows, write_clip

GIVEN = PrepareOptions(backend="given", image_format="png")
VIDEOS = ("real/a.mp4", "real/b.mp4", "fake/swap/a.mp4", "fake/swap/b.mp4")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `raw`, four videos of a list, and `out`, prepared from it."""
    root = tmp_path_factory.mktemp("made")
    rows = ["path,label,method,split"]
    for i, path in enumerate(VIDEOS):
        write_clip(root / "raw" / path, face_rows(range(10), left=30 + i), num_frames=10)
        label, method = ("real", "none") if path.startswith("real") else ("fake", "swap")
        rows.append(f"{path},{label},{method},train")
    (root / "raw" / "manifest.csv").write_text("\n".join(rows))
    prepare(root)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def prepare(root: Path, options: PrepareOptions = GIVEN, **more: Any) -> Preparation:
    source = read_layout("folder", open_root(root / "raw"), LayoutOptions())
    return prepare_folder(source, root / "out", options, 1, **more)


def program(root: Path, *more: str) -> int:
    command = ["-d", str(root / "raw"), "-o", str(root / "out"), "--backend", "given"]
    return main([*command, "--format", "png", "--workers", "1", *more])


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_what_was_made_of_a_video_that_is_gone_is_kept(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy / "out")
    shutil.rmtree(copy / "raw" / "fake")
    assert program(copy) == 1
    told = capsys.readouterr().out
    assert "2 raw videos are gone, as fake/swap/a.mp4; what was made of them is kept" in told
    assert contents(copy / "out") == before
    # Whoever removes a track as well has neither.
    (copy / "out" / "tracks/raw/unknown/swap/a/0.zip").unlink()
    done = prepare(copy)
    assert done.gone == ["fake/swap/b.mp4"]
    assert {r.path: r.status for r in done.records}["fake/swap/a.mp4"] == "unreadable"


def test_a_store_that_is_half_made_again_does_not_open(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = contents(copy / "out")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(batch, "run_jobs", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(copy, replace(GIVEN, max_frames=5), redo=True)
    with pytest.raises(DataError, match=r"unfinished.*run `make data` again"):
        PreparedStore(copy / "out")
    # It says whose it is: the run that goes on with it needs the same options.
    with pytest.raises(DataError, match=r"--max-frames 5, not 768"):
        prepare(copy)
    prepare(copy, redo=True)
    found = contents(copy / "out")
    assert {p for p in found if found[p] != expected[p]} == set()


def test_a_damaged_track_of_the_same_size_is_made_anew(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = contents(copy / "out")
    track = copy / "out" / "tracks/raw/unknown/real/b/0.zip"
    content = bytearray(track.read_bytes())
    content[300] ^= 1
    track.write_bytes(content)
    assert prepare(copy).num_kept == 4
    assert program(copy, "--verify") == 0
    assert "3 of the videos were there already" in capsys.readouterr().out
    assert contents(copy / "out") == expected


def test_a_smaller_selection_tells_whom_it_leaves_out(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(copy, "--limit", "1") == 0
    told = capsys.readouterr().out
    assert "3 videos of the earlier run are no longer listed, as raw/unknown/real/b" in told
    assert len(list((copy / "out" / "tracks").rglob("*.zip"))) == 4
    done = prepare(copy)
    assert (done.num_kept, done.unlisted) == (4, [])


def test_training_is_not_advised_without_a_video_to_validate_on(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(copy) == 0
    assert "videos in split val" in capsys.readouterr().out
    listed = copy / "raw" / "manifest.csv"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join(x.replace("train", "val") if "/b." in x else x for x in lines))
    assert program(copy) == 0
    assert "Next: make train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cache-gb", "-1"], "takes a number of gigabytes above 0, not '-1'"),
        (["--face-thres", "0.3", "--bbox-thres", "0.9"], "lies below --bbox-thres 0.9"),
        (["--faces", "/nope"], "--faces /nope is no folder"),
        (["-c", "s3://bucket/list.csv"], "takes a file or folder of this machine, not s3://"),
        (["--frames", "some"], "some"),
        (["--address", "tcp://node1:8786"], "is for ENGINE=dask"),
        (["--backend", "given", "--reuse-boxes"], "leave out --reuse-boxes"),
        (["-o", str(Path(__file__))], "is a file; give a folder"),
    ],
)
def test_options_are_checked_before_the_videos_are_listed(
    options: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "raw").mkdir()
    monkeypatch.setattr("datamodules.datasets.layouts.read_layout", None)
    assert program(tmp_path, *options) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
