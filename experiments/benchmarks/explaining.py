"""Whether a run's maps can be trusted: do they follow its weights, its scores, and forged places?

Maps are made of rendered fakes, of which it is known where they are forged. A run that was trained
on other forgeries may take them for real; then the figures say little, and the report says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.benchmarks.machine import at_least_one, processor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from experiments.detector import Detector

#: What makes a forgery, taken from a run that was trained on rendered videos.
_RENDERING = ["kinds", "frame_size", "temporal_strength", "spatial_strength", "generator_scale"]
#: People of the rendered clips are others than those of the demo's seeds. [ours]
_SEED = 20_000
#: Shares of the weights that are shuffled, from the network's end. [ours]
_CASCADE = (0.1, 0.3, 1.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="runs/<run>")
    parser.add_argument("--clips", type=at_least_one, default=8, help="rendered fakes (8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (auto)")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Check the maps of a run.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.
    """
    from experiments.detector import load_detector
    from experiments.explaining.checks import compare_randomised, find_place, follow_score

    detector = load_detector(options.run, options.device)
    clips, masks, real = _rendered(detector, options.clips)
    scores = [detector.score_clips(given).clip for given in (clips, real)]
    yield f"maps of {options.run}, {len(clips)} rendered fakes, {processor()}"
    yield f"mean log-odds: fakes {scores[0].mean():.2f}, the same unforged {scores[1].mean():.2f}"
    if (scores[0] <= scores[1]).mean() >= 0.5:
        yield "the run does not tell these fakes from real clips: what follows says little"
    detector.explain_clips(clips[:1])  # layers are looked for once
    start = perf_counter()
    maps = detector.explain_clips(clips)
    yield f"seconds a clip: {(perf_counter() - start) / len(clips):.2f}, map {maps.shape[1:]}"
    for share in _CASCADE:
        alike = compare_randomised(detector.model, clips, share)
        yield (
            f"{share:4.0%} of the weights shuffled: rank correlation {alike.correlation:.2f}, "
            f"SSIM {alike.similarity:.2f} (1 would be a map that ignores them)"
        )
    curves = follow_score(detector.model, clips, maps)
    yield (
        f"log-odds while marked places go: {curves.deletion:+.2f}, random places "
        f"{curves.random_deletion:+.2f}; faster than each random order for {curves.better:.0%}"
    )
    yield (
        f"log-odds while marked places come: {curves.insertion:+.2f}, random places "
        f"{curves.random_insertion:+.2f}"
    )
    placed, unforged = find_place(maps, masks), find_place(detector.explain_clips(real), masks)
    yield (
        f"forged place: AUROC {placed.auroc:.2f} (chance 0.50; the same place of the same clips "
        f"unforged {unforged.auroc:.2f}), strongest pixel inside {placed.pointing:.0%} "
        f"(chance {placed.area:.0%})"
    )


def _rendered(
    detector: Detector, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Render fakes with their masks, and the same clips unforged, aligned as the run's data."""
    import cv2

    from datamodules.faces.detect import five_points
    from datamodules.preprocess.align import clip_transform
    from datamodules.synthetic.dataset import SyntheticSpec, render_video

    options = detector.data.get("init_args") or {}
    given: dict[str, Any] = {name: options[name] for name in _RENDERING if name in options}
    given["kinds"] = tuple(given.get("kinds", ("spatial", "both")))
    frames, size = detector.num_frames, detector.image_size
    spec = SyntheticSpec(num_identities=max(10, number), num_frames=frames, seed=_SEED, **given)
    made: tuple[list[NDArray[np.uint8]], ...] = ([], [], [])
    for person in range(number):
        fake = render_video(spec, person, 0, spec.kinds[person % len(spec.kinds)])
        points5 = np.stack([five_points(points) for points in fake.points68])
        matrix = clip_transform(points5, size)
        same = render_video(spec, person, 0, None)
        for into, pictures in zip(made, (fake.frames, fake.mask, same.frames), strict=True):
            into.append(np.stack([cv2.warpAffine(p, matrix, (size, size)) for p in pictures]))
    clips, masks, real = (np.stack(part) for part in made)
    return clips, np.asarray(masks / 255, np.float32), real
