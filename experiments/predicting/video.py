"""Score a video: find its faces, cut the clips of each, and let every scorer score them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.clip_sampling import clip_times
from datamodules.errors import DataError
from experiments.errors import UsageError
from experiments.predicting.ahead import ahead
from experiments.predicting.cutting import ClipKind, cut_clips
from experiments.predicting.faces import find_people
from experiments.predicting.report import (
    DroppedFrames,
    FaceTimes,
    ModelReport,
    VideoFacts,
    VideoReport,
)
from experiments.predicting.scores import ClipScore, TrackScore
from experiments.predicting.windows import default_stride, plan_clips
from weights.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from experiments.predicting.cutting import ClipBatch
    from experiments.predicting.faces import SeenVideo
    from experiments.predicting.scorer import ClipScorer, ClipScores, ClipSpec
    from experiments.predicting.windows import ClipPlace

    Tell = Callable[[str, int, int], None]
    Watch = Callable[[SeenVideo, ClipSpec, ClipBatch, NDArray[np.float64]], None]

#: What counts where a file does not tell its frame rate. [ours, as in the preparation]
_UNKNOWN_FPS = 25.0
#: Batches that wait for the networks at most. [ours]
_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class ScoringOptions:
    """How a video is scored.

    Attributes:
        backend: Face backend, as for `make data`.
        stride: Step between clips in frames; 1 is the official way (FTCN, released inference
            code), None as `default_stride` says.
        batch: Clips scored at once; None takes what the scorer likes.
    """

    backend: str = "mesh"
    stride: int | None = None
    batch: int | None = None

    def stride_of(self, spec: ClipSpec) -> int | None:
        """Give the stride that a scorer's clips have; None where they are spread over a track.

        Raises:
            UsageError: If a stride is asked for that the clips have not.
        """
        if spec.spread is None:
            return self.stride or default_stride(spec)
        if self.stride is not None:
            raise UsageError(
                f"--stride: {spec.name} was trained on clips of {spec.spread.count} frames spread "
                "over a track, and a video is scored by such clips; drop --stride"
            )
        return None

    def kind_of(self, spec: ClipSpec) -> ClipKind:
        """Tell which clips a scorer takes."""
        spread = None if spec.spread is None else spec.spread.count
        stride = self.stride_of(spec)
        return ClipKind(spec.num_frames, spec.image_size, spec.alignment, stride, spread)

    def settings_of(self, spec: ClipSpec) -> dict[str, Any]:
        """Tell by name how a scorer's scores come about, and by what they are judged."""
        kind, point = self.kind_of(spec), spec.operating_point
        return {
            "stride": kind.stride,
            "kept_frames": None if kind.spread is None else f"spread:{kind.spread}",
            "batch": self.batch or spec.batch,
            "device": spec.facts.device,
            "precision": spec.facts.precision,
            "alignment": spec.alignment,
            "frame_rule": spec.frame_rule,
            "video_rule": str(spec.video_rule),
            "operating_point": None if point is None else point.fingerprint,
        }


def score_video(
    video: Path,
    scorers: Sequence[ClipScorer],
    options: ScoringOptions | None = None,
    tell: Tell = lambda *_: None,
    watch: Watch = lambda *_: None,
) -> VideoReport:
    """Find the faces of a video and score each on its own.

    The video is decoded twice, once to find the faces and once to cut their clips; nothing is
    written, and memory does not grow with its length but for a few numbers a frame. Scorers that
    take the same clips share them, and all share decoding and faces.

    Args:
        video: The file.
        scorers: What scores, at least one; their names differ.
        options: How to score.
        tell: Called with what is being done, how much of it is done, and of how much, 0 where
            that is not known. What it raises ends the work.
        watch: Called with the video, the scorer's facts, each batch of clips and their scores,
            0..1, shape (B,), before the clips are forgotten.

    Returns:
        The scores.

    Raises:
        DataError: If the video cannot be read, or the backend lacks a package or file.
        UsageError: If the options do not suit a scorer.
        WeightsError: If weights of the face backend are missing, or a network has diverged.
    """
    options = options or ScoringOptions()
    kinds = {scorer.spec.name: options.kind_of(scorer.spec) for scorer in scorers}
    try:
        with_68 = any(kind.alignment == "bench" for kind in kinds.values())
        seen = find_people(video, options.backend, with_68, tell)
    except DataError as error:
        reason = str(error).removeprefix(f"{video}: ")
        raise DataError(f"{video} cannot be scored: {reason}") from error
    tallies = _score(seen, scorers, kinds, options, tell, watch)
    models = tuple(
        ModelReport(
            spec=scorer.spec,
            settings=options.settings_of(scorer.spec),
            tracks=tuple(tally.result() for tally in tallies[scorer.spec.name]),
        )
        for scorer in scorers
    )
    return _report(seen, models)


