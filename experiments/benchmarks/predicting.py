"""From a raw video to its score, against the way of the official demos on the same machine.

The official way scores every window (stride 1) by the network as released, one clip at a time,
and crops and aligns the frames of each clip anew. Its faces are found by the suite's own finder:
what is compared is not the detectors. Its time per clip is measured on a few clips, of which
the scores are compared as well, and taken times their number; the score over all windows comes from
the network as it is here. Times are CPU seconds of all threads, which a busy machine disturbs less
than the clock.
"""

from __future__ import annotations

import argparse
import copy
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from datamodules.preprocess.align import big_box, warp_crops
from datamodules.preprocess.alignments import frame_matrices
from experiments.benchmarks.machine import at_least_one, processor
from experiments.benchmarks.network import make_plain
from experiments.detector import load_detector
from experiments.engines import ENGINES, TorchEngine
from experiments.errors import UsageError
from experiments.predicting.cutting import cut_clips
from experiments.predicting.faces import find_people
from experiments.predicting.video import ScoringOptions, score_video
from experiments.predicting.windows import plan_clips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from experiments.detector import Detector
    from experiments.predicting.faces import SeenTrack, SeenVideo


T = TypeVar("T")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--video", type=Path, required=True, help="a video with faces")
    parser.add_argument("--run", type=Path, required=True, help="a run folder")
    parser.add_argument("--clips", type=at_least_one, default=4, help="clips timed officially")
    parser.add_argument("--threads", type=at_least_one, default=1, help="threads of a network")
    parser.add_argument("--engine", choices=ENGINES, default="torch", help="what runs ours")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure both ways.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.

    Raises:
        DataError: If the video cannot be read.
        UsageError: If the run's clips are not windows, or the video shows no face.
        WeightsError: If weights are missing or damaged.
    """
    torch.set_num_threads(options.threads)
    detector = load_detector(options.run, "cpu", options.engine)
    if detector.spread is not None:
        raise UsageError(f"{options.run} was trained on spread frames, which have no windows")
    find_people(options.video, "mesh", True, lambda *_: None)  # loads the networks
    found, finding = _timed(lambda: find_people(options.video, "mesh", True, lambda *_: None))
    if not found.tracks:
        raise UsageError(f"{options.video} shows no face; choose another one")
    yield f"{options.video.name}: {found.num_frames} frames, {len(found.tracks)} tracks"
    yield f"{detector.method} by {options.engine}, {options.threads} threads, {processor()}"
    yield from _stages(found, detector, finding)
    ours, seconds = _timed(lambda: score_video(options.video, [detector]))
    every = score_video(options.video, [detector], ScoringOptions(stride=1))
    windows = len(every.models[0].tracks[0].clips)
    total = sum(len(track.clips) for track in every.models[0].tracks)
    count = min(options.clips, windows)
    scores, per_clip = _official_clips(found, detector, count)
    official = finding + total * per_clip
    known = [clip.score for clip in every.models[0].tracks[0].clips[:count]]
    assert ours.score is not None
    assert every.score is not None
    yield f"official way: {total} clips at {per_clip:.3f} s, {official:.1f} CPU s (extrapolated)"
    clips = sum(len(track.clips) for track in ours.models[0].tracks)
    yield f"ours:         {clips} clips, {seconds:.1f} CPU s"
    yield f"ratio {official / seconds:.1f}x"
    apart = np.abs(np.array(scores) - known).max()
    yield f"largest difference of {count} clips' scores, official network and ours: {apart:.1e}"
    yield (
        f"video score: all windows {every.score:.5f}, ours {ours.score:.5f}, "
        f"difference {abs(every.score - ours.score):.5f}"
    )


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def _stages(found: SeenVideo, detector: Detector, finding: float) -> Iterator[str]:
    """Time each stage on its own."""
    options = ScoringOptions()
    kind = options.kind_of(detector.spec)
    plans = [
        {kind: plan_clips(detector.spec, track.faces.frame_index, kind.stride or 1)}
        for track in found.tracks
    ]
    _, decoding = _timed(lambda: sum(1 for _ in found.frames()))
    batches, cutting = _timed(
        lambda: list(cut_clips(found.frames(), found.tracks, plans, {kind: 1}))
    )
    shown = batches[: max(1, min(4, len(batches)))]
    _, scoring = _timed(lambda: [detector.score_clips(batch.clips) for batch in shown])
    scoring *= len(batches) / len(shown)
    stages = {
        "decoding": decoding,
        "probing, decoding and finding faces": finding,
        "decoding, cutting and aligning": cutting,
        "network": scoring,
    }
    for name, seconds in stages.items():
        rate = found.num_frames / max(seconds, 1e-9)
        yield f"{name:<36}{seconds:8.2f} CPU s{rate:10.1f} frames/s"


def _official_clips(found: SeenVideo, detector: Detector, count: int) -> tuple[list[float], float]:
    """Score the first windows of the first track the official way.

    Returns:
        Their scores, and the CPU seconds of one.
    """
    plain = copy.deepcopy(detector.model)
    for module in plain.modules():
        make_plain(module, in_place=False)
    engine, track = TorchEngine(plain), found.tracks[0]
    places = list(islice(plan_clips(detector.spec, track.faces.frame_index, 1), count))
    last = int(track.faces.frame_index[max(place.last for place in places)])
    frames = list(islice(found.frames(), last + 1))
    scores, start = [], time.process_time()
    for place in places:
        clip = _clip(frames, track, np.asarray(place.positions), detector)
        odds = engine(torch.from_numpy(clip)[None]).clip[0]
        scores.append(float(1 / (1 + np.exp(-odds))))
    return scores, (time.process_time() - start) / len(places)


def _clip(
    frames: list[NDArray[np.uint8]],
    track: SeenTrack,
    rows: NDArray[np.int64],
    detector: Detector,
) -> NDArray[np.uint8]:
    """Crop and align a clip anew."""
    size = (frames[0].shape[0], frames[0].shape[1])
    boxes = np.array([big_box(track.faces.box[row], *size) for row in rows])
    pictures = [frames[int(track.faces.frame_index[row])] for row in rows]
    crops = [p[y0:y1, x0:x1] for p, (x0, y0, x1, y1) in zip(pictures, boxes, strict=True)]
    matrices = frame_matrices(detector.alignment, track.faces, rows, size, detector.image_size)
    return warp_crops(crops, boxes, matrices, detector.image_size)
