"""Preparation of videos: frames a second of each face backend, and what a second worker brings."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.datasets.folder import read_folder
from datamodules.datasets.records import limited
from datamodules.faces.detect import face_backend
from datamodules.preprocess.batch import prepare_folder
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.storage.root import open_root
from datamodules.video.reader import open_video, probe_video
from experiments.benchmarks.machine import at_least_one, processor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datamodules.datasets.records import SourceFolder


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--raw", type=Path, required=True, help="folder of raw videos")
    parser.add_argument("--videos", type=at_least_one, default=24, help="videos prepared")
    parser.add_argument("--workers", type=at_least_one, default=2, help="against one worker")
    parser.add_argument("--rounds", type=at_least_one, default=2, help="turns of each")
    parser.add_argument(
        "--backends", nargs="*", default=["mesh"], help="face backends to time (mesh, fan)"
    )


def run(options: argparse.Namespace) -> Iterator[str]:
    """Prepare the same videos with one worker and with several, in turns.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.

    Raises:
        DataError: If the videos cannot be read.
        WeightsError: If weights of a backend are missing.
    """
    source = limited(read_folder(open_root(options.raw)), options.videos)
    yield f"preparing {len(source.records)} videos on {processor()}"
    for backend in options.backends:
        yield _detection_line(source, backend)
    seconds: dict[int, list[float]] = {1: [], options.workers: []}
    frames = 0
    for _ in range(options.rounds):
        for workers, taken in seconds.items():
            frames, wall = _prepare(source, workers)
            taken.append(wall)
    for workers, taken in seconds.items():
        yield f"{workers} worker(s): {min(taken):.1f} s, {frames / min(taken):.1f} frames / s"
    ratio = min(seconds[1]) / min(seconds[options.workers])
    yield f"{options.workers} workers are {ratio:.2f} x one"


def _prepare(source: SourceFolder, workers: int) -> tuple[int, float]:
    """Prepare into a new folder; give the frames of all videos and the seconds on the clock."""
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        done = prepare_folder(source, Path(out) / "store", PrepareOptions(), workers)
        wall = time.perf_counter() - start
    return sum(record.num_frames for record in done.records), wall


def _detection_line(source: SourceFolder, name: str) -> str:
    """Time a face backend alone, without decoding, on the first 32 frames of each video."""
    backend = face_backend(name)
    spent, count = 0.0, 0
    for record in source.records:
        path = source.root.local(record.path)
        info = probe_video(path, allow_damaged=True)
        backend.begin(path)
        with open_video(path, info.decoder, info.num_frames) as reader:
            frames = list(reader.read(range(min(32, info.num_frames))))
        start = time.process_time()
        for frame in frames:
            backend.faces(frame)
        spent += time.process_time() - start
        count += len(frames)
    return f"{name}: {count / spent:.1f} frames / s / core ({count} frames)"
