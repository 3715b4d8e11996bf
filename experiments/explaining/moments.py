"""Choose the clips of a video that are explained, while the video goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.preprocess.alignments import frame_matrices
from experiments.explaining.overlay import strengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from experiments.predicting.cutting import ClipBatch
    from experiments.predicting.faces import SeenVideo
    from experiments.predicting.scorer import ClipSpec, ExplainingScorer

    Tell = Callable[[str, int, int], None]

#: Parts of equal length that a video is cut into; of each the clip with the highest score is
#: kept. [ours]
_PARTS = 6
#: People whose highest clip is kept, wherever it lies. [ours]
_PEOPLE = 3
#: Clips of the same person are apart by this share of a part at least. [ours]
_LEAST_APART = 0.5


@dataclass(frozen=True)
class KeptClip:
    """A clip that may be explained.

    Attributes:
        scorer: Name of the scorer.
        track: Number of the track.
        person: Number of the person, from 1 on as in the report.
        score: Of the clip, 0..1.
        frame_index: Frames of the video that it shows, shape (T,), int64.
        time_s: When they are shown, in seconds, shape (T,), float64.
        matrices: Map pixels of the frames to the clip's pictures, shape (T, 2, 3), float64.
        pictures: RGB, shape (T, H, W, 3), uint8.
    """

    scorer: str
    track: int
    person: int
    score: float
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    matrices: NDArray[np.float64]
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Moment:
    """A clip and its map.

    Attributes:
        clip: The clip.
        maps: Evidence for fake of each frame, at least 0, shape (T, h, w), float32.
    """

    clip: KeptClip
    maps: NDArray[np.float32]

    @property
    def curve(self) -> NDArray[np.float64]:
        """Evidence of each frame as a share of all, shape (T,), float64; 0 where there is none."""
        total = self.maps.sum((1, 2), dtype=np.float64)
        return np.asarray(total / max(float(total.sum()), 1e-12), np.float64)

    @property
    def peak(self) -> int:
        """Position in the clip of the frame with the most evidence."""
        return int(self.curve.argmax())

    @property
    def strength(self) -> NDArray[np.float32]:
        """What is shown: 0..1, shape (T, h, w), float32; see `strengths`."""
        return strengths(self.maps, self.clip.score)

    def facts(self) -> dict[str, Any]:
        """Describe the moment for a report."""
        peak = self.peak
        return {
            "model": self.clip.scorer,
            "track": self.clip.track,
            "person": self.clip.person,
            "score": round(self.clip.score, 6),
            "frame": int(self.clip.frame_index[peak]),
            "time_s": round(float(self.clip.time_s[peak]), 3),
            "frame_range": [int(self.clip.frame_index.min()), int(self.clip.frame_index.max())],
            "curve": [round(float(share), 4) for share in self.curve],
        }


class ClipKeeper:
    """Keeps a few clips of each scorer while a video is scored: the highest of each part of it.

    The number of clips in memory does not grow with the video.
    """

    def __init__(self) -> None:
        self._best: dict[tuple[str, str, int], KeptClip] = {}
        self._part = 0.0

    def watch(
        self, seen: SeenVideo, spec: ClipSpec, batch: ClipBatch, score: NDArray[np.float64]
    ) -> None:
        """Look at a batch that was scored.

        Args:
            seen: The video.
            spec: Of the scorer.
            batch: Its clips.
            score: Of the clips, 0..1, shape (B,), float64.
        """
        self._part = seen.num_frames / _PARTS
        for row, value in enumerate(score.tolist()):
            track = seen.tracks[batch.tracks[row]]
            first = int(track.faces.frame_index[np.min(batch.places[row].positions)])
            keys = [(spec.name, "part", min(int(first / self._part), _PARTS - 1))]
            if track.person < _PEOPLE:
                keys.append((spec.name, "person", track.person))
            better = [k for k in keys if k not in self._best or self._best[k].score < value]
            if better:
                self._best |= dict.fromkeys(better, _keep(seen, spec, batch, row, value))

    def clips(self, scorer: str) -> list[KeptClip]:
        """Give the clips of a scorer that are worth a look.

        Args:
            scorer: Its name.

        Returns:
            In order of time; those that lie close to a better one of the same person left out.
        """
        found = [clip for (name, _, _), clip in self._best.items() if name == scorer]
        chosen: list[KeptClip] = []
        for clip in sorted(found, key=lambda clip: -clip.score):
            if all(self._apart(clip, other) for other in chosen):
                chosen.append(clip)
        return sorted(chosen, key=lambda clip: int(clip.frame_index[0]))

    def _apart(self, one: KeptClip, other: KeptClip) -> bool:
        gap = abs(int(one.frame_index.min()) - int(other.frame_index.min()))
        return one.person != other.person or gap >= max(1.0, _LEAST_APART * self._part)


def explain_moments(
    keeper: ClipKeeper, scorers: Sequence[ExplainingScorer], tell: Tell = lambda *_: None
) -> dict[str, list[Moment]]:
    """Map the kept clips.

    Args:
        keeper: What watched the video being scored.
        scorers: Who scored it.
        tell: Called with what is being done, how much of it is done, and of how much.

    Returns:
        Moments of each scorer in order of time, by its name.
    """
    kept = {scorer.spec.name: keeper.clips(scorer.spec.name) for scorer in scorers}
    total = sum(map(len, kept.values()))
    moments: dict[str, list[Moment]] = {name: [] for name in kept}
    for scorer in scorers:
        done = moments[scorer.spec.name]
        for clip in kept[scorer.spec.name]:
            done.append(Moment(clip, scorer.explain_clips(clip.pictures[None])[0]))
            tell("mapping evidence", sum(map(len, moments.values())), total)
    return moments


def _keep(seen: SeenVideo, spec: ClipSpec, batch: ClipBatch, row: int, score: float) -> KeptClip:
    track = seen.tracks[batch.tracks[row]]
    rows = np.asarray(batch.places[row].positions)
    frames = track.faces.frame_index[rows]
    size = (seen.info.height, seen.info.width)
    return KeptClip(
        scorer=spec.name,
        track=track.track,
        person=track.person + 1,  # as reports count them
        score=score,
        frame_index=frames,
        time_s=seen.times_s[frames],
        matrices=frame_matrices(spec.alignment, track.faces, rows, size, spec.image_size),
        pictures=batch.clips[row].copy(),
    )
