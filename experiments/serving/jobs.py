"""Jobs in SQLite: one file that all replicas of a machine share, and that outlives each of them."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled", "expired"]
#: States that nothing leaves but by expiring.
FINAL = frozenset({"done", "failed", "cancelled", "expired"})
#: How often a job is begun, when replicas die over it. [ours]
_MAX_ATTEMPTS = 2
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, state TEXT NOT NULL,
    created REAL NOT NULL, started REAL, finished REAL, expires REAL,
    replica TEXT, heartbeat REAL, attempts INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0, url TEXT, options TEXT NOT NULL,
    phase TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL DEFAULT 0, error_code TEXT, error TEXT, files TEXT NOT NULL DEFAULT '[]',
    client TEXT
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, created);
"""
_COLUMNS = (
    "id, owner, state, created, started, finished, expires, attempts, url, options, phase, done, "
    "total, error_code, error, files"
)


#: Of the jobs of one client that wait or run.
_HELD = "SELECT count(*) FROM jobs WHERE client = ? AND state IN ('queued', 'running')"


class QueueFullError(Exception):
    """Say that as many jobs wait as may."""


class ShareFullError(QueueFullError):
    """Say that as many jobs of one client wait or run as may."""


@dataclass(frozen=True)
class Job:
    """A job as it stands.

    Attributes:
        id: Cannot be guessed; who knows it and has the key may see the job.
        owner: Identity of the key that made it; empty without keys.
        state: Where it is.
        created: Unix time in seconds, as the other times.
        started: When it was last begun.
        finished: When it came to its end.
        expires: When its results go.
        attempts: How often it was begun.
        url: Where the video is to be fetched; None after that, and for uploads.
        options: For the task.
        phase: What is being done.
        done: How much of it.
        total: Of how much; 0 where not known.
        error_code: Code of `STATUS_OF`.
        error: One line.
        files: Names of its results.
    """

    id: str
    owner: str
    state: State
    created: float
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    attempts: int = 0
    url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    phase: str = ""
    done: int = 0
    total: int = 0
    error_code: str | None = None
    error: str | None = None
    files: tuple[str, ...] = ()


def new_job_id(machine: str = "") -> str:
    """Make an identity of 128 random bits, after the machine's name if it has one."""
    return "-".join(part for part in (machine, secrets.token_hex(16)) if part)


