"""Celeb-DF v1, v2 and ++ on miniatures of their true folders."""

from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.manifest import check_no_leak
from tests.support.layouts import by_path, make_files, note, read, splits, write

LIST = "List_of_testing_videos.txt"


def celeb(root: Path, inner: str = "") -> Path:
    """Six celebrities, swapped pairwise; two of them are in the test list."""
    pairs = [(a, b) for a in range(6) for b in range(6) if a != b]
    make_files(root, [f"Celeb-real/{inner}id{a}_000{n}.mp4" for a in range(6) for n in (0, 1)])
    make_files(root, [f"YouTube-real/{inner}{n:05d}.mp4" for n in range(20)])
    make_files(root, [f"Celeb-synthesis/{inner}id{a}_id{b}_0000.mp4" for a, b in pairs])
    lines = ["1 YouTube-real/00003.mp4", "1 Celeb-real/id0_0000.mp4"]
    lines += ["0 Celeb-synthesis/id0_id1_0000.mp4"]
    write(root / LIST, "\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("layout", ["celeb_df_v1", "celeb_df_v2"])
@pytest.mark.parametrize("inner", ["", "videos/"])
def test_test_list_is_kept_and_nobody_in_it_is_trained_on(
    tmp_path: Path, layout: str, inner: str
) -> None:
    source = read(layout, celeb(tmp_path, inner))
    records = by_path(source)
    test = {path for path, split in splits(source).items() if split == "test"}
    assert test == {
        f"YouTube-real/{inner}00003.mp4",
        f"Celeb-real/{inner}id0_0000.mp4",
        f"Celeb-synthesis/{inner}id0_id1_0000.mp4",
    }
    fake = records[f"Celeb-synthesis/{inner}id0_id1_0000.mp4"]
    assert fake.video_id == f"{layout}/unknown/Celeb-synthesis/id0_id1_0000"
    assert (fake.label, fake.compression) == (1, None)
    assert fake.group_ids == ("celeb_df/id0", "celeb_df/id1")
    assert fake.paired_real == f"{layout}/unknown/real/id0_0000"
    trained = {g for r in source.records if r.split != "test" for g in r.group_ids}
    assert not trained & {"celeb_df/id0", "celeb_df/id1"}
    # Of 30 swaps, 12 are among the four other celebrities.
    assert note(source, "official train part are left out").startswith("20 video(s)")
    check_no_leak(source.records)
    assert set(splits(source).values()) == {"train", "val", "test"}


def test_footage_alone_may_be_kept_apart(tmp_path: Path) -> None:
    source = read("celeb_df_v2", celeb(tmp_path), keep_apart="footage")
    # Only the other swaps of the tested footage id0_0000 go.
    assert len(source.records) == 12 + 20 + 30 - 4
    assert note(source, "official train part are left out").startswith("4 video(s)")
    assert note(source, "kept apart: footage")
    fake = by_path(source)["Celeb-synthesis/id3_id0_0000.mp4"]
    assert fake.group_ids == ("celeb_df/id3_0000",)


def test_official_parts_may_be_kept_just_as_they_are(tmp_path: Path) -> None:
    source = read("celeb_df_v2", celeb(tmp_path), keep_apart="video")
    assert len(source.records) == 12 + 20 + 30
    assert sum(record.split == "test" for record in source.records) == 3
    assert note(source, "the same footage may be in two splits")
    records = by_path(source)
    # A pair is of one split: the genuine id0_0000 is tested, this fake of it is not.
    assert records["Celeb-synthesis/id0_id5_0000.mp4"].paired_real is None
    assert records["Celeb-synthesis/id0_id1_0000.mp4"].paired_real is not None


def test_everybody_may_be_tested(tmp_path: Path) -> None:
    root = celeb(tmp_path)
    (root / LIST).unlink()
    with pytest.raises(DataError, match=r"no List_of_testing_videos\.txt; it comes with"):
        read("celeb_df_v2", root)
    assert len(read("celeb_df_v2", root, all_test=True).records) == 12 + 20 + 30


def test_odd_and_missing_files_are_counted(tmp_path: Path) -> None:
    root = make_files(celeb(tmp_path), ["Celeb-real/x.mp4", "Celeb-synthesis/id0_id1.mp4"])
    (root / "Celeb-real/id0_0000.mp4").unlink()
    source = read("celeb_df_v2", root)
    assert note(source, "fits no rule").startswith("2 file(s)")
    assert note(source, LIST).endswith("the first is Celeb-real/id0_0000")


@pytest.mark.parametrize("line", ["1 Celeb-synthesis/a.mp4", "0 Celeb-real/a.mp4", "YouTube-real"])
def test_wrong_lists_are_refused(tmp_path: Path, line: str) -> None:
    root = celeb(tmp_path)
    write(root / LIST, f"1 YouTube-real/00003.mp4\n\n{line}\n")
    with pytest.raises(DataError, match=r"List_of_testing_videos\.txt:3: "):
        read("celeb_df_v2", root)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no Celeb-real/"):
        read("celeb_df_v2", make_files(tmp_path / "a", ["b.mp4"]))
    celeb(tmp_path / "c" / "Celeb-DF-v2")
    with pytest.raises(DataError, match="Celeb-DF-v2 has; give that folder"):
        read("celeb_df_v2", tmp_path / "c")
    with pytest.raises(DataError, match="has no Celeb-synthesis/<scenario>/<method>/"):
        read("celeb_df_pp", tmp_path / "c" / "Celeb-DF-v2")


def test_celeb_df_pp_has_a_folder_for_each_method(tmp_path: Path) -> None:
    make_files(tmp_path, [f"Celeb-real/id{a}_0002.mp4" for a in (1, 2, 29)])
    make_files(tmp_path, ["YouTube-real/00170.mp4"])
    fakes = [
        "FaceSwap/Celeb-DF/id1_id2_0002.mp4",
        "FaceSwap/BlendFace/id1_id2_0002.mp4",
        "FaceReenact/LIA/id2_id1_0002.mp4",
        "TalkingFace/FLOAT/id29_0002_test_id08701_abc.mp4",
    ]
    make_files(tmp_path, [f"Celeb-synthesis/{fake}" for fake in fakes])
    write(tmp_path / LIST, "1 Celeb-real/id29_0002.mp4\n0 Celeb-synthesis/FaceSwap/BlendFace/x.mp4")
    source = read("celeb_df_pp", tmp_path, keep_apart="footage")
    records = by_path(source)
    assert "Celeb-synthesis/TalkingFace/FLOAT/id29_0002_test_id08701_abc.mp4" not in records
    assert note(source, LIST).startswith("1 video(s)")
    everything = by_path(read("celeb_df_pp", tmp_path, all_test=True))
    talk = everything["Celeb-synthesis/TalkingFace/FLOAT/id29_0002_test_id08701_abc.mp4"]
    assert (talk.method, talk.group_ids) == ("FLOAT", ("celeb_df/id29",))
    assert talk.paired_real == "celeb_df_pp/unknown/real/id29_0002"
    swap = everything["Celeb-synthesis/FaceSwap/BlendFace/id1_id2_0002.mp4"]
    assert swap.video_id == "celeb_df_pp/unknown/BlendFace/id1_id2_0002"
    only = read("celeb_df_pp", tmp_path, all_test=True, subsets=("LIA",))
    assert {record.method for record in only.records} == {None, "LIA"}
