"""Ledgers to evaluations: videos with their pooled scores, and the clips behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from callbacks.ledger import (
    EVALUATION_KEYS,
    ORDINARY,
    LedgerError,
    read_ledger,
    scan_ledger,
)
from lightning_modules.dependence import shared_identities
from lightning_modules.pooling import Pooling, from_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lightning_modules.dependence import Shared

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

#: What tells evaluations apart: sets of one name may be of different videos.
_KEYS = (*EVALUATION_KEYS, "manifest")
#: Columns that hold one value in an evaluation, the keys first.
FACTS = (*EVALUATION_KEYS, "seed", "config", "recipe", "code", "manifest", "pooling")
#: Columns of a video.
VIDEO_COLUMNS = (
    *("video_id", "label", "dataset", "method", "compression", "split"),
    *("group", "identities", "paired_real", "sha256"),
)
#: Logits of one clip that differ by more are no copies of one score [ours]: evaluation in half
#: precision and on other hardware stays below.
_SAME_LOGIT = 1e-2


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint on one set: V videos, N clips of those that have a score.

    Attributes:
        facts: Values of `FACTS`.
        videos: V rows of `VIDEO_COLUMNS`, `status`, `num_clips`, and `score`: the probability of
            fake pooled by `facts["pooling"]`, null without one.
        clip_video: Row of each clip's video, ascending, shape (N,), int64.
        clip_logit: Log-odds of fake, shape (N,), float64.
        frame_logit: The same of clips' frames, shape (F,), float64; empty where clips are scored as
            wholes.
        frame_video: Row of each frame's video, shape (F,), int64.
    """

    facts: dict[str, Any]
    videos: pl.DataFrame
    clip_video: Ints
    clip_logit: Floats
    frame_logit: Floats
    frame_video: Ints

    @property
    def name(self) -> str:
        """Run and set, for tables and messages."""
        return f"{self.facts['run'] or 'no run'}: {self.set_name}"

    @property
    def is_ordinary(self) -> bool:
        """Whether nothing was done to the videos."""
        return all(self.facts[name] == value for name, value in ORDINARY.items())

    @property
    def condition(self) -> str:
        """What was done to the videos, in words; empty for nothing."""
        if self.is_ordinary:
            return ""
        facts = self.facts
        level = f" {facts['level']}" if facts["level"] else ""
        again = ", faces found again" * (facts["faces"] == ORDINARY["faces"])
        return f"{facts['perturbation']}{level}{again}"

    @property
    def set_name(self) -> str:
        """The set, and the condition of its videos if there is one."""
        return str(self.facts["set"]) + f" ({self.condition})" * bool(self.condition)

    @property
    def label(self) -> Ints:
        """Of the videos, shape (V,): 0 real, 1 fake."""
        return self.videos["label"].to_numpy().astype(np.int64)

    @property
    def score(self) -> Floats:
        """Of the videos, shape (V,); NaN without one."""
        return _floats(self.videos["score"])

    @property
    def group(self) -> Ints:
        """Number of each video's first identity, shape (V,)."""
        return self.videos["group"].rank("dense").to_numpy().astype(np.int64)

    @property
    def shared(self) -> Shared | None:
        """Whom the videos show; None where each shows one person."""
        return shared_by(self.videos["identities"])

    def select(self, wanted: Bools) -> Evaluation:
        """Keep some of the videos, and their clips.

        Args:
            wanted: Which, shape (V,), bool.
        """
        place = np.cumsum(wanted) - 1
        clips, frames = wanted[self.clip_video], wanted[self.frame_video]
        return replace(
            self,
            videos=self.videos.filter(pl.Series(wanted)),
            clip_video=place[self.clip_video[clips]],
            clip_logit=self.clip_logit[clips],
            frame_video=place[self.frame_video[frames]],
            frame_logit=self.frame_logit[frames],
        )

    def pooled(self, rule: Pooling) -> Evaluation:
        """Pool the videos by another rule than the method's own.

        Args:
            rule: From the probabilities of clips to that of a video.
        """
        score = _pooled(self.clip_video, self.clip_logit, self.videos.height, rule)
        facts = {**self.facts, "pooling": rule.key}
        return replace(self, facts=facts, videos=self.videos.with_columns(score=score))


