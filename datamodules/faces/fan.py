"""The high-quality face backend: S3FD and 2D-FAN-4 by the package face-alignment.

Bulat and Tzimiropoulos, ICCV 2017, https://arxiv.org/abs/1703.07332. An extra: its package needs
another build of OpenCV than the core, and its networks want a GPU (seconds a frame without).
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError
from datamodules.faces.detect import Face, five_points
from weights.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

#: What face-alignment 1.4 and later load from the folder of torch.hub.
WEIGHTS = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")


class FanBackend:
    """Faces by face-alignment.

    Args:
        device: Where the networks run, for example `cpu` or `cuda`; a GPU is taken if there is
            one, unless given.
        min_score: Faces that the detector scores lower are dropped.

    Raises:
        DataError: If the package is not installed.
        WeightsError: If its weights are absent and cannot be fetched, or are damaged.
    """

    name = "fan"

    def __init__(self, device: str | None = None, min_score: float = 0.5) -> None:
        package = _package()
        import torch

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._min_score = min_score
        self._networks = _construct(package, device)
        self.version = version("face-alignment")

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
        boxes = self._networks.face_detector.detect_from_image(frame_rgb.copy())
        boxes = sorted((b for b in boxes if b[4] >= self._min_score), key=lambda b: -b[4])
        if not boxes:
            return []
        return self._landmarks(frame_rgb, boxes)

    def points(self, frame_rgb: NDArray[np.uint8], known: Sequence[Face]) -> list[Face | None]:
        """Find the landmarks of faces that lie where they lie in another picture.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.
            known: Faces of the same frame of the genuine video.

        Returns:
            For each the face in its box, with the score of the known one.
        """
        return [*self._landmarks(frame_rgb, [np.append(f.box, f.score) for f in known])]

    def _landmarks(
        self, frame_rgb: NDArray[np.uint8], boxes: Sequence[NDArray[np.float32]]
    ) -> list[Face]:
        points = self._networks.get_landmarks_from_image(frame_rgb, detected_faces=boxes)
        return [_face(box, found) for box, found in zip(boxes, points, strict=True)]


def _face(box: NDArray[np.float32], points: NDArray[np.float32]) -> Face:
    points68 = np.asarray(points, np.float32)
    return Face(
        box=np.asarray(box[:4], np.float32),
        score=float(box[4]),
        points68=points68,
        points5=five_points(points68),
    )


def _package() -> Any:
    try:
        import face_alignment
    except ImportError as error:
        raise DataError(
            "the face backend `fan` needs the package face-alignment: type "
            "`pip install -e '.[fan]'`, or take the backend `mesh`"
        ) from error
    return face_alignment


def _construct(package: Any, device: str) -> Any:
    """Load both networks, or say in one line how to come by their weights."""
    import torch

    folder = f"{torch.hub.get_dir()}/checkpoints"
    try:
        # Compiling takes minutes and needs a C++ compiler when it is used first.
        return package.FaceAlignment(
            package.LandmarksType.TWO_D, device=device, face_detector="sfd", compile=False
        )
    except OSError as error:  # urllib's URLError is one
        raise WeightsError(
            f"the weights of the face backend `fan` could not be fetched ({error}): place "
            f"{' and '.join(WEIGHTS)} into {folder}, or take the backend `mesh`"
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights of the face backend `fan` in {folder} are damaged ({reason}): delete "
            f"{' and '.join(WEIGHTS)} there and try again"
        ) from error
