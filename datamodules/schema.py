"""The contract between data, methods and programs: records, tracks, clips and the batch.

Imports nothing heavy, so that methods and callbacks may import it without pulling a decoder in,
and the preparation of videos without pulling torch in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from typing_extensions import NotRequired

if TYPE_CHECKING:
    # Not at run time: preparing videos needs no torch, and each worker would wait for it.
    import numpy as np
    import torch
    from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

VideoStatus = Literal["ok", "no_face", "short", "unreadable"]


@dataclass(frozen=True, kw_only=True)
class VideoRecord:
    """One line of a manifest: a video, where it came from, and what was found in it.

    Attributes:
        video_id: Unique in a manifest, `dataset/compression/method/name`.
        path: The source file or folder of frames, relative to the root of the raw videos.
        label: 0 real, 1 fake.
        dataset: Name of the data set, for example `ffpp`.
        split: Which part of an experiment the video belongs to.
        group_ids: Identities or source videos; no group lies in two splits.
        method: Forgery method, or None for a real video.
        compression: Compression level, for example `c23`, or None.
        paired_real: `video_id` of the real video of the same footage, or None.
        num_frames: Frames that decode.
        fps: Frames a second.
        height: Height in pixels, as decoded (after rotation).
        width: Width in pixels, as decoded (after rotation).
        sha256: Of the source file; of a folder over the names and bytes of its frames.
        decoder: The backend that was proven frame-exact on this file.
        status: `ok`, or why the video has no clip to score.
        tracks: Face tracks, paths relative to the root of the prepared store.
        frames: Names of the pictures that belong to the video, where `path` is a folder that
            holds others as well; otherwise empty.
    """

    video_id: str
    path: str
    label: int
    dataset: str
    split: Split
    group_ids: tuple[str, ...]
    method: str | None = None
    compression: str | None = None
    paired_real: str | None = None
    num_frames: int = 0
    fps: float = 0.0
    height: int = 0
    width: int = 0
    sha256: str = ""
    decoder: str = "decord"
    status: VideoStatus = "ok"
    tracks: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    @property
    def identities(self) -> tuple[str, ...]:
        """Its groups; the video alone, where none are known."""
        return self.group_ids or (self.video_id,)


@dataclass(frozen=True)
class FaceTrack:
    """One person followed through a video. N kept frames, in ascending order.

    Attributes:
        frame_index: Frame of the source video, shape (N,), int64.
        box: Detector box x0 y0 x1 y1 in source pixels, shape (N, 4), float32.
        points5: Eyes, nose, mouth corners (x, y) in source pixels, shape (N, 5, 2), float32.
        points68: 68 landmarks (x, y) in source pixels, shape (N, 68, 2), float32.
        score: Detector score in 0..1, shape (N,), float32.
        forehead: Points 68 to 80 of the 81-point scheme (x, y) in source pixels, shape
            (N, 13, 2), float32; None where the face backend finds none. For the outline of any
            face see `landmarks.points81`.
    """

    frame_index: NDArray[np.int64]
    box: NDArray[np.float32]
    points5: NDArray[np.float32]
    points68: NDArray[np.float32]
    score: NDArray[np.float32]
    forehead: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.frame_index)


@dataclass(frozen=True)
class Clip:
    """T aligned frames of one track.

    Attributes:
        frames: RGB, shape (T, H, W, 3), uint8.
        frame_index: Frame of the source video, shape (T,), int64.
        points68: Landmarks (x, y) in pixels of `frames`, shape (T, 68, 2), float32.
        forehead: Points 68 to 80 of the 81-point scheme in pixels of `frames`, shape (T, 13, 2),
            float32; None where the face backend finds none.
    """

    frames: NDArray[np.uint8]
    frame_index: NDArray[np.int64]
    points68: NDArray[np.float32]
    forehead: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ClipRef:
    """Where a clip lies: the row behind a (video_index, clip_index) key.

    Attributes:
        video_index: Row of the manifest.
        clip_index: Position of the clip inside its video, over all tracks.
        track_index: Position of the track in `VideoRecord.tracks`.
        positions: Positions inside the track, in time order; a short track is mirrored.
        start_s: Time of the first frame in seconds.
        end_s: End of the last frame in seconds.
    """

    video_index: int
    clip_index: int
    track_index: int
    positions: tuple[int, ...]
    start_s: float
    end_s: float


class ClipSample(TypedDict):
    """What a dataset yields and a loader collates. T frames, H by W pixels.

    `blend_mask` says how much of a pixel was forged by the suite itself (`fake_from_real`). It is
    zero in real clips, and in fakes wherever no forged region is known: in those of the data set,
    whose masks nobody has, and in those that are wrong in time alone. A loss on masks leaves out
    fakes whose mask is zero.
    """

    clip: torch.Tensor  # (T, H, W, 3) uint8 RGB
    label: torch.Tensor  # () float32, 0 real, 1 fake
    video_index: torch.Tensor  # () int64, row of the manifest
    clip_index: torch.Tensor  # () int64, position of the clip inside its video
    blend_mask: NotRequired[torch.Tensor]  # (1, T, H, W) float32 in [0, 1]


class ClipBatch(TypedDict):
    """A collated batch of face clips. Axes: B clips, T frames, H by W pixels.

    Frames are raw: the method normalises them on its device, with the numbers its network was
    trained with. That is a quarter of the traffic between processes and to the device as well. On
    `blend_mask` see `ClipSample`; it is in all training batches with `fake_from_real`, and in
    no others.
    """

    clip: torch.Tensor  # (B, T, H, W, 3) uint8 RGB
    label: torch.Tensor  # (B,) float32, 0 real, 1 fake
    video_index: torch.Tensor  # (B,) int64, row of the manifest
    clip_index: torch.Tensor  # (B,) int64, position of the clip inside its video
    blend_mask: NotRequired[torch.Tensor]  # (B, 1, T, H, W) float32 in [0, 1]
