"""The real videos of a training set, as material for fakes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datamodules.clip_sampling import random_window
from datamodules.forgery import ClipPlace
from datamodules.kept_frames import clip_positions, longest_clip, num_clips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datamodules.blend_mask import MaskShape
    from datamodules.clip_dataset import ClipCutter
    from datamodules.kept_frames import KeptFrames
    from datamodules.schema import VideoRecord

#: Every which frame's landmarks are kept for the comparison of faces, and of how many tracks: a
#: track of 400 frames takes 30 kB so, and to open it again would take about 2 ms. [ours]
_STEP = 8
_KEPT_TRACKS = 1024
#: Draws for each clip of somebody else, before fewer are taken. [ours]
_TRIES = 4


class Window(NamedTuple):
    """A window of consecutive frames.

    Attributes:
        place: Where it lies.
        number: Among the windows of its length in all tracks of the video.
    """

    place: ClipPlace
    number: int


class _Sketch(NamedTuple):
    """What is kept of a track: frames, how many in a row, landmarks of every `_STEP`th."""

    frame_index: NDArray[np.int64]
    longest_run: int
    points68: NDArray[np.float32]


class Footage:
    """Draw windows of real videos, and compare the faces in them.

    Args:
        cutter: Cuts the clips.
        records: The videos of the dataset, fake ones too.
        mask: Shape of the masks of blended faces.
        kept: The frames of a track that clips are cut of; None for all.
    """

    def __init__(
        self,
        cutter: ClipCutter,
        records: Sequence[VideoRecord],
        mask: MaskShape,
        kept: KeptFrames | None = None,
    ) -> None:
        self.cutter = cutter
        self.records = records
        self.mask = mask
        self.kept = kept
        self.real_rows = [row for row, record in enumerate(records) if record.label == 0]
        self._sketches: OrderedDict[str, _Sketch] = OrderedDict()

    def longest_run(self, row: int) -> int:
        """Count the consecutive frames that a video has at most."""
        return max(self._sketch(track).longest_run for track in self.records[row].tracks)

    def draw(self, row: int, num_frames: int, rng: np.random.Generator) -> Window:
        """Draw a window of a video.

        Args:
            row: Of the video.
            num_frames: Frames of the window.
            rng: Source of the draw.

        Returns:
            The window; mirrored only if no track of the video is long enough.

        Raises:
            DataError: If a track is missing or damaged.
        """
        tracks = self.records[row].tracks
        sketches = [self._sketch(track) for track in tracks]
        long = [sketch.longest_run >= num_frames for sketch in sketches]
        counts = [
            num_clips(sketch.frame_index, num_frames, self.kept) if fits or not any(long) else 0
            for sketch, fits in zip(sketches, long, strict=True)
        ]
        k, window = random_window(counts, rng)
        positions = clip_positions(sketches[k].frame_index, num_frames, window, self.kept, rng)
        return Window(ClipPlace(row, tracks[k], positions), sum(counts[:k]) + window)

    def others(
        self, row: int, num_frames: int, count: int, rng: np.random.Generator
    ) -> list[ClipPlace]:
        """Draw clips of other people.

        Args:
            row: Of the video whose people are left out.
            num_frames: Frames of each clip.
            count: How many clips; a video may give several.
            rng: Source of the draws.

        Returns:
            At most `count` places, fewer where most videos show the same people.

        Raises:
            DataError: If a track is missing or damaged.
        """
        groups = set(self.records[row].group_ids)
        places: list[ClipPlace] = []
        for drawn in rng.integers(len(self.real_rows), size=_TRIES * count):
            other = self.real_rows[drawn]
            if groups.isdisjoint(self.records[other].group_ids):
                places.append(self.draw(other, num_frames, rng).place)
            if len(places) == count:
                break
        return places

    def nearest(
        self, place: ClipPlace, others: Sequence[ClipPlace], max_distance: float
    ) -> list[ClipPlace]:
        """Sort clips by the likeness of pose and shape of their faces to those of another clip.

        Args:
            place: The other clip.
            others: What is sorted.
            max_distance: What is farther is left out; see `shape_distance`.

        Returns:
            The places, the likest first.

        Raises:
            DataError: If a track is missing or damaged.
        """
        shape = self._shape(place)
        distances = {other: shape_distance(self._shape(other), shape) for other in others}
        near = [other for other in others if distances[other] <= max_distance]
        return sorted(near, key=distances.__getitem__)

    def _shape(self, place: ClipPlace) -> NDArray[np.float32]:
        """Tell landmarks of some frames of a clip, shape (N, 68, 2)."""
        some = np.asarray(place.positions[::_STEP]) // _STEP
        return np.asarray(self._sketch(place.track).points68[some], np.float32)

    def _sketch(self, track: str) -> _Sketch:
        sketch = self._sketches.get(track)
        if sketch is None:
            faces = self.cutter.store.reader(track).track
            longest = longest_clip(faces.frame_index, self.kept)
            sketch = _Sketch(faces.frame_index, longest, faces.points68[::_STEP].copy())
            self._sketches[track] = sketch
            while len(self._sketches) > _KEPT_TRACKS:
                self._sketches.popitem(last=False)
        self._sketches.move_to_end(track)
        return sketch


def shape_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Compare the faces of two clips, wherever, however large and however tilted they are.

    Args:
        one: Landmarks (x, y), shape (N, 68, 2).
        other: The same number of landmarks.

    Returns:
        Root mean square distance after one similarity transform for all N frames, of the frame
        where it is largest (there a pasted face would slip), in units of the face's own spread.
    """
    a, b = (points.astype(np.float64) @ (1, 1j) for points in (one, other))
    a, b = a - a.mean(), b - b.mean()
    sizes = np.vdot(a, a).real, np.vdot(b, b).real
    if min(sizes) == 0:
        return 1.0
    apart = np.abs(b - np.vdot(a, b) / sizes[0] * a) ** 2
    return float(np.sqrt(apart.mean(axis=1).max() * b.size / sizes[1]))
