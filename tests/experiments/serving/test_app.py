"""The server's answers."""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from callbacks.provenance import code_version
from experiments.serving import logs
from experiments.serving.jobs import JobStore
from experiments.serving.keys import KeyFile
from experiments.serving.uploads import Places, RequestError
from tests.support.serving import StandIn, misbehave, tell_explainers, tell_facts

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi.testclient import TestClient

    from tests.experiments.serving.conftest import Serve


def send(client: TestClient, path: str, content: bytes, **more: Any) -> Any:
    return client.post(path, files={"file": ("../../etc/name é.mp4", content)}, **more)


def until(client: TestClient, url: str, *states: str, **more: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(url, **more).json()
        if job["state"] in states:
            return job
        time.sleep(0.05)
    raise AssertionError(f"{url} is {job}, not {states}")


def code(answer: Any) -> str:
    assert set(answer.json()) == {"error"}, answer.text
    assert "\n" not in answer.json()["error"]["message"]
    return str(answer.json()["error"]["code"])


def folders(client: TestClient) -> list[Path]:
    return list((client.app.state.engine.settings.state_dir / "jobs").iterdir())  # type: ignore[attr-defined]


def test_predict_answers_with_the_report(client: TestClient, video: bytes) -> None:
    answer = send(client, "/predict", video)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"schema_version": 1, "status": "ok", "scores": [0.0, 0.0]}
    job = answer.headers["content-location"]
    assert client.get(f"{job}/report").json() == answer.json()
    kept = {p.name for f in folders(client) for p in f.rglob("*")}
    assert kept == {"results", "report.json", "annotated.mp4"}  # the video itself is gone


def test_a_job_from_its_making_to_its_end(client: TestClient, video: bytes) -> None:
    made = send(client, "/jobs", video)
    assert made.status_code == 202
    url = made.headers["location"]
    assert re.fullmatch(r"/jobs/[0-9a-f]{32}", url)
    job = until(client, url, "done")
    assert set(job["links"]) == {"self", "report", "video"}
    assert job["expires_at"] > job["finished_at"] > job["created_at"]
    whole = client.get(job["links"]["video"])
    assert whole.headers["content-type"] == "video/mp4"
    part = client.get(job["links"]["video"], headers={"Range": "bytes=256-511"})
    assert part.status_code == 206
    assert part.content == whole.content[256:512]
    assert client.get(job["links"]["video"], headers={"Range": "bytes=99999-"}).status_code == 416
    assert client.get(f"{url}/files/report.json").status_code == 200
    for _ in range(2):
        gone = client.delete(url)
        assert gone.status_code == 200
        assert gone.json()["state"] == "expired"
        assert gone.json()["links"] == {"self": url}
    assert client.get(f"{url}/report").status_code == 410
    assert url.rpartition("/")[2] not in {folder.name for folder in folders(client)}


