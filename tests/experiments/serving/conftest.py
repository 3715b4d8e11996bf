"""A server in this process, with a network that needs no weights."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from experiments.serving.app import create_app
from experiments.serving.engine import Engine
from experiments.serving.settings import Settings
from tests.support.serving import StandIn, quick
from tests.support.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Serve = Callable[..., AbstractContextManager[TestClient]]

QUICK: dict[str, Any] = {
    "workers": 1,
    "rate": "1000/second",
    "read_rate": "10000/second",
    "min_free_mb": 0,
    "drain_s": 1.0,
    "job_memory_mb": 1024,
    "job_s": 20,
    "unconfined": True,  # what kernels of test machines can do is shown by test_confined
}


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", 10).read_bytes()


@contextmanager
def serving(
    state: Path,
    task: Any = quick,
    options: dict[str, Any] | None = None,
    load: Callable[[], Any] = lambda: [StandIn()],
    wait: bool = True,
    **settings: Any,
) -> Iterator[TestClient]:
    engine = Engine(Settings(state_dir=state, **(QUICK | settings)), load, task, options=options)
    with TestClient(
        create_app(engine), "http://127.0.0.1", raise_server_exceptions=False
    ) as client:
        deadline = time.monotonic() + 30
        while wait and not engine.loaded and time.monotonic() < deadline:
            time.sleep(0.02)
        yield client


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Make servers on one state folder."""

    def made(**given: Any) -> AbstractContextManager[TestClient]:
        return serving(tmp_path / "state", **given)

    return made


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Use one server for the tests that leave it as it was."""
    with serving(tmp_path_factory.mktemp("server")) as client:
        yield client
