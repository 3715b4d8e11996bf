"""The ledger of a run: what a row holds, how rows are made, written and read.

A ledger is one Parquet file for one checkpoint on one set. It has one row for every clip, and one
for every video that has none; all figures of an evaluation are computed from such files alone.
Imports no torch, so that reports need none.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from callbacks.provenance import whole_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from callbacks.provenance import Provenance
    from datamodules.schema import ClipRef, VideoRecord

#: Raised by one whenever a column is added, dropped or means something else.
SCHEMA_VERSION = 3
#: Where a file says which version it is.
VERSION_KEY = "forgery_ledger"


class LedgerError(Exception):
    """A ledger that is not there, not one, or does not serve; one line that names the remedy."""


class Column(NamedTuple):
    """A column of the ledger.

    Attributes:
        dtype: Its type.
        meaning: What it holds. A text that is not known is empty, a number that is not is null.
    """

    dtype: pl.DataType
    meaning: str


#: The columns, in their order. Rows ascend by the video's place in the manifest, then by clip.
COLUMNS: dict[str, Column] = {
    "stage": Column(pl.String(), "val, test or predict"),
    "set": Column(pl.String(), "name of the evaluated set"),
    "video_id": Column(pl.String(), "the video, unique in its manifest"),
    "label": Column(pl.Int8(), "0 real, 1 fake"),
    "dataset": Column(pl.String(), "data set of the video"),
    "method": Column(pl.String(), "how it was forged; empty for a real video"),
    "compression": Column(pl.String(), "compression level"),
    "split": Column(pl.String(), "part of the experiment: train, val or test"),
    "perturbation": Column(pl.String(), "what was done to the videos; clean for nothing"),
    "level": Column(pl.Int32(), "how much of it, 1 to 5; 0 where there are no levels"),
    "faces": Column(pl.String(), "found in `own` videos as scored, or in the `clean` ones"),
    "group": Column(pl.String(), "its first identity or source: videos of one are no independent"),
    "identities": Column(
        pl.List(pl.String()), "all of them: of a fake also the person whose face it took"
    ),
    "paired_real": Column(pl.String(), "video_id of the real video of the same footage"),
    "sha256": Column(pl.String(), "of the source file, as the manifest has it"),
    "status": Column(pl.String(), "ok, not_finite, no_clip, no_face, short or unreadable"),
    "track": Column(pl.Int32(), "which face of the video"),
    "clip_index": Column(pl.Int32(), "which clip of the video; null in the row of an unscored one"),
    "first_frame": Column(pl.Int32(), "first source frame of the clip, from its start time"),
    "last_frame": Column(pl.Int32(), "last source frame of the clip, from its end time"),
    "start_s": Column(pl.Float64(), "start of the clip in seconds"),
    "end_s": Column(pl.Float64(), "end of the clip in seconds"),
    "logit": Column(pl.Float64(), "log-odds of fake"),
    "score": Column(pl.Float64(), "probability of fake; null where there is none, never 0 or 0.5"),
    "frame_logit": Column(
        pl.List(pl.Float32()), "log-odds of the clip's frames, where the method scores frames"
    ),
    "pooling": Column(pl.String(), "the method's rule from clips to a video: mean, max or top_<k>"),
    "experiment": Column(pl.String(), "name of the experiment, as in W&B's group"),
    "seed": Column(pl.Int64(), "seed of the run"),
    "run": Column(pl.String(), "run folder of the checkpoint"),
    "checkpoint": Column(pl.String(), "digest of the checkpoint"),
    "config": Column(pl.String(), "digest of the run's configuration"),
    "recipe": Column(pl.String(), "the same without seeds and places; empty if not known"),
    "code": Column(pl.String(), "commit of the code"),
    "manifest": Column(pl.String(), "digest of the manifest of the evaluated videos"),
}
SCHEMA = pl.Schema({name: column.dtype for name, column in COLUMNS.items()})
#: The columns of a condition, and their values in an ordinary evaluation. Files of version 1 know
#: no conditions, and are read with these.
ORDINARY: dict[str, str | int] = {"perturbation": "clean", "level": 0, "faces": "own"}
#: What tells one evaluation from another.
EVALUATION_KEYS = ("experiment", "run", "checkpoint", "stage", "set", *ORDINARY)


class ClipScores(NamedTuple):
    """Scores of N different clips, ascending by key.

    Attributes:
        key: video_index and clip_index, shape (N, 2), int64.
        label: 0 real, 1 fake, shape (N,), int64.
        logit: Log-odds of fake, shape (N,), float64.
        frame_logit: The same of their frames, shape (N, T), float64; T is 0 where clips are scored
            as wholes.
    """

    key: NDArray[np.int64]
    label: NDArray[np.int64]
    logit: NDArray[np.float64]
    frame_logit: NDArray[np.float64]


class Names(NamedTuple):
    """What the keys of scores stand for.

    Attributes:
        records: The manifest, in the order of video_index; empty if not known.
        clips: Where clips lie; empty if not known.
        unscored: Videos that have no clip, each with its status.
    """

    records: Sequence[VideoRecord]
    clips: Sequence[ClipRef]
    unscored: Sequence[VideoRecord]


def ledger_frame(
    scores: ClipScores, names: Names, source: Provenance, constants: Mapping[str, str | int]
) -> pl.DataFrame:
    """Make the rows of a ledger.

    Args:
        scores: Of all clips.
        names: What their keys stand for.
        source: What made the scores.
        constants: Values of the columns that all rows share: stage, set, pooling, manifest, and
            those of `ORDINARY` where they are others.

    Returns:
        A table of `SCHEMA`.
    """
    position = {record.video_id: index for index, record in enumerate(names.records)}
    unscored = {
        position.get(record.video_id, len(position) + index): record
        for index, record in enumerate(names.unscored)
    }
    seen = np.unique(scores.key[:, 0]).tolist()
    records = dict(enumerate(names.records)) | unscored
    videos = _video_frame({index: records.get(index) for index in {*seen, *unscored}})
    lost = [index for index in unscored if index not in set(seen)]
    rows = pl.concat(
        [_clip_frame(scores, names.clips), _unscored_frame(lost, unscored)], how="diagonal"
    ).join(videos, on="video_index", how="left")
    # Clip times are frame positions over the rate, so that the positions come back exactly.
    rate = pl.when(pl.col("fps") > 0).then(pl.col("fps"))
    shared = {**ORDINARY, **asdict(source), **constants}
    rows = rows.with_columns(
        label=pl.coalesce("clip_label", "label"),
        first_frame=(pl.col("start_s") * rate).round(),
        last_frame=(pl.col("end_s") * rate).round() - 1,
        **{name: pl.lit(value) for name, value in shared.items()},
    )
    ordered = rows.sort("video_index", "clip_index", nulls_last=True)
    return ordered.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def write_ledger(path: Path, frame: pl.DataFrame) -> None:
    """Write a ledger and, for eyes, the same rows as CSV beside it; each wholly or not at all.

    Args:
        path: The Parquet file; the CSV takes its name with another ending, and leaves the scores of
            frames out.
        frame: A table of `SCHEMA`.

    Raises:
        OSError: If the disk refuses it.
    """
    with whole_file(path) as part:
        frame.write_parquet(part, metadata={VERSION_KEY: str(SCHEMA_VERSION)})
    with whole_file(path.with_suffix(".csv")) as part:
        rows = frame.drop("frame_logit").with_columns(pl.col("identities").list.join(" "))
        rows.write_csv(part)


def scan_ledger(path: Path) -> pl.LazyFrame:
    """Open a ledger without reading its rows.

    Args:
        path: The Parquet file.

    Returns:
        Its rows, of `SCHEMA`.

    Raises:
        LedgerError: If there is no such file, it is damaged, or of a version that is not known.
    """
    if not path.is_file():
        raise LedgerError(f"{path}: there is no such ledger; a run writes scores/<set>.parquet")
    try:
        version = pl.read_parquet_metadata(path).get(VERSION_KEY)
        rows = pl.scan_parquet(path, glob=False)  # brackets in a path are letters
        found = rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LedgerError(f"{path}: no Parquet file, or a damaged one ({_line(error)})") from error
    if version is None:
        raise LedgerError(f"{path}: not a ledger of this suite; `make evaluate` writes one")
    if version not in map(str, range(1, SCHEMA_VERSION + 1)):
        raise LedgerError(
            f"{path}: a ledger of version {version}, this code reads versions 1 to "
            f"{SCHEMA_VERSION}; evaluate the run again"
        )
    added = _added_since(int(version))
    expected = {name: dtype for name, dtype in SCHEMA.items() if name not in added}
    wrong = next((name for name, dtype in expected.items() if found.get(name) != dtype), None)
    if wrong is not None:
        raise LedgerError(
            f"{path}: column {wrong} is {found.get(wrong, 'missing')}, not {SCHEMA[wrong]}; "
            "evaluate the run again"
        )
    return rows.with_columns(**added).select(list(SCHEMA)) if added else rows


def read_ledger(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read the rows of a ledger.

    Args:
        path: The Parquet file.
        columns: Which columns; None for all.

    Raises:
        LedgerError: As `scan_ledger`, and if its rows are damaged.
    """
    rows = scan_ledger(path)
    try:
        return (rows if columns is None else rows.select(columns)).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LedgerError(f"{path}: a damaged ledger ({_line(error)})") from error