def _report(seen: SeenVideo, models: tuple[ModelReport, ...]) -> VideoReport:
    dropped = (DroppedFrames(r["first_frame"], r["last_frame"], r["reason"]) for r in seen.dropped)
    finder = {"backend": seen.backend, "backend_version": seen.backend_version}
    return VideoReport(
        video=_facts(seen),
        times_s=seen.times_s,
        settings=seen.parameters | finder,
        reason=seen.reason,
        faces=tuple(
            FaceTimes(
                track.track,
                track.person + 1,
                track.rank,
                track.faces.frame_index,
                seen.times_s[track.faces.frame_index],
                track.faces.box,
            )
            for track in seen.tracks
        ),
        models=models,
        dropped=tuple(dropped),
    )


def _score(
    seen: SeenVideo,
    scorers: Sequence[ClipScorer],
    kinds: dict[str, ClipKind],
    options: ScoringOptions,
    tell: Tell,
    watch: Watch,
) -> dict[str, list[_Tally]]:
    """Run the second pass: one thread decodes, one cuts clips, this one waits for networks."""
    specs = [scorer.spec for scorer in scorers]
    examples = {kinds[spec.name]: spec for spec in specs}
    plans = [
        {
            kind: plan_clips(spec, track.faces.frame_index, kind.stride or 1)
            for kind, spec in examples.items()
        }
        for track in seen.tracks
    ]
    batch = {
        kind: options.batch or min(s.batch for s in specs if kinds[s.name] == kind)
        for kind in examples
    }
    tallies = {
        spec.name: [_Tally(seen, number, spec) for number in range(len(seen.tracks))]
        for spec in specs
    }
    if not seen.tracks:
        return tallies
    with (
        closing(seen.frames()) as decoded,
        ahead(decoded, 2 * _BATCHES_AHEAD) as frames,
        ahead(cut_clips(frames, seen.tracks, plans, batch), _BATCHES_AHEAD) as batches,
    ):
        for clips in batches:
            for scorer in scorers:
                if kinds[scorer.spec.name] == clips.kind:
                    prob = _add(tallies[scorer.spec.name], clips, scorer)
                    watch(seen, scorer.spec, clips, prob)
            tell("scoring faces", clips.frame + 1, seen.num_frames)
    return tallies


def _add(tallies: Sequence[_Tally], batch: ClipBatch, scorer: ClipScorer) -> NDArray[np.float64]:
    """Score a batch; return the scores of its clips, 0..1."""
    scores = scorer.score_clips(batch.clips)
    _check_finite(scores, scorer.spec)
    of_clips = _sigmoid(scores.clip)
    of_frames = of_clips[:, None] if scores.frame is None else _sigmoid(scores.frame)
    for track, place, clip, frame in zip(
        batch.tracks, batch.places, of_clips, of_frames, strict=True
    ):
        tallies[track].add(place, float(clip), frame)
    return of_clips


def _check_finite(scores: ClipScores, spec: ClipSpec) -> None:
    frame = scores.clip if scores.frame is None else scores.frame
    if not (np.isfinite(scores.clip).all() and np.isfinite(frame).all()):
        raise WeightsError(
            f"{spec.facts.source} ({spec.facts.checkpoint}): the network's scores are not finite "
            "numbers; its training has diverged, choose another one"
        )


class _Tally:
    """Collects the scores of a track by one scorer."""

    def __init__(self, seen: SeenVideo, number: int, spec: ClipSpec) -> None:
        self._seen = seen
        self._track = seen.tracks[number]
        self._spec = spec
        self._clips: list[ClipScore] = []
        self._total = np.zeros(len(self._track.faces))
        self._count = np.zeros(len(self._track.faces), np.int64)

    def add(self, place: ClipPlace, clip: float, frame: NDArray[np.float64]) -> None:
        """Note the score of a clip, and those of its frames, (T,), or the one for all, (1,)."""
        rows = np.asarray(place.positions)
        frames = self._track.faces.frame_index[rows]
        fps = self._seen.info.fps or _UNKNOWN_FPS
        start_s, end_s = clip_times(frames, fps, self._seen.times_s)
        span = (int(frames.min()), int(frames.max()), start_s, end_s)
        self._clips.append(ClipScore(*span, clip, place.weight))
        # A clip that shows a frame twice, as mirrored ones do, counts twice (official code).
        np.add.at(self._total, rows, np.broadcast_to(frame, rows.shape))
        np.add.at(self._count, rows, 1)

    def result(self) -> TrackScore:
        """Average."""
        score = np.full(len(self._total), np.nan)
        np.divide(self._total, self._count, out=score, where=self._count > 0)
        index = self._track.faces.frame_index
        return TrackScore(
            track=self._track.track,
            clips=tuple(self._clips),
            frame_index=index,
            time_s=self._seen.times_s[index],
            frame_score=score,
            rule=self._spec.video_rule,
        )


def _sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take log-odds to probabilities without overflow."""
    small = np.exp(-np.abs(log_odds))
    return np.asarray(np.where(log_odds < 0, small, 1.0) / (1 + small), np.float64)


def _facts(seen: SeenVideo) -> VideoFacts:
    info = seen.info
    fps = info.fps or _UNKNOWN_FPS
    return VideoFacts(
        name=seen.path.name,
        sha256=info.sha256,
        fps=info.fps,
        num_frames=seen.num_frames,
        duration_s=float(seen.times_s[-1]) + 1 / fps if len(seen.times_s) else 0.0,
        height=info.height,
        width=info.width,
        decoder=seen.decoder,
    )