def shared_by(identities: pl.Series) -> Shared | None:
    """Tell whom videos show; None where each shows one person.

    Args:
        identities: A list of each video.
    """
    # Millions of videos of one person each are not looked through in Python.
    several = identities.list.len().max() or 0
    return shared_identities(identities.to_list()) if several > 1 else None  # type: ignore[operator]


def read_evaluations(paths: Iterable[Path]) -> list[Evaluation]:
    """Read ledgers; copies and parts of one evaluation are merged, so that no clip counts twice.

    Args:
        paths: Parquet files.

    Returns:
        One evaluation for each checkpoint, set, condition and list of videos, in the order of their
        first appearance.

    Raises:
        LedgerError: If a file is none or damaged, if a video has no label, or one that is neither 0
            nor 1, or no group, if clips of one video carry both labels, or if files of one
            checkpoint and set contradict each other.
    """
    parts: dict[tuple[Any, ...], list[_Part]] = {}
    for path in dict.fromkeys(paths):
        empty = True
        for facts in _facts_of(path):
            key = tuple(facts[name] for name in _KEYS)
            parts.setdefault(key, []).append(_Part(path, facts))
            empty = False
        if empty:
            raise LedgerError(f"{path}: a ledger without a row; evaluate the run again")
    return [_evaluation(found) for found in parts.values()]


@dataclass(frozen=True)
class _Part:
    """The rows of one evaluation in one file."""

    path: Path
    facts: dict[str, Any]

    def column(self, name: str) -> pl.Series:
        """Read one column, so that no more than one is in memory as text."""
        if not self.facts["is_shared"]:
            return read_ledger(self.path, [name])[name]
        rows = read_ledger(self.path, list(dict.fromkeys([*_KEYS, name])))
        return rows.filter(*(pl.col(key) == self.facts[key] for key in _KEYS))[name]


def _floats(column: pl.Series) -> Floats:
    values: Floats = column.fill_null(float("nan")).to_numpy().astype(np.float64, copy=False)
    return values


def _facts_of(path: Path) -> list[dict[str, Any]]:
    try:
        rows = scan_ledger(path).group_by(_KEYS, maintain_order=True)
        others = [name for name in FACTS if name not in _KEYS]
        found = rows.agg(pl.col(others).first()).collect(engine="streaming").to_dicts()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LedgerError(f"{path}: a damaged ledger ({error})") from error
    return [{**facts, "is_shared": len(found) > 1} for facts in found]


def _column(parts: Sequence[_Part], name: str) -> pl.Series:
    return pl.concat([part.column(name) for part in parts])


def _evaluation(parts: Sequence[_Part]) -> Evaluation:
    video, clip = _keys(parts)
    logit = _floats(_column(parts, "logit"))
    rows = _fresh_rows(video, clip, logit, parts)
    video, clip, logit = video[rows], clip[rows], logit[rows]
    start = np.flatnonzero(np.diff(video, prepend=-1))
    number = np.cumsum(np.diff(video, prepend=-1) != 0) - 1
    label = _column(parts, "label").to_numpy()[rows]
    _check_labels(label, start, number, rows, parts)
    videos = pl.DataFrame([_column(parts, c).gather(rows[start]) for c in VIDEO_COLUMNS])
    if videos["group"].null_count() or videos["video_id"].null_count():
        raise LedgerError(f"{parts[0].path}: a video has no name or group; evaluate the run again")
    has_clip = clip[start] >= 0
    bad = np.bincount(number, weights=~np.isfinite(logit), minlength=len(start)) > 0
    scored = has_clip & ~bad
    status = _column(parts, "status").gather(rows[start]).to_frame()
    status = status.select(
        pl.when(pl.Series(scored)).then(pl.lit("ok"))
        .when(pl.Series(has_clip)).then(pl.lit("not_finite"))
        .otherwise("status").alias("status")
    )  # fmt: skip
    kept = scored[number]
    clip_video, clip_logit = number[kept], logit[kept]
    facts = {name: parts[0].facts[name] for name in FACTS}
    frames = _frames(parts, rows[kept], clip_video)
    return Evaluation(
        facts=facts,
        videos=videos.with_columns(
            status["status"],
            num_clips=pl.Series(np.where(has_clip, np.bincount(number), 0)),
            score=_pooled(clip_video, clip_logit, len(start), _rule(parts[0])),
        ),
        clip_video=clip_video,
        clip_logit=clip_logit,
        frame_logit=frames[0],
        frame_video=frames[1],
    )


