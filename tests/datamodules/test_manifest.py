"""Manifests: round trips, refusals with names, splits without leaks."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from datamodules.errors import DataError
from datamodules.manifest import (
    manifest_hash,
    read_manifest,
    split_groups,
    validate_manifest,
    write_manifest,
)
from datamodules.schema import VideoRecord

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from datamodules.schema import Split

FRACTIONS: dict[Split, float] = {"train": 0.6, "val": 0.2, "test": 0.2}


def record(name: str = "toy/real/a", **changes: object) -> VideoRecord:
    """Make a valid record."""
    values: dict[str, Any] = {
        "video_id": name,
        "path": f"{name}.mp4",
        "label": 0,
        "dataset": "toy",
        "split": "train",
        "group_ids": (name,),
        "num_frames": 40,
        "fps": 25.0,
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "tracks": (f"tracks/{name}/0.zip",),
    }
    return VideoRecord(**{**values, **changes})


def test_round_trip_sorts_and_keeps_every_field(tmp_path: Path) -> None:
    records = [
        record("toy/b", label=1, method="Swap", compression="c23", paired_real="toy/ä"),
        record("toy/ä", group_ids=("x", "y"), fps=29.97),
        record("toy/a", status="unreadable", sha256="", tracks=()),
    ]
    path = tmp_path / "new" / "manifest.jsonl"
    write_manifest(records, path)
    assert read_manifest(path) == sorted(records, key=lambda r: r.video_id)
    assert [p.name for p in path.parent.iterdir()] == ["manifest.jsonl"]


def test_hash_names_contents_not_order(tmp_path: Path) -> None:
    records = [record("toy/a"), record("toy/b")]
    path = tmp_path / "manifest.jsonl"
    write_manifest(records, path)
    assert manifest_hash(records) == manifest_hash(records[::-1])
    assert manifest_hash(records) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest_hash(records) != manifest_hash([records[0], record("toy/b", label=1)])


def _line(**changes: object) -> str:
    values = {
        "video_id": "a",
        "path": "a.mp4",
        "label": 0,
        "dataset": "toy",
        "split": "train",
        "group_ids": ["a"],
    }
    return json.dumps({k: v for k, v in {**values, **changes}.items() if v is not ...})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object but a list"),
        (_line(label=...), "missing label"),
        (_line(colour="red"), "unknown colour"),
        (_line(label="fake"), "label is 'fake'"),
        (_line(label=True), "label is True"),
        (_line(group_ids="a"), "group_ids is 'a'"),
        (_line(path=None), "path is None"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(f"{_line()}\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_manifest_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    with pytest.raises(DataError, match=r"manifest\.jsonl: cannot be read"):
        read_manifest(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"manifest\.jsonl: cannot be read"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 2}, "label 2"),
        ({"split": "dev"}, "split 'dev' is none of train, val, test"),
        ({"status": "odd"}, "unknown status 'odd'"),
        ({"sha256": ""}, "sha256"),
        ({"tracks": ()}, "no track"),
        ({"path": "/abs/a.mp4"}, "absolute"),
        ({"path": "../a.mp4"}, "leaves its root"),
        ({"tracks": ("tracks/../../a.zip",)}, "leaves its root"),
    ],
)
def test_an_invalid_record_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        validate_manifest([record(), record("toy/b", **changes)])
    assert "toy/b" in str(caught.value)


def test_valid_records_pass() -> None:
    validate_manifest(
        [
            record("toy/a"),
            record("toy/b", label=1, paired_real="toy/a", group_ids=("toy/a",)),
            record("toy/c", status="no_face", tracks=(), split="test"),
            record("toy/d", status="unreadable", tracks=(), sha256=""),
            record("toy/..e", path="a..b.mp4"),
        ]
    )


def test_repeated_ids_and_pairs_with_fakes_are_refused() -> None:
    with pytest.raises(DataError, match="not unique: toy/a"):
        validate_manifest([record("toy/a"), record("toy/a")])
    with pytest.raises(DataError, match="paired_real names a fake video in: toy/b"):
        validate_manifest([record("toy/a", label=1), record("toy/b", paired_real="toy/a")])


def test_a_leak_names_its_groups_but_not_all_of_them() -> None:
    names = [f"id{i}" for i in range(8)]
    records = [record(f"toy/{s}", split=s, group_ids=tuple(names)) for s in ("train", "test")]
    with pytest.raises(DataError) as caught:
        validate_manifest(records)
    message = str(caught.value)
    assert "8 group(s)" in message
    assert "id0 (train and test)" in message
    assert "and 3 more" in message
    assert "id7" not in message


def _leak_free(groups: list[list[str]], splits: list[Split]) -> bool:
    of: dict[str, set[str]] = {}
    for names, split in zip(groups, splits, strict=True):
        for name in names:
            of.setdefault(name, set()).add(split)
    return all(len(found) == 1 for found in of.values())


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_tied_groups_together_and_fractions_near(seed: int) -> None:
    rng = random.Random(seed)
    # Reals of one person each; fakes tie two persons, as swaps do.
    groups = [[f"p{i}"] for i in range(60)]
    groups += [[f"p{a}", f"p{a ^ 1}"] for a in rng.sample(range(60), 40)]
    labels = [0] * 60 + [1] * 40
    splits = split_groups(groups, labels, FRACTIONS, seed)
    assert _leak_free(groups, splits)
    for label in (0, 1):
        of_class = [s for s, c in zip(splits, labels, strict=True) if c == label]
        for split, fraction in FRACTIONS.items():
            assert abs(of_class.count(split) / len(of_class) - fraction) < 0.07


def test_split_follows_chains_of_ties() -> None:
    groups = [["a", "b"], ["b", "c"], ["c", "d"], ["x"], ["y"]]
    splits = split_groups(groups, [0, 1, 0, 1, 0], FRACTIONS, 0)
    assert len(set(splits[:3])) == 1


def test_split_does_not_depend_on_the_order_of_videos_but_on_the_seed() -> None:
    groups = [[f"p{i}"] for i in range(40)]
    labels = [i % 2 for i in range(40)]
    splits = split_groups(groups, labels, FRACTIONS, 1)
    order = random.Random(0).sample(range(40), 40)
    mixed = split_groups([groups[i] for i in order], [labels[i] for i in order], FRACTIONS, 1)
    assert mixed == [splits[i] for i in order]
    assert splits != split_groups(groups, labels, FRACTIONS, 2)


def test_few_large_components_still_give_every_split_both_classes() -> None:
    groups = [["a"]] * 6 + [["b"]] * 6 + [["c"]] * 6
    labels = [0, 1] * 9
    splits = split_groups(groups, labels, {"train": 0.8, "val": 0.1, "test": 0.1}, 0)
    assert _leak_free(groups, splits)
    assert set(splits) == {"train", "val", "test"}


def test_split_of_one_component_goes_where_most_is_wanted() -> None:
    assert split_groups([["a"], ["a"]], [0, 1], FRACTIONS, 0) == ["train", "train"]


def test_split_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="labels"):
        split_groups([["a"]], [0, 1], FRACTIONS, 0)
    with pytest.raises(ValueError, match="positive"):
        split_groups([["a"]], [0], {"train": 0.0}, 0)


def test_a_failed_write_leaves_the_old_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest([record()], path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_manifest([replace(record(), label=1)], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.jsonl"]
