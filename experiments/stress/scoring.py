"""Score a store with a run's checkpoint by the ordinary test, once: the ledger stays."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from callbacks.ledger import SCHEMA, SCHEMA_VERSION, read_ledger, write_ledger
from callbacks.provenance import digest
from datamodules.atomic import write_text_atomically
from datamodules.store.prepared import CHECKSUMS_NAME, MANIFEST_NAME, PreparedStore
from experiments.errors import UsageError
from experiments.run_folder import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Columns of a ledger that are empty for a video without a clip.
_OF_A_CLIP = (
    *("track", "clip_index", "first_frame", "last_frame", "start_s", "end_s"),
    *("logit", "score", "frame_logit"),
)
#: What a ledger was made of, beside it.
_MADE_OF = "scored.json"


def checkpoint_of(run: Path) -> Path:
    """Name the checkpoint that a test takes.

    Args:
        run: The run folder.

    Raises:
        UsageError: If there is none.
    """
    path = run / "checkpoints" / "best.ckpt"
    if not path.is_file():
        raise UsageError(f"{run} has no checkpoint checkpoints/best.ckpt; give a trained run")
    return path


def result_folder(run: Path, out: Path) -> Path:
    """Name the folder of a run's results: runs of one name, and checkpoints, stay apart.

    Args:
        run: The run folder.
        out: Folder of the sweep.
    """
    return out / "scores" / f"{run.resolve().name}-{digest(checkpoint_of(run))[:8]}"


@dataclass(frozen=True)
class Scoring:
    """What is scored, and how.

    Attributes:
        run: The run folder.
        store: The prepared store.
        folder: Where the test writes.
        words: Further arguments of `experiments.run test`.
        condition: What was done to the videos, as JSON values.
    """

    run: Path
    store: Path
    folder: Path
    words: Sequence[str]
    condition: Mapping[str, object]

    @property
    def ledger(self) -> Path:
        """The Parquet file that the test leaves."""
        return self.folder / "scores" / "test.parquet"

    def made_of(self) -> dict[str, object]:
        """Give what the ledger depends on, but for the store, as JSON values."""
        checkpoint = digest(checkpoint_of(self.run))
        known: dict[str, object] = {"checkpoint": checkpoint, "arguments": list(self.words)}
        # One of an older version may lack what is told of its condition.
        known["ledger_version"] = SCHEMA_VERSION
        return dict(json.loads(json.dumps({**known, "condition": self.condition})))


def score_store(scoring: Scoring, clean: Path | None = None) -> Path:
    """Test a run's best checkpoint on a store, unless that was done.

    Args:
        scoring: What and how.
        clean: Ledger of the unchanged videos. A store of which no face is left is no mistake then:
            its ledger has all videos without a score.

    Returns:
        The ledger, `folder/scores/test.parquet`.

    Raises:
        UsageError: If the test refuses; its own words.
    """
    wanted = scoring.made_of() | {"store": _name_of(scoring.store)}
    if scoring.ledger.is_file() and _known(scoring.folder) == wanted:
        return scoring.ledger
    shutil.rmtree(scoring.folder, ignore_errors=True)
    store = PreparedStore(scoring.store)
    if clean is None or any(record.status == "ok" for record in store.records):
        _test(scoring)
    else:
        _write_unscored(scoring.ledger, clean, store)
    text = json.dumps(wanted, indent=1, sort_keys=True)
    write_text_atomically(scoring.folder / _MADE_OF, text + "\n")
    return scoring.ledger


def is_scored(scoring: Scoring) -> bool:
    """Tell whether the ledger is there, whatever became of its store.

    Args:
        scoring: What and how.
    """
    known = _known(scoring.folder)
    known.pop("store", None)
    return scoring.ledger.is_file() and known == scoring.made_of()


def _test(scoring: Scoring) -> None:
    # Imported late: it brings torch along.
    from experiments.run import main

    folder = scoring.folder
    folder.mkdir(parents=True)
    arguments = ["test", "--run", str(scoring.run), "--data", "folder"]
    arguments += ["--root", str(scoring.store), "--wandb", "off"]
    arguments += ["--trainer.enable_progress_bar=false", *scoring.words]
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = str(folder.resolve())
    said, wrong = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(wrong):
            code = main(arguments)
    finally:
        os.environ.pop(ENVIRONMENT)
        if before is not None:
            os.environ[ENVIRONMENT] = before
        folder.mkdir(exist_ok=True)  # a test that refuses leaves no empty folder
        (folder / "test.log").write_text(said.getvalue() + wrong.getvalue(), encoding="utf-8")
    if code:
        reasons = [x for x in wrong.getvalue().splitlines() if x.startswith("error: ")]
        reason = reasons[-1].removeprefix("error: ") if reasons else f"see {folder / 'test.log'}"
        raise UsageError(f"{scoring.store.name}: {reason}")


def _write_unscored(ledger: Path, clean: Path, store: PreparedStore) -> None:
    """Write the ledger of a store without any face, out of that of the clean videos."""
    rows = read_ledger(clean).unique("video_id", keep="first", maintain_order=True)
    statuses = {record.video_id: record.status for record in store.records}
    change = store.info.parameters["perturbation"]
    empty = {name: pl.lit(None, SCHEMA[name]) for name in _OF_A_CLIP}
    rows = rows.with_columns(
        **empty,
        status=pl.col("video_id").replace_strict(statuses, default="no_clip"),
        perturbation=pl.lit(change["name"]),
        level=pl.lit(change["level"], SCHEMA["level"]),
        faces=pl.lit(store.info.parameters["perturbation_faces"]),
        manifest=pl.lit(store.manifest_hash),
    )
    write_ledger(ledger, rows)


def _name_of(store: Path) -> str:
    """Name what is in a store: its videos, and the bytes of its tracks where it lists them."""
    content = hashlib.sha256()
    for name in (MANIFEST_NAME, CHECKSUMS_NAME):
        path = store / name
        content.update(path.read_bytes() if path.is_file() else b"-")
    return content.hexdigest()


def _known(folder: Path) -> dict[str, object]:
    try:
        return dict(json.loads((folder / _MADE_OF).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