def _added_since(version: int) -> dict[str, pl.Expr]:
    """Say what to read in place of the columns that a version did not have."""
    conditions = {name: pl.lit(value, SCHEMA[name]) for name, value in ORDINARY.items()}
    later = {"identities": pl.concat_list("group"), "recipe": pl.lit("")}
    return (conditions if version < 2 else {}) | (later if version < 3 else {})


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _clip_frame(scores: ClipScores, refs: Sequence[ClipRef]) -> pl.DataFrame:
    finite = np.isfinite(scores.logit)
    with np.errstate(over="ignore", invalid="ignore"):  # exp may be infinite: the score is then 0
        score = 1 / (1 + np.exp(-scores.logit))
    clips = pl.DataFrame(
        {
            "video_index": scores.key[:, 0],
            "clip_index": scores.key[:, 1],
            "clip_label": scores.label,
            "logit": scores.logit,
            "score": score,
            "finite": finite,
        }
    )
    clips = clips.with_columns(
        score=pl.when("finite").then("score"),
        status=pl.when("finite").then(pl.lit("ok")).otherwise(pl.lit("not_finite")),
    ).drop("finite")
    if scores.frame_logit.shape[1]:
        frames = pl.Series("frame_logit", scores.frame_logit.astype(np.float32))
        clips = clips.with_columns(frames.arr.to_list())
    else:
        clips = clips.with_columns(frame_logit=pl.lit(None, SCHEMA["frame_logit"]))
    names = ("video_index", "clip_index", "track_index", "start_s", "end_s")
    places = pl.DataFrame(
        [tuple(getattr(ref, name) for name in names) for ref in refs],
        schema={
            **dict.fromkeys(names[:2], pl.Int64),
            **{"track": pl.Int64, "start_s": pl.Float64, "end_s": pl.Float64},
        },
        orient="row",
    )
    return clips.join(places, on=["video_index", "clip_index"], how="left")


