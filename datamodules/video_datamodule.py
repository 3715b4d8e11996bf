"""The data of a run: checked, split and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.clip_dataset import (
    ClipCutter,
    EvalClipDataset,
    TrainClipDataset,
    video_clip_refs,
)
from datamodules.errors import DataError
from datamodules.fake_from_real import ClipForger, FakeFromReal
from datamodules.kept_frames import KeptFrames, longest_clip
from datamodules.manifest import check_no_leak, manifest_hash

# LightningCLI reads the types of the constructor while the program runs.
from datamodules.preprocess.alignments import Alignment, check_alignment
from datamodules.sampling import ClipLoader, EvalSampler, TrainLoader, TrainSampler
from datamodules.split_csv import apply_split_csv, check_methods, without_methods
from datamodules.store.prepared import PreparedStore
from datamodules.transforms import ClipAugmentation
from datamodules.workers import spare_workers, worker_options

if TYPE_CHECKING:
    from datamodules.schema import ClipRef, ClipSample, Split, VideoRecord


class VideoDataModule(LightningDataModule):
    """Clips of a prepared store.

    Loaders yield `ClipSample`s in batches, a `ClipBatch`: raw frames, which the method normalises.
    Samplers cut their shares by rank themselves (`use_distributed_sampler: false`).

    Args:
        root: The prepared folder, as `make data` writes it, or its URL as `s3://bucket/prefix`.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a clip in pixels.
        batch_size: Training clips in a batch of one process.
        eval_batch_size: Clips in a batch of evaluation; None for `batch_size`.
        num_workers: Processes that load for one trainer process; 0 loads in the trainer itself;
            None takes what the machine has to spare.
        train_clips_per_video: Clips drawn for each video and epoch, on average.
        eval_clips_per_video: Clips by which a video is scored, spread evenly over its tracks;
            None for all there are, as the official codes do. [8: ours]
        kept_frames: Cut clips one behind the other out of some frames of a track, as DeepfakeBench
            does; None for clips of all frames, that may overlap.
        balance: Show as many real as fake clips in training. [ours]
        augmentation: What training clips undergo; None for nothing.
        fake_from_real: Fakes that are made of real training videos; None for none. They keep the
            `video_index` of the real video, and have label 1. Never in validation or test.
        alignment: `clip` for one similarity transform a clip (FTCN), `bench` for upright faces in
            each frame (DeepfakeBench), `box` for 1.3 times the face box in each frame (FF++).
        seed: Of all draws.
        split_csv: Table with the columns `split` and `path` or `video_id`, which overrides the
            split of the manifest; videos that are not in it are left out.
        exclude_methods: Forgeries (`method` of the manifest) that are left out of training and
            validation, but not of the test: how a run for `leave_one_out` is trained.
        set_name: Name of the test videos, in ledgers and metrics: `test/<name>/video_auc`; without
            one `test/video_auc`.

    Attributes:
        records: All videos, in the order that `video_index` counts.
        test_names: A name for each test loader.
        manifest_hash: Names the videos and their split, 64 hexadecimal digits.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        num_frames: int = 32,
        image_size: int = 224,
        batch_size: int = 16,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        train_clips_per_video: int = 1,
        eval_clips_per_video: int | None = 8,
        kept_frames: KeptFrames | None = None,
        balance: bool = True,
        augmentation: ClipAugmentation | None = None,
        fake_from_real: FakeFromReal | None = None,
        alignment: Alignment = "clip",
        seed: int = 0,
        split_csv: Path | None = None,
        exclude_methods: list[str] | None = None,
        set_name: str = "test",
    ) -> None:
        super().__init__()
        self.root = root
        self.num_frames = num_frames
        self.image_size = image_size
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.train_clips_per_video = train_clips_per_video
        self.eval_clips_per_video = eval_clips_per_video
        self.kept_frames = kept_frames
        self.balance = balance
        self.augmentation = augmentation
        self.fake_from_real = fake_from_real
        self.alignment = alignment
        self.seed = seed
        self.split_csv = split_csv
        self.exclude_methods = exclude_methods or []
        self.records: list[VideoRecord] = []
        self._all_records: list[VideoRecord] = []
        self.test_names = [set_name]
        self.manifest_hash = ""
        self._store: PreparedStore | None = None
        self._refs: dict[Split, list[ClipRef]] = {}
        self._check_arguments()

    def setup(self, stage: str) -> None:
        """Open the store and check what the stage needs.

        Args:
            stage: `fit`, `validate`, `test` or `predict`.

        Raises:
            DataError: If there is no store, a split that is needed is empty, the training videos
                are all real or all fake, or clips are longer than every track of theirs.
        """
        if self._store is None:
            self._open()
        if stage == "fit":
            check_methods(self._all_records, self.exclude_methods)
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            self._check_split(split)

    def scored(self, split: Split) -> list[tuple[int, VideoRecord]]:
        """List the videos of a split that have clips, each with its row of the manifest."""
        return [
            (i, record)
            for i, record in enumerate(self.records)
            if record.split == split and record.status == "ok"
        ]

    def unscored(self, split: Split) -> list[VideoRecord]:
        """List the videos of a split that have no clip: they are flagged, never scored."""
        return [r for r in self.records if r.split == split and r.status != "ok"]

    def clip_refs(self, split: Split) -> list[ClipRef]:
        """List the clips by which a split is scored: what a (video_index, clip_index) names.

        Raises:
            DataError: If a track is missing or damaged.
        """
        store = self.store
        if split not in self._refs:
            self._refs[split] = [
                ref
                for i, record in self.scored(split)
                for ref in video_clip_refs(
                    store, record, i, self.num_frames, self.eval_clips_per_video, self.kept_frames
                )
            ]
        return self._refs[split]

    @property
    def condition(self) -> dict[str, str | int]:
        """Say what was done to the videos, as columns of a ledger; empty for nothing."""
        made = self.store.info.parameters
        change = made.get("perturbation")
        if change is None:
            return {}
        faces = str(made.get("perturbation_faces", "clean"))
        return {"perturbation": change["name"], "level": change["level"], "faces": faces}

    @property
    def store(self) -> PreparedStore:
        """The opened store.

        Raises:
            RuntimeError: Before `setup`.
        """
        if self._store is None:
            raise RuntimeError("the data is not set up; call setup() first")
        return self._store

    def train_dataloader(self) -> DataLoader[ClipSample]:
        """Load random clips of the training videos; goes on in mid-epoch where a run is resumed."""
        cutter = ClipCutter(self.store, self.image_size, self.augmentation, self.alignment)
        rows, records = zip(*self.scored("train"), strict=True)
        forger, made, kept = None, self.fake_from_real, self.kept_frames
        if made is not None:
            forger = ClipForger(made, cutter, records, self.num_frames, kept)
        sampler = TrainSampler(
            [record.label for record in records],
            self.train_clips_per_video,
            self.batch_size,
            self.balance,
            self.seed,
            *self._rank(),
            self._real_fakes(),
            pair=made is not None and made.pair,
        )
        return TrainLoader(
            self._batches_done,
            dataset=TrainClipDataset(
                cutter, records, rows, self.num_frames, self.seed, forger, kept
            ),
            sampler=sampler,
            batch_size=self.batch_size,
            **self._loader_options(persistent=True),
        )

    def val_dataloader(self) -> DataLoader[ClipSample]:
        """Load the clips by which the validation videos are scored."""
        return self._eval_loader("val", persistent=True)

    def test_dataloader(self) -> DataLoader[ClipSample]:
        """Load the clips by which the test videos are scored."""
        return self._eval_loader("test", persistent=False)

    def predict_dataloader(self) -> DataLoader[ClipSample]:
        """Load the clips of the test videos."""
        return self._eval_loader("test", persistent=False)

    def teardown(self, stage: str) -> None:
        """Close the files of this process."""
        if self._store is not None:
            self._store.close()

    def state_dict(self) -> dict[str, Any]:
        """Say in the checkpoint what decides on the order of the clips."""
        return {
            "manifest_hash": self.manifest_hash,
            "clips_per_step": self.batch_size * self._rank()[1],
            "seed": self.seed,
            "real_fakes": self._real_fakes(),
            "pair": self.fake_from_real is not None and self.fake_from_real.pair,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Warn where training goes on with other clips than it would have seen."""
        now = self.state_dict()
        changed = [
            f"{name} was {old}, is {now[name]}"
            for name, old in state_dict.items()
            if name in now and now[name] != old
        ]
        if changed and self.trainer is not None and self.trainer.state.fn == "fit":
            rank_zero_warn(
                f"the run goes on, but not as it would have without a break: {', '.join(changed)}"
            )

    def _check_arguments(self) -> None:
        check_alignment(self.alignment)
        least = {
            "num_frames": 1,
            "image_size": 1,
            "batch_size": 1,
            "eval_batch_size": 1,
            "train_clips_per_video": 1,
            "eval_clips_per_video": 1,
            "num_workers": 0,
            "seed": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise DataError(f"data: {name} is {value}; it must be at least {low}")
        if self.fake_from_real is not None and self.fake_from_real.pair:
            if not self.balance:
                raise DataError("data: fake_from_real.pair needs balance: true")
            if self.batch_size % 2:
                raise DataError(
                    f"data: batch_size is {self.batch_size}; with fake_from_real.pair it must be "
                    "even, or pairs are torn"
                )

    def _open(self) -> None:
        if self.root is None:
            raise DataError("no data: give ROOT=<prepared folder>, made by `make data`")
        self._store = PreparedStore(self.root)
        self.records = self._store.records
        if self.split_csv is not None:
            self.records = apply_split_csv(self.records, Path(self.split_csv))
            check_no_leak(self.records)
        self._all_records = self.records
        self.records = without_methods(self.records, self.exclude_methods)
        self.manifest_hash = manifest_hash(self.records)

    def _check_split(self, split: Split) -> None:
        videos = self.scored(split)
        if not videos:
            lost = len(self.unscored(split))
            why = f" ({lost} had no usable face)" if lost else ""
            raise DataError(
                f"{self.root}: the {split} split has no video{why}; "
                "prepare more videos or choose another split with --split"
            )
        if split == "train":
            self._check_length(videos)
        labels = {record.label for _, record in videos}
        if len(labels) == 2:
            return
        found, lacking = ("fake", "real") if labels == {1} else ("real", "fake")
        fault = f"{self.root}: all {len(videos)} videos of the {split} split are {found}"
        if split == "train":
            self._check_one_class(fault, lacking)
            return
        rank_zero_warn(f"{fault}: there are scores, but no AUC and no choice by it")

    def _check_one_class(self, fault: str, lacking: str) -> None:
        """Refuse training videos of one class, unless the other one is made of them."""
        if lacking == "real" or self._real_fakes() == 1:
            raise DataError(f"{fault}; add {lacking} ones, or choose another split with --split")
        if not self.balance:
            raise DataError(f"{fault}; set data.balance to true, so that fakes are made of them")

    def _check_length(self, videos: list[tuple[int, VideoRecord]]) -> None:
        """Refuse clips that could only be made by mirroring."""
        longest = 0
        for _, record in videos:
            for track in record.tracks:
                frame_index = self.store.reader(track).track.frame_index
                longest = max(longest, longest_clip(frame_index, self.kept_frames))
                if longest >= self.num_frames:
                    return
        raise DataError(
            f"{self.root}: clips of {self.num_frames} frames, but no face track has "
            f"more than {longest} in a row; lower data.num_frames or prepare longer videos"
        )

    def _eval_loader(self, split: Split, persistent: bool) -> DataLoader[ClipSample]:
        refs = self.clip_refs(split)
        cutter = ClipCutter(self.store, self.image_size, alignment=self.alignment)
        dataset = EvalClipDataset(cutter, self.records, refs)
        return ClipLoader(
            dataset=dataset,
            sampler=EvalSampler(len(refs), *self._rank()),
            batch_size=self.eval_batch_size,
            **self._loader_options(persistent),
        )

    def _loader_options(self, persistent: bool) -> dict[str, Any]:
        workers = self.num_workers
        if workers is None:
            batch = max(self.batch_size, self.eval_batch_size)
            pixel_bytes = 3 if self.fake_from_real is None else 3 + 4  # with a mask in float32
            batch_bytes = batch * self.num_frames * self.image_size**2 * pixel_bytes
            workers = spare_workers(batch_bytes, self._local_processes())
        return {
            "pin_memory": torch.cuda.is_available(),
            # A generator of their own, so that loaders draw nothing from the global one.
            "generator": torch.Generator().manual_seed(self.seed),
            **worker_options(workers, persistent),
        }

    def _real_fakes(self) -> float:
        """Tell the share of the training fakes that are fake videos."""
        return 1.0 if self.fake_from_real is None else self.fake_from_real.real_fakes

    def _local_processes(self) -> int:
        return 1 if self.trainer is None else max(1, self.trainer.num_devices)

    def _rank(self) -> tuple[int, int]:
        """Say which share of the data is this process's, of how many."""
        share = None if self.trainer is None else self.trainer.distributed_sampler_kwargs
        return (0, 1) if share is None else (share["rank"], share["num_replicas"])

    def _batches_done(self) -> int:
        """Count the batches of the epoch that were trained on, in this run or the one resumed."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