class JobStore:
    """All jobs of a state folder.

    Args:
        path: The database, made if it is not there.
        max_queued: Jobs that may wait.
        ttl_s: Seconds that results are kept.
        share: Jobs of one client that may wait or run; None for no bound of its own.
    """

    def __init__(self, path: Path, max_queued: int, ttl_s: float, share: int | None = None) -> None:
        self._path = path
        self._max_queued = max_queued
        self._share = share
        self._ttl_s = ttl_s
        with self._open() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_TABLE)
            # a file of an older version; another replica may be doing the same
            with suppress(sqlite3.OperationalError):
                database.execute("ALTER TABLE jobs ADD COLUMN client TEXT")
            database.execute("SELECT client FROM jobs LIMIT 0")  # whatever else went wrong is told

    def submit(
        self,
        job_id: str,
        owner: str,
        now: float,
        options: dict[str, Any],
        url: str | None = None,
        *,
        client: str = "",
    ) -> Job:
        """Queue a job.

        Args:
            job_id: Its identity.
            owner: Identity of the key that made it; empty without keys.
            now: Unix time in seconds.
            options: For the task.
            url: Where the video is to be fetched; None for uploads.
            client: Whose share of the queue it takes; forgotten when the job ends.

        Raises:
            ShareFullError: As many of the client's wait or run as may.
            QueueFullError: As many wait as may.
        """
        limits = (self._max_queued, client, 2**62 if self._share is None else self._share)
        with self._open() as database:
            added = database.execute(
                "INSERT INTO jobs (id, owner, state, created, url, options, client) "
                "SELECT ?, ?, 'queued', ?, ?, ?, ? "
                "WHERE (SELECT count(*) FROM jobs WHERE state = 'queued') < ? "
                f"AND ({_HELD}) < ?",
                (job_id, owner, now, url, json.dumps(options), client, *limits),
            )
        if not added.rowcount:
            self.check_room(client)
            raise QueueFullError  # a place became free meanwhile: for who asks next
        return Job(job_id, owner, "queued", now, url=url, options=options)

    def check_room(self, client: str) -> None:
        """Raise what `submit` would raise now.

        Args:
            client: Whose share of the queue a job would take.
        """
        if self._share is not None and self.held(client) >= self._share:
            raise ShareFullError
        if self.count("queued") >= self._max_queued:
            raise QueueFullError

    def held(self, client: str) -> int:
        """Count the jobs of a client that wait or run."""
        with self._open() as database:
            return int(database.execute(_HELD, (client,)).fetchone()[0])

    def count(self, state: State) -> int:
        """Count the jobs in a state."""
        with self._open() as database:
            row = database.execute("SELECT count(*) FROM jobs WHERE state = ?", (state,)).fetchone()
            return int(row[0])

    def get(self, job_id: str) -> Job | None:
        """Look a job up."""
        with self._open() as database:
            return _job(database, job_id)

    def position(self, job: Job) -> int:
        """Count the jobs that wait before one."""
        with self._open() as database:
            row = database.execute(
                "SELECT count(*) FROM jobs WHERE state = 'queued' AND created < ?", (job.created,)
            ).fetchone()
            return int(row[0])

    def claim(self, replica: str, now: float) -> Job | None:
        """Take the oldest job that waits; no two replicas get the same."""
        with self._open() as database:
            row = database.execute(
                "UPDATE jobs SET state = 'running', replica = ?, started = ?, heartbeat = ?, "
                "attempts = attempts + 1, phase = 'starting', done = 0, total = 0 WHERE id = "
                "(SELECT id FROM jobs WHERE state = 'queued' ORDER BY created LIMIT 1) "
                f"AND state = 'queued' RETURNING {_COLUMNS}",
                (replica, now, now),
            ).fetchone()
            return None if row is None else _from_row(row)

    def pulse(self, job_id: str, now: float, progress: tuple[str, int, int]) -> bool:
        """Say that a job is being worked on, and how far it is.

        Returns:
            Whether to go on: False when it was cancelled or given to another replica.
        """
        with self._open() as database:
            return bool(
                database.execute(
                    "UPDATE jobs SET heartbeat = ?, phase = ?, done = ?, total = ? "
                    "WHERE id = ? AND state = 'running' AND cancel = 0",
                    (now, *progress, job_id),
                ).rowcount
            )

    def fetched(self, job_id: str) -> None:
        """Forget where a video came from, once it is here or never will be."""
        with self._open() as database:
            database.execute("UPDATE jobs SET url = NULL WHERE id = ?", (job_id,))

    def finish(
        self,
        job_id: str,
        state: State,
        now: float,
        files: Sequence[str] = (),
        error: tuple[str, str] | None = None,
    ) -> None:
        """Bring a running job to its end."""
        code, message = error or (None, None)
        with self._open() as database:
            database.execute(
                "UPDATE jobs SET state = CASE WHEN cancel THEN 'cancelled' ELSE ? END, "
                "finished = ?, expires = ?, url = NULL, client = NULL, error_code = ?, "
                "error = ?, files = ? "
                "WHERE id = ? AND state = 'running'",
                (state, now, now + self._ttl_s, code, message, json.dumps([*files]), job_id),
            )

    def give_back(self, job_id: str) -> None:
        """Queue a running job again, as if it had never been begun: its replica must go."""
        with self._open() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued', attempts = attempts - 1, replica = NULL "
                "WHERE id = ? AND state = 'running' AND cancel = 0",
                (job_id,),
            )

    def cancel(self, job_id: str, now: float) -> Job | None:
        """Cancel a job; one that is at its end loses its results. Twice is as once."""
        with self._open() as database:
            database.execute(
                "UPDATE jobs SET cancel = 1 WHERE id = ? AND state = 'running'", (job_id,)
            )
            database.execute(
                "UPDATE jobs SET state = 'cancelled', finished = ?, expires = ?, url = NULL, "
                "client = NULL "
                "WHERE id = ? AND state = 'queued'",
                (now, now + self._ttl_s, job_id),
            )
            database.execute(
                "UPDATE jobs SET state = 'expired', files = '[]' "
                "WHERE id = ? AND state IN ('done', 'failed')",
                (job_id,),
            )
            return _job(database, job_id)

    def recover(self, now: float, patience_s: float) -> list[str]:
        """Take the jobs of replicas that fell silent.

        Args:
            now: Unix time in seconds.
            patience_s: Seconds without a pulse after which a replica counts as dead.

        Returns:
            Identities of those that failed for good; the others are queued again.
        """
        silent = "state = 'running' AND heartbeat < ?"
        with self._open() as database:
            failed = database.execute(
                "UPDATE jobs SET state = CASE WHEN cancel THEN 'cancelled' ELSE 'failed' END, "
                "finished = ?, expires = ?, error_code = 'interrupted', url = NULL, "
                "client = NULL, error = "
                "'the server was interrupted more than once while it worked on this video' "
                f"WHERE {silent} AND (attempts >= ? OR cancel) RETURNING id",
                (now, now + self._ttl_s, now - patience_s, _MAX_ATTEMPTS),
            ).fetchall()
            database.execute(
                f"UPDATE jobs SET state = 'queued', replica = NULL WHERE {silent}",
                (now - patience_s,),
            )
        return [row[0] for row in failed]

    def expire(self, now: float) -> list[str]:
        """Expire what is over its time, and forget what expired long ago.

        Returns:
            Identities whose files must go.
        """
        with self._open() as database:
            expired = database.execute(
                "UPDATE jobs SET state = 'expired', files = '[]' WHERE expires < ? "
                "AND state IN ('done', 'failed', 'cancelled') RETURNING id",
                (now,),
            ).fetchall()
            database.execute(
                "DELETE FROM jobs WHERE state = 'expired' AND expires < ?", (now - self._ttl_s,)
            )
        return [row[0] for row in expired]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open a connection of its own for one transaction: threads and replicas come and go."""
        with closing(sqlite3.connect(self._path, timeout=10.0, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = NORMAL")
            yield database


def _job(database: sqlite3.Connection, job_id: str) -> Job | None:
    row = database.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else _from_row(row)


def _from_row(row: Sequence[Any]) -> Job:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    values["options"] = json.loads(values["options"])
    values["files"] = tuple(json.loads(values["files"]))
    return Job(**values)
