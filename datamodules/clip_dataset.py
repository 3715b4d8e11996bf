"""Datasets of aligned clips, cut out of a prepared store when they are asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.clip_sampling import clip_times, random_window, spread_windows
from datamodules.faces.landmarks import FLIP_FOREHEAD
from datamodules.forgery import AlignedClip
from datamodules.kept_frames import clip_positions, num_clips
from datamodules.preprocess.align import (
    crop_matrices,
    needed_rows,
    transform_points,
    warp_bands,
)
from datamodules.preprocess.alignments import frame_matrices
from datamodules.sampling import ClipKey
from datamodules.schema import Clip, ClipRef, ClipSample, FaceTrack
from datamodules.transforms import FLIP_68, ClipTransform, flip_matrix, rotation_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datamodules.fake_from_real import ClipForger
    from datamodules.kept_frames import KeptFrames
    from datamodules.preprocess.alignments import Alignment
    from datamodules.schema import VideoRecord
    from datamodules.store.prepared import PreparedStore, TrackReader
    from datamodules.transforms import ClipAugmentation

#: Tells the draws that both clips of a pair share from those of one clip.
_PAIR = 1


class ClipCutter:
    """Cut clips out of the tracks of a store, aligned, with one warp a frame.

    Args:
        store: Where the tracks lie.
        image_size: Height and width of a clip in pixels.
        augmentation: What clips undergo when a generator is given; None for nothing.
        alignment: How a clip is aligned; see `alignments`.
    """

    def __init__(
        self,
        store: PreparedStore,
        image_size: int,
        augmentation: ClipAugmentation | None = None,
        alignment: Alignment = "clip",
    ) -> None:
        self.store = store
        self.image_size = image_size
        self.alignment = alignment
        self.transform = None if augmentation is None else ClipTransform(augmentation)

    def cut(
        self, track: str, positions: Sequence[int], rng: np.random.Generator | None = None
    ) -> Clip:
        """Cut one clip.

        Args:
            track: Path of the track, relative to the root of the store.
            positions: T positions in the track, in the order of the clip; repeats allowed.
            rng: Source of the augmentation's draws; without it there is no augmentation.

        Returns:
            The clip, with its landmarks where the alignment, jitter and mirror took them.

        Raises:
            DataError: If the track is missing or damaged.
        """
        clip = self.align(track, positions, rng).clip
        return clip if rng is None else replace(clip, frames=self.finish(clip.frames, rng))

    def align(
        self, track: str, positions: Sequence[int], rng: np.random.Generator | None = None
    ) -> AlignedClip:
        """Cut one clip, without the part of the augmentation that changes pixels in place.

        Args:
            track: Path of the track, relative to the root of the store.
            positions: T positions in the track, in the order of the clip; repeats allowed.
            rng: Source of the draws of jitter and mirror; without it there are none.

        Raises:
            DataError: If the track is missing or damaged.
        """
        faces = self.faces(track, positions)
        matrices, flip = self._fit(self.store.reader(track), np.asarray(positions), rng)
        points = transform_points(faces.points68, matrices)
        forehead = None
        if faces.forehead is not None:
            forehead = transform_points(faces.forehead, matrices)
            forehead = forehead[:, FLIP_FOREHEAD] if flip else forehead
        clip = Clip(
            frames=self.warp(track, positions, matrices, self.image_size),
            frame_index=faces.frame_index,
            points68=points[:, FLIP_68] if flip else points,
            forehead=forehead,
        )
        return AlignedClip(
            clip=clip,
            points5=faces.points5,
            matrices=matrices,
            crop_corners=self.crop_corners(track, positions, matrices),
        )

    def warp(
        self,
        track: str,
        positions: Sequence[int],
        matrices: NDArray[np.float64],
        image_size: int | tuple[int, int],
    ) -> NDArray[np.uint8]:
        """Decode frames and warp them, with as few rows of each as are needed.

        Args:
            track: Path of the track, relative to the root of the store.
            positions: T positions in the track, repeats allowed.
            matrices: Map source pixels to the pictures, shape (T, 2, 3).
            image_size: Height and width of the pictures in pixels, one number if both agree.

        Returns:
            RGB, shape (T, height, width, 3), uint8, black where nothing is stored.

        Raises:
            DataError: If the track is missing or damaged.
        """
        reader = self.store.reader(track)
        from_crops = crop_matrices(matrices, reader.crop_boxes[np.asarray(positions)][:, :2])
        bands = reader.each_crop(positions, needed_rows(from_crops, image_size))
        return warp_bands(bands, from_crops, image_size)

    def crop_corners(
        self, track: str, positions: Sequence[int], matrices: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Tell where the corners of what is stored lie in aligned pictures.

        Args:
            track: Path of the track, relative to the root of the store.
            positions: T positions in the track.
            matrices: Map source pixels to the pictures, shape (T, 2, 3).

        Returns:
            Centres of the corner pixels (x, y) in turn, shape (T, 4, 2), float32.
        """
        boxes = self.store.reader(track).crop_boxes[np.asarray(positions)]
        x0, y0, x1, y1 = (boxes - (0, 0, 1, 1)).T
        corners = np.stack([x0, y0, x1, y0, x1, y1, x0, y1], axis=1)
        return transform_points(corners.reshape(-1, 4, 2), matrices)

    def faces(self, track: str, positions: Sequence[int]) -> FaceTrack:
        """Take the faces of some frames out of a track, in the order of `positions`."""
        faces, where = self.store.reader(track).track, np.asarray(positions)
        return FaceTrack(
            frame_index=faces.frame_index[where],
            box=faces.box[where],
            points5=faces.points5[where],
            points68=faces.points68[where],
            score=faces.score[where],
            forehead=None if faces.forehead is None else faces.forehead[where],
        )

    def finish(self, frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Augment the pixels of aligned frames.

        Args:
            frames: RGB, shape (T, H, W, 3), uint8; not changed.
            rng: Source of the draws.

        Returns:
            Frames of the same shape and type.
        """
        return frames if self.transform is None else self.transform.pixels(frames, rng)

    def frame_index(self, track: str) -> NDArray[np.int64]:
        """Tell the source frames of a track, given by its path relative to the root."""
        return self.store.reader(track).track.frame_index

    def _fit(
        self, reader: TrackReader, where: NDArray[np.int64], rng: np.random.Generator | None
    ) -> tuple[NDArray[np.float64], bool]:
        """Fit the maps of a clip, with jitter, mirror and rotation composed into them."""
        size, meta, transform = self.image_size, reader.meta, self.transform
        given = (self.alignment, reader.track, where, (meta.height, meta.width), size)
        if transform is None or rng is None:
            return frame_matrices(*given), False
        matrices = frame_matrices(*given, lambda points: transform.jitter(points, rng))
        if flip := transform.draw_flip(rng):
            matrices = flip_matrix(matrices, size)
        if degrees := transform.draw_rotation(rng):
            matrices = rotation_matrix(matrices, size, degrees)
        return matrices, flip


class TrainClipDataset(Dataset[ClipSample]):
    """Random windows of videos, each a pure function of seed, epoch and slot.

    So a sample is the same in any worker, on any rank, and when a run is resumed.

    Args:
        cutter: Cuts the clips.
        records: The videos to draw from; every one has a track.
        video_index: Row of the manifest of each of them.
        num_frames: Frames in a clip (T).
        seed: Of all draws.
        forger: Makes fakes out of real videos; with it, every sample has a `blend_mask`.
        kept: The frames of a track that clips are cut of; None for all.
    """

    def __init__(
        self,
        cutter: ClipCutter,
        records: Sequence[VideoRecord],
        video_index: Sequence[int],
        num_frames: int,
        seed: int,
        forger: ClipForger | None = None,
        kept: KeptFrames | None = None,
    ) -> None:
        self.cutter = cutter
        self.records = records
        self.video_index = video_index
        self.num_frames = num_frames
        self.seed = seed
        self.forger = forger
        self.kept = kept

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: ClipKey | int) -> ClipSample:
        """Cut the clip of a key; a plain number is that row in epoch 0.

        Raises:
            DataError: If a track is missing or damaged; names the file.
        """
        if isinstance(key, int):
            key = ClipKey(epoch=0, slot=key, row=key)
        record = self.records[key.row]
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, key.epoch, key.slot]))
        video_index = self.video_index[key.row]
        pair = [self.seed, key.epoch, key.slot // 2, _PAIR] if key.paired else None
        if self.forger is not None and key.forged:
            made = self.forger.make(key.row, rng, pair)
            return _with_mask(_sample(made.clip, 1, video_index, made.window), made.mask)
        if self.forger is not None and pair is not None:
            clip, window = self.forger.real(key.row, pair)
            return _with_mask(_sample(clip, 0, video_index, window), None)
        frames = [self.cutter.frame_index(track) for track in record.tracks]
        counts = [num_clips(index, self.num_frames, self.kept) for index in frames]
        # All windows of all tracks are equally likely, so a long track is shown more often.
        k, window = random_window(counts, rng)
        positions = clip_positions(frames[k], self.num_frames, window, self.kept, rng)
        clip = self.cutter.cut(record.tracks[k], positions, rng)
        sample = _sample(clip, record.label, video_index, sum(counts[:k]) + window)
        return sample if self.forger is None else _with_mask(sample, None)


class EvalClipDataset(Dataset[ClipSample]):
    """A fixed list of clips, unchanged.

    Args:
        cutter: Cuts the clips.
        records: All videos of the manifest, so that `ClipRef.video_index` names one.
        refs: The clips.
    """

    def __init__(
        self, cutter: ClipCutter, records: Sequence[VideoRecord], refs: Sequence[ClipRef]
    ) -> None:
        self.cutter = cutter
        self.records = records
        self.refs = refs

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int) -> ClipSample:
        """Cut one clip of the list.

        Raises:
            DataError: If a track is missing or damaged; names the file.
        """
        ref = self.refs[index]
        record = self.records[ref.video_index]
        clip = self.cutter.cut(record.tracks[ref.track_index], ref.positions)
        return _sample(clip, record.label, ref.video_index, ref.clip_index)


def video_clip_refs(
    store: PreparedStore,
    record: VideoRecord,
    video_index: int,
    num_frames: int,
    max_clips: int | None,
    kept: KeptFrames | None = None,
) -> list[ClipRef]:
    """List the clips by which a video is scored.

    Args:
        store: Where its tracks lie.
        record: The video.
        video_index: Its row in the manifest.
        num_frames: Frames in a clip (T).
        max_clips: Clips to spread evenly over all tracks, at least one for each; None for
            all there are: with `kept` as the bench scores a video, without it every window, as
            FTCN's official code does.
        kept: The frames of a track that clips are cut of; None for all.

    Returns:
        Clips in order of track and time, numbered from 0.

    Raises:
        DataError: If a track is missing or damaged.
    """
    readers = [store.reader(track) for track in record.tracks]
    indices = [reader.track.frame_index for reader in readers]
    counts = [num_clips(index, num_frames, kept) for index in indices]
    windows = spread_windows(counts, max_clips)
    refs = []
    for clip_index, (track_index, window) in enumerate(windows):
        positions = clip_positions(indices[track_index], num_frames, window, kept)
        frames = indices[track_index][list(positions)]
        start_s, end_s = clip_times(frames, readers[track_index].meta.fps)
        refs.append(
            ClipRef(
                video_index=video_index,
                clip_index=clip_index,
                track_index=track_index,
                positions=positions,
                start_s=start_s,
                end_s=end_s,
            )
        )
    return refs


def _sample(clip: Clip, label: int, video_index: int, clip_index: int) -> ClipSample:
    """Make tensors of a clip and what is known of it."""
    return {
        "clip": torch.from_numpy(clip.frames),
        "label": torch.tensor(float(label)),
        "video_index": torch.tensor(video_index),
        "clip_index": torch.tensor(clip_index),
    }


def _with_mask(sample: ClipSample, mask: NDArray[np.float32] | None) -> ClipSample:
    """Add the mask of a sample, so that all of a batch have one.

    Args:
        sample: Whose mask.
        mask: Shape (T, H, W), float32 in 0..1; None for zeros.
    """
    if mask is None:
        return {**sample, "blend_mask": torch.zeros(1, *sample["clip"].shape[:3])}
    return {**sample, "blend_mask": torch.from_numpy(mask)[None]}
