"""Prepare a whole folder: what is missing is made, what is there and unchanged is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from datamodules.datasets.naming import short_hash
from datamodules.errors import DataError
from datamodules.faces.detect import PlacesPoints, face_backend
from datamodules.integrity.card import card_files, data_card
from datamodules.manifest import validate_manifest, write_manifest
from datamodules.preprocess.engine import DiskFullError, Job, Ledger, open_engine, run_jobs
from datamodules.preprocess.prepare import PREPARE_VERSION, PrepareOptions, failed_result
from datamodules.preprocess.report import REPORT_NAME, count_results, write_report
from datamodules.preprocess.work import (
    LIBRARIES,
    GenuineVideo,
    RecordTask,
    input_sizes,
    prepare_record,
    root_of,
    software,
)
from datamodules.storage.output import open_output
from datamodules.store.prepared import (
    INFO_NAME,
    MANIFEST_NAME,
    PreparedInfo,
    write_checksums,
    write_prepared_info,
)
from datamodules.video.reader import file_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datamodules.datasets.records import SourceFolder
    from datamodules.preprocess.engine import Engine
    from datamodules.schema import VideoRecord
    from datamodules.storage.output import OutputRoot
    from datamodules.storage.root import DataRoot

LEDGER_NAME = "ledger"

_Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Preparation:
    """What a run left behind.

    Attributes:
        records: All videos of the manifest, sorted by `video_id`.
        num_kept: How many of them an earlier run had done.
        failures: Why a video failed that the next run will try again, by path.
        changed: Paths of videos that have other bytes than when they were prepared before.
    """

    records: list[VideoRecord]
    num_kept: int
    failures: dict[str, str]
    changed: list[str]


def prepare_folder(
    source: SourceFolder,
    out: str | Path,
    options: PrepareOptions,
    num_workers: int,
    tell: _Tell = lambda *_: None,
    engine: str = "local",
    address: str | None = None,
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

    Returns:
        What is in the store now.

    Raises:
        DataError: If the store is another one's, the disk is full, or a machine or bucket that
            is needed cannot be reached.
        WeightsError: If weights of the face backend are missing.
    """
    root = open_output(out)
    backend = face_backend(options.backend, **options.backend_options(source.root.folder))
    if options.reuse_boxes and not isinstance(backend, PlacesPoints):
        raise DataError(
            f"the face backend {options.backend} detects nothing that could be spared; leave out "
            "--reuse-boxes (REUSE_BOXES=1)"
        )
    _check_store(root, source, options.backend, backend.version)
    try:
        # The engine first: a scheduler that does not answer must leave no folder behind.
        with open_engine(engine, num_workers, address) as workers, root.only_run():
            return _Run(source, root, options, backend.version).prepare(workers, tell)
    except DiskFullError as error:
        raise DataError(_disk_full(root, str(error))) from error
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}); nothing is left half-written"
        ) from error


class _Run:
    """One preparation of a store.

    Args:
        source: The videos.
        out: The store.
        options: How to prepare.
        backend_version: Of the face backend.
    """

    def __init__(
        self, source: SourceFolder, out: OutputRoot, options: PrepareOptions, backend_version: str
    ) -> None:
        self._source = source
        self._out = out
        self._ledger = Ledger(out, LEDGER_NAME)
        self._software = software()
        self._options = options
        self._backend_version = backend_version
        self._results: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, str] = {}

    def prepare(self, engine: Engine, tell: _Tell) -> Preparation:
        """Prepare what is missing, then write what describes the whole."""
        self._out.clean()
        # First of all, so that a run that is stopped leaves a folder that says whose it is.
        self._write_info({})
        num_kept, changed = 0, []
        try:
            # Genuine videos first: their fakes may build on them.
            for label in (0, 1):
                jobs = [self._job(r) for r in self._source.records if r.label == label]
                done = len(self._results)
                changed += self._keep(jobs)
                num_kept += len(self._results) - done
                tell(len(self._results), len(self._source.records), "")
                todo = [job for job in jobs if job.task.record.video_id not in self._results]
                self._run(todo, engine, tell)
        finally:
            self._out.clean()
        records = [_filled(r, self._results[r.video_id]) for r in self._source.records]
        validate_manifest(records)
        self._describe(records)
        return Preparation(records, num_kept, self._failures, changed)

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

    def _keep(self, jobs: Sequence[Job]) -> list[str]:
        """Take over results of earlier runs, if their inputs and their tracks are still the same.

        Returns:
            Paths of the videos that have changed.
        """
        known = self._ledger.read_all(jobs)
        # Where they are far away, this one listing tells the sizes of all tracks.
        self._out.files("tracks")
        changed = []
        for job in jobs:
            result, record = known.get(job.key), job.task.record
            if result is None or not all(_is_whole(self._out, t) for t in result["tracks"]):
                continue
            if all(_is_same(self._source.root, inputs) for inputs in result["inputs"]):
                self._results[record.video_id] = result
            else:
                changed.append(record.path)
        return changed

    def _run(self, jobs: Sequence[Job], engine: Engine, tell: _Tell) -> None:
        """Do the work that is left."""
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


def _is_whole(out: OutputRoot, track: dict[str, Any]) -> bool:
    """Tell whether a track is in the store, as large as it was."""
    return "sha256" in track and out.size(track["path"]) == track["num_bytes"]


def _is_same(source: DataRoot, known: dict[str, Any]) -> bool:
    """Tell whether a file has the bytes that it had; a copy may have another time."""
    path = known.get("path", "")
    root = root_of(source, path)
    if root.modified_ns(path) in (-1, known["mtime_ns"]):
        return True
    with root.hold(path) as file:
        return bool(file_sha256(file) == known["sha256"])


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


def _check_store(out: OutputRoot, source: SourceFolder, backend: str, version: str) -> None:
    """Refuse a place that is not ours, or was made otherwise."""
    if f"{out}/".startswith(f"{source.root}/"):
        raise DataError(
            f"{out} lies in the folder of the raw videos, {source.root}; give a place outside it "
            "for the prepared ones"
        )
    content = out.read(INFO_NAME)
    if content is None:
        if any(not path.startswith(f"{LEDGER_NAME}/") for path in out.files()):
            raise DataError(f"{out} is not empty and no prepared folder; give another one")
        return
    try:
        made = json.loads(content)
        made_by = f"{made['backend']} {made['backend_version']}"
        dataset = made["parameters"]["dataset"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out}/{INFO_NAME} is damaged; remove the folder {out}") from error
    if made_by != f"{backend} {version}":
        raise DataError(
            f"{out} was made with the face backend {made_by}, not {backend} {version}; "
            "they are never mixed: give another folder, or remove this one"
        )
    if dataset != source.dataset:
        raise DataError(
            f"{out} holds the data set {dataset!r}, not {source.dataset!r}; "
            "give another folder, or the name by --name"
        )


def _disk_full(out: OutputRoot, reason: str) -> str:
    return (
        f"the disk of {out} is full ({reason}); what was done is kept and nothing is "
        "half-written: make room and run the same command again"
    )
