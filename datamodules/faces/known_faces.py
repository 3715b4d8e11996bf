"""The faces of a genuine video, told to the preparation of its fakes."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.faces.detect import Face
from datamodules.preprocess.frame_choice import keeps_numbers
from datamodules.store.track_file import TrackReader

if TYPE_CHECKING:
    from pathlib import Path

    from datamodules.video.reader import VideoInfo


@dataclass(frozen=True)
class KnownFaces:
    """What is known of the genuine video.

    Attributes:
        tracks: Its prepared tracks, files of this machine.
        num_frames: Frames that it has.
    """

    tracks: tuple[Path, ...]
    num_frames: int

    def by_frame(self, info: VideoInfo, choice: str) -> dict[int, list[Face]]:
        """Give the faces of the frames that are the same in both videos.

        The frames of a forgery bear the numbers of the footage, also where it ends earlier (as
        Face2Face, FaceSwap and NeuralTextures of FaceForensics++ do). A picture of another size
        is other footage.

        Args:
            info: The forged video.
            choice: Which frames are taken; those spread over it are others if one is longer.

        Returns:
            Faces by the number of the frame among those taken, the surest first.

        Raises:
            OSError: If a track is damaged: no fault of the forged video.
        """
        if info.num_frames != self.num_frames and not keeps_numbers(choice):
            return {}
        faces: dict[int, list[Face]] = defaultdict(list)
        try:
            for path in self.tracks:
                with closing(TrackReader(path)) as reader:
                    if (reader.meta.height, reader.meta.width) == (info.height, info.width):
                        _add(reader, faces)
        except DataError as error:
            raise OSError(str(error)) from error
        return {frame: sorted(found, key=lambda f: -f.score) for frame, found in faces.items()}


def _add(reader: TrackReader, faces: dict[int, list[Face]]) -> None:
    """Take the faces out of a track."""
    track = reader.track
    for i, frame in enumerate(track.frame_index.tolist()):
        faces[frame].append(
            Face(
                box=track.box[i],
                score=float(track.score[i]),
                points68=track.points68[i],
                points5=track.points5[i],
                forehead=None if track.forehead is None else track.forehead[i],
            )
        )
