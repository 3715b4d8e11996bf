"""DFDC and its preview on miniatures of their true folders."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.errors import DataError
from datamodules.manifest import check_no_leak
from tests.support.layouts import by_path, make_files, note, read, splits, write


def part(root: Path, folder: str, number: int) -> None:
    """Two genuine videos with three fakes each, and their metadata."""
    entries: dict[str, dict[str, str]] = {}
    for real in ("a", "b"):
        name = f"{real}{number}.mp4"
        entries[name] = {"label": "REAL", "split": "train"}
        for i in range(3):
            fake = {"label": "FAKE", "split": "train", "original": name}
            entries[f"{real}{number}fake{i}.mp4"] = fake
    make_files(root, [f"{folder}/{name}" for name in entries])
    write(root / folder / "metadata.json", json.dumps(entries))


def dfdc(root: Path, parts: int = 6) -> Path:
    for number in range(parts):
        part(root, f"train/dfdc_train_part_{number}", number)
    make_files(root, ["test/x.mp4", "test/y.mp4"])
    write(root / "test/labels.csv", "filename,label\nx.mp4,0\ny.mp4,1\n")
    return root


def test_parts_stay_whole_and_fakes_name_their_original(tmp_path: Path) -> None:
    source = read("dfdc", dfdc(tmp_path))
    records = by_path(source)
    fake = records["train/dfdc_train_part_2/b2fake1.mp4"]
    assert (fake.label, fake.method) == (1, "DFDC")
    assert fake.paired_real == "dfdc/unknown/real/b2"
    assert fake.group_ids == ("dfdc/dfdc_train_part_2",)
    assert (records["test/y.mp4"].label, records["test/y.mp4"].split) == (1, "test")
    of_part: dict[str, set[str]] = {}
    for path, split in splits(source).items():
        of_part.setdefault(str(Path(path).parent), set()).add(split)
    assert all(len(found) == 1 for found in of_part.values())
    assert set.union(*of_part.values()) == {"train", "val", "test"}


def test_few_parts_are_split_by_original(tmp_path: Path) -> None:
    part(tmp_path, "dfdc_train_part_00/dfdc_train_part_0", 0)
    part(tmp_path, "dfdc_train_part_01/dfdc_train_part_1", 1)
    source = read("dfdc", tmp_path)
    assert note(source, "there is no test/")
    assert set(splits(source).values()) == {"train", "val", "test"}
    fake = by_path(source)["dfdc_train_part_00/dfdc_train_part_0/a0fake0.mp4"]
    assert fake.group_ids == ("dfdc/a0",)
    check_no_leak(source.records)


def test_official_validation_part_is_taken(tmp_path: Path) -> None:
    root = make_files(dfdc(tmp_path), ["validation/4000.mp4", "test/z.mp4"])
    write(root / "validation/labels.csv", "filename,label\n4000.mp4,1\n")
    names = {"x.mp4": {"is_fake": 1}, "y.mp4": {"is_fake": 0}, "gone.mp4": {"is_fake": 0}}
    write(root / "test/metadata.json", json.dumps(names))
    source = read("dfdc", root)
    records = by_path(source)
    assert {path for path, s in splits(source).items() if s == "val"} == {"validation/4000.mp4"}
    # metadata.json goes before labels.csv
    assert records["test/x.mp4"].label == 1
    assert note(source, "are not there, the first is gone.mp4")
    assert note(source, "label is in no list").endswith("test/z.mp4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no metadata.json of DFDC"),
        ("{", "cannot be read as JSON"),
        ('{"a.mp4": {"label": "MAYBE"}}', "'a.mp4' has no label"),
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "train/dfdc_train_part_0/metadata.json", text)
    with pytest.raises(DataError, match=message):
        read("dfdc", tmp_path)


def test_folders_without_lists_say_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metadata\.json or labels\.csv"):
        read("dfdc", make_files(tmp_path, ["train/dfdc_train_part_0/a.mp4"]))


def preview(root: Path) -> Path:
    entries: dict[str, dict[str, Any]] = {}

    def add(path: str, label: str, subset: str, *people: str | None) -> None:
        ids = dict(zip(("target_id", "swapped_id"), people, strict=True))
        entries[path] = {"label": label, "set": subset, "augmentations": [], **ids}

    groups = {"train": [str(1000000 + n) for n in range(8)], "test": ["2000001", "2000002"]}
    for subset, people in groups.items():
        for person in people:
            add(f"original_videos/{person}/{person}_A_001.mp4", "real", subset, person, None)
        for one, other in zip(people[::2], people[1::2], strict=True):
            path = f"{one}/{one}_A/{other}_{one}_A_001.mp4"
            add(f"method_A/{path}", "fake", subset, one, other)
    add(
        "method_B/2000002/2000002_A/2000001_2000002_A_001.mp4", "fake", "test", "2000002", "2000001"
    )
    make_files(root, entries)
    write(root / "dataset.json", json.dumps(entries))
    return root


def test_preview_takes_the_official_set_and_makes_val(tmp_path: Path) -> None:
    root = make_files(preview(tmp_path), ["method_A/1/1_A/2_1_A_001.mp4"])
    (root / "original_videos/1000000/1000000_A_001.mp4").unlink()
    source = read("dfdcp", root)
    records = by_path(source)
    fake = records["method_B/2000002/2000002_A/2000001_2000002_A_001.mp4"]
    assert (fake.split, fake.method) == ("test", "method_B")
    assert fake.group_ids == ("dfdcp/2000002", "dfdcp/2000001")
    assert fake.paired_real == "dfdcp/unknown/real/2000002_A_001"
    assert {s for p, s in splits(source).items() if "/2" in p} == {"test"}
    assert set(splits(source).values()) == {"train", "val", "test"}
    assert note(source, "dataset.json are not there").startswith("1 video(s)")
    assert note(source, "label is not in").startswith("1 file(s)")


def test_preview_without_its_list_is_refused(tmp_path: Path) -> None:
    preview(tmp_path / "dfdc_preview_set")
    with pytest.raises(DataError, match="dfdc_preview_set has; give that folder"):
        read("dfdcp", tmp_path)
    write(tmp_path / "dfdc_preview_set/dataset.json", "[]")
    with pytest.raises(DataError, match="not that of the DFDC preview"):
        read("dfdcp", tmp_path / "dfdc_preview_set")


def test_originals_are_names_of_files(tmp_path: Path) -> None:
    part(tmp_path, "dfdc_train_part_0", 0)
    file = tmp_path / "dfdc_train_part_0/metadata.json"
    entries = json.loads(file.read_text())
    entries["a0fake0.mp4"]["original"] = "elsewhere/a0.mp4"
    entries["a0fake1.mp4"]["original"] = None
    write(file, json.dumps(entries))
    records = by_path(read("dfdc", tmp_path))
    assert records["dfdc_train_part_0/a0fake0.mp4"].paired_real == "dfdc/unknown/real/a0"
    assert records["dfdc_train_part_0/a0fake1.mp4"].paired_real is None
    entries["a0fake1.mp4"]["original"] = 5
    write(file, json.dumps(entries))
    with pytest.raises(DataError, match=r"metadata\.json: original of 'a0fake1\.mp4' is 5, not"):
        read("dfdc", tmp_path)


def test_a_strange_list_of_the_preview(tmp_path: Path) -> None:
    write(tmp_path / "dataset.json", json.dumps({"method_A/a.mp4": 5}))
    with pytest.raises(DataError, match=r"dataset\.json: 'method_A/a\.mp4' holds no object"):
        read("dfdcp", tmp_path)
