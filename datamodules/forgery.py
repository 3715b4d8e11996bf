"""What every way of making a fake clip out of a real video keeps to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datamodules.footage import Footage
    from datamodules.schema import Clip


class ClipPlace(NamedTuple):
    """Where a clip comes from.

    Attributes:
        row: Of the video, among the dataset's.
        track: Path of the track, relative to the root of the store.
        positions: Positions in the track, in the order of the clip.
    """

    row: int
    track: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class AlignedClip:
    """A clip as it was cut, and what else can be laid into its pictures by.

    Attributes:
        clip: The frames before any change of their pixels, and their landmarks.
        points5: Eyes, nose, mouth corners (x, y) in pixels of the source video, as stored, shape
            (T, 5, 2), float32.
        matrices: Map source pixels to the pictures, jitter and mirror included, shape (T, 2, 3).
        crop_corners: Corners in turn of what is stored, in pixels of the pictures; what lies
            outside is black, shape (T, 4, 2), float32.
    """

    clip: Clip
    points5: NDArray[np.float32]
    matrices: NDArray[np.float64]
    crop_corners: NDArray[np.float32]


class Forged(NamedTuple):
    """Pictures of a fake clip.

    Attributes:
        frames: RGB, shape (T, H, W, 3), uint8.
        mask: How much of each pixel is forged, shape (T, H, W), float32 in 0..1; None where
            nothing is but the order of the frames.
    """

    frames: NDArray[np.uint8]
    mask: NDArray[np.float32] | None


class ClipForgery(Protocol):
    """A way of making fakes: an option block that says how, and does it.

    It may change which frames make the clip (`offsets`), and the aligned pictures (`forge`).
    Both draw from the generator they are given and from nothing else.

    Attributes:
        weight: How often it is chosen, in proportion to the other ways.
    """

    @property
    def weight(self) -> float:
        """How often it is chosen, in proportion to the other ways."""

    def offsets(
        self, num_frames: int, longest_run: int, rng: np.random.Generator
    ) -> NDArray[np.int64] | None:
        """Choose frames inside a window of consecutive ones.

        Args:
            num_frames: Frames in a clip (T).
            longest_run: Consecutive frames that the video has at most.
            rng: Source of the draws.

        Returns:
            Frames of the window, from 0 on, shape (T,), ascending; None if the video is too
            short for it.
        """

    def forge(
        self, real: AlignedClip, place: ClipPlace, footage: Footage, rng: np.random.Generator
    ) -> Forged | None:
        """Change the pictures.

        Args:
            real: The real clip.
            place: Where it comes from.
            footage: All real videos.
            rng: Source of the draws.

        Returns:
            The fake; None if there is nothing to make it with.
        """
