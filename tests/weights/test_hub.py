"""A hub that does not answer costs a second or two, and the cache still counts."""

from __future__ import annotations

import socket
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from lightning_modules import FrameAverage
from lightning_modules.backbones.image_encoder import Library
from weights.errors import WeightsError
from weights.hub import cache_if_out_of_reach, is_of_client

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Of timm, with weights on the hub alone.
ENCODER, TAG = "test_vit", "r160_in1k"
#: Nobody listens at the first port.
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that is not there."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


class _Asked(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A mirror, which has no page at its root."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Asked) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def method(encoder: str = ENCODER, library: Library = "timm", size: int = 160) -> FrameAverage:
    torch.manual_seed(0)
    return FrameAverage(partial(torch.optim.Adam, lr=0.1), encoder, library, image_size=size)


def test_without_an_answer_the_cache_alone_counts() -> None:
    with cache_if_out_of_reach() as reason:
        assert reason.startswith(f"{NOBODY} cannot be reached: ")
        assert constants.HF_HUB_OFFLINE
        assert socket.getdefaulttimeout() == constants.HF_HUB_ETAG_TIMEOUT
    assert not constants.HF_HUB_OFFLINE
    assert socket.getdefaulttimeout() is None


@pytest.mark.usefixtures("mirror")
def test_any_answer_will_do() -> None:
    with cache_if_out_of_reach() as reason:
        assert reason == ""
        assert not constants.HF_HUB_OFFLINE


def test_who_wants_no_network_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("the hub was asked"))
    with cache_if_out_of_reach() as reason:
        assert reason == "HF_HUB_OFFLINE is set"
    assert constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("encoder", "library", "weights"),
    [(ENCODER, "timm", "imagenet"), ("ViT-S-32-alt", "open_clip", "hub")],
)
def test_weights_that_are_out_of_reach_are_said_soon_and_in_one_line(
    encoder: str, library: Library, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The small network has no weights of its own there.
    tags = {"ViT-S-32-alt": {"hub": {"hf_hub": "nobody/nothing/"}}}
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr("open_clip.pretrained._PRETRAINED", tags)
    module = method(encoder, library)
    with pytest.raises(WeightsError) as caught:
        module.load_pretrained(weights)
    assert sum(waited) < 3
    text = str(caught.value)
    assert "\n" not in text
    assert f"{NOBODY} cannot be reached" in text
    assert "the cache has no copy); without access to the internet give a file" in text


def test_a_filled_cache_needs_no_hub(cache: Path) -> None:
    torch.manual_seed(1)
    state = timm.create_model(ENCODER).state_dict()
    repository = cache / f"models--timm--{ENCODER}.{TAG}"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    save_file(state, repository / "snapshots" / commit / "model.safetensors")
    module = method()
    module.load_pretrained("imagenet")
    own = module.network.encoder.network.state_dict()
    assert all(own[key].equal(state[key]) for key in own)


def test_errors_of_http_clients_are_known() -> None:
    client = type("ReadTimeout", (Exception,), {"__module__": "httpx._exceptions"})
    assert is_of_client(client())
    assert not is_of_client(ValueError())