@pytest.mark.parametrize(
    "name", ["../report.json", "..%2f..%2fjobs.sqlite", "/etc/passwd", "x", "%00", "results"]
)
def test_only_results_are_given(name: str, client: TestClient, video: bytes) -> None:
    job = send(client, "/predict", video).headers["content-location"]
    answer = client.get(f"{job}/files/{name}")
    assert answer.status_code == 404
    assert code(client.get(f"{job}/timeline")) == "no_result"


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"{}", {}, 422, "invalid"),
        (b'{"file_path": ""}', {}, 422, "invalid"),
        (b'{"file_path": 1}', {}, 422, "invalid"),
        (b'{"file_path": "https://example.com/", "x": 1}', {}, 422, "invalid"),
        (b"[[[[", {}, 422, "invalid"),
        (b"\xff", {}, 422, "invalid"),
        (b"[" * 10000, {}, 422, "invalid"),
        (b" " * 20000, {}, 413, "too_large"),
        (b'{"file_path": "http://example.com/v.mp4"}', {}, 422, "refused_url"),
        (b'{"file_path": "/etc/passwd"}', {}, 422, "refused_url"),
        (b'{"file_path": "file:///etc/passwd"}', {}, 422, "refused_url"),
        (b'{"file_path": "https://127.0.0.1/"}', {}, 422, "refused_url"),
        (b"x", {"content-type": "text/plain"}, 415, "media_type"),
        (b"x", {"content-type": ""}, 415, "media_type"),
        (b"x", {"content-type": "multipart/form-data"}, 400, "malformed"),
        (b"x", {"content-type": "multipart/form-data; boundary=" + "b" * 80}, 400, "malformed"),
        (b"x", {"content-type": "multipart/form-data; boundary=b"}, 400, "malformed"),
        (b"--b\r\n", {"content-type": "multipart/form-data; boundary=b"}, 400, "malformed"),
        (b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}, 422, "invalid"),
    ],
)
def test_bodies_that_are_none(
    body: bytes, headers: dict[str, str], status: int, said: str, client: TestClient
) -> None:
    before = len(folders(client))
    for path in ("/predict", "/jobs"):
        given = {"content-type": "application/json"} | headers
        answer = client.post(path, content=body, headers=given)
        assert answer.status_code == status, answer.text
        assert code(answer) == said
    assert len(folders(client)) == before


def test_forms_that_are_none(client: TestClient) -> None:
    before = len(folders(client))
    for files in (
        {"video": b"x"},
        {"file": b""},
        [("file", b"x"), ("file", b"y")],
        [("file", b"x"), ("other", b"y")],
    ):
        answer = client.post("/jobs", files=files)  # type: ignore[arg-type]
        assert answer.status_code == 422, answer.text
        assert code(answer) == "invalid"
    many = b"".join(b"X-%d: y\r\n" % n for n in range(100))
    head = b'--b\r\nContent-Disposition: form-data; name="file"\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/jobs", content=head + many + b"\r\nx\r\n--b--\r\n", headers=kind)
    assert answer.status_code == 400
    assert len(folders(client)) == before


def test_size_is_held_while_it_comes(serve: Serve) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        while sent < 20 * 2**20:
            sent += 2**16
            yield bytes(2**16)

    kind = {"content-type": "multipart/form-data; boundary=b"}
    with serve(max_upload_mb=1) as client:
        answer = client.post("/jobs", content=endless(), headers=kind)
        assert (answer.status_code, code(answer)) == (413, "too_large")
        told = client.post("/jobs", content=b"", headers=kind | {"content-length": "9999999999"})
        assert (told.status_code, code(told)) == (413, "too_large")
        assert not folders(client)


def test_a_video_that_is_none_fails_alone(serve: Serve, video: bytes) -> None:
    with serve() as client:
        answer = send(client, "/predict", b"no video at all")
        assert (answer.status_code, code(answer)) == (422, "unreadable")
        assert "state" not in answer.text
        assert not folders(client)
        assert send(client, "/predict", video).status_code == 200


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [("crash", 422, "crashed"), ("eat", 422, "too_much_memory"), ("raise", 500, "internal")],
)
def test_a_child_that_breaks_is_one_error(
    how: str, status: int, said: str, serve: Serve, video: bytes
) -> None:
    with serve(task=misbehave, options={"how": how}) as client:
        answer = send(client, "/predict", video)
        assert (answer.status_code, code(answer)) == (status, said)
        assert client.get("/healthcheck").json() == {"healthy": True}
        assert client.get("/metrics").text.count(f'forgery_jobs_total{{end="{said}"}} 1.0') == 1


def test_maps_of_a_model_without_any_are_refused_at_once(serve: Serve, video: bytes) -> None:
    with serve(load=lambda: [StandIn(no_maps="its map is too coarse")]) as client:
        for path in ("/jobs", "/predict"):
            answer = send(client, f"{path}?explained=true", video)
            assert (answer.status_code, code(answer)) == (422, "no_maps")
            said = "the network of stand_in has no heat maps; say explained=false"
            assert answer.json()["error"]["message"] == said
        assert not folders(client)
        assert client.get("/limits").json()["explains"] is False
        assert send(client, "/predict?explained=false", video).status_code == 200


