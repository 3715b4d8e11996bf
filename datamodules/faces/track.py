"""From faces in frames to tracks of people: boxes linked from frame to frame by their overlap.

After FTCN's official inference code (Zheng et al., ICCV 2021): a track starts at a face with a
score of 0.8 that overlaps no surer face by more than 0.5, goes on with faces that overlap by at
least 0.5 and have a score of 0.5, and breaks where there is none, as at a cut to another shot.

Where the official code falls short, this does what was meant: it follows only the faces of the
first frame and forgets them all if one frame is missed; after a break it starts a frame late; it
may follow one face by two tracks. Here a person may come and go at any frame, and a face belongs
to one track. Boxes and landmarks are not smoothed and missing ones not made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray


class LinkableFace(Protocol):
    """What linking must know of a face."""

    @property
    def box(self) -> NDArray[Any]:
        """Box x0 y0 x1 y1 in pixels, shape (4,)."""

    @property
    def score(self) -> float:
        """How sure the detector is, in 0..1."""


FaceT = TypeVar("FaceT", bound=LinkableFace)


@dataclass(frozen=True)
class LinkRules:
    """When faces belong together.

    Attributes:
        start_score: Least score of the first face of a track (FTCN, official).
        keep_score: Least score of any face (FTCN, official).
        min_iou: Least overlap with the last box of a track; a face that overlaps a surer one by
            more starts no track of its own (FTCN, official).
        max_gap: Frames that a track may miss and still go on [ours; officially 0]. They stay
            missing, and no clip reaches over them.
        min_length: Faces that a track must have to be kept [ours].
    """

    start_score: float = 0.8
    keep_score: float = 0.5
    min_iou: float = 0.5
    max_gap: int = 5
    min_length: int = 1


@dataclass
class LinkedTrack(Generic[FaceT]):
    """One person through part of a video.

    Attributes:
        frame_index: Frames with a face, ascending; gaps are frames that were missed.
        faces: The face in each of them.
    """

    frame_index: list[int] = field(default_factory=list)
    faces: list[FaceT] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.faces)

    def _add(self, frame: int, face: FaceT) -> None:
        self.frame_index.append(frame)
        self.faces.append(face)


@dataclass(frozen=True)
class DroppedTrack:
    """A track that was not kept.

    Attributes:
        first_frame: Its first frame.
        last_frame: Its last frame.
        reason: Why, in words for a report.
    """

    first_frame: int
    last_frame: int
    reason: str


def link_faces(
    faces_per_frame: Iterable[Sequence[FaceT]],
    rules: LinkRules | None = None,
    cuts: Collection[int] = (),
) -> tuple[list[LinkedTrack[FaceT]], list[DroppedTrack]]:
    """Link faces to tracks, frame after frame; frames may come from a generator.

    Args:
        faces_per_frame: Faces of every frame from frame 0 on, an empty list where there is none.
        rules: When faces belong together; the defaults unless given.
        cuts: Frames at which all tracks end: in another shot the same place may hold another
            person.

    Returns:
        Tracks by first frame, then by score of their first face; and what was dropped.
    """
    rules = rules or LinkRules()
    finished: list[LinkedTrack[FaceT]] = []
    active: list[LinkedTrack[FaceT]] = []
    for frame, found in enumerate(faces_per_frame):
        faces = sorted((f for f in found if f.score >= rules.keep_score), key=lambda f: -f.score)
        alive = [t for t in active if frame - t.frame_index[-1] <= rules.max_gap + 1]
        finished += [t for t in active if frame - t.frame_index[-1] > rules.max_gap + 1]
        pairs = _pairs(alive, faces, rules.min_iou)
        if frame in cuts:
            # Whoever is at the same place now: another track, which need not be as sure to start.
            finished += alive
            alive = [LinkedTrack([frame], [faces[face]]) for _, face in pairs]
        else:
            for track, face in pairs:
                alive[track]._add(frame, faces[face])
        active = alive + _start(faces, {face for _, face in pairs}, frame, rules)
    # stable: tracks that start together stay in the order of their scores
    tracks = sorted(finished + active, key=lambda t: (t.frame_index[0], -t.faces[0].score))
    dropped = [
        DroppedTrack(
            track.frame_index[0],
            track.frame_index[-1],
            f"track of {len(track)} frames is shorter than {rules.min_length}",
        )
        for track in tracks
        if len(track) < rules.min_length
    ]
    return [track for track in tracks if len(track) >= rules.min_length], dropped


def _pairs(
    tracks: list[LinkedTrack[FaceT]], faces: list[FaceT], min_iou: float
) -> list[tuple[int, int]]:
    """Give each track the face that overlaps it best, the best pair first.

    Returns:
        Positions of tracks and of their faces.
    """
    overlaps = box_iou([t.faces[-1].box for t in tracks], [f.box for f in faces])
    pairs: list[tuple[int, int]] = []
    served: set[int] = set()
    linked: set[int] = set()
    for place in np.argsort(-overlaps, axis=None, kind="stable"):
        track, face = (int(i) for i in np.unravel_index(place, overlaps.shape))
        if overlaps[track, face] < min_iou:
            break
        if track not in served and face not in linked:
            pairs.append((track, face))
            served.add(track)
            linked.add(face)
    return pairs


def _start(
    faces: list[FaceT], linked: set[int], frame: int, rules: LinkRules
) -> list[LinkedTrack[FaceT]]:
    """Start tracks at sure faces that are not another detection of a face already followed."""
    overlaps = box_iou([f.box for f in faces], [f.box for f in faces])
    followed = set(linked)
    started: list[LinkedTrack[FaceT]] = []
    for place, face in enumerate(faces):
        doubled = any(overlaps[place, other] > rules.min_iou for other in followed)
        if place not in linked and face.score >= rules.start_score and not doubled:
            started.append(LinkedTrack([frame], [face]))
            followed.add(place)
    return started


def box_iou(boxes: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Measure how far boxes overlap: the shared area over the area of both together.

    Args:
        boxes: N boxes x0 y0 x1 y1, each of shape (4,).
        others: M boxes.

    Returns:
        Shape (N, M), float64, in 0..1; 0 for boxes without area.
    """
    a = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    b = np.asarray(others, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(np.maximum(c[..., 2:] - c[..., :2], 0), axis=-1) for c in (a, b)]
    union = areas[0] + areas[1] - shared
    return np.asarray(shared / np.where(union > 0, union, 1), np.float64)
