from pathlib import Path, PurePosixPath

import pytest

from datamodules.datasets.folder import read_folder
from datamodules.datasets.naming import compression_of, people_of, plain_name
from datamodules.datasets.records import SourceFolder
from datamodules.errors import DataError
from datamodules.storage.root import open_root
from tests.support.layouts import make_files


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def by_path(source: SourceFolder) -> dict[str, dict[str, object]]:
    return {record.path: vars(record) for record in source.records}


def test_folder_gives_labels_methods_ids_and_pairs(tmp_path: Path) -> None:
    root = make_files(
        tmp_path / "set",
        [
            "real/000.mp4",
            "real/003.MOV",
            "real/sub/name with spaces é 视频.webm",
            "fake/Deepfakes/c23/000_003.mp4",
            "fake/lip/sub/name with spaces é 视频.avi",
            "fake/bare.mkv",
            "fake/.hidden.mp4",
            "real/notes.txt",
            "odd/other.mp4",
        ],
    )
    records = by_path(read_folder(open_root(root)))
    assert len(records) == 6
    fake = records["fake/Deepfakes/c23/000_003.mp4"]
    assert fake["video_id"] == "set/c23/Deepfakes/c23__000_003"
    assert (fake["label"], fake["method"], fake["compression"]) == (1, "Deepfakes", "c23")
    assert fake["group_ids"] == ("set/000", "set/003")
    assert fake["paired_real"] == "set/unknown/real/000"
    real = records["real/003.MOV"]
    assert (real["label"], real["method"], real["paired_real"]) == (0, None, None)
    lip = records["fake/lip/sub/name with spaces é 视频.avi"]
    assert lip["paired_real"] == "set/unknown/real/sub__name with spaces é 视频"
    assert records["fake/bare.mkv"]["method"] == "unknown"


def test_people_and_footage_stay_in_one_split(tmp_path: Path) -> None:
    names = [f"{a:03d}_{a + 1:03d}" for a in range(0, 40, 2)]
    paths = [f"real/{i:03d}.mp4" for i in range(40)]
    paths += [f"fake/{method}/{name}.mp4" for method in ("A", "B") for name in names]
    paths += [f"{kind}/clip{i}.mp4" for kind in ("real", "fake/C") for i in range(10)]
    source = read_folder(open_root(make_files(tmp_path, paths)))
    split_of = {record.path: record.split for record in source.records}
    for name in names:
        target, donor = name.split("_")
        used = {split_of[f"real/{target}.mp4"], split_of[f"real/{donor}.mp4"]}
        used |= {split_of[f"fake/{method}/{name}.mp4"] for method in ("A", "B")}
        assert len(used) == 1
    for i in range(10):
        assert split_of[f"real/clip{i}.mp4"] == split_of[f"fake/C/clip{i}.mp4"]
    for split in ("train", "val", "test"):
        assert {r.label for r in source.records if r.split == split} == {0, 1}
    assert 0.6 < sum(s == "train" for s in split_of.values()) / len(split_of) < 0.8
    assert len(source.notes) == 1
    assert "by person for 80 video(s), by file name for 20" in source.notes[0]
    again = read_folder(open_root(tmp_path))
    assert [record.split for record in again.records] == [r.split for r in source.records]


def test_manifest_csv_is_taken_as_given(tmp_path: Path) -> None:
    root = make_files(tmp_path / "d", ["real/a.mp4", "fake/x/b.mp4", "real/unlisted.mp4"])
    write_csv(
        root / "manifest.csv",
        "\ufeffpath,label,method,identity,identity_group,split,paired_real,fps",
        "real/a.mp4,real,none,ann,g1,train,,25",
        "fake/x/b.mp4,FAKE,swapper,bob,g1,train,real/a.mp4,25",
        "fake/x/missing.mp4,1,,cyd,,test,,",
    )
    source = read_folder(open_root(root), name="mine")
    records = by_path(source)
    assert records["fake/x/b.mp4"]["video_id"] == "mine/unknown/swapper/b"
    assert records["fake/x/b.mp4"]["paired_real"] == "mine/unknown/real/a"
    assert records["fake/x/b.mp4"]["group_ids"] == ("g1",)
    # listed but not there: stays, so that preparing it reports it
    missing = records["fake/x/missing.mp4"]
    assert (missing["method"], missing["group_ids"]) == ("x", ("cyd",))
    assert source.notes[0].startswith("1 video(s) are not in manifest.csv")
    assert "splits: as given" in source.notes
    assert any("val has no real video" in note for note in source.notes)


def test_split_csv_goes_first(tmp_path: Path) -> None:
    root = make_files(tmp_path / "d", ["real/a.mp4", "fake/x/b.mp4"])
    splits = write_csv(tmp_path / "s.csv", "path,split", "real/a.mp4,test", "fake/x/b.mp4,val")
    source = read_folder(open_root(root), split_file=splits)
    assert {record.path: record.split for record in source.records} == {
        "real/a.mp4": "test",
        "fake/x/b.mp4": "val",
    }
    write_csv(splits, "path,split", "real/a.mp4,test")
    with pytest.raises(DataError, match=r"no split for 1 video.*fake/x/b\.mp4"):
        read_folder(open_root(root), split_file=splits)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["real/a.mp4,genuine,train"], r"m\.csv:2: label 'genuine'"),
        (["../a.mp4,real,train"], "leaves the folder"),
        (["/abs/a.mp4,real,train"], "leaves the folder"),
        ([",real,train"], "empty"),
        (["real/a.mp4,real,training"], "split 'training' is none of train, val, test"),
        (["real/a.mp4,real,train", "real/a.mp4,real,train"], "more than once"),
        (["real/a.mp4,real,train", "real/b.mp4,real,"], "1 video.*no split.*real/b"),
        (["real/a.mp4,real,train", "fake/x/a.mp4,fake,test"], "g lies|lie in two splits"),
        ([], "lists no video"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[str], message: str) -> None:
    lines = ["path,label,split,identity_group", *(f"{row},g" for row in rows)]
    manifest = write_csv(tmp_path / "m.csv", *lines)
    with pytest.raises(DataError, match=message) as caught:
        read_folder(open_root(tmp_path), manifest=manifest)
    assert "\n" not in str(caught.value)


