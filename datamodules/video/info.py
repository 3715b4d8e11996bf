"""What looking at a video once told."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Frames a second of videos that do not tell, for times only [ours].
ASSUMED_FPS = 25.0


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, and who reads it exactly.

    Attributes:
        num_frames: Frames that decode.
        fps: Mean number of frames a second, 0 where the file does not tell.
        height: Height of the upright picture in pixels.
        width: Width of the upright picture in pixels.
        decoder: Key of `DECODERS` for `open_video`.
        duration_s: From the first frame to the end of the last one in seconds.
        sha256: Of the file; of a folder over the names and bytes of its frames.
        reason: Why it is not read by decord, or an empty string.
        damage: What is wrong with a damaged file that was accepted, or an empty string.
        timestamps_s: Times of the frames after the first one in seconds, shape (num_frames,),
            float64.
    """

    num_frames: int
    fps: float
    height: int
    width: int
    decoder: str
    duration_s: float
    sha256: str
    reason: str
    damage: str
    timestamps_s: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def variable_frame_rate(self) -> bool:
        """Whether some frame is shown more than half a frame away from its number / `fps`."""
        if not self.fps:
            return False
        regular = np.arange(self.num_frames) / self.fps
        return bool(np.any(np.abs(self.timestamps_s - regular) > 0.5 / self.fps))
