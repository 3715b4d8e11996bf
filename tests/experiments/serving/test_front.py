"""What the page is made of."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from experiments.serving.settings import Settings

if TYPE_CHECKING:
    from fastapi.testclient import TestClient


def test_limits_are_told_without_a_key(client: TestClient) -> None:
    told = client.get("/limits").json()
    settings = Settings()
    assert told["needs_key"] is False
    assert told["max_upload_bytes"] == settings.max_upload_bytes
    assert told["max_duration_s"] == settings.max_duration_s
    assert told["kept_s"] == settings.ttl_s
    assert client.post("/limits").headers["allow"] == "GET"


def test_the_page_comes_without_anything_inline(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    html = answer.text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)
    sources = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert "app.js" in sources
    for source in sources:
        assert client.get(f"/{source}").status_code == 200, source


def test_all_scripts_are_there_and_alone(client: TestClient) -> None:
    waiting, seen = ["app.js"], set()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        answer = client.get(f"/{name}")
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "innerHTML" not in answer.text
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        imported = re.findall(r'from "\./(\w+\.js)"', answer.text)
        waiting += [name for name in imported if name not in seen]
    assert "chart.js" in seen


def test_the_chart_s_script_is_packed_and_kept(client: TestClient) -> None:
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    packed = client.get("/static/plotly.min.js")
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(script) / 2
    assert packed.content == script
    plain = client.get("/static/plotly.min.js", headers={"Accept-Encoding": "identity"})
    assert plain.content == script
    again = {"If-None-Match": packed.headers["etag"]}
    assert client.get("/static/plotly.min.js", headers=again).status_code == 304
    assert "max-age=604800" in packed.headers["cache-control"]


def test_the_policy_names_the_empty_style_sheet(client: TestClient) -> None:
    digest = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    assert f"'sha256-{digest}'" in client.get("/").headers["content-security-policy"]
