"""DeeperForensics-1.0, WildDeepfake and UADFV on miniatures of their true folders."""

from pathlib import Path

import pytest

from datamodules.errors import DataError
from tests.support.layouts import by_path, make_files, note, read, splits, write

FAKES = {"train": ["000_M101", "001_M101"], "val": ["002_W006"], "test": ["003_M004"]}


def deeper(root: Path) -> Path:
    names = [name for names in FAKES.values() for name in names]
    variants = ("end_to_end", "end_to_end_level_3")
    make_files(root, [f"manipulated_videos/{v}/{name}.mp4" for v in variants for name in names])
    for split, listed in FAKES.items():
        write(root / f"lists/splits/{split}.txt", "".join(f"{name}.mp4\n" for name in listed))
    return root


def test_deeperforensics_with_its_target_videos(tmp_path: Path) -> None:
    root = make_files(deeper(tmp_path), [f"target_videos/00{n}.mp4" for n in range(5)])
    make_files(root, ["source_videos/M101/x/M101_BlendShape_camera_up.mp4"])
    source = read("deeperforensics", root)
    records = by_path(source)
    fake = records["manipulated_videos/end_to_end_level_3/003_M004.mp4"]
    assert (fake.method, fake.split) == ("end_to_end_level_3", "test")
    assert fake.group_ids == ("ffpp/003", "deeperforensics/M004")
    assert fake.paired_real == "deeperforensics/unknown/real/003"
    assert splits(source)["target_videos/002.mp4"] == "val"
    assert note(source, "in no list of the official splits").endswith("target_videos/004.mp4")
    assert not any("source_videos" in path for path in records)
    only = read("deeperforensics", root, subsets=("end_to_end",))
    assert {record.method for record in only.records} == {None, "end_to_end"}


def test_deeperforensics_with_its_actors(tmp_path: Path) -> None:
    root = deeper(tmp_path)
    with pytest.raises(DataError, match=r"no target_videos/000\.mp4; link"):
        read("deeperforensics", root)
    name = "W006_light_up_sad_camera_left"
    path = f"source_videos/W006/light_up/sad/camera_left/{name}.mp4"
    make_files(root, [path, "source_videos/readme.mp4", "manipulated_videos/end_to_end/a.mp4"])
    source = read("deeperforensics", root)
    assert by_path(source)[path].group_ids == ("deeperforensics/W006",)
    assert splits(source)[path] == "val"
    assert note(source, "fits no rule").startswith("2 file(s)")
    assert note(source, "actors stand for the genuine ones")
    (root / "lists/splits/val.txt").unlink()
    with pytest.raises(DataError, match="no lists/splits/train"):
        read("deeperforensics", root)


def wild(root: Path, wrap: str = "") -> Path:
    for folder in ("real_train", "fake_train", "real_test", "fake_test"):
        kind = folder.partition("_")[0]
        for video in range(8):
            inner = f"{folder}/{wrap.format(video)}{video}/{kind}"
            make_files(root, [f"{inner}/{s}/{n}.png" for s in (0, 3) for n in (10, 9)])
    return root


@pytest.mark.parametrize("wrap", ["", "extracted/", "extracted/{}.tar/", "{}/"])
def test_wilddeepfake_sequences_are_folders_of_frames(tmp_path: Path, wrap: str) -> None:
    source = read("wilddeepfake", wild(tmp_path, wrap))
    assert len(source.records) == 4 * 8 * 2
    record = by_path(source)[f"fake_test/{wrap.format(5)}5/fake/3"]
    assert (record.label, record.split, record.decoder) == (1, "test", "frames")
    assert record.video_id == "wilddeepfake/unknown/wild/test_5_3"
    assert record.group_ids == ("wilddeepfake/fake_test/5",)
    assert {s for p, s in splits(source).items() if "_test/" in p} == {"test"}
    for split in ("train", "val"):
        assert {r.label for r in source.records if r.split == split} == {0, 1}


def test_wilddeepfake_says_what_is_packed_or_not_there(tmp_path: Path) -> None:
    make_files(tmp_path, ["real_train/1.tar.gz", "real_train/2.tar.gz"])
    with pytest.raises(DataError, match=r"2 archive\(s\) are still packed, as real_train/1\.tar"):
        read("wilddeepfake", tmp_path)
    make_files(tmp_path, ["real_train/1/real/0/1.png", "real_train/1/real/0/thumb.png"])
    source = read("wilddeepfake", tmp_path, all_test=True)
    assert note(source, "still packed").endswith("as real_train/2.tar.gz")
    assert note(source, "not there: fake_train, real_test, fake_test")
    assert note(source, "fits no rule").startswith("1 file(s)")
    with pytest.raises(DataError, match="has no real_train/<video>"):
        read("wilddeepfake", make_files(tmp_path / "x", ["a.png"]))


def test_uadfv_keeps_pairs_together(tmp_path: Path) -> None:
    make_files(tmp_path, [f"real/{n:04d}.mp4" for n in range(49)])
    make_files(tmp_path, [f"fake/{n:04d}_fake.mp4" for n in range(48)] + ["fake/0999_fake.mp4"])
    source = read("uadfv", tmp_path)
    where = splits(source)
    assert all(where[f"real/{n:04d}.mp4"] == where[f"fake/{n:04d}_fake.mp4"] for n in range(48))
    assert set(where.values()) == {"train", "val", "test"}
    fake = by_path(source)["fake/0007_fake.mp4"]
    assert (fake.method, fake.paired_real) == ("FakeApp", "uadfv/unknown/real/0007")
    assert note(source, "without their genuine one").startswith("1 forged")
    with pytest.raises(DataError, match=r"has no fake/0000_fake\.mp4"):
        read("uadfv", make_files(tmp_path / "x", ["real/0000.mp4"]))
