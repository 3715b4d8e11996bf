"""An S3 server for the tests that need one, started once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.support.s3 import CuttingProxy, s3_environment, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("moto.server", reason="needs moto[server], of the extra `dev`")
    pytest.importorskip("s3fs", reason="needs the extra `s3`")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name an empty cache folder in the environment."""
    monkeypatch.setenv("FORGERY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORGERY_CACHE_GB", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def bucket(s3_endpoint: str, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Make an empty bucket and put the way to it into the environment; gives `s3://name`."""
    import s3fs

    for name, value in s3_environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid4().hex[:12]}"
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    # Clients remember the endpoint and the keys that they were made with.
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def proxy(bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    """Put a proxy before the server of the bucket."""
    import s3fs

    proxy = CuttingProxy(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.close()
