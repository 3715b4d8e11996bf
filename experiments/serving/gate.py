"""What every request passes: host and origin checks, headers of safety, one line of log."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders

from experiments.serving.logs import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.serving.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Style sheets that plotly.js 4.1.1 writes into the page as it is loaded, by digest: an empty one,
#: whose rules it adds by script, and one of the maps that it brings along.
_CHART_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
    "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
)
#: The page brings everything itself and is framed by nobody.
_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_CHART_STYLES}; "
    "font-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Gate:
    """The outermost layer of the server.

    Args:
        app: What is behind it.
        metrics: Where requests are counted.
        hosts: Names under which the server may be asked; any if empty. On loopback a page of any
            site may send a browser here under a name of its own (DNS rebinding).
        on_loopback: Whether the server listens there.
    """

    def __init__(self, app: Any, metrics: Metrics, hosts: Sequence[str], on_loopback: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = frozenset((*hosts, *_LOCAL) if hosts or on_loopback else ())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens behind."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        start = time.monotonic()
        try:
            wrong = self._wrong(Headers(scope=scope), scope["method"])
            if wrong is not None:
                await answer.refuse(*wrong)
            else:
                await self._app(scope, receive, answer.send)
        except Exception as error:  # nothing of it may reach the client but that it happened
            log("request failed", error=type(error).__name__)
            await answer.refuse(500, "internal", "the server failed")
        finally:
            seconds = time.monotonic() - start
            self._note(scope, answer.status, seconds)

    def _wrong(self, headers: Headers, method: str) -> tuple[int, str, str] | None:
        host = headers.get("host", "").lower()
        name = host[: host.rindex("]") + 1] if "]" in host else host.partition(":")[0]
        if self._hosts and name not in self._hosts:
            return 421, "wrong_host", "this server is not known under that name"
        if method in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2].lower() != host
        # a page of another site must not make a browser send videos here
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "cross_site", "requests from pages of other sites are refused"
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = getattr(scope.get("route"), "path", None) or "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request_ended(method, path, status, seconds)
        key = scope.get("state", {}).get("key")
        log("request", method=method, path=path, status=status, ms=round(seconds * 1e3), key=key)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Answer:
    """Adds the headers to an answer, and knows whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 499  # the client left before there was any

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    async def refuse(self, status: int, code: str, message: str) -> None:
        if self.status != 499:
            return
        body = json.dumps({"error": {"code": code, "message": message}}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
