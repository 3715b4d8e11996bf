"""Jobs outlive replicas, are worked on once, and end."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from experiments.serving.jobs import JobStore, QueueFullError, ShareFullError, new_job_id

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "jobs.sqlite", max_queued=3, ttl_s=100.0)


def state(store: JobStore, job_id: str) -> str:
    job = store.get(job_id)
    assert job is not None
    return job.state


def test_queue_is_bounded_and_first_in_first_out(store: JobStore) -> None:
    for number in range(3):
        store.submit(f"job{number}", "me", float(number), {"a": number})
    with pytest.raises(QueueFullError):
        store.submit("job3", "me", 3.0, {})
    with pytest.raises(QueueFullError):
        store.check_room("me")
    first = store.claim("a", 10.0)
    assert first is not None
    assert (first.id, first.state, first.options) == ("job0", "running", {"a": 0})
    last = store.get("job2")
    assert last is not None
    assert store.position(last) == 1
    store.check_room("me")


def test_a_client_has_a_share_over_all_replicas(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    one, other = (JobStore(path, max_queued=9, ttl_s=100.0, share=2) for _ in range(2))
    one.submit("a", "", 0.0, {}, client="192.0.2.1")
    other.submit("b", "", 1.0, {}, client="192.0.2.1")
    assert one.claim("replica", 2.0) is not None  # what runs is counted as well
    for store in (one, other):
        with pytest.raises(ShareFullError):
            store.submit("c", "", 3.0, {}, client="192.0.2.1")
    one.submit("d", "", 3.0, {}, client="192.0.2.2")
    other.finish("a", "done", 4.0)
    one.submit("e", "", 5.0, {}, client="192.0.2.1")
    one.cancel("d", 6.0)
    with closing(sqlite3.connect(path)) as database:
        kept = dict(database.execute("SELECT id, client FROM jobs"))
    gone = {"a": None, "d": None}
    assert kept == gone | {"b": "192.0.2.1", "e": "192.0.2.1"}


def test_a_file_of_an_older_version_gets_shares(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    JobStore(path, 9, 100.0).submit("old", "", 0.0, {})
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE jobs DROP COLUMN client")
    store = JobStore(path, 9, 100.0, share=1)
    store.submit("new", "", 1.0, {}, client="me")
    assert store.held("me") == 1
    assert state(store, "old") == "queued"


def test_replicas_never_take_the_same(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite", max_queued=60, ttl_s=100.0)
    for number in range(60):
        store.submit(f"job{number}", "", float(number), {})
    taken: list[str] = []

    def replica(name: str) -> None:
        own = JobStore(tmp_path / "jobs.sqlite", max_queued=60, ttl_s=100.0)
        while (job := own.claim(name, 1.0)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=replica, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"job{number}" for number in range(60))


def test_jobs_of_a_dead_replica_are_tried_once_more(store: JobStore) -> None:
    store.submit("job", "", 0.0, {})
    store.claim("a", 0.0)
    assert store.pulse("job", 15.0, ("scoring", 1, 2))
    assert store.recover(30.0, patience_s=20.0) == []
    assert state(store, "job") == "running"
    assert store.recover(36.0, patience_s=20.0) == []
    assert state(store, "job") == "queued"
    assert not store.pulse("job", 37.0, ("scoring", 2, 2))  # should the dead one come back
    store.claim("b", 40.0)
    assert store.recover(100.0, patience_s=20.0) == ["job"]
    job = store.get("job")
    assert job is not None
    assert (job.state, job.error_code) == ("failed", "interrupted")


def test_giving_back_does_not_count_as_a_try(store: JobStore) -> None:
    store.submit("job", "", 0.0, {})
    for _ in range(5):
        assert store.claim("a", 0.0) is not None
        store.give_back("job")
    assert state(store, "job") == "queued"


def test_cancelling_twice_is_as_once(store: JobStore) -> None:
    for name in ("queued", "running", "done"):
        store.submit(name, "", {"done": 0.0, "running": 1.0, "queued": 2.0}[name], {}, "https://x/")
    store.claim("a", 0.0)
    store.finish("done", "done", 5.0, ["report.json"])
    store.claim("a", 0.0)
    for _ in range(2):
        assert [store.cancel(n, 6.0).state for n in ("queued", "running", "done")] == [  # type: ignore[union-attr]
            "cancelled",
            "running",
            "expired",
        ]
    assert not store.pulse("running", 7.0, ("", 0, 0))
    store.finish("running", "done", 8.0, ["report.json"])
    assert state(store, "running") == "cancelled"
    assert store.cancel("none", 0.0) is None
    assert all(store.get(n).url is None for n in ("queued", "running", "done"))  # type: ignore[union-attr]


def test_results_expire_and_are_forgotten(store: JobStore) -> None:
    store.submit("job", "", 0.0, {})
    store.claim("a", 0.0)
    store.finish("job", "done", 10.0, ["report.json"])
    assert store.expire(109.0) == []
    assert store.expire(111.0) == ["job"]
    assert state(store, "job") == "expired"
    store.expire(211.0)
    assert store.get("job") is None


def test_ids_cannot_be_guessed() -> None:
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(i) == 32 for i in ids)
    assert new_job_id("m1").startswith("m1-")