def _keys(parts: Sequence[_Part]) -> tuple[Ints, Ints]:
    """Number the videos of all rows, and tell the clip, -1 where there is none."""
    name = _column(parts, "video_id")
    run = name.rle_id().to_numpy().astype(np.int64)
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    # Videos in one piece each, as they are written, need no search among millions of texts.
    known: dict[str, int] = {}
    number = [known.setdefault(text, len(known)) for text in name.gather(starts)]
    clip = _column(parts, "clip_index").fill_null(-1).to_numpy().astype(np.int64)
    return np.array(number, dtype=np.int64)[run], clip


def _fresh_rows(video: Ints, clip: Ints, logit: Floats, parts: Sequence[_Part]) -> Ints:
    """Return the rows to keep, ascending by video and clip, each clip once."""
    order = np.lexsort((clip, video))
    video, clip, logit = video[order], clip[order], logit[order]
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (video[1:] == video[:-1]) & (clip[1:] == clip[:-1])
    change = np.abs(np.diff(logit, prepend=np.nan))
    wrong = np.flatnonzero(same & (change > _SAME_LOGIT))
    if len(wrong):
        at = int(order[wrong[0]])
        files = ", ".join(str(part.path) for part in parts)
        raise LedgerError(
            f"{files}: two scores of clip {clip[wrong[0]]} of {_column(parts, 'video_id')[at]} "
            "by one checkpoint; give one of these files only"
        )
    # A video that has a clip in one part is not without one in another.
    has_clip = np.zeros(int(video.max(initial=-1)) + 1, dtype=bool)
    has_clip[video[clip >= 0]] = True
    return order[~same & ((clip >= 0) | ~has_clip[video])]


def _check_labels(
    label: NDArray[np.int8], start: Ints, number: Ints, rows: Ints, parts: Sequence[_Part]
) -> None:
    unknown = np.flatnonzero((label != 0) & (label != 1))
    if len(unknown):
        name = _column(parts, "video_id")[int(rows[unknown[0]])]
        raise LedgerError(
            f"{parts[0].path}: the label of {name} is neither 0 nor 1; evaluate the run again"
        )
    wrong = np.flatnonzero(label != label[start][number])
    if len(wrong):
        name = _column(parts, "video_id")[int(rows[wrong[0]])]
        raise LedgerError(f"{parts[0].path}: clips of {name} carry both labels; mend the manifest")


def _rule(part: _Part) -> Pooling:
    try:
        return from_key(part.facts["pooling"])
    except ValueError as error:
        raise LedgerError(f"{part.path}: {error}") from error


def _pooled(clip_video: Ints, clip_logit: Floats, num_videos: int, rule: Pooling) -> pl.Series:
    start = np.flatnonzero(np.diff(clip_video, prepend=-1))
    score = np.full(num_videos, np.nan)
    score[clip_video[start]] = rule.of_groups(sigmoid(clip_logit), start)
    return pl.Series("score", score, nan_to_null=True)


def sigmoid(logit: Floats) -> Floats:
    """Turn log-odds into probabilities.

    Args:
        logit: Any shape, float64.
    """
    with np.errstate(over="ignore"):  # exp(-logit) may be infinite: the probability is then 0
        return 1 / (1 + np.exp(-logit))


def _frames(parts: Sequence[_Part], rows: Ints, clip_video: Ints) -> tuple[Floats, Ints]:
    frames = _column(parts, "frame_logit")
    if frames.null_count() == len(frames):
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    frames = frames.gather(rows)
    count = frames.list.len().fill_null(0).to_numpy()
    flat = frames.filter(frames.list.len() > 0).explode()
    return flat.to_numpy().astype(np.float64), np.repeat(clip_video, count)