def test_method_has_to_be_a_folder_name(tmp_path: Path) -> None:
    manifest = write_csv(tmp_path / "m.csv", "path,label,method", "a.mp4,fake,../../x")
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        read_folder(open_root(tmp_path), manifest=manifest)


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks the column\(s\) label"):
        read_folder(
            open_root(tmp_path), manifest=write_csv(tmp_path / "m.csv", "path,split", "a.mp4,train")
        )
    with pytest.raises(DataError, match="cannot be read as a CSV"):
        read_folder(open_root(tmp_path), manifest=tmp_path / "absent.csv")


def test_folders_that_hold_nothing_say_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_folder(open_root(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"folder real/.*fake/<method>/"):
        read_folder(open_root(make_files(tmp_path / "one", ["fake/x/a.mp4"])))
    (tmp_path / "two" / "real").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no video"):
        read_folder(open_root(tmp_path / "two"))


def test_only_real_videos_are_taken_and_said(tmp_path: Path) -> None:
    source = read_folder(open_root(make_files(tmp_path, ["real/a.mp4"])))
    assert len(source.records) == 1
    assert any("has no fake video" in note for note in source.notes)


def test_names_that_collide_become_distinct(tmp_path: Path) -> None:
    paths = ["real/a.mp4", "real/a.avi", "real/x/y.mp4", "real/x__y.mp4", "real/A.mkv"]
    source = read_folder(open_root(make_files(tmp_path, paths)))
    ids = {record.video_id.casefold() for record in source.records}
    assert len(ids) == len(paths)
    # all of one name are one footage
    groups = {record.path: record.group_ids for record in source.records}
    assert groups["real/a.mp4"] == groups["real/a.avi"]


@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("033.mp4", ("033",)),
        ("033_097_c40.mp4", ("033", "097")),
        ("id0_id16_0007.mp4", ("id0", "id16")),
        ("id3_0001.mp4", ("id3",)),
        ("01_02__walk__AB12CD.mp4", ("01", "02")),
        ("01__walk.mp4", ("01",)),
        ("holiday_2019.mp4", ()),
        ("00170.mp4", ()),
    ],
)
def test_people_of(name: str, people: tuple[str, ...]) -> None:
    assert people_of(PurePosixPath("fake/x") / name) == people


def test_compression_and_long_names() -> None:
    assert compression_of(PurePosixPath("real/a_c23.mp4")) == "c23"
    assert compression_of(PurePosixPath("fake/Deepfakes/c40/videos/001_002.mp4")) == "c40"
    assert compression_of(PurePosixPath("real/abc.mp4")) is None
    names = [plain_name(PurePosixPath(f"{'é' * 100}/{'x' * 120}{i}.mp4")) for i in range(2)]
    assert names[0] != names[1]
    assert max(len(name.encode()) for name in names) <= 200


def test_links_list_no_video_twice(tmp_path: Path) -> None:
    root = make_files(tmp_path / "set", ["real/000.mp4", "real/sub/001.mp4", "fake/A/000_001.mp4"])
    make_files(tmp_path / "other", ["002.mp4", "deep/003.mp4"])
    for link, target in {
        "real/again": ".",  # a circle
        "real/above": "..",  # would list fakes as real
        "real/0.mp4": "000.mp4",
        "real/elsewhere": "../../other",
        "real/elsewhere2": "../../other/deep",
        "real/sub/002.mp4": "../../../other/002.mp4",
        "real/gone.mp4": "no.mp4",
    }.items():
        (root / link).symlink_to(target)
    source = read_folder(open_root(root))
    assert sorted(record.path for record in source.records) == [
        "fake/A/000_001.mp4",
        "real/000.mp4",
        "real/elsewhere/002.mp4",
        "real/elsewhere/deep/003.mp4",
        "real/gone.mp4",
        "real/sub/001.mp4",
    ]
    note = "5 link(s) are left out that lead to what is listed anyway, as real/0.mp4"
    assert note in source.notes


def test_rows_whose_video_is_absent_are_told(tmp_path: Path) -> None:
    root = make_files(tmp_path / "set", ["real/0.mp4", "real/1.mp4", "elsewhere/f.mp4"])
    (root / "real/linked.mp4").symlink_to("1.mp4")
    rows = ["real/0.mp4,real", "real/linked.mp4,real", "elsewhere/f.mp4,fake"]
    lines = ["path,label", *rows]
    source = read_folder(open_root(root), manifest=write_csv(root / "manifest.csv", *lines))
    assert not any("are not there" in note for note in source.notes)
    lines += ["real/no.mp4,real", "fake/A/none.mp4,fake"]
    source = read_folder(open_root(root), manifest=write_csv(root / "manifest.csv", *lines))
    told = "2 video(s) of manifest.csv are not there, the first is fake/A/none.mp4"
    assert told in source.notes
    assert len(source.records) == 5
