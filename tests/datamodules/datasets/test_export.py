import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.clip_dataset import ClipCutter
from datamodules.datasets.adapter import LayoutOptions
from datamodules.datasets.bench_export import bench_name, place_of
from datamodules.datasets.export import main
from datamodules.datasets.layouts import read_layout
from datamodules.faces.bench_landmarks import read_landmarks
from datamodules.preprocess.__main__ import main as prepare
from datamodules.schema import VideoRecord
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from tests.support.bench import FF, write_df40, write_ff
from tests.support.raw_folder import face_rows, write_clip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared store of FaceForensics++ and a subset of DF40."""
    root = tmp_path_factory.mktemp("store")
    write_df40(root / "raw", "simswap")
    write_ff(root / "raw", range(0, 60, 10))
    command = ["--layout", "deepfakebench", "-d", str(root / "raw"), "-o", str(root / "out")]
    command += ["--subset", f"{FF} simswap_ff", "--backend", "bench", "--format", "png"]
    assert prepare([*command, "--workers", "1"]) == 0
    return root / "out"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared store of own videos; in one, a second, larger person comes."""
    root = tmp_path_factory.mktemp("own")
    for name in ("real/a", "real/b", "real/c", "fake/swap/a", "fake/swap/b", "fake/swap/c"):
        write_clip(root / f"raw/{name}.mp4")
    larger = face_rows(range(8, 20), left=2, side=36)
    write_clip(root / "raw/real/c.mp4", face_rows(range(20), left=80), larger)
    write_clip(root / "raw/real/none.mp4", face_rows(range(20), score=0.1))
    command = ["-d", str(root / "raw"), "-o", str(root / "out"), "--name", "mine"]
    assert prepare([*command, "--backend", "given", "--format", "png", "--workers", "1"]) == 0
    return root / "out"


def export(store: Path, out: Path, *more: str) -> int:
    return main(["--manifest", str(store / "manifest.jsonl"), "-o", str(out), *more])


def identities(records: list[VideoRecord]) -> set[tuple[Any, ...]]:
    return {
        (r.dataset, r.label, r.method, r.compression, r.split, r.video_id.rpartition("/")[2])
        for r in records
    }


