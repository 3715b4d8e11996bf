"""Search the faces of a perturbed video anew, as a deployed detector has to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamodules.errors import DataError
from datamodules.faces.cuts import CutFinder
from datamodules.faces.finding import FaceFinder
from datamodules.faces.track import LinkRules
from datamodules.preprocess.linking import link_tracks
from datamodules.preprocess.prepare import cached_backend, keep_first_clips

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from datamodules.faces.detect import Face
    from datamodules.faces.people import Role
    from datamodules.faces.track import LinkedTrack
    from datamodules.preprocess.prepare import PrepareOptions

#: Backends that look at pictures; the others read what was found in the unchanged ones.
SEARCHING = ("mesh", "fan")


def check_can_search(options: PrepareOptions) -> None:
    """Refuse backends that read faces from files.

    Args:
        options: How the unchanged videos were prepared.

    Raises:
        DataError: If their faces were not searched.
    """
    if options.backend not in SEARCHING:
        raise DataError(
            f"faces cannot be searched again: those of the clean store came from files (backend "
            f"{options.backend}); prepare it with --backend {' or '.join(SEARCHING)}"
        )


def search_tracks(
    video: Path,
    root: Path,
    options: PrepareOptions,
    frames: Iterable[NDArray[np.uint8]],
) -> tuple[list[LinkedTrack[Face]], list[Role]]:
    """Find the face tracks of changed frames as those of unchanged ones were found.

    Args:
        video: The unchanged file.
        root: Of the raw videos.
        options: How the unchanged videos were prepared.
        frames: Those that tracks count, changed, each (H, W, 3), uint8.

    Returns:
        Faces by place among `frames`, and who they show.
    """
    backend = cached_backend(options, root)
    backend.begin(video)
    finder, cuts = FaceFinder(backend, {}), CutFinder()
    faces = []
    for frame in frames:
        cuts.add(frame)
        faces.append(finder.faces(frame))
    rules = LinkRules(start_score=options.start_score, keep_score=options.keep_score)
    tracks, roles, _ = link_tracks(faces, cuts.cuts(), rules, options.people)
    return keep_first_clips(tracks, options.max_clips)[0], roles
