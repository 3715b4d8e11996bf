"""FaceForensics++, FaceShifter and DeepFakeDetection on miniatures of their true folders."""

import json
import shutil
from pathlib import Path

import pytest

from datamodules.datasets.dfd import split_of_actor
from datamodules.errors import DataError
from tests.support.layouts import by_path, make_files, note, read, splits, write

PAIRS = {
    "train": [["000", "003"], ["010", "011"]],
    "val": [["020", "021"]],
    "test": [["030", "031"]],
}
IDS = [name for pairs in PAIRS.values() for pair in pairs for name in pair]
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


def write_splits(root: Path, folder: str = "splits") -> None:
    for split, pairs in PAIRS.items():
        write(root / folder / f"{split}.json", json.dumps(pairs))


def ffpp(root: Path, compressions: tuple[str, ...] = ("c23",), folder: str = "splits") -> Path:
    fakes = [f"{a}_{b}" for pairs in PAIRS.values() for x in pairs for a, b in (x, x[::-1])]
    for compression in compressions:
        youtube = f"original_sequences/youtube/{compression}/videos"
        make_files(root, [f"{youtube}/{name}.mp4" for name in IDS])
        for method in METHODS:
            inner = f"manipulated_sequences/{method}/{compression}/videos"
            make_files(root, [f"{inner}/{name}.mp4" for name in fakes])
    write_splits(root, folder)
    return root


def test_labels_pairs_people_and_official_splits(tmp_path: Path) -> None:
    source = read("ffpp", ffpp(tmp_path))
    assert len(source.records) == 8 + 5 * 8
    records = by_path(source)
    fake = records["manipulated_sequences/Face2Face/c23/videos/003_000.mp4"]
    assert fake.video_id == "ffpp/c23/Face2Face/003_000"
    assert (fake.label, fake.method, fake.compression) == (1, "Face2Face", "c23")
    assert fake.group_ids == ("ffpp/003", "ffpp/000")
    assert fake.paired_real == "ffpp/c23/real/003"
    assert fake.split == "train"
    real = records["original_sequences/youtube/c23/videos/030.mp4"]
    assert (real.video_id, real.label, real.method, real.split) == (
        "ffpp/c23/real/030",
        0,
        None,
        "test",
    )
    for record in source.records:
        person = record.group_ids[0].removeprefix("ffpp/")
        expected = next(s for s, pairs in PAIRS.items() if any(person in pair for pair in pairs))
        assert record.split == expected


@pytest.mark.parametrize("folder", ["splits", "dataset/splits", "."])
def test_split_files_are_found_in_the_usual_places(tmp_path: Path, folder: str) -> None:
    assert set(splits(read("ffpp", ffpp(tmp_path, folder=folder))).values()) == {
        "train",
        "val",
        "test",
    }


def test_all_compressions_or_one(tmp_path: Path) -> None:
    root = ffpp(tmp_path, ("c0", "c23", "c40"))
    records = read("ffpp", root).records
    assert {record.compression for record in records} == {"raw", "c23", "c40"}
    # Each fake belongs to the genuine video of its own compression.
    assert all(r.compression == (r.paired_real or r.video_id).split("/")[1] for r in records)
    chosen = read("ffpp", root, compression="raw").records
    assert {record.compression for record in chosen} == {"raw"}
    assert 3 * len(chosen) == len(records)
    with pytest.raises(DataError, match=r"no compression 'c30'; there are: c23, c40, raw"):
        read("ffpp", root, compression="c30")


def test_subsets_keep_the_genuine_videos(tmp_path: Path) -> None:
    root = ffpp(tmp_path)
    source = read("ffpp", root, subsets=("Deepfakes", "FaceSwap"))
    assert {r.method for r in source.records} == {None, "Deepfakes", "FaceSwap"}
    with pytest.raises(DataError, match=r"no part 'Deepfake'; there are: Deepfakes, Face2Face"):
        read("ffpp", root, subsets=("Deepfake",))


def test_faceshifter_is_a_data_set_of_its_own(tmp_path: Path) -> None:
    source = read("faceshifter", ffpp(tmp_path))
    assert {r.method for r in source.records} == {None, "FaceShifter"}
    assert {r.dataset for r in source.records} == {"faceshifter"}
    assert "32 video(s) are not read here: other methods" in source.notes


