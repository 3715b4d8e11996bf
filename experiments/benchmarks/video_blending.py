"""What video-level blending costs a frame, against its formulation pixel by pixel.

The plain formulation measures the distance of every pixel to every segment and warps whole
frames, as one writes it down at first, and as the code does that the forgery follows.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.feature_drift import drift_maps
from datamodules.organ_masks import ORGANS, organ_masks
from datamodules.synthetic.face import Expression, draw_shape, face_landmarks
from datamodules.video_blending import VideoBlend, blend_organs
from experiments.benchmarks.machine import at_least_one, processor
from experiments.benchmarks.times import Times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Eye distance and place of the eyes' middle in a picture, in shares of its side: a face that
#: fills the crop as a detector's does at 1.3 times its box. [ours]
_EYES, _MIDDLE = 0.34, (0.5, 0.42)

#: Lines of the organs in the order of `ORGANS`, segment by segment.
_SEGMENTS = {
    "eyes": [(36 + i, 36 + (i + 1) % 6) for i in range(6)]
    + [(42 + i, 42 + (i + 1) % 6) for i in range(6)],
    "nose": [(27, 28), (28, 29), (29, 30), (30, 33)],
    "mouth": [(48 + i, 48 + (i + 1) % 12) for i in range(12)],
    "brows": [(i, i + 1) for i in (*range(17, 21), *range(22, 26))],
}
_NOSTRILS = [(i, i + 1) for i in range(31, 35)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--size", type=at_least_one, default=224, help="side of a frame, pixels")
    parser.add_argument("--frames", type=at_least_one, default=32, help="faces, a frame of each")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="turns of both")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Blend the same frames in both ways by turns, on one core.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report: CPU milliseconds a frame.
    """
    import cv2

    cv2.setNumThreads(0)
    rng = np.random.default_rng(0)
    size, count = options.size, options.frames
    points = _faces(count, size, rng)
    frames = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    maps = drift_maps(points, VideoBlend().drift.draw(count, size, rng))
    times, most = Times(), 0
    for _ in range(options.rounds):
        for given in zip(frames, points, maps, strict=True):
            plain = times.take("plain", partial(plain_blend, *given))
            ours = times.take("ours", partial(_blend, *given, times))
            most = max(most, int(np.abs(ours.astype(int) - plain).max()))
    each = {what: 1e3 * spent / count / options.rounds for what, spent in times.seconds.items()}
    yield f"video-level blending, {size} x {size}, one thread of {processor()}"
    yield f"{'CPU ms a frame':<24}{'all':>8}{'masks':>8}{'ratio':>8}"
    yield f"{'pixel by pixel':<24}{each['plain']:>8.2f}{'':>8}{1:>8.1f}"
    yield f"{'VideoBlend':<24}{each['ours']:>8.2f}{each['masks']:>8.2f}" + (
        f"{each['plain'] / each['ours']:>8.1f}"
    )
    yield f"results differ by {most} grey level(s) at most"


def plain_masks(points68: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Draw the masks of all organs from the distances of every pixel to every segment.

    Args:
        points68: Landmarks (x, y) in pixels, shape (68, 2).
        size: Height and width of the picture.

    Returns:
        Shape (4, size, size), float64 in 0..1, overlaps removed.
    """
    bands = VideoBlend().organs
    masks = []
    for organ in ORGANS:
        thickness, fall = getattr(bands, organ).pixels(size)
        distance = _nearest(points68, _SEGMENTS[organ], size)
        if organ == "nose":
            width = 3 * thickness
            other = _nearest(points68, _NOSTRILS, size)
            share = np.clip(0.5 + 0.5 * (distance - other) / width, 0, 1)
            distance = (other - distance) * share + distance - width * share * (1 - share)
        masks.append(1 - np.clip((np.abs(distance) - thickness) / fall, 0, 1))
    eyes, nose, mouth, brows = masks
    eyes = eyes * (1 - mouth)
    nose = nose * (1 - eyes)
    mouth = mouth * (1 - nose)
    brows = brows * (1 - nose) * (1 - eyes)
    return np.stack([eyes, nose, mouth, brows])


def plain_blend(
    frame: NDArray[np.uint8], points68: NDArray[Any], maps: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Blend a frame with four warped copies of the whole of it.

    Args:
        frame: RGB, shape (H, W, 3), uint8.
        points68: Landmarks (x, y) in pixels, shape (68, 2).
        maps: Of each organ, shape (4, 2, 3).

    Returns:
        A picture of the same shape and type.
    """
    import cv2

    size = frame.shape[1]
    blended = np.zeros(frame.shape)
    for mask, matrix in zip(plain_masks(points68, size), maps, strict=True):
        copy = cv2.warpAffine(
            frame,
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        blended += 0.25 * (mask[..., None] * copy + (1 - mask[..., None]) * frame)
    return np.asarray(blended.round().clip(0, 255), np.uint8)


def _blend(
    frame: NDArray[np.uint8], points68: NDArray[Any], maps: NDArray[np.float64], times: Times
) -> NDArray[np.uint8]:
    """Blend a frame as training does, and book the masks apart."""
    options = VideoBlend()
    result: NDArray[np.uint8] = frame.copy()
    masks = times.take("masks", lambda: organ_masks(points68, frame.shape[:2], options.organs))
    blend_organs(result, masks, maps, options.opacity)
    return result


def _nearest(
    points: NDArray[Any], segments: list[tuple[int, int]], size: int
) -> NDArray[np.float64]:
    """Measure how far every pixel is from the nearest segment."""
    y, x = np.mgrid[:size, :size]
    pixels = np.stack([x, y], axis=-1).astype(np.float64)
    nearest: NDArray[np.float64] = np.full((size, size), np.inf)
    for first, last in segments:
        start, along = points[first].astype(np.float64), points[last] - points[first]
        share = np.clip((pixels - start) @ along / max(along @ along, 1e-6), 0, 1)
        foot = start + share[..., None] * along
        np.minimum(nearest, np.linalg.norm(pixels - foot, axis=-1), out=nearest)
    return nearest


def _faces(count: int, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw landmarks of made-up faces, shape (count, 68, 2)."""
    calm = Expression(blink=0, opening=0, gaze=(0, 0))
    faces = [face_landmarks(draw_shape(rng), calm) for _ in range(count)]
    return np.asarray((np.stack(faces) * _EYES + _MIDDLE) * size, np.float64)