def test_models_that_have_maps_explain_beside_those_without(serve: Serve, video: bytes) -> None:
    def load() -> list[StandIn]:
        return [StandIn(no_maps="its map is too coarse"), StandIn()]

    with serve(load=load, task=tell_explainers) as client:
        answer = send(client, "/predict?explained=true", video)
        assert (answer.status_code, answer.json()["scores"]) == (200, [False, True])
        assert client.get("/limits").json()["explains"] is True


def test_what_takes_long_becomes_a_job(serve: Serve, video: bytes) -> None:
    with serve(wait_s=0.3, options={"wait_s": 1.0}) as client:
        answer = send(client, "/predict", video)
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["links"]["self"]
        until(client, answer.headers["location"], "done")


def test_cancelling_a_job(serve: Serve, video: bytes) -> None:
    with serve(task=misbehave, options={"how": "hang"}) as client:
        first, second = (send(client, "/jobs", video).headers["location"] for _ in range(2))
        until(client, first, "running")
        assert client.get(second).json()["position"] == 0
        assert client.delete(second).json()["state"] == "cancelled"
        client.delete(first)
        client.delete(first)
        assert until(client, first, "cancelled")["error"]["code"] == "cancelled"
        assert client.get(f"{first}/report").status_code == 409
        assert not folders(client)


def test_the_queue_is_bounded(serve: Serve, video: bytes) -> None:
    with serve(task=misbehave, options={"how": "hang"}, queue=2, share=9) as client:
        until(client, send(client, "/jobs", video).headers["location"], "running")
        assert [send(client, "/jobs", video).status_code for _ in range(3)] == [202, 202, 429]
        answer = send(client, "/predict", video)
        assert code(answer) == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1


def test_no_key_fills_the_queue(serve: Serve, video: bytes, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "state" / "keys.json")
    one, other = ({"Authorization": f"Bearer {keys.add(name)}"} for name in ("one", "other"))
    with serve(task=misbehave, options={"how": "hang"}, queue=4, keys=True) as client:
        made = [send(client, "/jobs", video, headers=one) for _ in range(3)]
        assert [answer.status_code for answer in made] == [202, 202, 429]
        assert code(made[2]) == "share_full"
        assert "2 of your videos" in made[2].json()["error"]["message"]
        assert int(made[2].headers["retry-after"]) >= 1
        assert send(client, "/jobs", video, headers=other).status_code == 202
        client.delete(made[1].headers["location"], headers=one)
        assert send(client, "/jobs", video, headers=one).status_code == 202