def test_what_is_not_there_and_what_fits_no_rule_is_counted(tmp_path: Path) -> None:
    root = ffpp(tmp_path)
    (root / "original_sequences/youtube/c23/videos/021.mp4").unlink()
    shutil.rmtree(root / "manipulated_sequences/NeuralTextures")
    for lost in ("010_011", "011_010"):
        (root / f"manipulated_sequences/Deepfakes/c23/videos/{lost}.mp4").unlink()
    make_files(
        root,
        [
            "original_sequences/youtube/c23/videos/999.mp4",
            "original_sequences/youtube/c23/videos/000 (1).mp4",
            "original_sequences/actors/c23/videos/01__walk.mp4",
            "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4",
            "manipulated_sequences/Deepfakes/c23/videos/000_999.mp4",
            "manipulated_sequences/Deepfakes/c23/videos/000_020.mp4",
        ],
    )
    source = read("ffpp", root)
    assert note(source, "(youtube, c23)").startswith("1 video(s)")
    assert note(source, "(Deepfakes, c23)").endswith("are not there, the first is 010")
    assert "1 video(s) are not read here: layout dfd" in source.notes
    assert "1 video(s) are not read here: masks" in source.notes
    assert "000 (1).mp4" in note(source, "fits no rule")
    assert note(source, "official splits, as").startswith("3 file(s)")
    fake = by_path(source)["manipulated_sequences/Deepfakes/c23/videos/021_020.mp4"]
    assert (fake.split, fake.paired_real) == ("val", None)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no original_sequences/youtube/.*download script"):
        read("ffpp", make_files(tmp_path / "empty", ["x.txt"]))
    root = ffpp(tmp_path / "data" / "FaceForensics++")
    with pytest.raises(DataError, match=r"data/FaceForensics\+\+ has; give that folder"):
        read("ffpp", tmp_path / "data")
    (root / "splits/val.json").unlink()
    with pytest.raises(DataError, match=r"no splits/train\.json.*--all-test"):
        read("ffpp", root)
    assert set(splits(read("ffpp", root, all_test=True)).values()) == {"test"}
    write(root / "splits/val.json", "[[")
    with pytest.raises(DataError, match=r"val\.json cannot be read as JSON"):
        read("ffpp", root)
    write(root / "splits/val.json", '["020", "021"]')
    with pytest.raises(DataError, match="no list of pairs"):
        read("ffpp", root)
    write(root / "splits/val.json", '[["000", "021"]]')
    with pytest.raises(DataError, match="id 000 is in train as well"):
        read("ffpp", root)
    write_splits(root)
    shutil.rmtree(root / "original_sequences/youtube/c23")
    make_files(root, ["original_sequences/youtube/c40/videos/000.mp4"])
    with pytest.raises(DataError, match=r"in c23, but no genuine videos in it"):
        read("ffpp", root)


def dfd(root: Path) -> Path:
    actors = [f"{n:02d}" for n in range(1, 29)]
    names = [f"{a}_{b}__walk__AB{a}{b}CD" for a in actors for b in actors if a != b]
    fakes = "manipulated_sequences/DeepFakeDetection/c40/videos"
    make_files(root, [f"original_sequences/actors/c40/videos/{a}__walk.mp4" for a in actors])
    return make_files(root, [f"{fakes}/{name}.mp4" for name in names])


def test_dfd_deals_out_actors_and_counts_what_ties_them(tmp_path: Path) -> None:
    source = read("dfd", dfd(tmp_path))
    counts = {s: [split_of_actor(n) for n in range(1, 29)].count(s) for s in ("train", "val")}
    assert counts == {"train": 16, "val": 4}
    kept = 28 + 16 * 15 + 4 * 3 + 8 * 7
    assert len(source.records) == kept
    assert f"{28 + 28 * 27 - kept} video(s)" in note(source, "actors of two splits")
    fake = by_path(source)[
        "manipulated_sequences/DeepFakeDetection/c40/videos/01_02__walk__AB0102CD.mp4"
    ]
    assert (fake.split, fake.group_ids) == ("train", ("dfd/01", "dfd/02"))
    assert fake.paired_real == "dfd/c40/real/01__walk"
    # A part of the data set is split in the same way.
    some = tmp_path / "manipulated_sequences/DeepFakeDetection/c40/videos"
    for path in sorted(some.iterdir())[::2]:
        path.unlink()
    again = splits(read("dfd", tmp_path))
    assert again.items() <= splits(source).items()


def test_dfd_keeps_everything_for_a_test(tmp_path: Path) -> None:
    root = make_files(dfd(tmp_path), ["original_sequences/actors/c40/videos/holiday.mp4"])
    source = read("dfd", root, all_test=True)
    assert len(source.records) == 28 + 28 * 27
    assert "holiday" in note(source, "fits no rule")
    footage = read("dfd", root, keep_apart="footage")
    assert len(footage.records) == 28 + 28 * 27
    assert set(splits(footage).values()) == {"train", "val", "test"}
    with pytest.raises(DataError, match=r"has no original_sequences/actors/"):
        read("dfd", make_files(tmp_path / "empty", ["a.mp4"]))


def test_genuine_clips_in_the_official_folders(shared_videos: Path, tmp_path: Path) -> None:
    found = 0
    for path in sorted(shared_videos.glob("*/**/ffpp_*_c[24][03].mp4")):
        *_, compression = (parts := path.stem.split("_"))
        inner = (
            f"original_sequences/youtube/{compression}/videos/{parts[1]}.mp4"
            if path.parent.name == "real"
            else f"manipulated_sequences/{parts[1]}/{compression}/videos/{'_'.join(parts[2:4])}.mp4"
        )
        (tmp_path / inner).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / inner).symlink_to(path)
        found += 1
    pairs = {
        "train": [["183", "253"], ["519", "515"], ["634", "660"], ["750", "743"]],
        "val": [["004", "982"]],
        "test": [["585", "599"]],
    }
    for split, value in pairs.items():
        write(tmp_path / "splits" / f"{split}.json", json.dumps(value))
    source = read("ffpp", tmp_path)
    assert len(source.records) == found
    records = by_path(source)
    for method in METHODS[:4]:
        fake = records[f"manipulated_sequences/{method}/c40/videos/585_599.mp4"]
        assert (fake.split, fake.paired_real) == ("test", "ffpp/c40/real/585")
    lone = records["manipulated_sequences/Face2Face/c23/videos/750_743.mp4"]
    assert (lone.split, lone.paired_real) == ("train", None)
