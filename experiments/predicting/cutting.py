"""Second pass over a video: from frames to batches of aligned clips, in bounded memory.

Of each track only the crops of one clip are in memory. They pass through the JPEG of a prepared
store, so that a video gets the scores that a test of the same video gives it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from datamodules.preprocess.align import big_box, warp_crops
from datamodules.preprocess.alignments import frame_matrices
from datamodules.store.track_writer import encode_crop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from datamodules.preprocess.alignments import Alignment
    from experiments.predicting.faces import SeenTrack
    from experiments.predicting.windows import ClipPlace, ClipPlan

#: Crops of more pixels wait as JPEG and are decoded again for each clip: 14 MB a track, whatever
#: the size of the video. [ours]
_DECODED_PIXELS = 384 * 384


class ClipKind(NamedTuple):
    """What makes two scorers take the same clips.

    Attributes:
        num_frames: Frames in a clip (T).
        image_size: Height and width in pixels.
        alignment: How they are aligned.
        stride: Step between them; None where they are spread.
        spread: How many frames of a track they are spread over; None where they are not.
    """

    num_frames: int
    image_size: int
    alignment: Alignment
    stride: int | None
    spread: int | None


class ClipBatch(NamedTuple):
    """Clips to be scored at once.

    Attributes:
        kind: What they are.
        tracks: Track of each clip.
        places: Where in its track each lies.
        clips: RGB, shape (B, T, H, W, 3), uint8.
        frame: Frame of the video that was decoded last.
    """

    kind: ClipKind
    tracks: list[int]
    places: list[ClipPlace]
    clips: NDArray[np.uint8]
    frame: int

    @property
    def positions(self) -> list[Sequence[int]]:
        """Positions of its track that each clip shows, T of them."""
        return [place.positions for place in self.places]


@dataclass
class _OpenTrack:
    """A track while its frames go by.

    Attributes:
        seen: The track.
        waiting: For each kind of clip those that are not cut yet, and the next of them.
        wanted: Positions that any clip shows, shape (N,).
        position: Of the next frame of the track.
        crops: Crops that are still needed, by position: pixels, or a JPEG file.
    """

    seen: SeenTrack
    waiting: dict[ClipKind, tuple[Iterator[ClipPlace], ClipPlace]]
    wanted: NDArray[np.bool_]
    position: int = 0
    crops: dict[int, tuple[NDArray[np.uint8] | bytes, tuple[int, int, int, int]]] = field(
        default_factory=dict
    )

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Take the face of the next frame."""
        position = self.position
        self.position += 1
        if not self.wanted[position]:
            return
        box = big_box(self.seen.faces.box[position], *frame.shape[:2])
        x0, y0, x1, y1 = box
        content = encode_crop(frame[y0:y1, x0:x1])
        large = (x1 - x0) * (y1 - y0) > _DECODED_PIXELS
        self.crops[position] = (content if large else _decode(content), box)

    def cut(
        self, frame_size: tuple[int, int]
    ) -> Iterator[tuple[ClipKind, ClipPlace, NDArray[np.uint8]]]:
        """Cut the clips whose frames have all come, and forget crops that no other one needs."""
        for kind in list(self.waiting):
            places, place = self.waiting[kind]
            while place.last < self.position:
                yield kind, place, self._clip(kind, place.positions, frame_size)
                following = next(places, None)
                if following is None:
                    del self.waiting[kind]
                    break
                place = following
                self.waiting[kind] = places, place
        first = min((place.first for _, place in self.waiting.values()), default=self.position)
        for old in [position for position in self.crops if position < first]:
            del self.crops[old]

    def _clip(
        self, kind: ClipKind, positions: Sequence[int], frame_size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        kept = {position: self.crops[position] for position in set(positions)}
        pixels = {p: _decode(c) if isinstance(c, bytes) else c for p, (c, _) in kept.items()}
        rows = np.asarray(positions)
        matrices = frame_matrices(
            kind.alignment, self.seen.faces, rows, frame_size, kind.image_size
        )
        boxes = np.array([kept[position][1] for position in positions])
        return warp_crops((pixels[p] for p in positions), boxes, matrices, kind.image_size)


def cut_clips(
    frames: Iterable[NDArray[np.uint8]],
    tracks: Sequence[SeenTrack],
    plans: Sequence[dict[ClipKind, ClipPlan]],
    batch: dict[ClipKind, int],
) -> Iterator[ClipBatch]:
    """Cut the clips of all tracks while a video is decoded once.

    Args:
        frames: All frames of the video in order, each RGB, (H, W, 3), uint8.
        tracks: The faces.
        plans: Which clips of each track are wanted.
        batch: Clips of a kind that are given at once.

    Yields:
        Batches in the order in which they become full; the last ones may be smaller.
    """
    starting: dict[int, list[_OpenTrack]] = defaultdict(list)
    for seen, plan in zip(tracks, plans, strict=True):
        starting[int(seen.faces.frame_index[0])].append(_open(seen, plan))
    last = max((int(seen.faces.frame_index[-1]) for seen in tracks), default=-1)
    batches = {kind: _Batch(kind, size) for kind, size in batch.items()}
    opened: list[_OpenTrack] = []
    for number, frame in enumerate(frames):
        opened += starting.pop(number, [])
        for track in opened:
            index = track.seen.faces.frame_index
            if index[track.position] != number:
                continue
            track.add(frame)
            for kind, place, clip in track.cut((frame.shape[0], frame.shape[1])):
                yield from batches[kind].add(track.seen.track, place, clip, number)
        opened = [track for track in opened if track.position < len(track.seen.faces)]
        if number >= last:
            break
    for waiting in batches.values():
        yield from waiting.rest(last)


class _Batch:
    """Clips of one kind until there are enough."""

    def __init__(self, kind: ClipKind, size: int) -> None:
        self._kind = kind
        self._size = size
        self._rows: list[tuple[int, ClipPlace, NDArray[np.uint8]]] = []

    def add(
        self, track: int, place: ClipPlace, clip: NDArray[np.uint8], frame: int
    ) -> Iterator[ClipBatch]:
        self._rows.append((track, place, clip))
        if len(self._rows) == self._size:
            yield from self.rest(frame)

    def rest(self, frame: int) -> Iterator[ClipBatch]:
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        tracks, places, clips = (list(column) for column in zip(*rows, strict=True))
        yield ClipBatch(self._kind, tracks, places, np.stack(clips), frame)


def _open(seen: SeenTrack, plans: dict[ClipKind, ClipPlan]) -> _OpenTrack:
    waiting = {}
    wanted = np.zeros(len(seen.faces), bool)
    for kind, plan in plans.items():
        wanted |= plan.shown(len(seen.faces))
        places = iter(plan)
        first = next(places, None)
        if first is not None:
            waiting[kind] = (places, first)
    return _OpenTrack(seen, waiting, wanted)


def _decode(content: bytes) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(pixels, np.uint8)
