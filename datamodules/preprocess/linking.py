"""From the faces of frames to the tracks that are kept, and rows on all that is left out."""

from __future__ import annotations

from itertools import compress, groupby
from typing import TYPE_CHECKING, Any

from datamodules.faces.people import find_roles, in_order
from datamodules.faces.track import LinkRules, link_faces

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Literal

    from datamodules.faces.people import Role
    from datamodules.faces.track import FaceT, LinkedTrack

#: Tracks shorter than this are dropped if the video has a longer one: faces that flash up for a
#: quarter of a second are mostly false or passing ones. [ours]
MIN_TRACK_FRAMES = 8


def link_tracks(
    faces: Iterable[Sequence[FaceT]],
    cuts: Sequence[int],
    rules: LinkRules,
    people: Literal["all", "main"] = "all",
) -> tuple[list[LinkedTrack[FaceT]], list[Role], list[dict[str, Any]]]:
    """Link faces to tracks.

    Args:
        faces: Of every frame that was looked at.
        cuts: First frames of the shots after the first one.
        rules: When faces belong together.
        people: Whose tracks are kept: `all`, or those of the `main` person of each shot.

    Returns:
        The tracks that are kept, who they show, and rows on the others.
    """
    tracks, _ = link_faces(faces, rules, set(cuts))
    longest = max((len(track) for track in tracks), default=0)
    least = min(longest, MIN_TRACK_FRAMES)
    dropped = [
        drop_row(
            "dropped track",
            track.frame_index,
            f"track of {len(track)} frames, where another has {longest}",
        )
        for track in tracks
        if len(track) < least
    ]
    tracks = in_order([track for track in tracks if len(track) >= least])
    roles = find_roles(tracks, cuts)
    kept = [role.rank == 0 or people == "all" for role in roles]
    dropped += [
        drop_row("dropped track", track.frame_index, "a person beside the main one of the shot")
        for track, keep in zip(tracks, kept, strict=True)
        if not keep
    ]
    return list(compress(tracks, kept)), list(compress(roles, kept)), dropped


def uncovered_rows(
    any_face: Iterable[bool], tracks: Sequence[LinkedTrack[Any]]
) -> list[dict[str, Any]]:
    """Say which frames lie in no track, and why.

    Args:
        any_face: Whether a face was found, of every frame that was looked at.
        tracks: The tracks that are kept.

    Returns:
        Rows for a report.
    """
    covered = covered_frames(tracks)
    reasons = (
        "" if frame in covered else ("no face of a kept track" if found else "no face found")
        for frame, found in enumerate(any_face)
    )
    rows = []
    for reason, run in groupby(enumerate(reasons), key=lambda item: item[1]):
        if reason:
            rows.append(drop_row("dropped frames", [frame for frame, _ in run], reason))
    return rows


def drop_row(what: str, frames: Sequence[int], reason: str) -> dict[str, Any]:
    """Describe dropped frames for a report.

    Args:
        what: Kind of the row.
        frames: Which, ascending, at least one.
        reason: Why.
    """
    first, last = frames[0], frames[-1]
    about = {"first_frame": first, "last_frame": last, "num_frames": len(frames)}
    return {"what": what, **about, "reason": reason}


def covered_frames(tracks: Sequence[LinkedTrack[Any]]) -> set[int]:
    """Give the frames that lie in a track."""
    return {frame for track in tracks for frame in track.frame_index}


def why_wrong(damage: str, has_track: bool, best_score: float, start_score: float) -> str:
    """Say what is wrong with a video, or nothing.

    Args:
        damage: Why no more of it could be read, or an empty string.
        has_track: Whether a track was kept.
        best_score: Of the surest face that was found, 0 if there was none.
        start_score: What a track starts with.
    """
    if damage:
        # What follows tells how to mend the file.
        return f"{damage.partition(';')[0]}; the frames before the damage are used"
    if has_track:
        return ""
    if not best_score:
        return "no face found"
    return f"no face is sure enough to start a track: {best_score:.2f}, wanted {start_score:.2f}"


def readable_frames(
    num_read: int, numbers: Sequence[int], num_frames: int, damage_found: bool
) -> int:
    """Count the frames that decode.

    Args:
        num_read: Frames that were looked at.
        numbers: Which frames of the video they were to be.
        num_frames: What probing counted.
        damage_found: Whether damage was found that probing had not seen.

    Returns:
        Of a video whose damage was found late, the frames up to the last one read.
    """
    if not damage_found:
        return num_frames
    return numbers[num_read - 1] + 1 if num_read else 0
