"""Everything that the OpenAPI allows, and much that it does not, gets an answer that it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.support.stand_in_server import running

#: Left out: what is no video is refused although the OpenAPI allows its bytes, and a job that was
#: cancelled is still shown.
NOT_CHECKED = (
    "positive_data_acceptance,use_after_free,ensure_resource_availability,negative_data_rejection"
)


@pytest.mark.parametrize(
    "seconds", [10, pytest.param(300, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_no_request_makes_the_server_fail(seconds: int, tmp_path: Path) -> None:
    program = shutil.which("schemathesis", path=Path(sys.executable).parent)
    assert program is not None
    often = "100000/second"
    limits = {"RATE": often, "READ_RATE": often, "QUEUE": "1000", "WAIT_S": "1", "WORKERS": "2"}
    with running(tmp_path / "state", **limits) as (url, _):
        done = subprocess.run(
            [
                *(program, "run", f"{url}/openapi.json", "--exclude-checks", NOT_CHECKED),
                *("--max-time", str(seconds), "--max-examples", str(seconds), "--no-color"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=seconds + 60,
        )
        assert httpx2.get(f"{url}/healthcheck").json() == {"healthy": True}
    found = re.search(r"(\d+) generated", done.stdout)
    assert found, done.stdout
    assert int(found[1]) > 20
    assert done.returncode == 0, done.stdout
