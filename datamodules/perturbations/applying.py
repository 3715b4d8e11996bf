"""Apply a perturbation to decoded frames: which frames are left, how large, and what they show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np

from datamodules.perturbations.encoding import encode_video, even_size
from datamodules.perturbations.pixels import PIXEL_CHANGES
from datamodules.perturbations.table import FaceChange, PixelChange, Reencoding
from datamodules.video.info import ASSUMED_FPS
from datamodules.video.pyav_reader import PyavReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from datamodules.perturbations.encoding import Encoding
    from datamodules.perturbations.table import Perturbation

    Frame = NDArray[np.uint8]

#: Sides below this are no longer made smaller: encoders refuse less. [ours]
_LEAST_SIDE_PX = 32
#: Grey level that hides; the middle. [ours]
_HIDDEN = 128
#: Smaller videos need more bits a pixel: rates go by this power of the pixels a second, a rule of
#: thumb among encoders. [ours]
_RATE_POWER = 0.75


@dataclass(frozen=True)
class Footage:
    """What is known of a video before it is changed. N frames.

    Attributes:
        num_frames: Frames from the first to the last that is needed.
        fps: Frames a second, 0 where it is not known.
        height: Height in pixels.
        width: Width in pixels.
        name: Tells it from others, whatever it is called: the SHA-256 of its file.
        face_px: Median side of its faces in pixels, 0 where there is none.
        faces: Boxes x0 y0 x1 y1 that hold its faces, in pixels, by frame; each of shape (4,).
    """

    num_frames: int
    fps: float
    height: int
    width: int
    name: str
    face_px: float = 0.0
    faces: Mapping[int, Sequence[NDArray[np.float32]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a perturbation makes of a video, known before it is decoded. M frames.

    Attributes:
        shown: Frame of the source that each new one shows, ascending, shape (M,), int64.
        fps: Frames a second, 0 where it is not known.
        height: Height in pixels.
        width: Width in pixels.
    """

    shown: NDArray[np.int64]
    fps: float
    height: int
    width: int


def outcome_of(perturbation: Perturbation, footage: Footage) -> Outcome:
    """Tell which frames are left of a video, and how large they are.

    Args:
        perturbation: What is done to it.
        footage: The video.
    """
    change, height, width = perturbation.change, footage.height, footage.width
    if not isinstance(change, Reencoding):
        return Outcome(np.arange(footage.num_frames), footage.fps, height, width)
    if not change.restore:
        height, width = _inner_size(change, footage)
    shown, fps = _thinned(footage, change.max_fps)
    return Outcome(shown, fps, height, width)


def perturbed_frames(
    frames: Iterable[Frame], perturbation: Perturbation, footage: Footage, seed: int
) -> Iterator[Frame]:
    """Change the frames of a video.

    Args:
        frames: Its first `footage.num_frames` frames in order, RGB, each (H, W, 3), uint8.
        perturbation: What is done to them.
        footage: The video.
        seed: Of all draws; what is drawn for a frame depends on nothing else but the video, the
            frame's number and the perturbation's name.

    Yields:
        One frame for each of `outcome_of(...).shown`, RGB, (h, w, 3), uint8.

    Raises:
        DataError: If an encoder refuses them.
    """
    change = perturbation.change
    if isinstance(change, Reencoding):
        yield from _reencoded(frames, change, footage)
    elif isinstance(change, FaceChange):
        for number, frame in enumerate(frames):
            yield _hidden(frame, footage.faces.get(number, ()), change)
    else:
        yield from _changed(frames, change, _draw_key(footage.name, perturbation.name, seed))


def _changed(frames: Iterable[Frame], change: PixelChange, key: list[int]) -> Iterator[Frame]:
    function = PIXEL_CHANGES[change.function]
    for number, frame in enumerate(frames):
        yield function(frame, change.value, np.random.default_rng([*key, number]))