def _unscored_frame(indices: Sequence[int], records: Mapping[int, VideoRecord]) -> pl.DataFrame:
    status = [records[index].status for index in indices]
    return pl.DataFrame(
        {
            "video_index": indices,
            "status": ["no_clip" if word == "ok" else word for word in status],
        },
        schema={"video_index": pl.Int64, "status": pl.String},
    )


def _video_frame(records: Mapping[int, VideoRecord | None]) -> pl.DataFrame:
    names = ("video_id", "label", "dataset", "method", "compression", "split")
    more = ("paired_real", "sha256", "fps")
    columns: dict[str, list[object]] = {"video_index": list(records)}
    for name in (*names, *more):
        empty = 0.0 if name == "fps" else ""
        columns[name] = [getattr(record, name, None) or empty for record in records.values()]
    columns["video_id"] = [r.video_id if r else f"#{index}" for index, r in records.items()]
    columns["label"] = [record.label if record else None for record in records.values()]
    columns["identities"] = [
        list(record.identities) if record else [f"#{index}"] for index, record in records.items()
    ]
    text = dict.fromkeys((*names, *more), pl.String())
    numbers = {"video_index": pl.Int64(), "label": pl.Int64(), "fps": pl.Float64()}
    lists = {"identities": SCHEMA["identities"]}
    frame = pl.DataFrame(columns, schema_overrides={**text, **numbers, **lists})
    return frame.with_columns(group=pl.col("identities").list.first())
