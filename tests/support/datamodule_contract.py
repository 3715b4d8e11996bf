"""What every datamodule keeps to; a test class inherits it and supplies `make`."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from datamodules import VideoDataModule
    from datamodules.schema import Split


def as_rank(datamodule: VideoDataModule, rank: int, world_size: int) -> VideoDataModule:
    """Pretend that a datamodule is that of one process of several."""
    trainer = SimpleNamespace(
        distributed_sampler_kwargs={"rank": rank, "num_replicas": world_size},
        num_devices=world_size,
        training=False,
    )
    datamodule.trainer = trainer  # type: ignore[assignment]
    return datamodule


def batches(loader: Any, limit: int = 1000) -> list[dict[str, torch.Tensor]]:
    """Take the first batches of a loader."""
    taken = [batch for _, batch in zip(range(limit), loader, strict=False)]
    for sampler in (loader.sampler,):
        assert len(sampler) >= 0
    return taken


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    """Compare batches bit by bit."""
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


class DataModuleContract:
    """Tests of a datamodule; subclasses supply `make`, which gives a new one that is not set up.

    It takes `num_workers`, `seed` and any further argument of the constructor.
    """

    def make(self, **changes: Any) -> VideoDataModule:
        """Make a datamodule with small clips and a batch size of two or more."""
        raise NotImplementedError

    def ready(self, **changes: Any) -> VideoDataModule:
        """Make a datamodule that is set up for all stages."""
        datamodule = self.make(**{"num_workers": 0, **changes})
        datamodule.prepare_data()
        for stage in ("fit", "test"):
            datamodule.setup(stage)
        return datamodule

    def test_batches_are_what_the_contract_says(self) -> None:
        datamodule = self.ready()
        t, s = datamodule.num_frames, datamodule.image_size
        for loader in (
            datamodule.train_dataloader(),
            datamodule.val_dataloader(),
            datamodule.test_dataloader(),
            datamodule.predict_dataloader(),
        ):
            batch = next(iter(loader))
            n = len(batch["label"])
            assert batch["clip"].shape == (n, t, s, s, 3)
            assert batch["clip"].dtype == torch.uint8
            assert batch["clip"].float().std() > 10
            assert set(batch["label"].tolist()) <= {0.0, 1.0}
            for name in ("video_index", "clip_index"):
                assert batch[name].shape == (n,)
                assert batch[name].dtype == torch.int64
            for label, row in zip(batch["label"], batch["video_index"], strict=True):
                assert datamodule.records[int(row)].label == label

    def test_no_group_lies_in_two_splits(self) -> None:
        splits = defaultdict(set)
        for record in self.ready().records:
            for group in record.group_ids:
                splits[group].add(record.split)
        assert all(len(found) == 1 for found in splits.values())

    def test_training_shows_its_split_balanced(self) -> None:
        datamodule = self.ready(balance=True)
        labels = []
        for batch in datamodule.train_dataloader():
            labels += batch["label"].tolist()
            rows = batch["video_index"].tolist()
            assert {datamodule.records[row].split for row in rows} == {"train"}
        assert sum(labels) == len(labels) / 2

    def test_same_seed_same_batches_other_seed_others(self) -> None:
        first = batches(self.ready(seed=1).train_dataloader(), 3)
        assert same(first, batches(self.ready(seed=1).train_dataloader(), 3))
        assert not same(first, batches(self.ready(seed=2).train_dataloader(), 3))

    def test_epochs_differ_and_can_be_repeated(self) -> None:
        loader = self.ready().train_dataloader()
        epochs: list[Any] = []
        for epoch in (0, 1, 0):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            epochs.append(batches(loader))
        assert same(epochs[0], epochs[2])
        assert not same(epochs[0], epochs[1])

    def test_workers_change_nothing(self) -> None:
        alone, helped = self.ready(), self.ready(num_workers=2)
        assert same(batches(alone.train_dataloader(), 3), batches(helped.train_dataloader(), 3))
        assert same(batches(alone.test_dataloader()), batches(helped.test_dataloader()))

    def test_evaluation_scores_every_clip_once_and_its_keys_name_it(self) -> None:
        datamodule = self.ready()
        splits: tuple[Split, ...] = ("val", "test")
        for split, loader in zip(
            splits, (datamodule.val_dataloader(), datamodule.test_dataloader()), strict=True
        ):
            keys: list[tuple[int, int]] = []
            for batch in loader:
                keys += zip(
                    batch["video_index"].tolist(), batch["clip_index"].tolist(), strict=True
                )
            refs = datamodule.clip_refs(split)
            assert keys == [(ref.video_index, ref.clip_index) for ref in refs]
            assert len(set(keys)) == len(keys)
            rows = {row for row, _ in keys}
            assert rows == {
                i
                for i, record in enumerate(datamodule.records)
                if record.split == split and record.status == "ok"
            }
            assert all(0 <= ref.start_s < ref.end_s for ref in refs)

    def test_ranks_share_the_training_batches_of_one_process(self) -> None:
        size = self.ready().batch_size
        whole = batches(self.ready().train_dataloader(), 2)
        assert size % 2 == 0
        halves = [
            batches(as_rank(self.ready(batch_size=size // 2), rank, 2).train_dataloader(), 2)
            for rank in (0, 1)
        ]
        together = [
            {name: torch.cat([a[name], b[name]]) for name in a}
            for a, b in zip(*halves, strict=True)
        ]
        assert same(together, whole)

    def test_ranks_cover_all_evaluation_clips_in_equal_shares(self) -> None:
        keys = []
        for rank in range(3):
            loader = as_rank(self.ready(), rank, 3).test_dataloader()
            keys.append([(int(v), int(c)) for b in loader for v, c in _pairs(b)])
        assert len({len(share) for share in keys}) == 1
        refs = self.ready().clip_refs("test")
        assert {key for share in keys for key in share} == {
            (ref.video_index, ref.clip_index) for ref in refs
        }


def _pairs(batch: dict[str, torch.Tensor]) -> Any:
    return zip(batch["video_index"], batch["clip_index"], strict=True)
