"""VideoDataModule: the contract, refusals in one line, and what the rest of the house reads."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules import FolderDataModule, VideoDataModule, workers
from datamodules.errors import DataError
from datamodules.fake_from_real import FakeFromReal
from datamodules.manifest import write_manifest
from datamodules.schema import VideoRecord
from datamodules.transforms import ClipAugmentation
from tests.support.datamodule_contract import DataModuleContract, batches
from tests.support.stores import write_store, write_track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.schema import Split

COUNTS: dict[tuple[Split, int], int] = {
    ("train", 0): 3,
    ("train", 1): 5,
    ("val", 0): 1,
    ("val", 1): 1,
    ("test", 0): 2,
    ("test", 1): 2,
}
FACELESS = VideoRecord(
    video_id="toy/fake/faceless",
    path="faceless.mp4",
    label=1,
    dataset="toy",
    split="test",
    group_ids=("faceless",),
    status="no_face",
    sha256="0" * 64,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, COUNTS, extra=[FACELESS])
    return folder


def _make(root: Path | None, **changes: Any) -> FolderDataModule:
    small = {"num_frames": 4, "image_size": 32, "batch_size": 4, "eval_clips_per_video": 3}
    return FolderDataModule(root=root, **{**small, "num_workers": 0, **changes})


class TestFolderDataModule(DataModuleContract):
    @pytest.fixture(autouse=True)
    def _store(self, root: Path) -> None:
        self.root = root

    def make(self, **changes: Any) -> VideoDataModule:
        augmentation = ClipAugmentation(flip_prob=0.5, noise_prob=0.5)
        return _make(self.root, augmentation=augmentation, **changes)


def test_videos_without_a_face_are_listed_and_never_loaded(root: Path) -> None:
    datamodule = _make(root)
    datamodule.setup("test")
    assert datamodule.unscored("test") == [FACELESS]
    assert datamodule.unscored("train") == []
    row = datamodule.records.index(FACELESS)
    assert row not in {ref.video_index for ref in datamodule.clip_refs("test")}
    assert len(datamodule.clip_refs("test")) == 4 * 3


def test_names_of_the_house(root: Path) -> None:
    datamodule = _make(root)
    datamodule.setup("fit")
    assert datamodule.test_names == ["test"]
    assert [r.video_id for r in datamodule.records] == sorted(
        r.video_id for r in datamodule.records
    )
    assert len(datamodule.manifest_hash) == 64


def test_clips_per_video_set_the_length_of_an_epoch(root: Path) -> None:
    datamodule = _make(root, train_clips_per_video=3)
    datamodule.setup("fit")
    assert len(datamodule.train_dataloader()) == 8 * 3 / 4
    unbalanced = _make(root, balance=False)
    unbalanced.setup("fit")
    rows = [int(r) for b in unbalanced.train_dataloader() for r in b["video_index"]]
    assert len(rows) == len(set(rows)) == 8


def test_clips_of_one_frame_are_frames_spread_over_the_video(root: Path) -> None:
    augmentation = ClipAugmentation(flip_prob=0.5, blur_prob=1, noise_prob=1, jpeg_prob=1)
    options: dict[str, Any] = {"num_frames": 1, "eval_clips_per_video": 5, "alignment": "bench"}
    fakes = FakeFromReal(real_fakes=0.5)
    datamodule = _make(root, augmentation=augmentation, fake_from_real=fakes, **options)
    for stage in ("fit", "test"):
        datamodule.setup(stage)
    for batch in datamodule.train_dataloader():
        assert batch["clip"].shape == (4, 1, 32, 32, 3)
        made = [
            bool(label == 1 and datamodule.records[row].label == 0)
            for label, row in zip(batch["label"], batch["video_index"].tolist(), strict=True)
        ]
        # One frame cannot be wrong in time: what is made of it is blended, so it has a mask.
        assert [bool(mask.any()) for mask in batch["blend_mask"]] == made
    refs = datamodule.clip_refs("test")
    rows = {ref.video_index for ref in refs}
    by_video = [[ref.positions for ref in refs if ref.video_index == row] for row in rows]
    length = len(datamodule.store.reader(datamodule.records[refs[0].video_index].tracks[0]))
    even = np.linspace(0, length - 1, 5).round().astype(int).tolist()
    assert len(by_video) == 4
    assert all(found == [(frame,) for frame in even] for found in by_video)
    again = _make(root, seed=5, **options)
    again.setup("test")
    assert again.clip_refs("test") == refs


def _rewrite(tmp_path: Path, change: Any) -> Path:
    records = write_store(tmp_path, COUNTS, extra=[FACELESS])
    write_manifest([change(record) for record in records], tmp_path / "manifest.jsonl")
    return tmp_path


def test_an_empty_split_is_refused_with_its_reason(tmp_path: Path) -> None:
    folder = _rewrite(
        tmp_path,
        lambda r: replace(r, status="short", tracks=()) if r.split == "val" else r,
    )
    with pytest.raises(DataError, match=r"the val split has no video \(2 had no usable face\)"):
        _make(folder).setup("fit")
    _make(folder).setup("test")


def test_training_on_one_class_is_refused_and_validation_warned_of(tmp_path: Path) -> None:
    folder = _rewrite(tmp_path, lambda r: replace(r, label=1) if r.split == "train" else r)
    with pytest.raises(DataError, match="all 8 videos of the train split are fake; add real ones"):
        _make(folder).setup("fit")
    folder = _rewrite(tmp_path, lambda r: replace(r, label=0) if r.split == "val" else r)
    with pytest.warns(UserWarning, match="all 2 videos of the val split are real"):
        _make(folder).setup("fit")


def test_clips_longer_than_every_track_are_refused(root: Path) -> None:
    with pytest.raises(
        DataError, match="clips of 32 frames, but no face track has more than 12 in"
    ):
        _make(root, num_frames=32).setup("fit")


def test_a_gap_does_not_lengthen_a_track(tmp_path: Path) -> None:
    for record in write_store(tmp_path, COUNTS):
        write_track(tmp_path / record.tracks[0], 0, frames=[*range(6), *range(8, 13)])
    _make(tmp_path, num_frames=6).setup("fit")
    with pytest.raises(DataError, match="no face track has more than 6 in a row"):
        _make(tmp_path, num_frames=7).setup("fit")


def test_no_root_and_no_store_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give ROOT="):
        _make(None).setup("fit")
    with pytest.raises(DataError, match="run `make data"):
        _make(tmp_path).setup("fit")
    with pytest.raises(RuntimeError, match=r"setup\(\)"):
        _make(tmp_path).clip_refs("test")


def test_impossible_arguments_are_named(root: Path) -> None:
    for name in ("num_frames", "batch_size", "eval_batch_size", "eval_clips_per_video"):
        with pytest.raises(DataError, match=f"data: {name} is 0; it must be at least 1"):
            _make(root, **{name: 0})


def test_a_worker_reports_a_broken_track_in_one_line(tmp_path: Path) -> None:
    records = write_store(tmp_path, COUNTS)
    for record in records:
        track = tmp_path / record.tracks[0]
        track.write_bytes(track.read_bytes()[:-30])
    for num_workers in (0, 1):
        datamodule = _make(tmp_path, num_workers=num_workers)
        datamodule._open()
        with pytest.raises(DataError) as caught:
            next(iter(datamodule.train_dataloader()))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path))
        assert "make data" in str(caught.value)


def test_workers_keep_to_one_core(root: Path) -> None:
    datamodule = _make(root, num_workers=1)
    datamodule.setup("fit")
    loader = datamodule.train_dataloader()
    loader.dataset.__class__ = type("Spy", (loader.dataset.__class__,), {"__getitem__": _threads})
    batch = next(iter(loader))
    assert batch["threads"].tolist() == [[1, 1]] * 4


def _threads(self: Any, key: Any) -> dict[str, torch.Tensor]:
    import cv2

    return {"threads": torch.tensor([cv2.getNumThreads(), torch.get_num_threads()])}


def test_workers_follow_cores_and_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def spare(cores: int, free: int, processes: int = 1) -> int:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
        return workers.spare_workers(1000, processes)

    assert spare(2, 10**12) == 0
    assert spare(6, 10**12) == 6
    assert spare(6, 10**12, processes=2) == 3
    assert spare(64, 10**12) == workers.MAX_WORKERS
    assert spare(64, 2 * 3 * 1000) == 2
    assert spare(64, 2 * 3 * 1000, processes=2) == 1
    assert spare(64, 100) == 0


def _table(path: Path, header: str, lines: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *lines])
    return path


def test_a_split_table_overrides_the_manifest(root: Path, tmp_path: Path) -> None:
    lines = [
        ("test", "toy/real/train00"),
        ("train", "toy/real/test00"),
        ("train", "toy/fake/val00"),
        ("val", "toy/fake/train01"),
        ("val", "toy/real/val00"),
    ]
    table = _table(tmp_path / "split.csv", "split,video_id", lines)
    datamodule, plain = _make(root, split_csv=table), _make(root)
    with pytest.warns(UserWarning, match="videos of the test split are real"):
        datamodule.setup("test")
    plain.setup("test")
    assert {(r.split, r.video_id) for r in datamodule.records} == set(lines)
    assert datamodule.manifest_hash != plain.manifest_hash
    by_path = [(split, f"{name}.mp4", "x") for split, name in lines]
    other = _make(root, split_csv=_table(tmp_path / "p.csv", "split,path,note", by_path))
    other.setup("fit")
    assert other.records == datamodule.records
    assert len(batches(other.train_dataloader())) == 1


def test_the_alignment_reaches_both_loaders(root: Path) -> None:
    clips = {}
    for alignment in ("clip", "box"):
        data = VideoDataModule(
            root, num_frames=4, image_size=32, batch_size=2, num_workers=0, alignment=alignment
        )
        data.setup("fit")
        loaders = (data.train_dataloader(), data.val_dataloader())
        clips[alignment] = [next(iter(loader))["clip"] for loader in loaders]
    for one, other in zip(clips["clip"], clips["box"], strict=True):
        assert not one.equal(other)
    with pytest.raises(DataError, match="no alignment is called 'dlib'"):
        VideoDataModule(root, alignment="dlib")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("split,video_id", ("train", "toy/none"), r":2: the store has no video with video_id"),
        ("split,path", ("dev", "toy/real/val00.mp4"), r":2: split 'dev' is none of train, val"),
        ("split,name", ("train", "toy"), r"has the columns split, name; it needs split, and"),
        ("video_id", ("toy/real/val00",), r"it needs split"),
    ],
)
def test_a_wrong_split_table_is_named(
    root: Path, tmp_path: Path, header: str, line: tuple[str, ...], message: str
) -> None:
    table = _table(tmp_path / "split.csv", header, [line])
    with pytest.raises(DataError, match=message) as caught:
        _make(root, split_csv=table).setup("fit")
    assert str(table) in str(caught.value)


def test_a_split_table_that_leaks_or_repeats_is_refused(tmp_path: Path) -> None:
    folder = _rewrite(
        tmp_path, lambda r: replace(r, group_ids=("one",)) if r.split == "train" else r
    )
    lines = [("train", "toy/real/train00"), ("test", "toy/real/train01")]
    table = _table(tmp_path / "split.csv", "split,video_id", lines)
    with pytest.raises(DataError, match=r"one \(train and test\)"):
        _make(folder, split_csv=table).setup("fit")
    table = _table(tmp_path / "split.csv", "split,video_id", [lines[0], lines[0]])
    with pytest.raises(DataError, match=r":3: .* occurs twice"):
        _make(folder, split_csv=table).setup("fit")
    with pytest.raises(DataError, match="cannot be read as a split table"):
        _make(folder, split_csv=tmp_path / "absent.csv").setup("fit")


def test_the_command_line_builds_it_from_yaml(root: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VideoDataModule, "data")
    block = {
        "class_path": "datamodules.FolderDataModule",
        "init_args": {
            "root": str(root),
            "num_frames": 4,
            "eval_clips_per_video": None,
            "augmentation": {"flip_prob": 0.5},
        },
    }
    datamodule = parser.instantiate(parser.parse_object({"data": block})).data
    assert isinstance(datamodule, FolderDataModule)
    assert datamodule.augmentation == ClipAugmentation(flip_prob=0.5)
    datamodule.setup("test")
    assert len(datamodule.clip_refs("test")) == 4 * 9
