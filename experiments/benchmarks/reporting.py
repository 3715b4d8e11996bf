"""Time and memory of a report over a generated ledger of millions of clips."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from callbacks.ledger import ORDINARY, SCHEMA, SCHEMA_VERSION, VERSION_KEY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

#: Names of four forgery methods; every fifth video is real.
_METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
#: Videos of one identity.
_OF_ONE = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark.

    Args:
        parser: Of the command line.
    """
    parser.add_argument("--rows", type=int, default=10_000_000, help="clips (10 million)")
    parser.add_argument("--clips", type=int, default=10, help="clips of a video (10)")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure, in a process of its own.

    Args:
        options: As added.

    Yields:
        Lines for the screen.
    """
    with TemporaryDirectory(prefix="report-") as folder:
        path = Path(folder) / "ledger.parquet"
        write_generated(path, options.rows, options.clips)
        size = path.stat().st_size / 2**20
        yield f"ledger: {options.rows:,} clips of {options.rows // options.clips:,} videos"
        yield f"file:   {size:.0f} MiB"
        command = [sys.executable, "-m", "experiments.report", str(path), "--out", folder]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        elapsed = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield done.stdout.rstrip()
    yield f"time:   {elapsed:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of CPU)"
    yield f"memory: {used.ru_maxrss / 2**20:.2f} GiB at most"


def write_generated(path: Path, num_rows: int, num_clips: int) -> None:
    """Write a ledger of normal scores; fakes lie one standard deviation above reals.

    Args:
        path: The Parquet file.
        num_rows: Clips.
        num_clips: Clips of a video.
    """
    generator = np.random.default_rng(0)
    row = pl.LazyFrame({"row": np.arange(num_rows), "noise": generator.normal(size=num_rows)})
    video = pl.col("row") // num_clips
    fake = video % (len(_METHODS) + 1) != 0
    method = pl.lit(pl.Series(["", *_METHODS])).gather(video % (len(_METHODS) + 1))
    group = video // _OF_ONE
    name = pl.format("ffpp/c23/{}/{}", pl.col("method"), video)
    logit = pl.col("noise") + fake.cast(pl.Float64)
    rows = row.with_columns(method=method).with_columns(
        video_id=name,
        label=fake,
        group=pl.format("person {}", group),
        identities=pl.concat_list(pl.format("person {}", group)),
        paired_real=pl.when(fake)
        .then(pl.format("ffpp/c23//{}", video // 5 * 5))
        .otherwise(pl.lit("")),
        sha256=pl.format("{}{}", video.hash(1).cast(pl.String), video.hash(2).cast(pl.String)),
        status=pl.lit("ok"),
        track=pl.lit(0),
        clip_index=pl.col("row") % num_clips,
        first_frame=pl.col("row") % num_clips * 32,
        last_frame=pl.col("row") % num_clips * 32 + 31,
        start_s=pl.col("row") % num_clips * 1.28,
        end_s=pl.col("row") % num_clips * 1.28 + 1.28,
        logit=logit,
        score=1 / (1 + (-logit).exp()),
        frame_logit=pl.lit(None),
        seed=pl.lit(1),
        pooling=pl.lit("mean"),
        **{name: pl.lit(value) for name, value in (_CONSTANTS | ORDINARY).items()},
    )
    typed = rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
    typed.sink_parquet(path, metadata={VERSION_KEY: str(SCHEMA_VERSION)})


_CONSTANTS = {
    "stage": "test",
    "set": "generated",
    "dataset": "ffpp",
    "compression": "c23",
    "split": "test",
    "experiment": "generated",
    "run": "generated",
    "checkpoint": "0",
    "config": "0",
    "recipe": "0",
    "code": "0",
    "manifest": "0",
}