def test_without_keys_an_address_has_a_share(
    serve: Serve, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(task=misbehave, options={"how": "hang"}, share=1) as client:

        def sent_from(address: str) -> int:
            monkeypatch.setattr(client._transport, "client", (address, 1))
            return int(send(client, "/jobs", video).status_code)

        assert [sent_from("192.0.2.1") for _ in range(2)] == [202, 429]
        assert sent_from("192.0.2.2") == 202
        assert sent_from("2001:db8::1") == 202
        assert sent_from("2001:db8::2") == 429  # addresses of one subscriber
        assert sent_from("2001:db8:0:1::1") == 202


def test_rates(serve: Serve, video: bytes) -> None:
    with serve(rate="2/minute", read_rate="5/minute") as client:
        statuses = [send(client, "/jobs", video).status_code for _ in range(3)]
        assert statuses == [202, 202, 429]
        assert code(send(client, "/predict", video)) == "rate"
        gets = [client.get("/metrics").status_code for _ in range(6)]
        assert gets == [200] * 5 + [429]
        assert client.get("/livez").json() == {"alive": True}
        assert client.head("/livez").status_code == 200
        assert client.head("/healthcheck").status_code == 200


def test_keys(serve: Serve, video: bytes, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "state" / "keys.json")
    mine, theirs = ({"authorization": f"Bearer {keys.add(name)}"} for name in ("me", "they"))
    assert "ffs_" not in (tmp_path / "state" / "keys.json").read_text()
    assert (tmp_path / "state" / "keys.json").stat().st_mode & 0o077 == 0
    with serve(keys=True) as client:
        for headers in ({}, {"authorization": "Bearer ffs_x"}, {"authorization": "Basic a"}):
            answer = send(client, "/jobs", video, headers=headers)
            assert (answer.status_code, code(answer)) == (401, "key")
        url = send(client, "/jobs", video, headers=mine).headers["location"]
        until(client, url, "done", headers=mine)
        for path in (url, f"{url}/report", f"{url}/files/report.json"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=theirs).status_code == 404
            assert client.get(path, headers=mine).status_code == 200
        assert client.delete(url, headers=theirs).status_code == 404
        keys.revoke("me")
        assert client.get(url, headers=mine).status_code == 401
        assert client.get("/healthcheck").json() == {"healthy": True}


def test_health_waits_for_the_model(serve: Serve, video: bytes) -> None:
    go = threading.Event()

    def load() -> Any:
        go.wait(20)
        return [StandIn()]

    with serve(load=load, wait=False) as client:
        assert client.get("/livez").status_code == 200
        answer = client.get("/healthcheck")
        assert (answer.status_code, answer.json()) == (503, {"healthy": False})
        early = send(client, "/predict", video)
        assert (early.status_code, code(early)) == (503, "not_ready")
        assert early.headers["retry-after"]
        assert client.get(f"/jobs/{'0' * 32}").status_code == 503
        go.set()
        deadline = time.monotonic() + 20
        while client.get("/healthcheck").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert send(client, "/predict", video).status_code == 200


def test_draining_finishes_what_runs_and_keeps_the_rest(serve: Serve, video: bytes) -> None:
    with serve(options={"wait_s": 0.7}, drain_s=20) as client:
        first, second = (send(client, "/jobs", video).headers["location"] for _ in range(2))
        until(client, first, "running")
        client.app.state.engine.drain()  # type: ignore[attr-defined]
        assert client.get("/healthcheck").json() == {"healthy": False}
        answer = send(client, "/jobs", video)
        assert (answer.status_code, code(answer)) == (503, "not_ready")
        until(client, first, "done")
        assert client.get(second).json()["state"] == "queued"
    with serve() as client:  # the next life
        until(client, second, "done")
        assert client.get(first).json()["state"] == "done"


def test_what_is_cut_off_at_the_end_is_done_by_the_next(serve: Serve, video: bytes) -> None:
    with serve(task=misbehave, options={"how": "hang"}, drain_s=0.2) as client:
        url = send(client, "/jobs", video).headers["location"]
        until(client, url, "running")
    with serve(task=misbehave) as client:
        store = client.app.state.engine.store  # type: ignore[attr-defined]
        assert store.get(url.rpartition("/")[2]).state in ("queued", "running")
        client.delete(url)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example.com"}, 421),
        ({"host": "127.0.0.1.evil.example.com"}, 421),
        ({"host": "localhost:8000"}, 202),
        ({"host": "[::1]:8000"}, 202),
        ({"origin": "https://evil.example.com"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}, 202),
    ],
)
def test_pages_of_others_cannot_send_videos(
    headers: dict[str, str], status: int, client: TestClient, video: bytes
) -> None:
    assert send(client, "/jobs", video, headers=headers).status_code == status


def test_answers_carry_the_headers_of_safety(client: TestClient) -> None:
    for path in ("/livez", "/jobs/none", "/nothing", "/openapi.json"):
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert code(client.get("/nothing")) == "http"
    assert code(client.get("/jobs/none")) == "invalid"
    assert code(client.get(f"/jobs/{'0' * 32}")) == "no_job"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", f"/jobs/{'0' * 32}", "DELETE, GET"),
        ("GET", "/jobs", "POST"),
        ("HEAD", "/predict", "POST"),
        ("POST", "/healthcheck", "GET, HEAD"),
        ("POST", "/static/app.js", "GET, HEAD"),
    ],
)
def test_other_methods_are_told_which_there_are(
    method: str, path: str, allowed: str, client: TestClient
) -> None:
    refused = client.request(method, path)
    assert refused.status_code == 405
    assert refused.headers["allow"] == allowed


