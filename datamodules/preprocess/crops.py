"""Store the crops of face tracks while a video is decoded once, in flat memory."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from datamodules.faces.pose import pose_figures
from datamodules.preprocess.align import big_box
from datamodules.store.prepared import TrackMeta, TrackWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from datamodules.faces.detect import Face
    from datamodules.faces.people import Role
    from datamodules.faces.track import LinkedTrack


def store_tracks(
    frames: Iterable[NDArray[np.uint8]],
    tracks: Sequence[LinkedTrack[Face]],
    roles: Sequence[Role],
    folder: Path,
    meta: TrackMeta,
) -> list[dict[str, Any]]:
    """Write one zip per track.

    Args:
        frames: All frames of the video in order, each (H, W, 3), uint8.
        tracks: Faces by frame.
        roles: Who each track shows.
        folder: Where `0.zip`, `1.zip`, ... go.
        meta: What every track says of its source.

    Returns:
        Of each track: `path` in the folder, `num_bytes`, `first_frame`, `last_frame`,
        `num_frames`, `person` and `rank` (see `Role`), and its quality: `face_px` (median side of
        the box in pixels), `score` (mean), `blur` (mean variance of the Laplacian inside the box;
        low is blurred), `kept` (share of the frames from its first to its last that it holds) and
        its pose (see `pose_figures`).

    Raises:
        OSError: If the disk refuses the bytes; no track is half-written.
    """
    wanted: dict[int, list[tuple[int, Face]]] = defaultdict(list)
    for number, track in enumerate(tracks):
        for frame_index, face in zip(track.frame_index, track.faces, strict=True):
            wanted[frame_index].append((number, face))
    last = max(wanted, default=-1)
    with _Writers(tracks, roles, folder, meta) as writers:
        for frame_index, frame in enumerate(frames):
            for number, face in wanted.get(frame_index, ()):
                writers.add(number, frame_index, frame, face)
            if frame_index >= last:
                break
    return [
        {
            "path": f"{number}.zip",
            "num_bytes": (folder / f"{number}.zip").stat().st_size,
            "first_frame": track.frame_index[0],
            "last_frame": track.frame_index[-1],
            "num_frames": len(track),
            **writers.figures[number],
        }
        for number, track in enumerate(tracks)
    ]


class _Writers:
    """Writers of the tracks that run at the moment: each is open from its first to its last face.

    Args:
        tracks: Faces by frame.
        roles: Who each track shows.
        folder: Where the files go.
        meta: What every track says of its source.
    """

    def __init__(
        self,
        tracks: Sequence[LinkedTrack[Face]],
        roles: Sequence[Role],
        folder: Path,
        meta: TrackMeta,
    ) -> None:
        self._tracks = tracks
        self._roles = roles
        self._folder = folder
        self._meta = meta
        self._open: dict[int, tuple[TrackWriter, ExitStack]] = {}
        self._blurs: dict[int, list[float]] = defaultdict(list)
        self.figures: dict[int, dict[str, float]] = {}

    def __enter__(self) -> _Writers:
        return self

    def add(self, number: int, frame_index: int, frame: NDArray[np.uint8], face: Face) -> None:
        """Append a face to its track."""
        if number not in self._open:
            stack = ExitStack()
            writer = TrackWriter(self._folder / f"{number}.zip", self._meta)
            self._open[number] = (stack.enter_context(writer), stack)
        x0, y0, x1, y1 = big_box(face.box, *frame.shape[:2])
        self._open[number][0].add(
            frame_index,
            frame[y0:y1, x0:x1],
            (x0, y0, x1, y1),
            box=face.box,
            points5=face.points5,
            points68=face.points68,
            score=face.score,
            forehead=face.forehead,
        )
        self._blurs[number].append(_laplacian_variance(frame, face))
        if frame_index == self._tracks[number].frame_index[-1]:
            self._close(number)

    def _close(self, number: int) -> None:
        """End a track at its last face."""
        writer, stack = self._open.pop(number)
        quality = _figures(self._tracks[number], self._blurs.pop(number))
        writer.figures = asdict(self._roles[number]) | quality
        self.figures[number] = writer.figures
        stack.close()

    def __exit__(self, *error: Any) -> None:
        # Only after an error is any still open; what it had written is taken away.
        for _, stack in self._open.values():
            stack.__exit__(*error)


def _laplacian_variance(frame: NDArray[np.uint8], face: Face) -> float:
    """Measure how sharp a face is."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = (round(float(value)) for value in face.box)
    inside = frame[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    if not inside.size:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(inside), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _figures(track: LinkedTrack[Face], blurs: Sequence[float]) -> dict[str, float]:
    """Describe the quality of a track."""
    boxes = np.stack([face.box for face in track.faces])
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return {
        "face_px": round(float(np.median(sides)), 1),
        "score": round(float(np.mean([face.score for face in track.faces])), 3),
        "blur": round(float(np.mean(blurs)), 1),
        "kept": round(len(track) / (track.frame_index[-1] - track.frame_index[0] + 1), 3),
        **pose_figures(np.stack([face.points68 for face in track.faces])),
    }
