"""Who is who among the tracks of a video: numbers for people, and who of them is the main one.

Faces are not recognised: a person is known by time and place alone. Within a shot a track that
starts where an earlier one ended goes on with its person (a face that was lost for a while); after
a cut everybody is somebody new, even who was there before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.faces.track import box_iou

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datamodules.faces.track import FaceT, LinkedTrack

#: Overlap of the last box of a track with the first one of another that goes on with it: less than
#: from frame to frame, as the head has moved while it was lost. [ours]
_SAME_PLACE_IOU = 0.3


@dataclass(frozen=True)
class Role:
    """Who a track shows.

    Attributes:
        person: Number of the person in the video, by the order of their first tracks.
        rank: Place of the person among those of the shot by the area of their boxes, summed over
            its frames; 0 is the main person.
    """

    person: int
    rank: int


def in_order(tracks: Sequence[LinkedTrack[FaceT]]) -> list[LinkedTrack[FaceT]]:
    """Sort tracks as they are numbered: by first frame, then from left to right.

    Places, unlike scores, are told apart surely and alike on any machine.
    """
    return sorted(tracks, key=lambda t: (t.frame_index[0], *t.faces[0].box.tolist()))


def find_roles(tracks: Sequence[LinkedTrack[FaceT]], cuts: Sequence[int]) -> list[Role]:
    """Tell who the tracks show.

    Args:
        tracks: Sorted by `in_order`; none reaches over a cut.
        cuts: First frames of the shots after the first one, ascending.

    Returns:
        A role for each track.
    """
    shots = [bisect_right(cuts, track.frame_index[0]) for track in tracks]
    people: list[int] = []
    for number, track in enumerate(tracks):
        ended = [
            other
            for other in range(number)
            if shots[other] == shots[number]
            and _last_frame(tracks, people, people[other]) < track.frame_index[0]
        ]
        overlaps = box_iou([tracks[i].faces[-1].box for i in ended], [track.faces[0].box])[:, 0]
        # The last one of the best: where a face was seen last counts more.
        best = max(range(len(ended)), key=lambda i: (overlaps[i], i), default=None)
        goes_on = best is not None and overlaps[best] >= _SAME_PLACE_IOU
        people.append(people[ended[best]] if goes_on and best is not None else _next(people))
    ranks = _ranks(tracks, shots, people)
    return [Role(people[i], ranks[shots[i], people[i]]) for i in range(len(tracks))]


def _next(people: list[int]) -> int:
    return max(people, default=-1) + 1


def _last_frame(tracks: Sequence[LinkedTrack[Any]], people: list[int], person: int) -> int:
    """Tell until when a person was seen, among the tracks that have one."""
    return max(tracks[i].frame_index[-1] for i, other in enumerate(people) if other == person)


def _ranks(
    tracks: Sequence[LinkedTrack[Any]], shots: list[int], people: list[int]
) -> dict[tuple[int, int], int]:
    """Rank the people of each shot; equal ones by their number."""
    areas: dict[tuple[int, int], float] = defaultdict(float)
    for track, shot, person in zip(tracks, shots, people, strict=True):
        boxes = np.stack([face.box for face in track.faces]).astype(np.float64)
        areas[shot, person] += float(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).sum())
    ranks: dict[tuple[int, int], int] = {}
    for shot in set(shots):
        present = sorted((-area, who) for (where, who), area in areas.items() if where == shot)
        ranks |= {(shot, who): rank for rank, (_, who) in enumerate(present)}
    return ranks
