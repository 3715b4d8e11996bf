"""The clock of players: it starts with whatever of a file comes first, pictures or sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from datamodules.video.frames_reader import is_frames
from datamodules.video.libav import open_container, video_stream

if TYPE_CHECKING:
    from pathlib import Path


class Starts(NamedTuple):
    """When what is played of a file starts, by the times that are stored in it.

    Attributes:
        pictures: Start of the pictures, in seconds.
        sound: Start of the sound, in seconds; that of the pictures where there is none.
    """

    pictures: float
    sound: float

    @property
    def first(self) -> float:
        """Stored time at which a player's clock shows 0, in seconds."""
        return min(self)


def sound_stream(container: Any) -> Any:
    """Choose the sound that is played; None where there is none that can be."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    return streams[0] if streams else None


def stream_starts(container: Any, video: Path) -> Starts:
    """Tell when the pictures and the sound of an open file start.

    Args:
        container: The file.
        video: Its path, for messages.

    Raises:
        DataError: It holds no pictures.
    """
    pictures, sound = _start_s(video_stream(container, video)), sound_stream(container)
    return Starts(pictures, pictures if sound is None else _start_s(sound))


def first_picture_s(video: Path) -> float:
    """Tell what a player's clock shows at the first frame: 0 unless sound comes before it.

    Args:
        video: The file, or a folder of frames.

    Returns:
        Seconds, at least 0.

    Raises:
        DataError: The file is unreadable.
    """
    if is_frames(video):
        return 0.0
    with open_container(video) as container:
        starts = stream_starts(container, video)
    return starts.pictures - starts.first


def _start_s(stream: Any) -> float:
    return float((stream.start_time or 0) * stream.time_base)
