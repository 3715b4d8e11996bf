"""What all tests share: no network, few threads, and nothing left in the environment."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import torch

from experiments.run_folder import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave the machine."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            try:
                local = ipaddress.ip_address(host).is_loopback
            except ValueError:
                local = host == "localhost"
            if not local:
                raise RuntimeError(f"a test tried to reach {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test its own run folder and no key."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    yield
    os.environ.pop(ENVIRONMENT, None)


@pytest.fixture(autouse=True)
def unchanged_priority() -> Iterator[None]:
    """Refuse a test that leaves its process another class of priority.

    Tests after it, and all that they start, would keep the other programs from running.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    after = os.sched_getscheduler(0)
    if after != before:
        os.sched_setscheduler(0, before, os.sched_param(0))
        pytest.fail(f"the test left the scheduling policy {after} instead of {before}")


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """The real videos beside the repository, where they exist."""
    videos = SHARED / "videos"
    if not (videos / "manifest.csv").is_file():
        pytest.skip("needs ../shared/videos (real faces and published fakes), which is not here")
    return videos
