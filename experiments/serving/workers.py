"""The threads that take jobs from the queue, and the one that keeps the house in order."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.serving.addresses import FetchError
from experiments.serving.child import Order, nothing
from experiments.serving.confined import run_confined
from experiments.serving.errors import JobError
from experiments.serving.fetch import fetch_video
from experiments.serving.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from experiments.predicting.scorer import ClipSpec
    from experiments.serving.batching import Batcher
    from experiments.serving.child import Task
    from experiments.serving.jobs import Job, JobStore, State
    from experiments.serving.metrics import Metrics
    from experiments.serving.settings import Settings

#: Seconds between looks into an empty queue, between pulses, between tidyings; and without a pulse
#: until another replica takes a job over. [ours]
_LOOK_S, _PULSE_S, _TIDY_S, PATIENCE_S = 0.25, 1.0, 5.0, 20.0
#: A folder younger than this is being made. [ours]
_YOUNG_S = 30.0
#: Largest report in bytes: two hours of many faces have 40 MB. [ours]
_MAX_REPORT = 256 * 2**20
#: The name of the video in a job's folder; what its sender called it is kept nowhere.
INPUT = "video"


@dataclass
class _Running:
    job: Job
    progress: tuple[str, int, int] = ("starting", 0, 0)
    stop: threading.Event = field(default_factory=threading.Event)
    give_back: bool = False


class Workers:
    """Works on the jobs of a store.

    Args:
        settings: Of the server.
        store: Its jobs.
        networks: What scores.
        task: What a child does with a video.
        metrics: Where ends of jobs are counted.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        networks: Sequence[Batcher],
        task: Task,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._store = store
        self._networks = tuple(networks)
        self._task = task
        self._metrics = metrics
        self._replica = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._draining = threading.Event()
        self._over = threading.Event()
        self._awake = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=f"worker-{number}")
            for number in range(settings.workers)
        ]
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="keeper")
        self.layers: tuple[str, ...] = ()

    def start(self) -> None:
        """Tidy what an earlier life left, and begin."""
        self._tidy()
        for thread in (*self._threads, self._keeper):
            thread.start()

    def probe(self) -> tuple[str, ...]:
        """Run an empty child, to see that children run here and what confines them.

        Raises:
            JobError: They do not run.
        """
        # not among the jobs' folders, which other replicas tidy
        with tempfile.TemporaryDirectory(prefix="probe-") as name:
            folder = Path(name)
            limits = self._settings.process_limits
            order = Order(nothing, folder, folder, folder, (), (), limits=limits)
            run_confined(order, (), held=self._hold)
        return self.layers

    def wake(self) -> None:
        """Say that there is a job."""
        with self._awake:
            self._awake.notify()

    def folder(self, job_id: str) -> Path:
        """Name a job's folder."""
        return jobs_folder(self._settings) / job_id

    def cancel(self, job_id: str) -> Job | None:
        """Cancel a job and remove what it has; one of another replica ends at its next pulse."""
        job = self._store.cancel(job_id, time.time())
        with self._lock:
            running = self._running.get(job_id)
        if running is not None:
            running.stop.set()
        elif job is not None and job.state != "running":
            shutil.rmtree(self.folder(job_id), ignore_errors=True)
        return job

    @property
    def active(self) -> int:
        """How many jobs are being worked on here."""
        with self._lock:
            return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether no job is begun any more."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Begin no job any more."""
        self._draining.set()
        with self._awake:
            self._awake.notify_all()

    def stop(self, patience_s: float) -> None:
        """Let running jobs finish, for a while; queue those again that do not.

        Args:
            patience_s: Seconds that they get.
        """
        self.drain()
        deadline = time.monotonic() + patience_s
        while self.active and time.monotonic() < deadline:
            time.sleep(0.05)
        with self._lock:
            for running in self._running.values():
                running.give_back = True
                running.stop.set()
        for thread in self._threads:
            thread.join()
        self._over.set()
        self._keeper.join()

    def _work(self) -> None:
        while not self._draining.is_set():
            job = None
            # a full disk or a locked database passes; the worker must not
            with suppress(sqlite3.Error):
                job = self._store.claim(self._replica, time.time())
            if job is None:
                with self._awake:
                    self._awake.wait(_LOOK_S)
                continue
            running = _Running(job)
            with self._lock:
                self._running[job.id] = running
            try:
                self._run(running)
            finally:
                with self._lock:
                    del self._running[job.id]

    def _run(self, running: _Running) -> None:
        """Work on a job to whatever end; its input goes in any case but when it is given back."""
        job, start = running.job, time.monotonic()
        folder = self.folder(job.id)
        error: JobError | None = None
        files: list[str] = []
        try:
            files = self._score(running, folder)
        except JobError as failure:
            error = failure
        except FetchError as failure:
            error = JobError(failure.code, str(failure))
        except OSError as failure:
            error = JobError("internal", f"the server's disk or system failed: {failure.strerror}")
        except Exception as failure:  # one job's end must not be the worker's
            error = JobError("internal", f"the server failed with {type(failure).__name__}")
        if running.give_back and error is not None:
            self._note(lambda: self._store.give_back(job.id))
            return
        if error is None:
            (folder / INPUT).unlink(missing_ok=True)
            self._note(lambda: self._store.finish(job.id, "done", time.time(), files))
        else:
            shutil.rmtree(folder, ignore_errors=True)
            state: State = "cancelled" if error.code == "cancelled" else "failed"
            said = (error.code, str(error))
            self._note(lambda: self._store.finish(job.id, state, time.time(), error=said))
        self._metrics.job_ended("done" if error is None else error.code, time.monotonic() - start)

    def _note(self, write: Callable[[], None]) -> None:
        """Write how a job ended, however long the disk is full; when the server goes, once more."""
        while True:
            last = self._draining.is_set()
            try:
                write()
            except sqlite3.Error as error:
                log("jobs cannot be written", error=type(error).__name__)
                if last:
                    return  # it is taken over, for want of a pulse
                self._draining.wait(_PULSE_S)
            else:
                return

    def _score(self, running: _Running, folder: Path) -> list[str]:
        job = running.job
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        video, results, scratch = folder / INPUT, folder / "results", folder / "scratch"
        if job.url is not None and not video.exists():
            running.progress = ("fetching", 0, 0)
            limits = self._settings.fetch_limits
            fetch_video(job.url, folder, limits, cancelled=running.stop.is_set).replace(video)
            self._store.fetched(job.id)
        for made in (results, scratch):
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(mode=0o700)
        order = Order(
            task=self._task,
            video=video,
            folder=results,
            scratch=scratch,
            specs=tuple(_without_path(network.spec) for network in self._networks),
            explains=tuple(network.explains for network in self._networks),
            options=job.options,
            video_limits=self._settings.video_limits,
            limits=self._settings.process_limits,
        )

        def tell(what: str, done: int, total: int) -> None:
            running.progress = (what, done, total)

        run_confined(order, self._networks, tell, running.stop.is_set, self._hold)
        shutil.rmtree(scratch)
        return check_results(results)

    def _hold(self, layers: Sequence[str]) -> None:
        self.layers = tuple(layers)

    def _keep(self) -> None:
        tidied = time.monotonic()
        while not self._over.wait(_PULSE_S):
            with self._lock:
                running = list(self._running.values())
            # a full disk or a locked database passes; the keeper must not
            with suppress(Exception):
                for one in running:
                    if not self._store.pulse(one.job.id, time.time(), one.progress):
                        one.stop.set()
                if time.monotonic() - tidied > _TIDY_S:
                    self._tidy()
                    tidied = time.monotonic()

    def _tidy(self) -> None:
        """Take over jobs of dead replicas, expire old ones, and remove folders of none."""
        now = time.time()
        self._store.recover(now, PATIENCE_S)
        self._store.expire(now)
        jobs = jobs_folder(self._settings)
        jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in jobs.iterdir():
            with suppress(FileNotFoundError):
                if not self._is_needed(folder, now - folder.stat().st_mtime):
                    shutil.rmtree(folder, ignore_errors=True)

    def _is_needed(self, folder: Path, age_s: float) -> bool:
        """Tell whether a folder has a job with files, here or in another replica, or will have."""
        # an upload has a folder before it has a job: its mark goes only after the job is there,
        # so that whoever sees no mark sees the job
        receiving = (folder / RECEIVING).exists() and age_s < 2 * self._settings.upload_s
        if receiving or age_s < _YOUNG_S:
            return True
        with self._lock:
            if folder.name in self._running:
                return True
        job = self._store.get(folder.name)
        return job is not None and job.state in ("queued", "running", "done")