def test_what_was_written_is_read_back(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "datasets"
    assert export(store, out) == 0
    options = LayoutOptions(subsets=(FF, "simswap_ff"))
    back = read_layout("deepfakebench", open_root(out), options)
    known = PreparedStore(store).records
    # Real videos of DF40 subsets lie beside the fakes, no longer in the folders of FF++.
    expected = {
        (*row[:3], None if row[0] == "simswap_ff" else row[3], *row[4:])
        for row in identities(known)
    }
    assert identities(back.records) == expected
    assert {r.group_ids for r in back.records} == {r.group_ids for r in known}
    command = ["--layout", "deepfakebench", "-d", str(out), "-o", str(tmp_path / "again")]
    command += ["--subset", FF, "--backend", "bench", "--workers", "1"]
    assert prepare(command) == 0
    again = PreparedStore(tmp_path / "again")
    assert {(r.status, r.num_frames) for r in again.records} == {("ok", 6)}


def test_files_keep_the_rules_of_the_bench(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "datasets"
    assert export(store, out) == 0
    content = json.loads((out / f"dataset_json/{FF}.json").read_text())
    assert list(content) == [FF]
    assert set(content[FF]) == {"FF-real", "FF-DF", "FF-F2F"}
    video = content[FF]["FF-DF"]["test"]["c23"]["030_031"]
    assert video["label"] == "FF-DF"
    folder = f"{FF}/manipulated_sequences/Deepfakes/c23"
    assert video["frames"] == [f"./datasets/{folder}/frames/030_031/{k:03d}.png" for k in range(6)]
    for path in video["frames"]:
        assert path.count("frames") == 1
        picture = cv2.imread(str(tmp_path / path))
        assert picture is not None
        assert picture.shape == (256, 256, 3)
        twin = tmp_path / path.replace("frames", "landmarks").replace(".png", ".npy")
        points = np.load(twin)
        assert (points.shape, points.dtype) == ((81, 2), np.int32)
        raw = np.frombuffer(points.tobytes(), np.uint32).reshape(81, 2)
        np.testing.assert_array_equal(raw.view(np.int32), points)
    other = json.loads((out / "dataset_json/simswap_ff.json").read_text())["simswap_ff"]
    assert {key: list(splits) for key, splits in other.items()} == {
        "simswap_Fake": ["train", "val", "test"],
        "simswap_Real": ["train", "val", "test"],
    }


def test_crops_are_those_of_the_alignment(store: Path, tmp_path: Path) -> None:
    assert export(store, tmp_path / "out", "--frames", "first:2") == 0
    opened = PreparedStore(store)
    record = next(r for r in opened.records if r.video_id == f"{FF}/c23/Face2Face/030_031")
    clip = ClipCutter(opened, 256, alignment="bench").cut(record.tracks[0], [0, 1])
    folder = tmp_path / f"out/{FF}/manipulated_sequences/Face2Face/c23"
    assert sorted(p.name for p in (folder / "frames/030_031").iterdir()) == ["000.png", "001.png"]
    for k in (0, 1):
        picture = cv2.imread(str(folder / f"frames/030_031/{k:03d}.png"))
        assert picture is not None
        np.testing.assert_array_equal(picture[..., ::-1], clip.frames[k])
        points = read_landmarks(folder / f"landmarks/030_031/{k:03d}.npy")
        assert np.abs(points[:68] - clip.points68[k]).max() <= 0.5


def test_own_videos_get_labels_of_their_own(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(own, tmp_path / "out", "--prefix", "", "--frames", "spread:5") == 0
    told = capsys.readouterr().out
    assert "1 video(s) are left out: no_face" in told
    assert "label_dict of DeepfakeBench's configuration: mine_Real: 0, swap_Fake: 1" in told
    assert "landmarks 68 to 80 (forehead) are estimated" in told
    back = read_layout("deepfakebench", open_root(tmp_path / "out"), LayoutOptions(all_test=True))
    known = {(*row[:3], row[5]) for row in identities(PreparedStore(own).records)}
    assert {(*row[:3], row[5]) for row in identities(back.records)} == {
        row for row in known if row[-1] != "none"
    }
    content = json.loads((tmp_path / "out/dataset_json/mine.json").read_text())["mine"]
    videos = {name: v for split in content["mine_Real"].values() for name, v in split.items()}
    numbers = [Path(path).stem for path in videos["c"]["frames"]]
    assert numbers == ["000", "004", "009", "014", "019"]
    opened = PreparedStore(own)
    record = next(r for r in opened.records if r.path == "real/c.mp4")
    late = [t for t in record.tracks if opened.reader(t).track.frame_index[0] == 8]
    assert len(late) == 1
    at = opened.reader(late[0]).track.frame_index.tolist().index(14)
    clip = ClipCutter(opened, 256, alignment="bench").cut(late[0], [at])
    picture = cv2.imread(str(tmp_path / "out" / videos["c"]["frames"][3]))
    assert picture is not None
    np.testing.assert_array_equal(picture[..., ::-1], clip.frames[0])


def test_raw_videos_leave_no_black_corners(own: Path, tmp_path: Path) -> None:
    more = ("--raw", str(own.parent / "raw"), "--frames", "all")
    assert export(own, tmp_path / "raw", *more) == 0
    assert export(own, tmp_path / "store", "--frames", "all") == 0
    name = "mine/swap/{}/a/007"
    landmarks = [tmp_path / kind / f"{name.format('landmarks')}.npy" for kind in ("raw", "store")]
    assert landmarks[0].read_bytes() == landmarks[1].read_bytes()
    pictures = [
        cv2.imread(str(tmp_path / kind / f"{name.format('frames')}.png"))
        for kind in ("raw", "store")
    ]
    whole, stored = (np.asarray(picture) for picture in pictures)
    np.testing.assert_array_equal(whole[100:156, 100:156], stored[100:156, 100:156])
    dark = [int((picture == 0).all(axis=2).sum()) for picture in (whole, stored)]
    assert dark[0] < dark[1]


def test_a_name_for_one_data_set(own: Path, store: Path, tmp_path: Path) -> None:
    assert export(own, tmp_path / "out", "--name", "other") == 0
    assert (tmp_path / "out/dataset_json/other.json").is_file()
    assert export(store, tmp_path / "no", "--name", "other") == 2


def test_a_second_export_leaves_nothing_of_the_first(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(own, out, "--frames", "first:4") == 0
    before = {path for path in out.rglob("*") if path.is_file()}
    note = next(out.rglob("*.png")).with_name("note.txt")
    note.touch()
    assert export(own, out, "--frames", "first:2") == 0
    after = {path for path in out.rglob("*") if path.is_file()} - {note}
    assert note.is_file()
    assert after < before
    (listing,) = out.glob("dataset_json/*.json")
    named = {Path(name).name for name in re.findall(r"[^\"]+\.png", listing.read_text())}
    pictures = [path for path in after if path.suffix == ".png"]
    assert named == {path.name for path in pictures}
    assert len(pictures) == sum(path.suffix == ".npy" for path in after)


def test_mistakes_get_one_line(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more, message in (
        (("--frames", "some"), "all, first:N, spread:N"),
        (("--format", "other"), "invalid choice"),
        (("--name", "a/b"), "cannot be the name of a folder"),
        (("-o", str(own)), "lies in the store"),
        (("-o", str(own / "tracks" / "deep")), "lies in the store"),
        (("-o", "s3://bucket/out"), "is a URL; give a folder of this machine"),
    ):
        assert export(own, tmp_path / "out", *more) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert message in told
        assert told.count("\n") == 1
    assert main(["--manifest", str(tmp_path / "none.jsonl"), "-o", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_places_of_known_data_sets() -> None:
    def place(dataset: str, method: str | None, compression: str | None = None) -> tuple[str, str]:
        record = VideoRecord(
            video_id="x/y/z/v",
            path="v",
            label=int(method is not None),
            dataset=dataset,
            split="test",
            group_ids=(),
            method=method,
            compression=compression,
        )
        found = place_of(record)
        return found.key, f"{found.folder}/{found.compression}"

    assert bench_name("celeb_df_v2") == "Celeb-DF-v2"
    assert place("ffpp", "FaceShifter", "c40") == (
        "FF-FH",
        "FaceForensics++/manipulated_sequences/FaceShifter/c40/c40",
    )
    assert place("dfd", None, "c23") == (
        "DFD_real",
        "FaceForensics++/original_sequences/actors/c23/c23",
    )
    assert place("celeb_df_v2", "Celeb-synthesis") == (
        "CelebDFv2_fake",
        "Celeb-DF-v2/Celeb-synthesis/",
    )
    assert place("dfdcp", "method_B") == ("DFDCP_FakeB", "DFDCP/method_B/")
    assert place("uadfv", None) == ("UADFV_Real", "UADFV/real/")
    assert place("simswap_ff", None) == ("simswap_Real", "simswap_ff/real/")
    assert place("mine", "swap") == ("swap_Fake", "mine/swap/")
