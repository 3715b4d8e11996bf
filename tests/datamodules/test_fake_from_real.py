"""Fakes that are made while training: the mix, labels, masks, and the same clip every time."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules import FolderDataModule, VideoDataModule
from datamodules.blending import CrossBlend, SelfBlend
from datamodules.errors import DataError
from datamodules.fake_from_real import FakeFromReal
from datamodules.store.track_writer import TrackWriter
from datamodules.temporal_forgery import TemporalDropout, TemporalRepeat
from datamodules.transforms import ClipAugmentation
from tests.support.datamodule_contract import as_rank, batches, same
from tests.support.forging import forger, real_store
from tests.support.stores import FACE_POINTS5, FACE_POINTS68, track_meta, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from datamodules.schema import Split

COUNTS: dict[tuple[Split, int], int] = {
    ("train", 0): 4,
    ("train", 1): 4,
    ("val", 0): 2,
    ("val", 1): 2,
    ("test", 0): 1,
    ("test", 1): 1,
}
AUGMENTED = ClipAugmentation(flip_prob=0.5, landmark_jitter_px=1.0, noise_prob=0.5)
#: Only masks and no change of time.
SPATIAL: dict[str, Any] = {
    "temporal_dropout": TemporalDropout(weight=0),
    "temporal_repeat": TemporalRepeat(weight=0),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, COUNTS, num_frames=20)
    return folder


def _make(root: Path, options: FakeFromReal | None = None, **changes: Any) -> VideoDataModule:
    small = {"num_frames": 6, "image_size": 48, "batch_size": 4, "train_clips_per_video": 3}
    datamodule = FolderDataModule(
        root=root,
        fake_from_real=options or FakeFromReal(),
        **{**small, "num_workers": 0, "eval_clips_per_video": 1, **changes},
    )
    datamodule.setup("fit")
    return datamodule


def test_all_training_batches_have_masks_and_no_others(root: Path) -> None:
    datamodule = _make(root, FakeFromReal(**SPATIAL), augmentation=AUGMENTED)
    masked = 0
    for batch in datamodule.train_dataloader():
        assert batch["blend_mask"].shape == (4, 1, 6, 48, 48)
        assert batch["blend_mask"].dtype == torch.float32
        assert 0 <= batch["blend_mask"].min() <= batch["blend_mask"].max() <= 1
        assert batch["label"].sum() == 2
        for i, row in enumerate(batch["video_index"].tolist()):
            label, of_video = batch["label"][i], datamodule.records[row].label
            made = bool(label == 1 and of_video == 0)
            # Real clips and fakes of the data set have a mask of zeros.
            assert bool(batch["blend_mask"][i].any()) == made
            assert label >= of_video
            masked += made
    assert masked == 8 * 3 / 4
    for loader in (datamodule.val_dataloader(), _make(root).test_dataloader()):
        assert all("blend_mask" not in batch for batch in loader)


def test_without_the_option_nothing_changes(root: Path) -> None:
    small = {"num_frames": 6, "image_size": 48, "batch_size": 4, "num_workers": 0}
    plain = FolderDataModule(root=root, **small)  # type: ignore[arg-type]
    plain.setup("fit")
    found = batches(plain.train_dataloader())
    assert all("blend_mask" not in batch for batch in found)
    beside = batches(
        _make(root, FakeFromReal(real_fakes=1.0), train_clips_per_video=1).train_dataloader()
    )
    for one, other in zip(found, beside, strict=True):
        assert not other.pop("blend_mask").any()
        assert same([one], [other])


def test_evaluation_never_sees_a_made_fake(root: Path) -> None:
    plain = FolderDataModule(root=root, num_frames=6, image_size=48, num_workers=0)
    plain.setup("fit")
    datamodule = _make(root, eval_clips_per_video=8, batch_size=16)
    assert same(batches(plain.val_dataloader()), batches(datamodule.val_dataloader()))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(root: Path, num_workers: int) -> None:
    alone = _make(root, augmentation=AUGMENTED)
    helped = _make(root, augmentation=AUGMENTED, num_workers=num_workers)
    assert same(batches(alone.train_dataloader()), batches(helped.train_dataloader()))


def test_ranks_share_the_batches_of_one_process(root: Path) -> None:
    whole = batches(_make(root).train_dataloader())
    halves = [
        batches(as_rank(_make(root, batch_size=2), rank, 2).train_dataloader()) for rank in (0, 1)
    ]
    together = [
        {name: torch.cat([a[name], b[name]]) for name in a} for a, b in zip(*halves, strict=True)
    ]
    assert same(together, whole)


def test_epochs_and_seeds_differ_and_can_be_repeated(root: Path) -> None:
    loader = _make(root).train_dataloader()
    found = {}
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        again = batches(loader)
        assert epoch not in found or same(found[epoch], again)
        found[epoch] = again
    assert not same(found[0], found[1])
    assert not same(found[0], batches(_make(root, seed=1).train_dataloader()))


def test_a_sample_does_not_depend_on_what_was_made_before(root: Path) -> None:
    """Landmarks that are kept from earlier clips must not change later ones."""
    loader = _make(root, augmentation=AUGMENTED).train_dataloader()
    keys = list(loader.sampler)
    dataset: Any = loader.dataset
    copy = pickle.loads(pickle.dumps(dataset))
    samples = [dataset[key] for key in keys]
    for key, sample in zip(reversed(keys), reversed(samples), strict=True):
        assert all(sample[name].equal(value) for name, value in copy[key].items())


def test_kinds_are_mixed_by_their_weights(tmp_path: Path) -> None:
    real_store(tmp_path)
    weights = {"temporal_dropout": 2.0, "temporal_repeat": 1.0, "cross_blend": 1.0}
    maker = forger(
        tmp_path,
        temporal_dropout=TemporalDropout(weight=2),
        cross_blend=CrossBlend(weight=1),
        self_blend=SelfBlend(weight=0),
    )
    made = [maker.make(0, np.random.default_rng(seed)) for seed in range(200)]
    kinds = Counter(one.kind for one in made)
    for kind, weight in weights.items():
        assert kinds[kind] == pytest.approx(50 * weight, abs=25)
    assert set(kinds) == set(weights)
    for one in made:
        assert (one.mask is None) == one.kind.startswith("temporal")


def test_temporal_fakes_show_real_frames_in_another_order(tmp_path: Path) -> None:
    real_store(tmp_path)
    maker = forger(tmp_path, num_frames=8)
    for name in ("temporal_dropout", "temporal_repeat"):
        for seed in range(20):
            made = maker.try_to_make(name, 0, np.random.default_rng(seed))
            assert made is not None
            steps = np.diff(made.clip.frame_index)
            assert (steps.max() > 1) == (name == "temporal_dropout")
            assert (steps.min() < 1) == (name == "temporal_repeat")
            np.testing.assert_array_equal(made.clip.frames, made.real.clip.frames)


def test_short_videos_and_lonely_people_get_another_kind(tmp_path: Path) -> None:
    real_store(tmp_path, num_real=1, num_frames=8)
    dropout, cross = (
        {name: FakeFromReal().forgeries()[name] for name in kinds}
        for kinds in (("temporal_dropout",), ("cross_blend",))
    )
    for only, num_frames, kind in (
        (dropout, 7, "temporal_dropout"),
        (dropout, 8, "temporal_repeat"),
        (dropout, 20, "temporal_repeat"),
        (dropout, 1, "self_blend"),
        (cross, 8, "self_blend"),
    ):
        maker = forger(tmp_path, num_frames)
        weights = dict.fromkeys(maker.forgeries, 0)
        maker.weights = {**weights, **dict.fromkeys(only, 1)}
        made = maker.make(0, np.random.default_rng(0))
        assert made.kind == kind
        assert len(made.clip.frames) == num_frames


def test_what_was_not_changed_is_no_fake(tmp_path: Path) -> None:
    """Where the mask misses the picture, a real clip would be called fake."""
    real_store(tmp_path, num_real=1)
    with TrackWriter(tmp_path / "tracks/toy/real/train00/0.zip", track_meta()) as writer:
        for frame in range(20):
            writer.add(
                frame,
                np.full((64, 64, 3), frame, np.uint8),
                (20, 30, 84, 94),
                box=(36, 46, 68, 78),
                points5=FACE_POINTS5 + np.float32([20, 30]),
                points68=FACE_POINTS68 + np.float32([500, 30]),
                score=0.9,
            )
    kinds = {forger(tmp_path).make(0, np.random.default_rng(seed)).kind for seed in range(20)}
    assert kinds == {"temporal_dropout", "temporal_repeat"}
    with pytest.raises(DataError, match=r"train00: no fake can be made of it, for its landmarks"):
        forger(tmp_path, num_frames=1).make(0, np.random.default_rng(0))


def test_training_on_real_videos_alone_becomes_possible(tmp_path: Path) -> None:
    real_store(tmp_path, num_real=5)
    with pytest.raises(DataError, match="all 5 videos of the train split are real; add fake"):
        FolderDataModule(root=tmp_path, num_frames=6).setup("fit")
    datamodule = _make(tmp_path, batch_size=2, train_clips_per_video=2)
    labels = torch.cat([batch["label"] for batch in datamodule.train_dataloader()])
    assert labels.sum() == len(labels) / 2 == 5
    with pytest.raises(DataError, match=r"real; set data.balance to true, so that fakes are made"):
        _make(tmp_path, balance=False)
    with pytest.raises(DataError, match="are real; add fake ones"):
        _make(tmp_path, FakeFromReal(real_fakes=1.0))


def test_fakes_cannot_be_made_without_real_videos(tmp_path: Path) -> None:
    write_store(tmp_path, {**COUNTS, ("train", 0): 0}, num_frames=20)
    with pytest.raises(DataError, match="all 4 videos of the train split are fake; add real ones"):
        _make(tmp_path)


def test_the_checkpoint_says_what_share_was_made(root: Path) -> None:
    assert _make(root).state_dict()["real_fakes"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"real_fakes": 1.5}, "fake_from_real.real_fakes is 1.5; it must lie in 0 to 1"),
        (
            {
                **SPATIAL,
                "cross_blend": CrossBlend(weight=0),
                "self_blend": SelfBlend(weight=0),
            },
            "fake_from_real: all weights are 0",
        ),
    ],
)
def test_impossible_options_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        FakeFromReal(**wrong)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--data.fake_from_real={}"], FakeFromReal()),
        (["--data.fake_from_real.real_fakes=0"], FakeFromReal(real_fakes=0)),
        (
            [
                "--data.fake_from_real.self_blend.zoom=[0.02,0.03]",
                "--data.fake_from_real.cross_blend.weight=0",
            ],
            FakeFromReal(self_blend=SelfBlend(zoom=(0.02, 0.03)), cross_blend=CrossBlend(weight=0)),
        ),
        ([], None),
    ],
)
def test_the_command_line_builds_it(arguments: list[str], wanted: FakeFromReal | None) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(VideoDataModule, "data")
    found = parser.parse_args(["--data=datamodules.FolderDataModule", *arguments])
    assert parser.instantiate(found).data.fake_from_real == wanted
