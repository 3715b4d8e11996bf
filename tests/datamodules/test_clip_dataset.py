"""Clips out of a store: the right frames, one alignment, pure functions of their key."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datamodules.clip_dataset import (
    ClipCutter,
    EvalClipDataset,
    TrainClipDataset,
    video_clip_refs,
)
from datamodules.errors import DataError
from datamodules.sampling import ClipKey
from datamodules.store.prepared import PreparedStore, TrackWriter
from datamodules.transforms import ClipAugmentation
from tests.support.stores import FACE_POINTS5, track_meta, write_store, write_track

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.schema import ClipSample

AUGMENTED = ClipAugmentation(
    flip_prob=0.5, landmark_jitter_px=2.0, colour_prob=0.5, erase_prob=0.3, noise_prob=0.5
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    root = tmp_path_factory.mktemp("store")
    write_store(root, {("train", 0): 2, ("train", 1): 2}, num_frames=20, num_tracks=2)
    return PreparedStore(root)


def _train(
    store: PreparedStore, augmentation: ClipAugmentation | None = None, num_frames: int = 6
) -> TrainClipDataset:
    cutter = ClipCutter(store, 48, augmentation)
    return TrainClipDataset(cutter, store.records, [10, 11, 12, 13], num_frames, seed=3)


def _equal(one: ClipSample, other: ClipSample) -> bool:
    return all(one[name].equal(other[name]) for name in one)  # type: ignore[literal-required]


def _frames_shown(clip: NDArray[np.uint8]) -> list[int]:
    """Read the frame numbers that the red channel tells."""
    centre = clip[:, 16:32, 16:32, 0].astype(float).mean(axis=(1, 2))
    return [round((value - 40) / 2) for value in centre]


def test_a_sample_is_what_the_contract_says(store: PreparedStore) -> None:
    sample = _train(store)[ClipKey(0, 0, 2)]
    assert set(sample) == {"clip", "label", "video_index", "clip_index"}
    assert sample["clip"].shape == (6, 48, 48, 3)
    assert str(sample["clip"].dtype) == "torch.uint8"
    assert sample["label"].item() == store.records[2].label
    assert str(sample["label"].dtype) == "torch.float32"
    assert sample["video_index"].item() == 12
    assert str(sample["clip_index"].dtype) == "torch.int64"


def test_a_clip_shows_consecutive_frames_of_its_track(store: PreparedStore) -> None:
    cutter = ClipCutter(store, 48)
    clip = cutter.cut(store.records[0].tracks[0], range(4, 10))
    assert _frames_shown(clip.frames) == list(range(4, 10))
    np.testing.assert_array_equal(clip.frame_index, range(4, 10))


def test_training_windows_are_consecutive_and_cover_all_tracks(store: PreparedStore) -> None:
    dataset = _train(store)
    windows = Counter(dataset[ClipKey(0, slot, 0)]["clip_index"].item() for slot in range(300))
    # Two tracks of 20 frames hold 15 windows of 6 each.
    assert set(windows) == set(range(30))
    for slot in range(10):
        sample = dataset[ClipKey(0, slot, 0)]
        first = int(sample["clip_index"]) % 15
        assert _frames_shown(sample["clip"].numpy()) == list(range(first, first + 6))


def test_a_sample_is_a_pure_function_of_its_key(store: PreparedStore) -> None:
    dataset, other = _train(store, AUGMENTED), _train(store, AUGMENTED)
    keys = [ClipKey(epoch, slot, slot % 4) for epoch in (0, 7) for slot in range(5)]
    samples = {key: dataset[key] for key in keys}
    for key in reversed(keys):
        assert _equal(samples[key], other[key])
    copy = pickle.loads(pickle.dumps(dataset))
    assert _equal(samples[keys[3]], copy[keys[3]])


def test_epochs_slots_and_seeds_draw_differently(store: PreparedStore) -> None:
    dataset = _train(store, ClipAugmentation(noise_prob=1.0))
    base = dataset[ClipKey(1, 2, 0)]
    assert not _equal(base, dataset[ClipKey(2, 2, 0)])
    assert not _equal(base, dataset[ClipKey(1, 3, 0)])
    dataset.seed = 4
    assert not _equal(base, dataset[ClipKey(1, 2, 0)])


def test_a_plain_number_is_a_row_of_epoch_0(store: PreparedStore) -> None:
    dataset = _train(store)
    assert len(dataset) == 4
    assert _equal(dataset[3], dataset[ClipKey(0, 3, 3)])


def _write_marked(path: Path, num_frames: int) -> None:
    """Write black crops with a white disk on the second of the five points."""
    import cv2

    with TrackWriter(path, track_meta(image_format="png", quality=0)) as writer:
        for frame in range(num_frames):
            # Crops of one track differ in place and size, here also beyond the face's motion.
            x0, y0, w, h = 20 + 2 * frame, 30 - frame, 70 + frame % 3, 66 + frame % 2
            points5 = FACE_POINTS5 + np.array([24.0 + frame, 31.0], np.float32)
            crop = np.zeros((h, w, 3), np.uint8)
            centre = (points5[1] - (x0, y0)) * 16
            cv2.circle(crop, tuple(centre.astype(int).tolist()), 64, (255,) * 3, -1, shift=4)
            writer.add(
                frame,
                crop,
                (x0, y0, x0 + w, y0 + h),
                box=(x0, y0, x0 + w, y0 + h),
                points5=points5,
                points68=np.repeat(points5, 14, axis=0)[:68],
                score=1.0,
            )


@pytest.mark.parametrize(
    ("flip_prob", "jitter", "rotate_prob"),
    [(0.0, 0.0, 0), (1.0, 0.0, 0), (0.0, 4.0, 0), (1.0, 4.0, 0), (0.0, 0.0, 1), (1.0, 4.0, 1)],
)
def test_landmarks_lie_where_the_picture_is(
    tmp_path: Path, flip_prob: float, jitter: float, rotate_prob: float
) -> None:
    write_store(tmp_path, {("train", 0): 1}, num_frames=2)
    _write_marked(tmp_path / "tracks/marked.zip", 5)
    augmentation = ClipAugmentation(
        flip_prob=flip_prob, landmark_jitter_px=jitter, rotate_prob=rotate_prob, rotate_deg=20
    )
    cutter = ClipCutter(PreparedStore(tmp_path), 96, augmentation)
    clip = cutter.cut("tracks/marked.zip", range(5), np.random.default_rng(0))
    # A mirrored face's landmark 0 is the old 16, which the disk is on; else landmark 16 is.
    landmark = 0 if flip_prob else 16
    for frame, points in zip(clip.frames, clip.points68, strict=True):
        y, x = np.nonzero(frame[..., 0] > 127)
        np.testing.assert_allclose(points[landmark], (x.mean(), y.mean()), atol=0.4)


def test_one_alignment_for_all_frames_keeps_motion(tmp_path: Path) -> None:
    write_store(tmp_path, {("train", 0): 1}, num_frames=12)
    cutter = ClipCutter(PreparedStore(tmp_path), 96)
    points = cutter.cut("tracks/toy/real/train00/0.zip", range(12)).points68[:, 0]
    steps = np.diff(points, axis=0)
    # The face moves evenly; an alignment of each frame would hold it still.
    assert np.linalg.norm(steps[0]) > 0.5
    np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-3)


def test_short_tracks_are_mirrored(tmp_path: Path) -> None:
    write_store(tmp_path, {("train", 0): 1}, num_frames=4)
    dataset = TrainClipDataset(
        ClipCutter(PreparedStore(tmp_path), 48), PreparedStore(tmp_path).records, [0], 8, seed=0
    )
    for slot in range(10):
        shown = np.array(_frames_shown(dataset[ClipKey(0, slot, 0)]["clip"].numpy()))
        assert set(np.abs(np.diff(shown))) == {1}
        assert shown.min() >= 0
        assert shown.max() <= 3


def test_evaluation_clips_are_spread_over_tracks_and_time(store: PreparedStore) -> None:
    refs = video_clip_refs(store, store.records[1], 1, 6, 8)
    assert [ref.clip_index for ref in refs] == list(range(8))
    assert Counter(ref.track_index for ref in refs) == {0: 4, 1: 4}
    for track in (0, 1):
        starts = [ref.positions[0] for ref in refs if ref.track_index == track]
        assert starts[0] == 0
        assert starts[-1] == 14
        assert starts == sorted(set(starts))
    assert refs[0].start_s == 0
    assert refs[0].end_s == pytest.approx(6 / 25)
    assert refs[3].start_s == pytest.approx(14 / 25)


def test_every_window_is_listed_where_no_number_is_given(store: PreparedStore) -> None:
    refs = video_clip_refs(store, store.records[1], 1, 6, None)
    assert len(refs) == 30
    assert len({(ref.track_index, ref.positions) for ref in refs}) == 30


def test_evaluation_samples_carry_their_key(store: PreparedStore) -> None:
    refs = video_clip_refs(store, store.records[2], 2, 6, 3)
    dataset = EvalClipDataset(ClipCutter(store, 48), store.records, refs)
    assert len(dataset) == 3
    for ref, sample in zip(refs, (dataset[i] for i in range(3)), strict=True):
        assert (sample["video_index"], sample["clip_index"]) == (2, ref.clip_index)
        assert _frames_shown(sample["clip"].numpy()) == list(ref.positions)


def test_a_broken_track_is_loud_and_names_its_file(tmp_path: Path) -> None:
    records = write_store(tmp_path, {("train", 0): 1})
    broken = tmp_path / records[0].tracks[0]
    write_track(broken, 2)
    broken.write_bytes(broken.read_bytes()[:500])
    store = PreparedStore(tmp_path)
    dataset = TrainClipDataset(ClipCutter(store, 48), records, [0], 6, seed=0)
    with pytest.raises(DataError, match=str(broken)):
        dataset[ClipKey(0, 0, 0)]