def _draw_key(video: str, name: str, seed: int) -> list[int]:
    """Name the draws of a video: the same for all levels, so that a stronger one adds to them."""
    digest = hashlib.sha256(f"{video} {name}".encode()).digest()
    return [seed, int.from_bytes(digest[:8], "big")]


def _thinned(footage: Footage, max_fps: float) -> tuple[NDArray[np.int64], float]:
    """Leave frames out evenly, as a player of the lower rate would show them."""
    fps = footage.fps or ASSUMED_FPS
    if not 0 < max_fps < fps:
        return np.arange(footage.num_frames), footage.fps
    step = fps / max_fps
    count = int((footage.num_frames - 1) / step + 1e-6) + 1
    # A hair more than the exact time, so that whole steps do not round down to the frame before.
    return np.floor(np.arange(count) * step + 1e-6).astype(np.int64), max_fps


def _inner_size(change: Reencoding, footage: Footage) -> tuple[int, int]:
    """Tell the size at which a video is encoded."""
    height, width = footage.height, footage.width
    shorter = min(height, width)
    factor = change.scale
    if change.short_side:
        factor = min(factor, change.short_side / shorter)
    if change.face_px and footage.face_px:
        factor = min(factor, change.face_px / footage.face_px)
    factor = min(1.0, max(factor, _LEAST_SIDE_PX / shorter))
    if factor == 1:
        return height, width
    return even_size(*(max(2, int(factor * side)) for side in (height, width)))


def _reencoded(frames: Iterable[Frame], change: Reencoding, footage: Footage) -> Iterator[Frame]:
    first_size = footage.height, footage.width
    size = _inner_size(change, footage)
    shown, fps = _thinned(footage, change.max_fps)
    small = (_resized(frame, size, cv2.INTER_AREA) for frame in _picked(frames, shown))
    wanted = first_size if change.restore else size
    for frame in _coded(small, change, size, fps):
        yield _resized(frame[: size[0], : size[1]], wanted, cv2.INTER_CUBIC)


def _coded(
    frames: Iterator[Frame], change: Reencoding, size: tuple[int, int], fps: float
) -> Iterator[Frame]:
    if change.encoding is None:
        yield from frames
        return
    encoding = _rated(change.encoding, change.for_pixels, size[0] * size[1] * (fps or ASSUMED_FPS))
    with TemporaryDirectory(prefix="perturbed-") as folder:
        # Matroska tells the time of every frame, so that none is lost or doubled unnoticed.
        path = Path(folder) / "video.mkv"
        count = encode_video(frames, path, encoding, fps)
        with PyavReader(path, count) as reader:
            yield from reader


def _rated(encoding: Encoding, for_pixels: float, pixels: float) -> Encoding:
    if encoding.kbps is None or not 0 < pixels < for_pixels:
        return encoding
    return replace(encoding, kbps=encoding.kbps * (pixels / for_pixels) ** _RATE_POWER)


def _picked(frames: Iterable[Frame], numbers: NDArray[np.int64]) -> Iterator[Frame]:
    wanted = set(numbers.tolist())
    for number, frame in enumerate(frames):
        if number in wanted:
            yield frame


def _resized(frame: Frame, size: tuple[int, int], interpolation: int) -> Frame:
    if frame.shape[:2] == size:
        return frame
    return np.asarray(cv2.resize(frame, size[::-1], interpolation=interpolation), np.uint8)


def _hidden(frame: Frame, boxes: Sequence[NDArray[np.float32]], change: FaceChange) -> Frame:
    inside = np.zeros(frame.shape[:2], bool)
    for x0, y0, x1, y1 in boxes:
        grow_x, grow_y = ((change.grow - 1) / 2 * side for side in (x1 - x0, y1 - y0))
        left, top, right, bottom = (
            max(0, int(edge)) for edge in (x0 - grow_x, y0 - grow_y, x1 + grow_x, y1 + grow_y)
        )
        inside[top:bottom, left:right] = True
    changed: Frame = frame.copy()
    changed[inside if change.hidden == "face" else ~inside] = _HIDDEN
    return changed
