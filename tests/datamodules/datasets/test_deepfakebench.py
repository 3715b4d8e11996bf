import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from datamodules.datasets.adapter import LayoutOptions
from datamodules.datasets.bench_json import plain_path
from datamodules.datasets.bench_labels import footage_of, groups_of, is_known_label, label_of
from datamodules.datasets.layouts import read_layout
from datamodules.datasets.records import SourceFolder
from datamodules.errors import DataError
from datamodules.preprocess.__main__ import main
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from datamodules.video_datamodule import VideoDataModule
from tests.support.bench import FF, write_df40, write_ff, write_flat, write_json


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FaceForensics++ of two methods, and two subsets of DF40 that share its real videos."""
    root = tmp_path_factory.mktemp("bench")
    write_df40(root, "simswap")
    write_df40(root, "blendface")
    write_ff(root)
    return root


@pytest.fixture
def copy(bench: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bench, tmp_path / "copy"))


def read(root: Path, *subsets: str, **options: object) -> SourceFolder:
    asked = LayoutOptions(subsets=subsets, **options)  # type: ignore[arg-type]
    return read_layout("deepfakebench", open_root(root), asked)


def splits_of(source: SourceFolder) -> dict[str, set[str]]:
    return {
        split: {
            record.path.rpartition("/")[2] for record in source.records if record.split == split
        }
        for split in ("train", "val", "test")
    }


def test_faceforensics_as_distributed(bench: Path) -> None:
    source = read(bench, FF)
    assert Counter((r.label, r.method, r.compression) for r in source.records) == {
        (0, None, "c23"): 8,
        (1, "Deepfakes", "c23"): 8,
        (1, "Face2Face", "c23"): 8,
    }
    by_id = {record.video_id: record for record in source.records}
    fake = by_id["FaceForensics++/c23/Deepfakes/000_003"]
    assert fake.path == f"{FF}/manipulated_sequences/Deepfakes/c23/frames/000_003"
    assert (fake.split, fake.group_ids) == ("train", ("ffpp/000", "ffpp/003"))
    assert fake.paired_real == "FaceForensics++/c23/real/000"
    assert (fake.decoder, fake.frames, fake.dataset) == ("frames", (), FF)
    assert splits_of(source)["test"] == {"030", "031", "030_031", "031_030"}


def test_names_ending_in_c40_take_that_branch(bench: Path) -> None:
    source = read(bench, f"{FF}_c40")
    assert {(r.compression, r.dataset) for r in source.records} == {("c40", f"{FF}_c40")}
    assert len(source.records) == 9
    assert [r.video_id for r in read(bench, FF, compression="c40").records] == [
        r.video_id.replace("_c40/", "/") for r in source.records
    ]
    with pytest.raises(DataError, match="lists no video of compression raw"):
        read(bench, FF, compression="raw")


def test_several_subsets_are_one_manifest(bench: Path) -> None:
    source = read(bench, "simswap_ff blendface_ff")
    assert Counter((r.dataset, r.label, r.method) for r in source.records) == {
        ("simswap_ff", 1, "simswap"): 2,
        ("simswap_ff", 0, None): 2,
        ("blendface_ff", 1, "blendface"): 2,
        ("blendface_ff", 0, None): 2,
    }
    assert source.dataset == "blendface_ff+simswap_ff"
    for record in source.records:
        if record.label:
            assert str(record.paired_real).startswith(f"{record.dataset}/c23/real/03")
    together = read(bench, FF, "simswap_ff")
    assert {r.split for r in together.records if r.dataset == "simswap_ff"} == {"test"}


def test_the_root_may_be_inside_or_above(bench: Path, tmp_path: Path) -> None:
    inside = read(bench / FF, FF, json=bench / "dataset_json")
    assert {r.path.partition("/")[0] for r in inside.records} == {
        "original_sequences",
        "manipulated_sequences",
    }
    deeper = bench / FF / "manipulated_sequences"
    only = read(deeper, FF, json=bench / "dataset_json" / f"{FF}.json", all_test=True)
    assert {r.method for r in only.records} == {"Deepfakes", "Face2Face"}
    assert "8 of 24 videos are not there" in "\n".join(only.notes)
    with pytest.raises(DataError, match=r"holds none of the 24 videos.* holds FaceForensics\+\+"):
        read(tmp_path, FF, json=bench / "dataset_json")


def test_frames_of_one_method_are_never_taken_for_another(bench: Path) -> None:
    root = bench / "deepfake_detection_datasets/DF40/simswap"
    with pytest.raises(DataError, match="would both be ff/frames"):
        read(root, "simswap_ff", "blendface_ff", json=bench / "dataset_json")


def test_only_listed_frames_count_and_missing_ones_are_told(copy: Path) -> None:
    folder = copy / "deepfake_detection_datasets/DF40/simswap/ff/frames"
    shutil.copy(folder / "030_031/000.png", folder / "030_031/999.png")
    (folder / "031_030/003.png").unlink()
    shutil.rmtree(copy / FF / "original_sequences/youtube/c23/frames/031")
    source = read(copy, "simswap_ff")
    frames = {record.path.rpartition("/")[2]: record.frames for record in source.records}
    assert frames["030_031"] == tuple(f"{k:03d}.png" for k in range(8))
    assert frames["031_030"] == ()
    notes = "\n".join(source.notes)
    assert "simswap_ff: 1 of 4 videos are not there, the first is datasets/Face" in notes
    assert "simswap_ff: 1 frame(s) of 1 video(s) are not there, the first video is" in notes
    command = ["--layout", "deepfakebench", "-d", str(copy), "-o", str(copy.parent / "out")]
    command += ["--subset", "simswap_ff", "--backend", "bench", "--workers", "1"]
    assert main(command) == 0
    prepared = {r.path.rpartition("/")[2]: r for r in PreparedStore(copy.parent / "out").records}
    assert prepared["030_031"].frames == frames["030_031"]
    assert {name: r.num_frames for name, r in prepared.items()} == {
        "030_031": 8,
        "031_030": 7,
        "030": 8,
    }


def test_a_lone_listed_picture_is_a_video(copy: Path) -> None:
    file = copy / "dataset_json/simswap_ff.json"
    content = json.loads(file.read_text())
    fake = content["simswap_ff"]["simswap_Fake"]["test"]["030_031"]
    fake["frames"] = fake["frames"][3:4]
    file.write_text(json.dumps(content))
    paths = [record.path for record in read(copy, "simswap_ff").records]
    assert "deepfake_detection_datasets/DF40/simswap/ff/frames/030_031/003.png" in paths


def uadfv(root: Path) -> Path:
    reals = {f"{k:04d}": f"UADFV/real/frames/{k:04d}" for k in range(12)}
    fakes = {f"{name}_fake": f"UADFV/fake/frames/{name}_fake" for name in reals}
    splits = ("train", "val", "test")
    labels = {
        "UADFV_Real": dict.fromkeys(splits, reals),
        "UADFV_Fake": dict.fromkeys(splits, fakes),
    }
    return write_flat(root, "UADFV", labels, prefix="D:\\data\\datasets\\rgb\\", numbers=[0])


def test_videos_of_all_splits_are_in_test_only(tmp_path: Path) -> None:
    uadfv(tmp_path)
    source = read(tmp_path)
    assert {record.split for record in source.records} == {"test"}
    assert "UADFV: 24 video(s) are listed in several splits; test goes first" in source.notes[0]
    ours = read(tmp_path, resplit=True)
    assert {record.split for record in ours.records} == {"train", "val", "test"}
    split_of = {record.path.rpartition("/")[2]: record.split for record in ours.records}
    assert all(split_of[name] == split_of[f"{name}_fake"] for name in split_of if len(name) == 4)


def test_celeb_df_loses_train_videos_of_test_people(tmp_path: Path) -> None:
    def fakes(*names: str) -> dict[str, str]:
        return {name: f"Celeb-DF-v2/Celeb-synthesis/frames/{name}" for name in names}

    def reals(*names: str) -> dict[str, str]:
        return {name: f"Celeb-DF-v2/Celeb-real/frames/{name}" for name in names}

    test = {"CelebDFv2_fake": fakes("id0_id1_0000"), "CelebDFv2_real": reals("id0_0000")}
    train = {
        "CelebDFv2_fake": fakes("id0_id1_0000", "id0_id2_0001", "id4_id5_0000", "id6_id7_0000"),
        "CelebDFv2_real": reals("id0_0000", "id4_0000", "id5_0000", "id6_0000", "id7_0000"),
    }
    labels = {key: {"train": train[key], "val": test[key], "test": test[key]} for key in test}
    write_flat(tmp_path, "Celeb-DF-v2", labels, numbers=[0])
    source = read(tmp_path)
    splits = splits_of(source)
    assert splits["test"] == {"id0_id1_0000", "id0_0000"}
    assert "id0_id2_0001" not in splits["train"] | splits["val"]
    assert {"id4_0000", "id4_id5_0000", "id6_id7_0000"} <= splits["train"] | splits["val"]
    fake = next(record for record in source.records if record.path.endswith("id0_id1_0000"))
    assert fake.paired_real == "Celeb-DF-v2/unknown/real/id0_0000"
    assert fake.group_ids == ("celeb_df/id0", "celeb_df/id1")


def test_odd_entries_are_left_out_and_told(copy: Path) -> None:
    file = copy / "dataset_json/simswap_ff.json"
    content = json.loads(file.read_text())
    labels = content["simswap_ff"]
    labels["Strange_FAKE"] = labels.pop("simswap_Fake")
    labels["simswap_Real"]["val"] = ["malformed"]
    labels["simswap_Real"]["extra"] = {}
    labels["simswap_Real"]["test"]["empty"] = {"label": "x", "frames": []}
    file.write_text(json.dumps(content))
    source = read(copy, "simswap_ff")
    notes = "\n".join(source.notes)
    assert "label Strange_FAKE is not known, and taken by its end" in notes
    assert "val of simswap_Real is malformed and left out" in notes
    assert "split 'extra' of simswap_Real is left out" in notes
    assert "a video of simswap_Real (test) lists no frame and is left out" in notes
    assert {r.method for r in source.records if r.label} == {"Strange"}


def test_mistakes_get_one_line(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"describes 3 data sets; choose by --subset"):
        read(copy)
    with pytest.raises(DataError, match=r"has no fomm_ff\.json; there are: .*simswap_ff"):
        read(copy, "fomm_ff")
    with pytest.raises(DataError, match="names one data set, not 2"):
        read(copy, FF, "simswap_ff", name="mine")
    with pytest.raises(DataError, match="no JSON file of DeepfakeBench"):
        read(copy / FF)
    with pytest.raises(DataError, match="no such file or folder"):
        read(copy, json=tmp_path / "none")
    with pytest.raises(DataError, match="takes no --json"):
        read_layout("folder", open_root(copy), LayoutOptions(json=copy))
    write_json(copy, "other", {}, key="another")
    with pytest.raises(DataError, match=r"no top-level key 'other' \(it has: another\)"):
        read(copy, "other")
    write_json(copy, "unclear", {"what": {}})
    with pytest.raises(DataError, match="'what' says neither real nor fake"):
        read(copy, "unclear")
    (copy / "dataset_json/broken.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read(copy, "broken")


@pytest.mark.parametrize(
    ("key", "label", "known"),
    [
        ("FF-F2F", (1, "Face2Face"), True),
        ("DFDCP_FakeB", (1, "method_B"), True),
        ("DF_real", (0, None), True),
        ("simswap_Fake", (1, "simswap"), True),
        ("mraa_Real", (0, None), True),
        ("EFSAll_Fake", (1, "EFSAll"), True),
        ("roop_Fake", (1, "roop"), True),
        ("MySwap-FAKE", (1, "MySwap"), False),
        ("masks", None, False),
    ],
)
def test_label_keys(key: str, label: tuple[int, str | None] | None, known: bool) -> None:
    assert label_of(key) == label
    assert is_known_label(key) == known


def test_names_tell_people_and_footage() -> None:
    assert footage_of("ffpp", "000_003") == "ffpp/000"
    assert footage_of("celeb_df", "id0_id16_0007") == "celeb_df/id0_0007"
    assert footage_of("dfd", "01_02__walk__AB12CD34") == "dfd/01__walk"
    assert footage_of("UADFV", "0001_fake") == footage_of("UADFV", "0001") == "UADFV/0001"
    assert groups_of("celeb_df", "00170") == ("celeb_df/00170",)
    assert groups_of("deeperforensics", "034_M101") == ("ffpp/034", "deeperforensics/M101")
    for text in (".\\datasets\\a\\b.png", "./datasets/a/b.png", "C:\\datasets\\a\\b.png"):
        assert str(plain_path(text)) == "datasets/a/b.png"


def test_from_json_to_a_batch(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--layout", "deepfakebench", "-d", str(bench), "-o", str(tmp_path / "out")]
    command += ["--subset", FF, "--subset", "simswap_ff", "--backend", "bench"]
    command += ["--frames", "first:8", "--format", "png", "--workers", "1"]
    assert main(command) == 0
    store = PreparedStore(tmp_path / "out")
    assert store.info.parameters["frames"] == "first:8"
    assert {(r.status, len(r.tracks)) for r in store.records} == {("ok", 1)}
    assert Counter(record.dataset for record in store.records) == {FF: 24, "simswap_ff": 4}
    ff = next(r for r in store.records if r.dataset == FF)
    assert store.reader(ff.tracks[0]).meta.fps == 2.5
    data = VideoDataModule(
        root=tmp_path / "out", num_frames=8, image_size=64, batch_size=4, num_workers=0
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["clip"].shape == (4, 8, 64, 64, 3)
    assert batch["clip"].dtype == torch.uint8
    assert sorted(batch["label"].tolist()) == [0, 0, 1, 1]
    assert "28 videos: 28 with faces" in capsys.readouterr().out
