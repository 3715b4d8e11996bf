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
from datamodules.storage.output import lock_or_refuse
from experiments.errors import UsageError
from experiments.protocols.apart import USES, check_apart, seen_by
from experiments.run_folder import ENVIRONMENT, EVALUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from callbacks.seen import Seen
    from experiments.protocols.schema import Protocol, TestSet
    from experiments.protocols.stores import Found, Stores

    Test = Callable[[list[str]], int]

#: What a test under a protocol was made of, and whether it was checked to share no video with the
#: training, beside its scores.
DONE_NAME = "done.json"
UNCHECKED = "unchecked"


@dataclass(frozen=True)
class Job:
    """A run on a set.

    Attributes:
        run: The run folder.
        wanted: The set.
        found: Its videos; None for the run's own.
        overlap: `none`, or `unchecked` where nobody knows what the run was trained on.
    """

    run: Path
    wanted: TestSet
    found: Found | None
    overlap: str = "none"

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
        made, done = self.made_of(), _done_in(self.folder)
        return self.ledger.is_file() and {k: done.get(k) for k in made} == made


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
        UsageError: If a run lacks its checkpoint, a set holds what a run was trained on or chosen
            by, or nothing is left of what must be unseen.
        DataError: If a manifest is damaged.
    """
    made = Plan()
    seen = {run: seen_by(_checked(run)) for run in runs}
    for wanted in protocol.sets:
        found = None if wanted.own else stores.find(wanted)
        if found is None and not wanted.own:
            made.missing.append(wanted)
            continue
        for run in runs:
            reason = _left_out(wanted, seen[run]) if wanted.unseen else ""
            if reason:
                made.skipped.append(f"{run} on {wanted.name}: {reason}")
            else:
                made.jobs.append(_job(run, wanted, found, seen[run]))
    _refuse_all_seen(runs, made, seen)
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
        DataError: If another process is at it.
    """
    if job.is_done():
        _write_done(job)  # what could not be checked then may be checked now
        return False
    with lock_or_refuse(job.folder / "lock", str(job.folder)):
        # Another process may have done it between the two looks.
        if job.is_done():
            return False
        _test(job, extra, test)
    return True


def _test(job: Job, extra: Sequence[str], test: Test) -> None:
    (job.folder / DONE_NAME).unlink(missing_ok=True)
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
    _write_done(job)


def is_unchecked(ledger: Path) -> bool:
    """Tell whether nobody could check that a test shares no video with the training.

    Args:
        ledger: What the test wrote.
    """
    return _done_in(ledger.parents[1]).get("overlap") == UNCHECKED


def _done_in(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / DONE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write_done(job: Job) -> None:
    done = {**job.made_of(), "overlap": job.overlap}
    if _done_in(job.folder) == done:
        return  # what is done can be read where nothing can be written
    write_whole(job.folder / DONE_NAME, json.dumps(done, indent=1) + "\n")


def _job(run: Path, wanted: TestSet, found: Found | None, seen: Mapping[str, Seen] | None) -> Job:
    """Make a job of what is a test; the run's own test videos are apart by their split."""
    if found is None:
        return Job(run, wanted, found)
    if seen is None:
        return Job(run, wanted, found, UNCHECKED)
    check_apart(run, seen, wanted.name, found)
    return Job(run, wanted, found)


def _refuse_all_seen(
    runs: Sequence[Path], made: Plan, seen: Mapping[Path, Mapping[str, Seen] | None]
) -> None:
    """Refuse a run of which nothing is left because it saw all that it must not have seen."""
    for run in runs:
        lines = [line for line in made.skipped if line.startswith(f"{run} on ")]
        if not lines or any(job.run == run for job in made.jobs):
            continue
        if seen[run] is None:
            raise UsageError(f"{lines[0]}; train it anew, and it will be remembered")
        raise UsageError(
            f"{lines[0]}; leave the manipulation out when you train: python -m experiments.run fit "
            "... --data.init_args.exclude_methods='[<method>]'"
        )


def _checked(run: Path) -> Path:
    for name in (CONFIG_NAME, "checkpoints/best.ckpt"):
        if not (run / name).is_file():
            raise UsageError(f"{run} is no run that can be tested: it has no {name}")
    return run


def _left_out(wanted: TestSet, seen: Mapping[str, Seen] | None) -> str:
    """Say why a set that must be unseen is none for a run; empty if it is one."""
    if seen is None:
        return "its training videos cannot be read, so nobody knows what it saw"
    for split, use in USES.items():
        known = seen[split].methods & set(wanted.methods)
        if known:
            return f"it was {use} {', '.join(sorted(known))}"
    return ""


def _table(found: Found) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video_id", "split"])
    writer.writerows((video.video_id, "test") for video in found.videos)
    return text.getvalue()
