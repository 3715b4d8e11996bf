"""The default face backend: BlazeFace and FaceMesh, two small networks on OpenCV's dnn.

Kartynnik et al., 2019, https://arxiv.org/abs/1907.06724; weights: see `weights/catalog.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from datamodules.faces.blazeface import WEIGHTS as DETECTOR_WEIGHTS
from datamodules.faces.blazeface import BlazeFace, box_iou, read_tflite
from datamodules.faces.detect import Face, five_points
from datamodules.faces.landmarks import forehead_from_outline, points81
from weights.catalog import CATALOG, file_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.faces.blazeface import Detection

WEIGHTS = "face_landmark.tflite"
#: Input of the network in pixels, and its outputs: 468 points (x, y, z), and a face flag.
_SIDE = 192
_OUTPUTS = ("conv2d_21", "conv2d_31")
#: The crop is this much larger than the box (MediaPipe's face landmark graph).
_CROP_FACTOR = 1.5
#: Outer corners of the eyes among the 468; their line gives the crop's rotation (same graph).
_EYE_CORNERS = (33, 263)
#: The same two among the 68.
_EYES_68 = (36, 45)
#: A second pass on the crop around the first one's points: 10 to 15 % less jitter of the five
#: points on still heads, 2 ms a face; a third pass gains nothing (12 videos measured). [ours]
_PASSES = 2
#: Sigmoid of the flag below which there is no face. True faces found by the detector score above
#: it in 99.9 % of 6,700 boxes, its false ones (scores of 0.3 to 0.5) in two thirds. [ours]
_MIN_FLAG = 0.5
#: Two detections whose points cover the same face. [ours]
_SAME_FACE_IOU = 0.5

# Where the 68 points lie among the 468: jaw, brows, nose, eyes, mouth.
_JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
_BROWS = (71, 63, 105, 66, 107, 336, 296, 334, 293, 301)
_NOSE = (168, 197, 5, 4, 75, 97, 2, 326, 305)
_EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181)
_MOUTH = (78, 82, 13, 312, 308, 317, 14, 87)
_SIXTY_EIGHT = np.array(_JAW + _BROWS + _NOSE + _EYES + _LIPS + _MOUTH)
#: Upper part of the mesh's outline, left to right, between the ends of the jaw.
_FOREHEAD = np.array((21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251))


class MeshBackend:
    """Faces by BlazeFace and FaceMesh. Keeps nothing from frame to frame.

    The box of a face encloses its mesh (hairline to chin, ear to ear): it is steadier than the
    detector's box and lies as the boxes of RetinaFace do, with which FTCN crops.

    Args:
        min_score: Faces that the detector scores lower are dropped.

    Raises:
        WeightsError: If a weight file is absent or damaged.
    """

    name = "mesh"

    def __init__(self, min_score: float = 0.5) -> None:
        self._detector = BlazeFace(min_score)
        self._net = read_tflite(file_path(WEIGHTS))
        used = {DETECTOR_WEIGHTS, WEIGHTS}
        hashes = [entry.sha256[:8] for entry in CATALOG if entry.name in used]
        self.version = "-".join(["2", *hashes])

    def begin(self, video: Path) -> None:
        """Do nothing: every frame is looked at on its own.

        Args:
            video: The source file.
        """

    def faces(self, frame_rgb: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of a frame, the surest first.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.

        Returns:
            The faces; empty if there are none.
        """
        faces: list[Face] = []
        for detection in self._detector.detect(frame_rgb):
            face = self._landmarks(frame_rgb, detection)
            if face is not None and not _is_known(face, faces):
                faces.append(face)
        return faces

    def points(self, frame_rgb: NDArray[np.uint8], known: Sequence[Face]) -> list[Face | None]:
        """Find the landmarks of faces that lie where they lie in another picture.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.
            known: Faces of the same frame of the genuine video.

        Returns:
            For each the face at its place, with the score of the known one; None where there is
            none.
        """
        return [self._again(frame_rgb, face) for face in known]

    def _again(self, frame_rgb: NDArray[np.uint8], known: Face) -> Face | None:
        """Put the mesh where a face was; its own points are as good as those of a first pass."""
        eyes = known.points68[list(_EYES_68)]
        outline = points81(known.points68, known.forehead)
        centre, extent = _upright_square(outline, eyes[1] - eyes[0])
        face = self._fit(frame_rgb, centre, extent, eyes, passes=1, score=known.score)
        return face if face is not None and _is_known(face, [known]) else None

    def _landmarks(self, frame_rgb: NDArray[np.uint8], detection: Detection) -> Face | None:
        """Put the mesh on one face, or find that it is none."""
        corners = detection.box
        extent = float((corners[1] - corners[0]).max())
        return self._fit(
            frame_rgb, corners.mean(axis=0), extent, detection.eyes, _PASSES, detection.score
        )

    def _fit(
        self,
        frame_rgb: NDArray[np.uint8],
        centre: NDArray[np.float32],
        extent: float,
        eyes: NDArray[np.float32],
        passes: int,
        score: float,
    ) -> Face | None:
        """Run the network on the square around a face, and again around what it finds."""
        for _ in range(passes):
            matrix = _crop_matrix(centre, _CROP_FACTOR * extent, eyes[1] - eyes[0])
            points, flag = self._mesh(frame_rgb, matrix)
            eyes = points[list(_EYE_CORNERS)]
            centre, extent = _upright_square(points, eyes[1] - eyes[0])
        if flag < _MIN_FLAG:
            return None
        points68 = points[_SIXTY_EIGHT]
        return Face(
            box=np.concatenate([points.min(axis=0), points.max(axis=0)]),
            score=score,
            points68=points68,
            points5=five_points(points68),
            forehead=forehead_from_outline(points[_FOREHEAD]),
        )

    def _mesh(
        self, frame_rgb: NDArray[np.uint8], matrix: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], float]:
        """Run the network on one crop: points (468, 2) in the frame, and the face flag."""
        crop = cv2.warpAffine(frame_rgb, matrix, (_SIDE, _SIDE), flags=cv2.INTER_LINEAR)
        blob = np.ascontiguousarray(crop.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        self._net.setInput(blob)
        # One face at a time: a batch costs the same per face (1.9 ms, batches of 1 to 4 timed).
        points, flag = self._net.forward(_OUTPUTS)
        back = cv2.invertAffineTransform(matrix)
        in_frame = points.reshape(-1, 3)[:, :2] @ back[:, :2].T + back[:, 2]
        return in_frame.astype(np.float32), float(1 / (1 + np.exp(-flag.item())))


def _crop_matrix(
    centre: NDArray[np.float32], side: float, right: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Map a rotated square of the frame to the input; `right` points along the eyes."""
    angle = np.arctan2(right[1], right[0])
    zoom = _SIDE / max(side, 1e-3)
    matrix = np.zeros((2, 3))
    matrix[:, :2] = zoom * _turn(-angle)
    matrix[:, 2] = _SIDE / 2 - matrix[:, :2] @ centre
    return matrix


def _upright_square(
    points: NDArray[np.float32], right: NDArray[np.float32]
) -> tuple[NDArray[np.float32], float]:
    """Give centre and longest side of the box around points, measured along the eyes."""
    turn = _turn(-np.arctan2(right[1], right[0]))
    upright = points @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    return ((low + high) / 2) @ turn, float((high - low).max())


def _turn(angle: float) -> NDArray[np.float64]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def _is_known(face: Face, faces: list[Face]) -> bool:
    """Tell whether the points lie on a face that was found already."""
    if not faces:
        return False
    others = np.stack([other.box.reshape(2, 2) for other in faces])
    return bool((box_iou(face.box.reshape(2, 2), others) > _SAME_FACE_IOU).any())
