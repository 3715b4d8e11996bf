"""Memory over time: does preparing many videos, or loading many clips, take more and more?

A line is fitted to the resident memory of the process, in MiB, over the second half of the work:
the first half fills caches of bounded size.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datamodules.clip_dataset import ClipCutter
from datamodules.clip_sampling import num_windows, window_positions
from datamodules.datasets.folder import read_folder
from datamodules.datasets.records import limited
from datamodules.preprocess.prepare import PrepareOptions, VideoTask, prepare_video
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from experiments.benchmarks.loading import AUGMENTATION
from experiments.benchmarks.machine import at_least_one, processor, resident_mib
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Points of the curve that is printed.
_SHOWN = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--root", type=Path, help="prepared folder to load clips of")
    parser.add_argument("--raw", type=Path, help="folder of raw videos to prepare")
    parser.add_argument("--clips", type=at_least_one, default=10_000, help="clips loaded")
    parser.add_argument("--videos", type=at_least_one, default=500, help="videos prepared")
    parser.add_argument("--frames", type=at_least_one, default=32, help="frames in a clip")
    parser.add_argument("--size", type=at_least_one, default=224, help="height and width, pixels")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Prepare videos, load clips, and watch the memory of this process.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.

    Raises:
        DataError: If the store or the videos cannot be read.
        UsageError: If neither is given.
    """
    if options.root is None and options.raw is None:
        raise UsageError("give --root <prepared folder>, --raw <videos>, or both")
    yield f"resident memory of one process on {processor()}"
    if options.raw is not None:
        yield from _lines("videos prepared", _prepare(options.raw, options.videos))
    if options.root is not None:
        loaded = _load(options.root, options.clips, options.frames, options.size)
        yield from _lines("clips loaded", loaded)


def _prepare(raw: Path, count: int) -> list[float]:
    """Prepare so many videos one after the other, the same ones again if there are fewer."""
    root = open_root(raw)
    records = limited(read_folder(root), count).records
    used = []
    with tempfile.TemporaryDirectory() as out:
        for k in range(count):
            record = records[k % len(records)]
            prepare_video(
                VideoTask(
                    root=root.local(""),
                    out=Path(out),
                    path=record.path,
                    video_id=record.video_id,
                    options=replace(PrepareOptions(), max_frames=64),
                )
            )
            used.append(resident_mib())
    return used


def _load(root: Path, count: int, num_frames: int, image_size: int) -> list[float]:
    """Load so many random clips, augmented."""
    store = PreparedStore(root)
    cutter = ClipCutter(store, image_size, AUGMENTATION)
    tracks = [track for record in store.records for track in record.tracks]
    rng = np.random.default_rng(0)
    used = []
    for _ in range(count):
        track = tracks[int(rng.integers(len(tracks)))]
        frame_index = cutter.frame_index(track)
        window = int(rng.integers(num_windows(frame_index, num_frames)))
        cutter.cut(track, window_positions(frame_index, num_frames, window), rng)
        used.append(resident_mib())
    return used


def slope_per_thousand(used: Sequence[float]) -> float:
    """Fit a line to the second half of a curve.

    Args:
        used: MiB after each piece of work.

    Returns:
        MiB that a thousand further pieces would add.
    """
    half = np.asarray(used[len(used) // 2 :])
    if len(half) < 2:
        return float("nan")
    return float(1000 * np.polyfit(np.arange(len(half)), half, 1)[0])


def _lines(what: str, used: list[float]) -> Iterator[str]:
    places = np.linspace(0, len(used) - 1, _SHOWN).astype(int)
    curve = ", ".join(f"{place + 1}: {used[place]:.0f}" for place in places)
    yield f"{what}: MiB after {curve}"
    yield f"  slope of the second half {slope_per_thousand(used):+.2f} MiB per thousand"
