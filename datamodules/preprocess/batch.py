"""Prepare a whole folder: what is missing is made, what is there and unchanged is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from datamodules.datasets.naming import short_hash
from datamodules.errors import DataError
from datamodules.faces.detect import PlacesPoints, face_backend
from datamodules.integrity.card import card_files, data_card
from datamodules.manifest import validate_manifest, write_manifest
from datamodules.preprocess.earlier import (
    LEDGER_NAME,
    check_dataset,
    check_store,
    is_gone,
    is_same,
    is_whole,
    listed_videos,
)
from datamodules.preprocess.engine import DiskFullError, Job, Ledger, open_engine, run_jobs
from datamodules.preprocess.prepare import PREPARE_VERSION, PrepareOptions, failed_result
from datamodules.preprocess.report import REPORT_NAME, count_results, write_report
from datamodules.preprocess.work import (
    LIBRARIES,
    GenuineVideo,
    RecordTask,
    input_sizes,
    prepare_record,
    software,
)
from datamodules.storage.output import open_output
from datamodules.store.prepared import (
    MANIFEST_NAME,
    PreparedInfo,
    write_checksums,
    write_prepared_info,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datamodules.datasets.records import SourceFolder
    from datamodules.preprocess.engine import Engine
    from datamodules.schema import VideoRecord
    from datamodules.storage.output import OutputRoot
    from datamodules.storage.root import DataRoot

_Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Preparation:
    """What a run left behind.

    Attributes:
        records: All videos of the manifest, sorted by `video_id`.
        num_kept: How many of them an earlier run had done.
        failures: Why a video failed that the next run will try again, by path.
        changed: Paths of videos that have other bytes than when they were prepared before.
        gone: Paths of videos that an earlier run prepared and that are no longer there; what was
            made of them is kept.
        unlisted: `video_id` of those that the manifest named before and names no longer.
    """

    records: list[VideoRecord]
    num_kept: int
    failures: dict[str, str]
    changed: list[str]
    gone: list[str]
    unlisted: list[str]


def prepare_folder(
    source: SourceFolder,
    out: str | Path,
    options: PrepareOptions,
    num_workers: int,
    tell: _Tell = lambda *_: None,
    engine: str = "local",
    address: str | None = None,
    redo: bool = False,
    verify: bool = False,
) -> Preparation:
    """Make a prepared store of a folder of videos.

    Args:
        source: The videos.
        out: The store, a folder or a URL; made if it is missing.
        options: How to prepare.
        num_workers: Processes at once on this machine; has no influence on the result.
        tell: Called with the number of videos done, of all videos, and the status of the last
            one done; an empty status stands for those that were done before.
        engine: Who does the work, `local` or `dask`; has no influence on the result either.
        address: Of a dask scheduler; None for processes of this machine.
        redo: Whether to go on in a store that was made with other options, by making it anew.
        verify: Whether to hash the tracks that are there, and to make those anew that differ.

    Returns:
        What is in the store now.

    Raises:
        DataError: If the store is another one's, the disk is full, or a machine or bucket that
            is needed cannot be reached.
        WeightsError: If weights of the face backend are missing.
    """
    root, version = check_plan(source.root, out, options, redo)
    check_dataset(root, source.dataset)
    try:
        # The engine first: a scheduler that does not answer must leave no folder behind.
        with open_engine(engine, num_workers, address) as workers, root.only_run():
            return _Run(source, root, options, version, verify).prepare(workers, tell)
    except DiskFullError as error:
        raise DataError(_disk_full(root, str(error))) from error
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}); nothing is left half-written"
        ) from error


def check_plan(
    raw: DataRoot, out: str | Path, options: PrepareOptions, redo: bool = False
) -> tuple[OutputRoot, str]:
    """Check what can be checked before the raw videos are listed, which may take long.

    Args:
        raw: The raw videos.
        out: The store, a folder or a URL.
        options: How to prepare.
        redo: Whether the store may have been made with other options.

    Returns:
        The store, and the version of the face backend.

    Raises:
        DataError: If the options do not fit together, or the place is not ours.
        WeightsError: If weights of the face backend are missing.
    """
    root = open_output(out)
    backend = face_backend(options.backend, **options.backend_options(raw.folder))
    if options.reuse_boxes and not isinstance(backend, PlacesPoints):
        raise DataError(
            f"the face backend {options.backend} detects nothing that could be spared; leave out "
            "--reuse-boxes (REUSE_BOXES=1)"
        )
    check_store(root, raw, options, backend.version, redo)
    return root, backend.version


class _Run:
    """One preparation of a store.

    Args:
        source: The videos.
        out: The store.
        options: How to prepare.
        backend_version: Of the face backend.
        verify: Whether to hash the tracks that are there.
    """

    def __init__(
        self,
        source: SourceFolder,
        out: OutputRoot,
        options: PrepareOptions,
        backend_version: str,
        verify: bool,
    ) -> None:
        self._source = source
        self._out = out
        self._ledger = Ledger(out, LEDGER_NAME)
        self._software = software()
        self._options = options
        self._backend_version = backend_version
        self._verify = verify
        self._results: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, str] = {}
        self._changed: list[str] = []
        self._gone: list[str] = []

    def prepare(self, engine: Engine, tell: _Tell) -> Preparation:
        """Prepare what is missing, then write what describes the whole."""
        self._out.clean()
        listed, num_kept = listed_videos(self._out), 0
        try:
            # Genuine videos first: their fakes may build on them.
            for label in (0, 1):
                jobs = [self._job(r) for r in self._source.records if r.label == label]
                done = len(self._results)
                self._keep(jobs)
                num_kept += len(self._results) - done
                tell(len(self._results), len(self._source.records), "")
                todo = [job for job in jobs if job.task.record.video_id not in self._results]
                self._run(todo, engine, tell)
        finally:
            self._out.clean()
        records = [_filled(r, self._results[r.video_id]) for r in self._source.records]
        validate_manifest(records)
        self._describe(records)
        unlisted = sorted(listed - {record.video_id for record in records})
        return Preparation(records, num_kept, self._failures, self._changed, self._gone, unlisted)

    def _job(self, record: VideoRecord) -> Job:
        """Describe the work on one video, and everything its result depends on."""
        genuine = self._genuine(record)
        task = RecordTask(
            self._source.root, self._out, record, self._options, self._software, genuine
        )
        fingerprint = {
            "prepare_version": PREPARE_VERSION,
            "video_id": record.video_id,
            "path": record.path,
            "backend_version": self._backend_version,
            "options": self._options.parameters(),
            "num_bytes": input_sizes(task),
            **({"frames": list(record.frames)} if record.frames else {}),
            **({"genuine": asdict(genuine)} if genuine else {}),
        }
        return Job(short_hash(record.video_id), task, fingerprint)

    def _genuine(self, record: VideoRecord) -> GenuineVideo | None:
        """Tell whose faces a fake reuses; without any its own are detected."""
        result = self._results.get(record.paired_real or "")
        if not self._options.reuse_boxes or result is None or not result["tracks"]:
            return None
        tracks = {track["path"]: track["sha256"] for track in result["tracks"]}
        return GenuineVideo(tracks, result["num_frames"])

    def _keep(self, jobs: Sequence[Job]) -> None:
        """Take over results of earlier runs, if their inputs and their tracks are still the same.

        A raw video that is gone is no reason to lose what was made of it.
        """
        known = self._ledger.read_all(jobs)
        sizes = {job.key: job.fingerprint["num_bytes"] for job in jobs}
        gone = [job for job in jobs if is_gone(job.task.record.path, sizes[job.key])]
        orphaned = self._ledger.read_all(
            [job for job in gone if job.key not in known], without="num_bytes"
        )
        # Where they are far away, this one listing tells the sizes of all tracks.
        self._out.files("tracks")
        for job in jobs:
            result, record = known.get(job.key) or orphaned.get(job.key), job.task.record
            if result is None or not self._is_whole(result):
                continue
            if job.key not in orphaned and not self._is_same(result):
                self._changed.append(record.path)
                continue
            self._results[record.video_id] = result
            self._gone += [record.path] if job.key in orphaned else []

    def _is_whole(self, result: dict[str, Any]) -> bool:
        return all(is_whole(self._out, track, self._verify) for track in result["tracks"])

    def _is_same(self, result: dict[str, Any]) -> bool:
        return all(is_same(self._source.root, inputs) for inputs in result["inputs"])

    def _run(self, jobs: Sequence[Job], engine: Engine, tell: _Tell) -> None:
        """Do the work that is left."""
        if not jobs:
            return
        # A run that is stopped leaves no store that opens: its tracks would be of two runs.
        self._out.remove([MANIFEST_NAME])
        # But a folder that says whose it is.
        self._write_info({})
        for outcome in run_jobs(jobs, prepare_record, self._ledger, engine):
            record = outcome.job.task.record
            if outcome.result is None:
                self._failures[record.path] = outcome.failure
            result = outcome.result or failed_result(outcome.failure)
            self._results[record.video_id] = result
            tell(len(self._results), len(self._source.records), result["status"])

    def _describe(self, records: Sequence[VideoRecord]) -> None:
        """Write the files that tell what is in the store; the manifest, which opens it, last."""
        tracks = [track for result in self._results.values() for track in result["tracks"]]
        with self._out.workspace() as folder:
            write_report(folder / REPORT_NAME, records, self._results)
            write_checksums(folder, {track["path"]: track["sha256"] for track in tracks})
        self._write_info(count_results(records, self._results))
        with self._out.workspace() as folder:
            write_manifest(records, folder / MANIFEST_NAME)
        # From what the workers told: the tracks themselves may be far away by now.
        known = {t["path"]: (t["digest"], {"figures": {"face_px": t["face_px"]}}) for t in tracks}
        for name, text in card_files(data_card(self._out, known)).items():
            self._out.write(name, text.encode())

    def _write_info(self, counts: dict[str, int]) -> None:
        info = PreparedInfo(
            backend=self._options.backend,
            backend_version=self._backend_version,
            parameters={
                "dataset": self._source.dataset,
                "reading": self._source.reading,
                **self._options.parameters(),
            },
            libraries={name: self._software[name] for name in LIBRARIES},
            counts=counts,
        )
        with self._out.workspace() as folder:
            write_prepared_info(folder, info)


def _filled(record: VideoRecord, result: dict[str, Any]) -> VideoRecord:
    """Put what was measured into a record."""
    return replace(
        record,
        num_frames=result["num_frames"],
        fps=result["fps"],
        height=result["height"],
        width=result["width"],
        sha256=result["sha256"],
        decoder=result["decoder"],
        status=result["status"],
        tracks=tuple(track["path"] for track in result["tracks"]),
    )


def _disk_full(out: OutputRoot, reason: str) -> str:
    return (
        f"the disk of {out} is full ({reason}); what was done is kept and nothing is "
        "half-written: make room and run the same command again"
    )
