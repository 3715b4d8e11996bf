"""Batches of real clips and the fakes that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from datamodules import FolderDataModule
from datamodules.blending import CrossBlend, SelfBlend
from datamodules.errors import DataError
from datamodules.fake_from_real import FakeFromReal
from datamodules.temporal_forgery import TemporalDropout, TemporalRepeat
from datamodules.transforms import ClipAugmentation
from datamodules.video_blending import VideoBlend
from tests.support.datamodule_contract import as_rank, batches, same
from tests.support.stores import write_store

if TYPE_CHECKING:
    from pathlib import Path

#: All that a real clip and its fake have in common but the blend; noise would hide it.
AUGMENTED = ClipAugmentation(
    flip_prob=0.5,
    rotate_prob=0.5,
    landmark_jitter_px=1.0,
    tone_prob=0.5,
    colour_prob=0.5,
    erase_prob=0.3,
)


def _options(**changes: Any) -> FakeFromReal:
    others = {
        "temporal_dropout": TemporalDropout(weight=0),
        "temporal_repeat": TemporalRepeat(weight=0),
        "cross_blend": CrossBlend(weight=0),
        "self_blend": SelfBlend(weight=0),
        "video_blend": VideoBlend(weight=1),
    }
    return FakeFromReal(**{"pair": True, "real_fakes": 0.0, **others, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    counts: Any = {("train", 0): 6, ("train", 1): 6, ("val", 0): 1, ("val", 1): 1}
    write_store(folder, counts, num_frames=24, num_tracks=2)
    return folder


def _make(root: Path, options: FakeFromReal, **changes: Any) -> FolderDataModule:
    small = {"num_frames": 6, "image_size": 48, "batch_size": 4, "train_clips_per_video": 2}
    datamodule = FolderDataModule(
        root=root,
        fake_from_real=options,
        **{"augmentation": AUGMENTED, "num_workers": 0, **small, **changes},
    )
    datamodule.setup("fit")
    return datamodule


def test_only_the_blend_tells_a_fake_from_the_real_clip_beside_it(root: Path) -> None:
    seen = 0
    for batch in _make(root, _options()).train_dataloader():
        assert batch["label"].sum() == 2
        for k in (0, 2):
            real, fake = (k, k + 1) if batch["label"][k] == 0 else (k + 1, k)
            assert batch["video_index"][real] == batch["video_index"][fake]
            assert batch["clip_index"][real] == batch["clip_index"][fake]
            mask = batch["blend_mask"][fake, 0]
            assert not batch["blend_mask"][real].any()
            apart = (batch["clip"][real].int() - batch["clip"][fake].int()).abs().amax(dim=3)
            # Contrast is about the mean of the clip, which the blend changes a little.
            assert apart[mask == 0].max() <= 1
            assert apart[mask > 0].max() > 1
            seen += 1
    assert seen == 12


@pytest.mark.parametrize(
    "options",
    [
        _options(real_fakes=0.5),
        _options(self_blend=SelfBlend(weight=1), cross_blend=CrossBlend(weight=1)),
    ],
    ids=["with fakes of the data set", "with blends of whole faces"],
)
def test_other_fakes_keep_batches_balanced(root: Path, options: FakeFromReal) -> None:
    datamodule = _make(root, options)
    made = 0
    for batch in datamodule.train_dataloader():
        assert batch["label"].sum() == 2
        for k in (0, 2):
            rows = batch["video_index"][k : k + 2].tolist()
            masked = bool(batch["blend_mask"][k : k + 2].any())
            assert masked == (rows[0] == rows[1])
            if masked:
                assert batch["clip_index"][k] == batch["clip_index"][k + 1]
            made += masked
    assert made == 12 * (1 - options.real_fakes)


def test_temporal_fakes_show_the_same_video(root: Path) -> None:
    options = _options(temporal_dropout=TemporalDropout(weight=1), video_blend=VideoBlend(weight=0))
    for batch in _make(root, options).train_dataloader():
        assert batch["video_index"][0::2].equal(batch["video_index"][1::2])


def test_workers_and_ranks_change_nothing(root: Path) -> None:
    whole = batches(_make(root, _options()).train_dataloader())
    assert same(whole, batches(_make(root, _options(), num_workers=2).train_dataloader()))
    halves = [
        batches(as_rank(_make(root, _options(), batch_size=2), rank, 2).train_dataloader())
        for rank in (0, 1)
    ]
    together = [
        {name: torch.cat([a[name], b[name]]) for name in a} for a, b in zip(*halves, strict=True)
    ]
    assert same(together, whole)


def test_epochs_draw_other_clips(root: Path) -> None:
    loader = _make(root, _options()).train_dataloader()
    first = batches(loader)
    loader.sampler.set_epoch(1)  # type: ignore[attr-defined]
    assert not same(first, batches(loader))


def test_pairs_that_would_be_torn_are_refused(root: Path) -> None:
    with pytest.raises(
        DataError, match=r"batch_size is 3; with fake_from_real.pair it must be even"
    ):
        _make(root, _options(), batch_size=3)
    with pytest.raises(DataError, match=r"fake_from_real.pair needs balance: true"):
        _make(root, _options(), balance=False)


def test_the_checkpoint_says_that_there_are_pairs(root: Path) -> None:
    assert _make(root, _options()).state_dict()["pair"]
    assert not _make(root, _options(pair=False)).state_dict()["pair"]
