"""What fakes cost that are made of real videos while training, beside a real clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datamodules.clip_dataset import ClipCutter
from datamodules.fake_from_real import ClipForger, FakeFromReal
from datamodules.preprocess.align import crop_matrices, needed_rows, warp_bands
from experiments.benchmarks.times import Times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datamodules.store.prepared import PreparedStore


class _TimedCutter(ClipCutter):
    """Book apart what decoding takes, and the warps of the first clip that is cut."""

    times = Times()
    first = True

    def warp(
        self,
        track: str,
        positions: Sequence[int],
        matrices: NDArray[np.float64],
        image_size: int | tuple[int, int],
    ) -> NDArray[np.uint8]:
        """Do the same, with a watch on every picture that is decoded."""
        reader = self.store.reader(track)
        from_crops = crop_matrices(matrices, reader.crop_boxes[np.asarray(positions)][:, :2])
        bands = iter(reader.each_crop(positions, needed_rows(from_crops, image_size)))
        decoded = (self.times.take("decode", lambda: next(bands)) for _ in positions)
        what, self.first = "align" if self.first else "lay", False
        before = self.times.seconds["decode"]
        frames = self.times.take(what, lambda: warp_bands(decoded, from_crops, image_size))
        self.times.seconds[what] -= self.times.seconds["decode"] - before
        return np.asarray(frames, np.uint8)


def forging_lines(
    store: PreparedStore, num_clips: int, num_frames: int, image_size: int, rounds: int
) -> Iterator[str]:
    """Make fakes in every way, of the same videos.

    Landmarks of all of them are in memory, as after the first epoch of a training: before, each
    track has to be opened once.

    Args:
        store: Its real videos are the material, of all splits.
        num_clips: At most so many videos.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a clip in pixels.
        rounds: Fakes of every video; one more warms up.

    Yields:
        Lines of a report; none where there is no real video.

    Raises:
        DataError: If the store cannot be read.
    """
    records = [r for r in store.records if r.status == "ok" and r.label == 0][:num_clips]
    if not records:
        return
    cutter = _TimedCutter(store, image_size)
    forger = ClipForger(FakeFromReal(), cutter, records, num_frames)
    for row in range(len(records)):
        forger.footage.draw(row, num_frames, np.random.default_rng(row))
    yield f"{'fakes, CPU ms a clip':<20}{'all':>8}{'decoding':>10}{'aligning':>10}{'forging':>10}"
    for name in forger.forgeries:
        for round_ in range(rounds + 1):
            if round_ <= 1:  # the first one only warms up
                cutter.times, made = Times(), 0
            for row in range(len(records)):
                cutter.first = True
                made += _make(forger, name, row, [round_, row])
        yield _line(name, cutter.times, made)


def _make(forger: ClipForger, name: str, row: int, seed: list[int]) -> bool:
    """Make one fake; books its time, and tells whether it was possible."""
    times = forger.footage.cutter.times  # type: ignore[attr-defined]
    before = dict(times.seconds)
    rng = np.random.default_rng(seed)
    if times.take("all", lambda: forger.try_to_make(name, row, rng)) is not None:
        return True
    times.seconds.clear()
    times.seconds.update(before)
    return False


def _line(name: str, times: Times, made: int) -> str:
    if not made:
        return f"{name:<20}{'none':>8}"
    spent = {what: 1e3 * seconds / made for what, seconds in times.seconds.items()}
    forging = spent["all"] - spent["decode"] - spent["align"]
    figures = (spent["all"], spent["decode"], spent["align"], forging)
    return f"{name:<20}{figures[0]:>8.1f}" + "".join(f"{value:>10.1f}" for value in figures[1:])
