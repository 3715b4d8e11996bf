"""Clips out of the frames that are kept, as DeepfakeBench cuts them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from datamodules import FolderDataModule
from datamodules.clip_dataset import ClipCutter, TrainClipDataset, video_clip_refs
from datamodules.errors import DataError
from datamodules.kept_frames import KeptFrames, clip_positions, longest_clip, num_clips
from datamodules.sampling import ClipKey
from datamodules.store.prepared import PreparedStore
from tests.support.forging import forger, real_store

if TYPE_CHECKING:
    from pathlib import Path

DENSE = KeptFrames()
SPREAD = KeptFrames(spacing="spread")


def _clips(frames: Any, kept: KeptFrames, clip_frames: int = 8) -> list[tuple[int, ...]]:
    count = num_clips(frames, clip_frames, kept)
    return [clip_positions(frames, clip_frames, i, kept) for i in range(count)]


@pytest.mark.parametrize(
    ("num_frames", "starts"),
    [
        (300, [0, 8, 16, 24]),
        (32, [0, 8, 16, 24]),
        # n // 8 clips, (n - 8) // (clips - 1) apart
        (31, [0, 11, 22]),
        (25, [0, 8, 16]),
        (17, [0, 9]),
        (15, [0]),
        (8, [0]),
    ],
)
def test_dense_clips_are_the_first_frames_in_turn(num_frames: int, starts: list[int]) -> None:
    assert _clips(range(num_frames), DENSE) == [tuple(range(s, s + 8)) for s in starts]


def test_spread_clips_reach_over_the_whole_video() -> None:
    kept = np.linspace(0, 299, 32).astype(int)  # DeepfakeBench's preprocessing
    found = _clips(range(1000, 1300), SPREAD)
    assert [list(clip) for clip in found] == kept.reshape(4, 8).tolist()
    assert _clips(range(20), SPREAD) == _clips(range(20), DENSE)


def test_dense_clips_do_not_reach_over_a_gap() -> None:
    gap = [*range(10), *range(20, 60), *range(80, 200)]
    assert _clips(gap, DENSE) == [tuple(range(s, s + 8)) for s in (10, 18, 26, 34)]
    # Nowhere as many in a row: the longest run.
    short = [*range(10), *range(20, 40), *range(50, 66)]
    assert _clips(short, DENSE) == [tuple(range(10, 18)), tuple(range(22, 30))]
    assert longest_clip(short, DENSE) == 20
    assert longest_clip(short, SPREAD) == 32


def test_short_tracks_are_mirrored_and_empty_ones_have_no_clip() -> None:
    (clip,) = _clips([5, 6, 7], DENSE)
    assert len(clip) == 8
    assert set(clip) == {0, 1, 2}
    assert set(np.abs(np.diff(clip))) == {1}
    assert _clips([], DENSE) == _clips([], SPREAD) == []


@pytest.mark.parametrize(
    ("num_frames", "ranges"),
    [
        # Before the next one, and the last one where it fits.
        (32, [(0, 7), (8, 15), (16, 23), (24, 24)]),
        (31, [(0, 10), (11, 21), (22, 23)]),
        (12, [(0, 4)]),
    ],
)
def test_training_starts_are_drawn_within_their_ranges(
    num_frames: int, ranges: list[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(0)
    for i, (first, last) in enumerate(ranges):
        drawn = [clip_positions(range(num_frames), 8, i, DENSE, rng) for _ in range(300)]
        assert all(clip == tuple(range(clip[0], clip[0] + 8)) for clip in drawn)
        starts = Counter(clip[0] for clip in drawn)
        assert set(starts) == set(range(first, last + 1))
        assert max(starts.values()) < 3 * 300 / len(starts)


def test_without_it_all_windows_are_clips() -> None:
    assert num_clips(range(20), 8, None) == 13
    assert clip_positions(range(20), 8, 5, None) == tuple(range(5, 13))
    assert longest_clip([0, 1, 5, 6, 7], None) == 3
    assert longest_clip([], None) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spacing": "sparse"}, "kept_frames.spacing is 'sparse'; choose one of dense, spread"),
        ({"count": 0}, "kept_frames.count is 0; it must be at least 1"),
    ],
)
def test_impossible_options_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        KeptFrames(**wrong)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_store(tmp_path_factory.mktemp("store"), num_real=2, num_frames=50)


def test_a_video_is_scored_by_four_fixed_clips(root: Path) -> None:
    store = PreparedStore(root)
    refs = video_clip_refs(store, store.records[0], 7, 8, None, DENSE)
    assert [ref.positions[0] for ref in refs] == [0, 8, 16, 24]
    assert [ref.clip_index for ref in refs] == [0, 1, 2, 3]
    datamodule = FolderDataModule(
        root=root,
        num_frames=8,
        image_size=16,
        num_workers=0,
        kept_frames=KeptFrames(spacing="spread"),
    )
    datamodule.setup("test")
    refs = datamodule.clip_refs("test")
    assert len(refs) == 2 * 4
    assert refs[3].positions[-1] == 49


def test_training_and_made_fakes_keep_to_the_frames(root: Path) -> None:
    store = PreparedStore(root)
    records = [record for record in store.records if record.split == "train"]
    dataset = TrainClipDataset(ClipCutter(store, 16), records, [0, 1], 8, seed=0, kept=DENSE)
    indices = {int(dataset[ClipKey(0, slot, 0)]["clip_index"]) for slot in range(40)}
    assert indices == {0, 1, 2, 3}
    footage = forger(root).footage
    footage.kept = DENSE
    rng = np.random.default_rng(0)
    for span in (8, 12):
        last = [footage.draw(0, span, rng).place.positions[-1] for _ in range(60)]
        assert 20 < max(last) <= 31


def test_clips_longer_than_the_kept_frames_are_refused(root: Path) -> None:
    datamodule = FolderDataModule(root=root, num_frames=8, kept_frames=KeptFrames(count=6))
    with pytest.raises(DataError, match="clips of 8 frames, but no face track has more than 6"):
        datamodule.setup("fit")
