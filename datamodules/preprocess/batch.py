"""Prepare a whole folder: what is missing is made, what is there and unchanged is kept."""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.datasets.naming import short_hash
from datamodules.errors import DataError
from datamodules.integrity.card import write_data_card
from datamodules.manifest import validate_manifest, write_manifest
from datamodules.preprocess.detect import face_backend
from datamodules.preprocess.engine import (
    DiskFullError,
    Job,
    Ledger,
    remove_partial_files,
    run_jobs,
)
from datamodules.preprocess.prepare import (
    PREPARE_VERSION,
    PrepareOptions,
    VideoTask,
    failed_result,
    input_files,
    prepare_video,
)
from datamodules.preprocess.report import REPORT_NAME, count_results, write_report
from datamodules.preprocess.store import (
    INFO_NAME,
    MANIFEST_NAME,
    PreparedInfo,
    write_prepared_info,
)
from datamodules.video.reader import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datamodules.datasets.records import SourceFolder
    from datamodules.schema import VideoRecord

_LIBRARIES = ("opencv-python-headless", "av", "decord2", "numpy")
LEDGER_NAME = "ledger"


@dataclass(frozen=True)
class Preparation:
    """What a run left behind.

    Attributes:
        records: All videos of the manifest, sorted by `video_id`.
        num_kept: How many of them an earlier run had done.
        failures: Why a video failed that the next run will try again, by path.
    """

    records: list[VideoRecord]
    num_kept: int
    failures: dict[str, str]


def prepare_folder(
    source: SourceFolder,
    out: Path,
    options: PrepareOptions,
    num_workers: int,
    tell: Callable[[int, int, str], None] = lambda *_: None,
) -> Preparation:
    """Make a prepared store of a folder of videos.

    Args:
        source: The videos.
        out: The store; made if it is missing.
        options: How to prepare.
        num_workers: Processes at once; has no influence on the result.
        tell: Called with the number of videos done, of all videos, and the status of the last
            one done; first with those that were done before.

    Returns:
        What is in the store now.

    Raises:
        DataError: If the store is another one's, or the disk is full.
        WeightsError: If weights of the face backend are missing.
    """
    version_ = face_backend(
        options.backend, **options.backend_options(source.root.local(""))
    ).version
    _check_store(out, source, options.backend, version_)
    try:
        with _only_run(out):
            return _prepare(source, out, options, version_, num_workers, tell)
    except DiskFullError as error:
        raise DataError(_disk_full(out, str(error))) from error
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}); nothing is left half-written"
        ) from error


def _prepare(
    source: SourceFolder,
    out: Path,
    options: PrepareOptions,
    backend_version: str,
    num_workers: int,
    tell: Callable[[int, int, str], None],
) -> Preparation:
    """Prepare what is missing, then write what describes the whole."""
    _remove_partial(out)
    info = PreparedInfo(
        backend=options.backend,
        backend_version=backend_version,
        parameters={"dataset": source.dataset, **options.parameters()},
        libraries={name: version(name) for name in _LIBRARIES},
        counts={},
    )
    # First of all, so that a run that is stopped leaves a folder that says whose it is.
    write_prepared_info(out, info)
    ledger = Ledger(out / LEDGER_NAME)
    root = source.root.local("")
    jobs = [_job(root, out, record, options, backend_version) for record in source.records]
    results = {job.task.video_id: result for job in jobs if (result := _kept(job, ledger))}
    num_kept, failures = len(results), {}
    tell(num_kept, len(jobs), "")
    todo = [job for job in jobs if job.task.video_id not in results]
    try:
        for outcome in run_jobs(todo, prepare_video, ledger, num_workers):
            task = outcome.job.task
            if outcome.result is None:
                failures[task.path] = outcome.failure
            results[task.video_id] = outcome.result or failed_result(outcome.failure)
            tell(len(results), len(jobs), results[task.video_id]["status"])
    finally:
        _remove_partial(out)
        ledger.forget_started()
    records = [_filled(record, results[record.video_id]) for record in source.records]
    validate_manifest(records)
    write_report(out / REPORT_NAME, records, results)
    write_prepared_info(out, replace(info, counts=count_results(records, results)))
    write_manifest(records, out / MANIFEST_NAME)
    write_data_card(out)
    return Preparation(records, num_kept, failures)


def _job(
    root: Path, out: Path, record: VideoRecord, options: PrepareOptions, backend_version: str
) -> Job:
    """Describe the work on one video, and everything its result depends on."""
    task = VideoTask(
        root=root,
        out=out,
        path=record.path,
        video_id=record.video_id,
        options=options,
        frames=record.frames,
    )
    fingerprint = {
        "prepare_version": PREPARE_VERSION,
        "video_id": record.video_id,
        "path": record.path,
        "backend_version": backend_version,
        "options": options.parameters(),
        "num_bytes": [_size(path) for path in input_files(task)],
        **({"frames": list(record.frames)} if record.frames else {}),
    }
    return Job(short_hash(record.video_id), task, fingerprint)


def _kept(job: Job, ledger: Ledger) -> dict[str, Any] | None:
    """Find the result of an earlier run, if its inputs and its tracks are still the same."""
    result = ledger.read(job)
    if result is None:
        return None
    inputs = zip(input_files(job.task), result["inputs"], strict=True)
    same = all(_is_same(path, known) for path, known in inputs)
    whole = all(_size(job.task.out / t["path"]) == t["num_bytes"] for t in result["tracks"])
    return result if same and whole else None


def _is_same(path: Path, known: dict[str, Any]) -> bool:
    """Tell whether a file has the bytes that it had; a copy may have another time."""
    if not path.exists() or path.stat().st_mtime_ns == known["mtime_ns"]:
        return True
    return bool(file_sha256(path) == known["sha256"])


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


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


def _check_store(out: Path, source: SourceFolder, backend: str, backend_version: str) -> None:
    """Refuse a folder that is not ours, or was made otherwise."""
    if out.resolve() == source.root.local(""):
        raise DataError(f"{out} holds the raw videos; give another folder for the prepared ones")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; give a folder for the prepared videos")
    if not (out / INFO_NAME).is_file():
        if out.is_dir() and any(path.name != LEDGER_NAME for path in out.iterdir()):
            raise DataError(f"{out} is not empty and no prepared folder; give another one")
        return
    try:
        made = json.loads((out / INFO_NAME).read_text(encoding="utf-8"))
        made_by = f"{made['backend']} {made['backend_version']}"
        dataset = made["parameters"]["dataset"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out / INFO_NAME} is damaged; remove the folder {out}") from error
    if made_by != f"{backend} {backend_version}":
        raise DataError(
            f"{out} was made with the face backend {made_by}, not {backend} {backend_version}; "
            "they are never mixed: give another folder, or remove this one"
        )
    if dataset != source.dataset:
        raise DataError(
            f"{out} holds the data set {dataset!r}, not {source.dataset!r}; "
            "give another folder, or the name by --name"
        )


@contextmanager
def _only_run(out: Path) -> Iterator[None]:
    """Keep a second run out of the same store."""
    (out / LEDGER_NAME).mkdir(parents=True, exist_ok=True)
    with (out / LEDGER_NAME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another run is preparing into {out}; wait for it") from error
        yield


def _remove_partial(out: Path) -> None:
    for folder in ("tracks", LEDGER_NAME):
        remove_partial_files(out / folder)


def _disk_full(out: Path, reason: str) -> str:
    return (
        f"the disk of {out} is full ({reason}); what was done is kept and nothing is "
        "half-written: make room and run the same command again"
    )