def test_logs_tell_nothing_of_users(
    serve: Serve, video: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.set_up()
    with serve() as client:
        job = send(client, "/predict", video).headers["content-location"]
        client.post("/jobs", json={"file_path": "https://secret.example.com:1/name"})
        client.get("/jobs/../secret?name=secret", headers={"user-agent": "secret"})
    structlog.reset_defaults()
    said = capfd.readouterr().err
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert {"POST", "GET"} <= {line.get("method") for line in lines}
    assert not any(word in said for word in ("secret", job.rpartition("/")[2], "etc", "testclient"))


def test_a_state_folder_with_folders_of_nobody_is_tidied(serve: Serve, tmp_path: Path) -> None:
    left = tmp_path / "state" / "jobs" / ("0" * 32)
    left.mkdir(parents=True)
    (left / "video").write_bytes(b"x")
    young = left.with_name("1" * 32)
    young.mkdir()
    os.utime(left, (0, 0))
    with serve():
        assert not left.exists()
        assert young.exists()


@pytest.mark.parametrize("when", ["waiting", "running"])
def test_a_full_disk_passes(
    when: str, serve: Serve, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    opened = JobStore._open

    def broken(self: JobStore) -> Any:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return opened(self)

    monkeypatch.setattr(JobStore, "_open", broken)
    with serve(options={"wait_s": 1.0}) as client:
        job = None
        if when == "running":
            job = send(client, "/jobs", video).headers["location"]
            until(client, job, "running")
        full.set()
        time.sleep(1.5)
        refused = send(client, "/jobs", video)
        assert refused.status_code == 503
        assert code(refused) == "disk"
        assert refused.headers["retry-after"]
        full.clear()
        if job:
            until(client, job, "done")
        # the worker goes on
        assert send(client, "/predict", video).status_code == 200


def test_an_upload_that_fills_the_disk(
    serve: Serve, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    with serve() as client:
        monkeypatch.setattr("experiments.serving.uploads._Form._data", full)
        refused = send(client, "/jobs", video)
        assert refused.status_code == 503
        assert code(refused) == "disk"
        assert "secret" not in refused.text
        assert not folders(client)


def test_who_drained_does_not_wait_again(serve: Serve, video: bytes) -> None:
    with serve(options={"wait_s": 19.0}, drain_s=30.0) as client:
        until(client, send(client, "/jobs", video).headers["location"], "running")
        client.app.state.engine.drain()  # type: ignore[attr-defined]
        start = time.monotonic()
    assert time.monotonic() - start < 15


def test_a_report_names_no_place_of_the_server(serve: Serve, video: bytes) -> None:
    with serve(task=tell_facts) as client:
        facts = send(client, "/predict", video).json()["scores"]
    assert facts == {"source": "stand_in", "code": code_version()}


def test_guessing_keys_is_slowed_down(serve: Serve, tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "state" / "keys.json").add("me")
    with serve(keys=True, read_rate="5/minute") as client:
        headers = {"authorization": "Bearer ffs_guess"}
        statuses = [client.get("/metrics", headers=headers).status_code for _ in range(7)]
        assert statuses == [401] * 5 + [429] * 2
        headers = {"authorization": f"Bearer {key}"}
        assert client.get("/metrics", headers=headers).status_code == 200


def test_no_key_holds_all_places_of_uploads() -> None:
    places = Places(4)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(places.hold("me"))
        with pytest.raises(RequestError), places.hold("me"):
            pass
        for _ in range(2):
            held.enter_context(places.hold("they"))
        with pytest.raises(RequestError), places.hold("others"):
            pass
    # without keys nobody is told from another
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(places.hold(""))
