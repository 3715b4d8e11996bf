"""First pass over a video: who is seen where. Of each face only box and points are kept."""

from __future__ import annotations

import os
import queue
from array import array
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datamodules.faces.cuts import CutFinder
from datamodules.faces.detect import FaceBackend, ReadsFaces, face_backend
from datamodules.faces.finding import FaceFinder
from datamodules.faces.track import LinkRules
from datamodules.preprocess.linking import (
    link_tracks,
    readable_frames,
    uncovered_rows,
    why_wrong,
)
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.schema import FaceTrack
from datamodules.video.frames_reader import frame_files, is_frames
from datamodules.video.reader import (
    DamagedVideoError,
    frame_times,
    open_video,
    prefix_decoder,
    probe_video,
)
from experiments.predicting.ahead import ahead
from experiments.predicting.clock import first_picture_s

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from datamodules.faces.detect import Face
    from datamodules.faces.track import LinkedTrack
    from datamodules.video.reader import VideoInfo

    Tell = Callable[[str, int, int], None]

#: Decoded frames that wait at most. [ours]
FRAMES_AHEAD = 4
#: Backends that keep nothing from frame to frame, so that several may share a video, and most of
#: them that do. [ours]
_STATELESS = ("mesh",)
_MAX_FINDERS = 8


class _SeenFace(NamedTuple):
    """What linking needs of a face, and where its points are kept."""

    box: NDArray[np.float32]
    score: float
    row: int


@dataclass
class _Points:
    """Points of all faces of a video, packed: 100 bytes a face instead of 2,000.

    Attributes:
        with_68: Whether the 68 landmarks are kept, which one alignment needs.
    """

    with_68: bool
    points5: array[float] = field(default_factory=lambda: array("f"))
    points68: array[float] = field(default_factory=lambda: array("f"))
    count: int = 0

    def add(self, face: Face) -> _SeenFace:
        self.points5.frombytes(np.ascontiguousarray(face.points5, np.float32).tobytes())
        if self.with_68:
            self.points68.frombytes(np.ascontiguousarray(face.points68, np.float32).tobytes())
        self.count += 1
        return _SeenFace(face.box, face.score, self.count - 1)

    def track(self, linked: LinkedTrack[_SeenFace]) -> FaceTrack:
        rows = np.array([face.row for face in linked.faces])
        points5 = np.frombuffer(self.points5, np.float32).reshape(-1, 5, 2)[rows]
        points68 = np.empty((len(rows), 0, 2), np.float32)
        if self.with_68:
            points68 = np.frombuffer(self.points68, np.float32).reshape(-1, 68, 2)[rows]
        return FaceTrack(
            frame_index=np.array(linked.frame_index, np.int64),
            box=np.stack([face.box for face in linked.faces]),
            points5=points5,
            points68=points68,
            score=np.array([face.score for face in linked.faces], np.float32),
        )


@dataclass(frozen=True)
class SeenTrack:
    """One uninterrupted appearance of a face.

    Attributes:
        track: Its number in the video.
        person: Number of the person; people are told apart by time and place alone.
        rank: Place of the person among those of the shot by size; 0 is the main one.
        faces: Box and points in each frame; no landmarks but the five unless asked for.
    """

    track: int
    person: int
    rank: int
    faces: FaceTrack


@dataclass(frozen=True)
class SeenVideo:
    """What the first pass found.

    Attributes:
        path: The file.
        info: What probing it told.
        decoder: Who reads it.
        num_frames: Frames that decode.
        times_s: When each is shown by a player's clock, in seconds, shape (num_frames,), float64.
        tracks: The faces.
        cuts: First frames of the shots after the first one.
        dropped: Rows on what is in no track.
        reason: Why there is no track, or what is wrong with a damaged file; empty otherwise.
        backend: Who found the faces.
        backend_version: Its version.
        parameters: How they were looked for, as a store would say.
    """

    path: Path
    info: VideoInfo
    decoder: str
    num_frames: int
    times_s: NDArray[np.float64]
    tracks: tuple[SeenTrack, ...]
    cuts: tuple[int, ...]
    dropped: tuple[dict[str, Any], ...]
    reason: str
    backend: str
    backend_version: str
    parameters: dict[str, Any]

    def frames(self) -> Generator[NDArray[np.uint8], None, None]:
        """Decode all frames again, each RGB, (H, W, 3), uint8."""
        late_damage = self.decoder != self.info.decoder
        count = None if late_damage else self.info.num_frames
        with open_video(self.path, self.decoder, count) as reader:
            yield from islice(reader, self.num_frames)


