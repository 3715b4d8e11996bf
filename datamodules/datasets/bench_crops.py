"""Crops of faces as DeepfakeBench makes them: the largest face of a frame, upright, 256 pixels."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from datamodules.clip_dataset import ClipCutter
from datamodules.preprocess.align import warp_crops
from datamodules.preprocess.alignments import frame_matrices
from datamodules.preprocess.frame_choice import ALL_FRAMES, frame_numbers
from datamodules.video.reader import open_video

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datamodules.schema import Clip, VideoRecord
    from datamodules.storage.root import DataRoot
    from datamodules.store.prepared import PreparedStore
    from datamodules.video.reader import VideoReader

#: Height and width of DeepfakeBench's crops in pixels.
CROP_SIZE = 256
#: Frames that are held at once; whole ones may be large. [ours]
_BATCH = 8


class FaceCrops:
    """Cuts crops out of a store, or out of the raw videos behind it.

    Args:
        store: Where faces and crops lie.
        raw: Root of the raw videos; None for the crops of the store.
    """

    def __init__(self, store: PreparedStore, raw: DataRoot | None = None) -> None:
        self._store = store
        self._raw = raw
        self._cutter = ClipCutter(store, CROP_SIZE, alignment="bench")

    def clips(self, record: VideoRecord, frames: str) -> Iterator[Clip]:
        """Cut the crops of a video.

        Args:
            record: The video.
            frames: Which of its frames with a face: `all`, `first:N` or `spread:N`.

        Yields:
            Some crops of one track with their landmarks, at a time.

        Raises:
            DataError: If a track or the raw video is missing, damaged or changed.
        """
        with ExitStack() as stack:
            reader = None
            if self._raw is not None:
                path = stack.enter_context(self._raw.hold(record.path))
                count = None if record.decoder.endswith("_prefix") else record.num_frames
                reader = open_video(path, record.decoder, count, record.frames)
                stack.enter_context(reader)
            for track, positions in self._taken(record, frames).items():
                for start in range(0, len(positions), _BATCH):
                    some = positions[start : start + _BATCH]
                    clip = self._cutter.cut(track, some)
                    yield (
                        clip
                        if reader is None
                        else self._from_raw(clip, record, reader, track, some)
                    )

    def _taken(self, record: VideoRecord, frames: str) -> dict[str, list[int]]:
        """Choose frames, and the largest face of each: positions by track."""
        largest: dict[int, tuple[float, str, int]] = {}
        for track in record.tracks:
            faces = self._store.reader(track).track
            areas = np.prod(faces.box[:, 2:] - faces.box[:, :2], axis=1).tolist()
            for position, frame in enumerate(faces.frame_index.tolist()):
                if frame not in largest or areas[position] > largest[frame][0]:
                    largest[frame] = (areas[position], track, position)
        there = sorted(largest)
        positions_of: dict[str, list[int]] = defaultdict(list)
        for number in frame_numbers(frames, len(there)):
            _, track, position = largest[there[number]]
            positions_of[track].append(position)
        return positions_of

    def _from_raw(
        self,
        clip: Clip,
        record: VideoRecord,
        reader: VideoReader,
        track: str,
        positions: list[int],
    ) -> Clip:
        """Cut the same crops out of whole frames, which have no borders of stored crops."""
        choice = str(self._store.info.parameters.get("frames", ALL_FRAMES))
        numbers = frame_numbers(choice, record.num_frames)
        frames = reader.read([numbers[index] for index in clip.frame_index.tolist()])
        size = (frames.shape[1], frames.shape[2])
        faces = self._store.reader(track).track
        matrices = frame_matrices("bench", faces, np.asarray(positions), size, CROP_SIZE)
        whole = np.zeros((len(frames), 4), np.int64)
        return replace(clip, frames=warp_crops(list(frames), whole, matrices, CROP_SIZE))
