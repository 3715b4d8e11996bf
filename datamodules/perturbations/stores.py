"""Prepared stores of perturbed videos, one for each perturbation, made out of a clean one.

Every finished video leaves a file in a ledger, named and checked by what it was made of, so that
a run that was stopped goes on where it was and a second one makes only what is missing.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from datamodules.datasets.naming import short_hash
from datamodules.errors import DataError
from datamodules.manifest import write_manifest
from datamodules.perturbations.searching import check_can_search
from datamodules.perturbations.tracks import PerturbTask, perturb_record
from datamodules.preprocess.engine import DiskFullError, Job, Ledger, open_engine, run_job, run_jobs
from datamodules.preprocess.prepare import cached_backend, options_in
from datamodules.preprocess.work import software
from datamodules.storage.output import LocalOutput
from datamodules.store.prepared import (
    MANIFEST_NAME,
    PreparedStore,
    write_checksums,
    write_prepared_info,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from datamodules.perturbations.table import Perturbation
    from datamodules.preprocess.engine import Engine, Outcome
    from datamodules.preprocess.prepare import PrepareOptions
    from datamodules.schema import Split, VideoRecord
    from datamodules.storage.root import DataRoot

#: Raised when the same video and parameters give other tracks than before.
PERTURB_VERSION = 1


@dataclass(frozen=True)
class PerturbedStores:
    """What is there after a run.

    Attributes:
        folders: The store of each perturbation, by its key.
        num_kept: Videos that an earlier run had done, over all perturbations.
        failures: Why a video failed, by `<key>/<video_id>`; the next run tries again. In the
            store it has the status `unreadable`.
    """

    folders: dict[str, Path]
    num_kept: int
    failures: dict[str, str]


def make_stores(
    raw: DataRoot,
    clean: Path,
    out: Path,
    perturbations: Sequence[Perturbation],
    *,
    split: Split = "test",
    seed: int = 0,
    search: bool = False,
    num_workers: int = 1,
    tell: Callable[[int, int], None] = lambda *_: None,
) -> PerturbedStores:
    """Make or complete the perturbed stores of a clean one.

    Args:
        raw: Root of the raw videos that `clean` was prepared from.
        clean: The prepared store of the unchanged videos.
        out: Folder of the perturbed ones, `out/<key>`.
        perturbations: Which to make.
        split: Whose videos are taken; a store holds no others.
        seed: Of all draws.
        search: Search the faces anew in the changed frames, instead of taking those of `clean`;
            also in videos that have none there.
        num_workers: Processes at once; 1 works in this one. Has no influence on the result.
        tell: Called with the number of videos done and of all, over all perturbations.

    Returns:
        Where they lie, and what went wrong.

    Raises:
        DataError: If the clean store has no video of the split, its faces are to be searched and
            come from files, another run is writing into `out`, or the disk is full.
    """
    store = PreparedStore(clean)
    records = [record for record in store.records if record.split == split]
    if not any(record.status == "ok" for record in records):
        raise DataError(f"{clean}: no video of the {split} split has a face that could be scored")
    settings = _Settings(raw, clean, options_in(store.info.parameters), seed, search)
    root = LocalOutput(out)
    work = _Work(root, Ledger(root), _jobs(store, out, perturbations, records, settings))
    try:
        with root.only_run():
            root.clean()
            failures = work.do(num_workers, tell)
            for perturbation in perturbations:
                found = {r.video_id: work.result(perturbation, r) for r in records}
                _describe(out / perturbation.key, store, perturbation, settings, found)
    except DiskFullError as error:
        raise DataError(f"the disk of {out} is full ({error}); make room and run again") from error
    return PerturbedStores({p.key: out / p.key for p in perturbations}, work.num_kept, failures)


@dataclass(frozen=True)
class _Settings:
    """What all videos of a run have in common, as `PerturbTask` has it."""

    raw: DataRoot
    clean: Path
    options: PrepareOptions
    seed: int
    search: bool

    def __post_init__(self) -> None:
        if self.search:
            check_can_search(self.options)

    def made_of(self) -> dict[str, Any]:
        """Name what tracks depend on."""
        known: dict[str, Any] = {"seed": self.seed, "software": software()}
        if self.search:
            version = cached_backend(self.options, self.raw.folder).version
            known |= {"search": self.options.parameters(), "backend_version": version}
        return known


class _Work:
    """The videos to perturb.

    Args:
        out: Folder of the stores.
        ledger: Of what is done.
        jobs: One for each perturbation and video that may have a face.

    Attributes:
        results: What `perturb_record` returned, by perturbation and video.
        num_kept: How many of them an earlier run had done.
    """

    def __init__(self, out: LocalOutput, ledger: Ledger, jobs: Sequence[Job]) -> None:
        self._out = out
        self._ledger = ledger
        self._jobs = jobs
        self.results: dict[tuple[str, str], dict[str, Any]] = {}
        self.num_kept = 0

    def do(self, num_workers: int, tell: Callable[[int, int], None]) -> dict[str, str]:
        """Make what is missing; returns why videos failed."""
        known = self._ledger.read_all(self._jobs)
        todo = []
        for job in self._jobs:
            result = known.get(job.key)
            if result is not None and self._is_whole(job, result):
                self.results[_place(job)] = result
            else:
                todo.append(job)
        self.num_kept = len(self.results)
        done = self.num_kept
        tell(done, len(self._jobs))
        # A store that is being changed must not open.
        stale = {job.task.perturbation.key for job in todo}
        self._out.remove(f"{key}/{MANIFEST_NAME}" for key in stale)
        failures = {}
        with _engine(num_workers if len(todo) > 1 else 1) as engine:
            for outcome in run_jobs(todo, perturb_record, self._ledger, engine):
                done += 1
                tell(done, len(self._jobs))
                if outcome.result is None:
                    failures["/".join(_place(outcome.job))] = outcome.failure
                else:
                    self.results[_place(outcome.job)] = outcome.result
        return failures

    def result(self, perturbation: Perturbation, record: VideoRecord) -> dict[str, Any] | None:
        """Give what became of a video; None where it failed or was not tried."""
        return self.results.get((perturbation.key, record.video_id))

    def _is_whole(self, job: Job, result: dict[str, Any]) -> bool:
        key = job.task.perturbation.key
        return all(
            self._out.size(f"{key}/{file['path']}") == file["num_bytes"] for file in result["files"]
        )


def _place(job: Job) -> tuple[str, str]:
    return job.task.perturbation.key, job.task.record.video_id


def _jobs(
    store: PreparedStore,
    out: Path,
    perturbations: Sequence[Perturbation],
    records: Sequence[VideoRecord],
    settings: _Settings,
) -> list[Job]:
    shared = settings.made_of()
    hashes = {r.video_id: [store.checksum(path) for path in r.tracks] for r in records}
    return [
        Job(
            short_hash(f"{perturbation.key} {record.video_id}"),
            PerturbTask(
                settings.raw,
                settings.clean,
                out / perturbation.key,
                record,
                settings.options,
                perturbation,
                settings.seed,
                settings.search,
            ),
            {
                "perturb_version": PERTURB_VERSION,
                "perturbation": perturbation.parameters(),
                "video_id": record.video_id,
                "sha256": record.sha256,
                "tracks": hashes[record.video_id],
                **shared,
            },
        )
        for perturbation in perturbations
        for record in records
        if _is_tried(record, settings.search)
    ]


def _is_tried(record: VideoRecord, search: bool) -> bool:
    """Tell whether a face may be found: where it was, or anywhere in what can be decoded."""
    return record.status == "ok" or (search and record.num_frames > 0)


def _describe(
    folder: Path,
    store: PreparedStore,
    perturbation: Perturbation,
    settings: _Settings,
    found: Mapping[str, dict[str, Any] | None],
) -> None:
    """Write the files that make a folder of tracks a store; the manifest, which opens it, last."""
    files = [file for result in found.values() if result for file in result["files"]]
    parameters = {"perturbation": perturbation.parameters(), "perturbation_seed": settings.seed}
    parameters["perturbation_faces"] = "own" if settings.search else "clean"
    info = replace(
        store.info, parameters={**store.info.parameters, **parameters}, counts=_counts(found)
    )
    write_checksums(folder, {file["path"]: file["sha256"] for file in files})
    write_prepared_info(folder, info)
    changed = (
        _changed(r, found[r.video_id]) if _is_tried(r, settings.search) else r
        for r in store.records
        if r.video_id in found
    )
    write_manifest(changed, folder / MANIFEST_NAME)


def _counts(found: Mapping[str, dict[str, Any] | None]) -> dict[str, int]:
    statuses: dict[str, int] = defaultdict(int)
    for result in found.values():
        statuses[result["status"] if result else "unscored"] += 1
    return {"videos": len(found), **{f"videos_{name}": n for name, n in sorted(statuses.items())}}


def _changed(record: VideoRecord, result: dict[str, Any] | None) -> VideoRecord:
    """Put what became of a video into its record."""
    if result is None:
        return replace(record, status="unreadable", tracks=())
    files = tuple(file["path"] for file in result["files"])
    measured = {name: result[name] for name in ("status", "num_frames", "fps", "height", "width")}
    return replace(record, tracks=files, **measured)


def _engine(num_workers: int) -> AbstractContextManager[Engine]:
    """Make workers; a single one is this process, which then need not be started again."""
    return open_engine("local", num_workers) if num_workers > 1 else nullcontext(_Here())


class _Here:
    """Runs jobs in this process."""

    def run(
        self, jobs: Sequence[Job], work: Callable[[Any], dict[str, Any]], ledger: Ledger
    ) -> Iterator[Outcome]:
        """Run every job once, as `Engine.run` says."""
        for job in jobs:
            outcome = run_job(job, work, ledger)
            if outcome.full:
                raise DiskFullError(outcome.failure)
            yield outcome