def find_people(video: Path, backend: str, with_68: bool, tell: Tell) -> SeenVideo:
    """Look at a video once.

    Args:
        video: The file.
        backend: Face backend, as for `make data`.
        with_68: Whether the 68 landmarks are needed.
        tell: Called with what is being done, how much of it is done, and of how much.

    Returns:
        Who is seen where; of a damaged video, in the frames before the damage.

    Raises:
        DataError: If the video cannot be read, or the backend lacks a package or file.
        WeightsError: If weights of the face backend are missing.
    """
    tell("looking at the file", 0, 0)
    options = PrepareOptions(backend=backend, max_frames=0)
    info = probe_video(video, allow_damaged=True)
    finders = _finders(options, video, info.num_frames)
    look = _look(video, info, finders, with_68, tell)
    rules = LinkRules(start_score=options.start_score, keep_score=options.keep_score)
    linked, roles, dropped = link_tracks(look.faces, look.cuts, rules)
    dropped += uncovered_rows(map(bool, look.faces), linked)
    count = readable_frames(
        len(look.faces), range(info.num_frames), info.num_frames, look.decoder != info.decoder
    )
    return SeenVideo(
        path=video,
        info=info,
        decoder=look.decoder,
        num_frames=count,
        times_s=first_picture_s(video) + frame_times(video, count),
        tracks=tuple(
            SeenTrack(number, role.person, role.rank, look.points.track(track))
            for number, (track, role) in enumerate(zip(linked, roles, strict=True))
        ),
        cuts=tuple(look.cuts),
        dropped=tuple(dropped),
        reason=why_wrong(look.damage, bool(linked), look.best_score, options.start_score),
        backend=finders[0].name,
        backend_version=finders[0].version,
        parameters=options.parameters(),
    )


@dataclass(frozen=True)
class _Look:
    """What decoding a video once showed.

    Attributes:
        faces: Of each frame that was read.
        points: Their points.
        cuts: First frames of the shots after the first one.
        decoder: Who reads the frames.
        damage: Why no more could be read, or an empty string.
    """

    faces: list[list[_SeenFace]]
    points: _Points
    cuts: list[int]
    decoder: str
    damage: str

    @property
    def best_score(self) -> float:
        """Of the surest face, 0 if there is none."""
        return max((face.score for found in self.faces for face in found), default=0.0)


def _look(
    video: Path, info: VideoInfo, finders: Sequence[FaceBackend], with_68: bool, tell: Tell
) -> _Look:
    points, cuts = _Points(with_68), CutFinder()
    faces: list[list[_SeenFace]] = []
    decoder, damage = info.decoder, info.damage
    with open_video(video, info.decoder, info.num_frames) as reader:
        try:
            for found in _found(_watched(reader, cuts), finders):
                faces.append([points.add(face) for face in found])
                tell("finding faces", len(faces), info.num_frames)
        except DamagedVideoError as error:
            # Long videos are probed in samples, so that damage may show here only.
            decoder, damage = prefix_decoder(info.decoder), str(error)
    return _Look(faces, points, cuts.cuts(), decoder, damage.removeprefix(f"{video}: "))


def _watched(frames: Iterable[NDArray[np.uint8]], cuts: CutFinder) -> Iterator[NDArray[np.uint8]]:
    for frame in frames:
        cuts.add(frame)
        yield frame


def _found(
    frames: Iterable[NDArray[np.uint8]], backends: Sequence[FaceBackend]
) -> Iterator[list[Face]]:
    """Find the faces of frames in order, several frames at once where there are several backends.

    Damage at a frame ends the frames, after the faces of all before it were given.
    """
    free: queue.SimpleQueue[FaceFinder] = queue.SimpleQueue()
    for backend in backends:
        free.put(FaceFinder(backend, {}))

    def find(frame: NDArray[np.uint8]) -> list[Face]:
        finder = free.get()
        try:
            return finder.faces(frame)
        finally:
            free.put(finder)

    pending: deque[Future[list[Face]]] = deque()
    damage = _Damage()
    with (
        ahead(damage.ends(frames), FRAMES_AHEAD) as decoded,
        ThreadPoolExecutor(len(backends)) as pool,
    ):
        for frame in decoded:
            pending.append(pool.submit(find, frame))
            if len(pending) > len(backends):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    if damage.found is not None:
        raise damage.found


class _Damage:
    """Lets frames end at the first damage, and keeps what it was."""

    found: DamagedVideoError | None = None

    def ends(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        try:
            yield from frames
        except DamagedVideoError as error:
            self.found = error


def _finders(options: PrepareOptions, video: Path, num_frames: int) -> list[FaceBackend]:
    """Make the backends ready for a video: as many as may share it."""
    count = min(os.cpu_count() or 1, _MAX_FINDERS) if options.backend in _STATELESS else 1
    made = [_backend(options, video.parent, number) for number in range(count)]
    for backend in made:
        backend.begin(video)
        if isinstance(backend, ReadsFaces):
            files = frame_files(video).files if is_frames(video) else ()
            backend.expect(range(num_frames), files)
    return made


@lru_cache(maxsize=_MAX_FINDERS)
def _backend(options: PrepareOptions, root: Path, number: int) -> FaceBackend:
    """Make each backend once in a process."""
    return face_backend(options.backend, **options.backend_options(root))