def _without_path(spec: ClipSpec) -> ClipSpec:
    """Leave the name of a model's source: where it lies here is nothing for those who ask."""
    return replace(spec, facts=replace(spec.facts, source=Path(spec.facts.source).name))


#: Marks the folder of an upload that has no job yet.
RECEIVING = ".receiving"


def jobs_folder(settings: Settings) -> Path:
    """Name the folder of all jobs' folders."""
    return settings.state_dir / "jobs"


def check_results(results: Path) -> list[str]:
    """Look at what a child left: its parent believes no link and no report that is none.

    Args:
        results: The folder.

    Returns:
        Names of its files, sorted.

    Raises:
        JobError: There is no report, or something that is no plain file.
    """
    found = sorted(results.rglob("*"))
    if any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in found):
        raise JobError("internal", "the process of the job left something that is no file")
    report = results / "report.json"
    try:
        if report.stat().st_size > _MAX_REPORT:
            raise JobError("over_limits", "the report is larger than is allowed")
        content = json.loads(report.read_bytes())
    except (OSError, ValueError) as error:
        raise JobError("internal", "the process of the job left no report") from error
    if not isinstance(content, dict):
        raise JobError("internal", "the process of the job left no report")
    return [str(path.relative_to(results)) for path in found if path.is_file()]


def check_file(folder: Path, files: Sequence[str], name: str) -> Path | None:
    """Find a result of a job; only what the job itself named is ever opened.

    Args:
        folder: The job's.
        files: What it named.
        name: What is asked for.

    Returns:
        The file, None if there is none.
    """
    path = folder / "results" / name
    return path if name in files and path.is_file() and not path.is_symlink() else None
