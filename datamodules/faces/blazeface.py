"""BlazeFace, full range, on OpenCV's dnn: boxes and eyes of the faces in a frame.

Bazarevsky et al., 2019, https://arxiv.org/abs/1907.05047; weights: see `weights/catalog.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from weights.catalog import file_path

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WEIGHTS = "face_detection_full_range.tflite"
#: Input of the network in pixels, and pixels per anchor; one anchor a cell (model's graph).
_SIDE, _STRIDE = 192, 4
_OUTPUTS = ("reshaped_regressor_face_4", "reshaped_classifier_face_4")
#: Boxes that overlap more than this are one face, averaged by score (MediaPipe's graph).
_SAME_FACE_IOU = 0.3
#: Below this score a look is not trusted, and the frame is looked at in other ways. [ours]
_SURE_SCORE = 0.8
#: The wide look shrinks the frame by this much: faces that fill the frame score 0.4 to 0.7 as
#: they are and 0.8 to 0.9 so (measured on 13 close-ups with factors of 1 to 3). [ours]
_WIDE = 2.5
#: Share of the longer side of the frame from which a face is too large for the near look. [ours]
_LARGE = 0.2
#: Square tiles of the near look overlap by this share of their side. [ours]
_TILE_OVERLAP = 0.5
#: Tiles are worth while only where they show the face this much larger. [ours]
_MIN_GAIN = 1.25


@dataclass(frozen=True, eq=False)
class Detection:
    """A face as the detector sees it, in pixels of the frame.

    Attributes:
        box: Corners (x0 y0), (x1 y1), shape (2, 2), float32.
        eyes: Left and right one in the picture (x, y), shape (2, 2), float32.
        score: 0..1.
    """

    box: NDArray[np.float32]
    eyes: NDArray[np.float32]
    score: float


@dataclass(frozen=True)
class _Window:
    """A square of the frame that is shown to the network; may reach over the border."""

    x0: int
    y0: int
    side: int


class BlazeFace:
    """The detector.

    A frame is looked at as a whole. If no face is found, or one is not sure, it is looked at again
    with a wide border (faces that fill the frame), and if still none is sure, or large, in
    overlapping tiles.

    Args:
        min_score: Detections below it are dropped.

    Raises:
        WeightsError: If the weight file is absent or damaged.
    """

    def __init__(self, min_score: float) -> None:
        self._min_score = min_score
        self._net = read_tflite(file_path(WEIGHTS))

    def detect(self, frame_rgb: NDArray[np.uint8]) -> list[Detection]:
        """Find the faces of a frame, the surest first.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.

        Returns:
            The faces.
        """
        height, width = frame_rgb.shape[:2]
        longest = max(height, width)
        found = self._look(frame_rgb, _centred(width, height, longest))
        # Also for a second face beside a sure one: 1 in 700 frames of videos of one person.
        if not found or any(detection.score < _SURE_SCORE for detection in found):
            found += self._look(frame_rgb, _centred(width, height, round(_WIDE * longest)))
        if _best(found) < _SURE_SCORE and _largest(found) < _LARGE * longest:
            for tile in _tiles(width, height):
                found += self._look(frame_rgb, tile)
        return _merge(found)

    def _look(self, frame_rgb: NDArray[np.uint8], window: _Window) -> list[Detection]:
        """Run the network on one square of the frame."""
        picture, scale, offset = _letterbox(frame_rgb, window)
        self._net.setInput(picture)
        regressed, classified = self._net.forward(_OUTPUTS)
        score = 1 / (1 + np.exp(-np.clip(classified.reshape(-1), -50, 50)))
        kept = np.flatnonzero(score >= self._min_score)
        # Each anchor: centre, size, then six points of which the first two are the eyes.
        value = regressed.reshape(len(score), -1, 2)[kept, :4]
        anchor = _anchors()[kept]
        half = value[:, 1] / 2
        centre = value[:, 0] + anchor
        corners = np.stack([centre - half, centre + half], axis=1)
        eyes = value[:, 2:4] + anchor[:, None]
        points = np.concatenate([corners, eyes], axis=1) / scale + offset
        return _merge(
            [
                Detection(
                    box=p[:2].astype(np.float32), eyes=p[2:].astype(np.float32), score=float(s)
                )
                for p, s in zip(points, score[kept], strict=True)
                if (p[1] > p[0]).all()
            ]
        )


def read_tflite(path: Path) -> Any:
    """Load a network into OpenCV, with one thread.

    Args:
        path: The `.tflite` file.

    Returns:
        A `cv2.dnn.Net`.
    """
    # Workers are processes; threads inside them would only compete.
    cv2.setNumThreads(1)
    # The new engine of OpenCV 5 cannot give two outputs at once.
    classic = getattr(cv2.dnn, "ENGINE_CLASSIC", None)
    if classic is None:
        return cv2.dnn.readNetFromTFLite(str(path))
    return cv2.dnn.readNetFromTFLite(str(path), classic)


def box_iou(one: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure how much boxes overlap with one box.

    Args:
        one: Corners, shape (2, 2).
        others: Corners, shape (N, 2, 2).

    Returns:
        Intersection over union, shape (N,), 0..1.
    """
    low = np.maximum(one[0], others[:, 0])
    high = np.minimum(one[1], others[:, 1])
    inside = np.prod(np.clip(high - low, 0, None), axis=1)
    union = np.prod(one[1] - one[0]) + np.prod(others[:, 1] - others[:, 0], axis=1) - inside
    overlap: NDArray[np.float32] = inside / np.maximum(union, 1e-9)
    return overlap


