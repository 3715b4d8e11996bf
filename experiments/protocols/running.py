"""Test runs on the sets of a protocol; what is done already is not done again."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from callbacks.provenance import CONFIG_NAME, digest, write_whole
from datamodules.manifest import manifest_hash
from experiments.errors import UsageError
from experiments.protocols.apart import check_apart, own_videos, trained_methods
from experiments.run_folder import ENVIRONMENT, EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from experiments.protocols.schema import Protocol, TestSet
    from experiments.protocols.stores import Found, Stores

    Test = Callable[[list[str]], int]

_DONE = "done.json"


@dataclass(frozen=True)
class Job:
    """A run on a set.

    Attributes:
        run: The run folder.
        wanted: The set.
        found: Its videos; None for the run's own.
    """

    run: Path
    wanted: TestSet
    found: Found | None

    @property
    def folder(self) -> Path:
        """Where the test writes."""
        return self.run / EVALUATIONS / self.wanted.name

    @property
    def ledger(self) -> Path:
        """What it writes."""
        return self.folder / "scores" / "test.parquet"

    def made_of(self) -> dict[str, str]:
        """Name what the scores depend on."""
        videos = manifest_hash(self.found.videos) if self.found else "own"
        return {
            "checkpoint": digest(self.run / "checkpoints" / "best.ckpt"),
            "config": digest(self.run / CONFIG_NAME),
            "videos": videos,
        }

    def is_done(self) -> bool:
        """Tell whether there is a ledger of the same checkpoint, configuration and videos."""
        try:
            done: Any = json.loads((self.folder / _DONE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return self.ledger.is_file() and done == self.made_of()


@dataclass
class Plan:
    """What a protocol asks of runs.

    Attributes:
        jobs: What can be tested.
        missing: Sets whose videos are nowhere.
        skipped: Lines on what a protocol leaves out by itself.
    """

    jobs: list[Job] = field(default_factory=list)
    missing: list[TestSet] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def plan(runs: Sequence[Path], protocol: Protocol, stores: Stores) -> Plan:
    """Find the videos of every set, and refuse what would be no test.

    Args:
        runs: Run folders.
        protocol: Which sets.
        stores: Where videos are.

    Raises:
        UsageError: If a run lacks its checkpoint, or a set holds what a run was trained on or
            chosen by.
        DataError: If a manifest is damaged.
    """
    made = Plan()
    own = {run: own_videos(_checked(run)) for run in runs}
    for wanted in protocol.sets:
        found = None if wanted.own else stores.find(wanted)
        if found is None and not wanted.own:
            made.missing.append(wanted)
            continue
        for run in runs:
            reason = _left_out(wanted, trained_methods(own[run])) if wanted.unseen else ""
            if reason:
                made.skipped.append(f"{run} on {wanted.name}: {reason}")
                continue
            if found is not None:
                check_apart(run, own[run], wanted.name, found)
            made.jobs.append(Job(run, wanted, found))
    return made


def execute(job: Job, extra: Sequence[str], test: Test) -> bool:
    """Test a run on a set, unless it is done.

    Args:
        job: The run and the set.
        extra: Further arguments of `experiments.run`.
        test: Runs a stage of `experiments.run`; returns its exit code.

    Returns:
        Whether anything was to do.

    Raises:
        UsageError: If the test fails.
    """
    if job.is_done():
        return False
    (job.folder / _DONE).unlink(missing_ok=True)
    words = ["test", "--run", str(job.run), f"--data.init_args.set_name={job.wanted.name}"]
    if job.found is not None:
        table = job.folder / "videos.csv"
        write_whole(table, _table(job.found))
        write_whole(job.folder / "store", f"{job.found.root.resolve()}\n")
        words += ["--data", "folder", "--root", str(job.found.root), "--split", str(table)]
    os.environ[ENVIRONMENT] = str(job.folder.resolve())
    try:
        code = test([*words, *extra])
    finally:
        os.environ.pop(ENVIRONMENT, None)
    if code or not job.ledger.is_file():
        raise UsageError(f"{job.run} on {job.wanted.name} stopped (exit code {code}); see above")
    write_whole(job.folder / _DONE, json.dumps(job.made_of(), indent=1) + "\n")
    return True


def _checked(run: Path) -> Path:
    for name in (CONFIG_NAME, "checkpoints/best.ckpt"):
        if not (run / name).is_file():
            raise UsageError(f"{run} is no run that can be tested: it has no {name}")
    return run


def _left_out(wanted: TestSet, trained: set[str]) -> str:
    """Say why a set that must be unseen is none for a run; empty if it is one."""
    if not trained:
        return "its training videos cannot be read, so nobody knows what it saw"
    seen = trained & set(wanted.methods)
    return f"it was trained on {', '.join(sorted(seen))}" if seen else ""


def _table(found: Found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video_id", "split"])
    writer.writerows((video.video_id, "test") for video in found.videos)
    return text.getvalue()
