"""One pass over a video: the faces of every frame that is taken, and the cuts between shots."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.faces.cuts import CutFinder
from datamodules.faces.detect import PlacesPoints, ReadsFaces
from datamodules.preprocess.align import big_box
from datamodules.preprocess.frame_choice import frame_numbers, taken
from datamodules.video.frames_reader import frame_files, is_frames
from datamodules.video.reader import DamagedVideoError, open_video, prefix_decoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from datamodules.faces.detect import Face, FaceBackend
    from datamodules.video.reader import VideoInfo


@dataclass(frozen=True)
class Found:
    """What the frames of a video show.

    Attributes:
        faces: Of each frame that was read.
        numbers: Which frames of the video are taken, perhaps more than were read.
        cuts: First frames of the shots after the first one, counted among those taken.
        num_reused: Frames whose faces were looked for only where they are in the genuine video.
        decoder: Who read them.
        damage: Why no more could be read, or an empty string.
    """

    faces: list[list[Face]]
    numbers: Sequence[int]
    cuts: list[int]
    num_reused: int
    decoder: str
    damage: str


class FaceFinder:
    """Find the faces of frames, by the detector only where it is needed.

    Args:
        backend: Who finds them.
        known: Faces of the genuine video of the same footage, by frame. Where they are not found
            again at their places, and in frames without any, the detector runs.
    """

    def __init__(self, backend: FaceBackend, known: Mapping[int, Sequence[Face]]) -> None:
        self._backend = backend
        self._known = known
        self._next = 0
        self.num_reused = 0

    def faces(self, frame_rgb: NDArray[np.uint8]) -> list[Face]:
        """Find the faces of the next frame, the surest first.

        Args:
            frame_rgb: Shape (H, W, 3), uint8.

        Returns:
            Faces of which at least a part lies in the frame.
        """
        known = self._known.get(self._next, ())
        self._next += 1
        faces = self._found_again(frame_rgb, known)
        if faces is None:
            faces = self._backend.faces(frame_rgb)
        return [face for face in faces if _is_inside(face, *frame_rgb.shape[:2])]

    def _found_again(
        self, frame_rgb: NDArray[np.uint8], known: Sequence[Face]
    ) -> list[Face] | None:
        if not known or not isinstance(self._backend, PlacesPoints):
            return None
        faces = self._backend.points(frame_rgb, known)
        found = [face for face in faces if face is not None]
        if len(found) < len(known):
            return None
        self.num_reused += 1
        return found


def find_faces_in(
    video: Path,
    info: VideoInfo,
    frames: tuple[str, ...],
    choice: str,
    max_frames: int,
    backend: FaceBackend,
    known: Mapping[int, Sequence[Face]],
) -> Found:
    """Look at a video once.

    Args:
        video: The file, or the folder of pictures.
        info: What probing it told.
        frames: Names of the pictures that belong to the video; all unless given.
        choice: Which frames are taken; see `frame_choice`.
        max_frames: At most so many of them, 0 for all.
        backend: Who finds faces; has heard of the video.
        known: Faces of the genuine video of the same footage, by frame taken.

    Returns:
        What was found; of a damaged video, in the frames before the damage.

    Raises:
        DataError: If the backend cannot serve this video.
    """
    finder, cuts = FaceFinder(backend, known), CutFinder()
    numbers = frame_numbers(choice, info.num_frames)
    if isinstance(backend, ReadsFaces):
        backend.expect(numbers, frame_files(video, frames).files if is_frames(video) else ())
    faces: list[list[Face]] = []
    decoder, damage = info.decoder, info.damage
    with open_video(video, info.decoder, info.num_frames, frames) as reader:
        try:
            for frame in islice(taken(reader, numbers), max_frames or None):
                cuts.add(frame)
                faces.append(finder.faces(frame))
        except DamagedVideoError as error:
            # Long videos are probed in samples, so that damage may show here only.
            decoder, damage = prefix_decoder(info.decoder), str(error)
    damage = damage.removeprefix(f"{video}: ")
    return Found(faces, numbers, cuts.cuts(), finder.num_reused, decoder, damage)


def _is_inside(face: Face, height: int, width: int) -> bool:
    """Tell whether anything of a face lies in the frame; given ones may be anywhere."""
    try:
        big_box(face.box, height, width)
    except DataError:
        return False
    return True