@cache
def _anchors() -> NDArray[np.float32]:
    """Give the centres of the anchors in input pixels, row by row, shape (2304, 2)."""
    line = (np.arange(_SIDE // _STRIDE, dtype=np.float32) + 0.5) * _STRIDE
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def _centred(width: int, height: int, side: int) -> _Window:
    return _Window((width - side) // 2, (height - side) // 2, side)


def _tiles(width: int, height: int) -> list[_Window]:
    """Cover the frame with overlapping squares as high as the frame (or as wide)."""
    side, longest = min(width, height), max(width, height)
    if side < _SIDE or longest < _MIN_GAIN * side:
        side = round(longest / 2)
    if side < _SIDE:
        return []
    step = side * (1 - _TILE_OVERLAP)

    def starts(length: int) -> list[int]:
        count = 1 + int(np.ceil(max(0, length - side) / step))
        return [round(float(x)) for x in np.linspace(0, max(0, length - side), count)]

    return [_Window(x, y, side) for y in starts(height) for x in starts(width)]


def _letterbox(
    frame_rgb: NDArray[np.uint8], window: _Window
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Scale a window to the network's input.

    Returns:
        Input of shape (1, 3, 192, 192) in -1..1; scale and offset so that
        `frame point = input point / scale + offset`, shapes (2,).
    """
    height, width = frame_rgb.shape[:2]
    x0, y0 = max(0, window.x0), max(0, window.y0)
    x1, y1 = min(width, window.x0 + window.side), min(height, window.y0 + window.side)
    zoom = _SIDE / window.side
    size = (max(1, round((x1 - x0) * zoom)), max(1, round((y1 - y0) * zoom)))
    smooth = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    part = cv2.resize(frame_rgb[y0:y1, x0:x1], size, interpolation=smooth)
    left = min(round((x0 - window.x0) * zoom), _SIDE - size[0])
    top = min(round((y0 - window.y0) * zoom), _SIDE - size[1])
    canvas = np.zeros((_SIDE, _SIDE, 3), np.float32)
    canvas[top : top + size[1], left : left + size[0]] = part
    scale = np.array([size[0] / (x1 - x0), size[1] / (y1 - y0)])
    offset = np.array([x0, y0]) - np.array([left, top]) / scale
    return np.ascontiguousarray((canvas / 127.5 - 1).transpose(2, 0, 1)[None]), scale, offset


def _best(detections: list[Detection]) -> float:
    return max((detection.score for detection in detections), default=0.0)


def _largest(detections: list[Detection]) -> float:
    return max((float((d.box[1] - d.box[0]).max()) for d in detections), default=0.0)


def _merge(detections: list[Detection]) -> list[Detection]:
    """Average the detections of each face, weighted by score; the best score is kept."""
    left = sorted(detections, key=lambda detection: -detection.score)
    merged = []
    while left:
        overlap = box_iou(left[0].box, np.stack([d.box for d in left]))
        same = [d for d, o in zip(left, overlap, strict=True) if o > _SAME_FACE_IOU or d is left[0]]
        weight = np.array([d.score for d in same], np.float32)[:, None, None] / sum(
            d.score for d in same
        )
        merged.append(
            Detection(
                box=(np.stack([d.box for d in same]) * weight).sum(axis=0),
                eyes=(np.stack([d.eyes for d in same]) * weight).sum(axis=0),
                score=left[0].score,
            )
        )
        left = [d for d in left if not any(d is s for s in same)]
    return merged
