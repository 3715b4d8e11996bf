"""Fetch a video from a URL that a stranger gave, without reaching what only we can reach.

A name is resolved once, all its addresses are checked, and the connection goes to the checked
address (TLS still proves the *name*): a second answer of the resolver cannot lead elsewhere. Each
redirect begins anew. Everything counts against one deadline and one number of bytes, whatever the
server promises.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpcore2

from experiments.serving.addresses import (
    Address,
    FetchError,
    Network,
    Target,
    check_address,
    parse_url,
)

if TYPE_CHECKING:
    import ssl

Resolver = Callable[[str, int], list[str]]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Bytes beside the body that all answers of one fetch may have: headers and framing. [ours]
_OVERHEAD_BYTES = 2**20
_USER_AGENT = b"face-forgery-suite"


@dataclass(frozen=True)
class FetchLimits:
    """What may be fetched, and how much of it.

    Attributes:
        schemes: Allowed schemes.
        ports: Allowed ports.
        max_bytes: Largest file in bytes.
        total_s: Seconds from the name's resolution to the last byte.
        connect_s: Seconds for one connection.
        idle_s: Seconds that the host may be silent.
        max_redirects: Redirects that are followed.
        allowed: Networks that may be reached although they are not public; for laboratories.
    """

    schemes: tuple[str, ...] = ("https",)
    ports: tuple[int, ...] = (443, 8443)
    max_bytes: int = 512 * 2**20
    total_s: float = 120.0
    connect_s: float = 10.0
    idle_s: float = 15.0
    max_redirects: int = 5
    allowed: tuple[Network, ...] = ()


def check_url(url: str, limits: FetchLimits) -> None:
    """Refuse at once, without a network, what would be refused in any case.

    Raises:
        FetchError: Says what is wrong with the URL.
    """
    parse_url(url, limits.schemes, limits.ports, limits.allowed)


def fetch_video(
    url: str,
    folder: Path,
    limits: FetchLimits | None = None,
    *,
    resolve: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Fetch a file into a folder, under a random name.

    Args:
        url: Where it lies.
        folder: Where it goes; nothing is left there unless the whole file came.
        limits: What is allowed.
        resolve: Gives all addresses of a host and port; the system's resolver unless given.
        ssl_context: How a server proves its name; the system's certificates unless given.
        cancelled: Asked between pieces whether to give up.

    Returns:
        The file; the caller removes it.

    Raises:
        FetchError: The URL may not be asked for, or the file did not come, or is too large.
        OSError: The folder takes no more.
    """
    limits = limits or FetchLimits()
    backend = _PinnedBackend(limits, resolve or system_addresses, cancelled)
    path = folder / f"fetched-{secrets.token_hex(16)}"
    try:
        with httpcore2.ConnectionPool(
            ssl_context=ssl_context, http2=False, retries=0, network_backend=backend
        ) as pool:
            _fetch(pool, url, path, limits)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, _FAILURES):
            raise _told(error) from None
        raise
    return path


_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
)


def _told(error: Exception) -> FetchError:
    """Turn an error of the transport into one line that gives nothing of our network away."""
    if isinstance(error, httpcore2.TimeoutException):
        return FetchError("the host of the URL did not answer in time", "fetch_failed")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return FetchError(
            "the host of the URL does not prove its name (its certificate is not valid)",
            "fetch_failed",
        )
    if isinstance(error, httpcore2.ConnectError):
        return FetchError("the host of the URL takes no connection", "fetch_failed")
    return FetchError(
        "the answer broke off or is not well-formed; fetch the file and upload it", "fetch_failed"
    )


def _fetch(pool: httpcore2.ConnectionPool, url: str, path: Path, limits: FetchLimits) -> None:
    for _ in range(limits.max_redirects + 1):
        target = parse_url(url, limits.schemes, limits.ports, limits.allowed)
        with _answer(pool, target) as answer:
            if answer.status not in _REDIRECTS:
                _save(answer, path, limits.max_bytes)
                return
            url = _redirect(url, _header(answer, b"location"))
    raise FetchError(f"the URL is redirected more than {limits.max_redirects} times")


def _answer(
    pool: httpcore2.ConnectionPool, target: Target
) -> contextlib.AbstractContextManager[Any]:
    """Ask for a target, its parts given one by one: nothing parses the URL a second time."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    usual = {"https": 443, "http": 80}[target.scheme] == target.port
    return pool.stream(
        b"GET",
        httpcore2.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.target.encode(),
        ),
        headers=[
            (b"Host", (host if usual else f"{host}:{target.port}").encode()),
            (b"Accept", b"video/*, application/octet-stream;q=0.9, */*;q=0.1"),
            # a body that unpacks to more than was sent would slip past the count of bytes
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", _USER_AGENT),
            (b"Connection", b"close"),
        ],
    )


def _header(answer: Any, name: bytes) -> str:
    found = [value for key, value in answer.headers if key.lower() == name]
    return found[0].decode("latin-1").strip() if found else ""


def _redirect(url: str, location: str) -> str:
    if not location:
        raise FetchError("the URL is redirected to nowhere", "fetch_failed")
    # what a browser would drop silently is what hides another host
    if re.search(r"[\x00-\x20\\\x7f]", location):
        raise FetchError("the URL is redirected to one with characters that must be quoted")
    return urljoin(url, location).partition("#")[0]


def _save(answer: Any, path: Path, max_bytes: int) -> None:
    if answer.status != 200:
        raise FetchError(f"the host of the URL answers {answer.status}, not 200", "fetch_failed")
    if _header(answer, b"content-encoding").lower() not in ("", "identity"):
        raise FetchError(
            "the host sends a compressed body, which was not asked for", "fetch_failed"
        )
    if _header(answer, b"content-type").lower().startswith("text/html"):
        raise FetchError("the URL leads to a web page; give that of the video file", "fetch_failed")
    length = _header(answer, b"content-length")
    too_large = FetchError(f"the file is larger than {max_bytes} bytes", "too_large")
    if length.isdecimal() and (len(length) > 18 or int(length) > max_bytes):
        raise too_large
    received = 0
    with path.open("xb") as file:
        for piece in answer.iter_stream():
            received += len(piece)
            if received > max_bytes:
                raise too_large
            file.write(piece)
    if not received:
        raise FetchError("the host of the URL sends an empty file", "fetch_failed")


def system_addresses(host: str, port: int) -> list[str]:
    """Ask the system's resolver for all addresses of a host.

    Raises:
        OSError: It knows none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class _PinnedBackend(httpcore2.SyncBackend):
    """Connects to checked addresses alone, and gives streams that end at the deadline."""

    def __init__(
        self, limits: FetchLimits, resolve: Resolver, cancelled: Callable[[], bool]
    ) -> None:
        self._limits = limits
        self._resolve = resolve
        self.budget = _Budget(
            time.monotonic() + limits.total_s,
            limits.idle_s,
            limits.max_bytes + _OVERHEAD_BYTES,
            cancelled,
        )

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = self._addresses(host, port)
        for number, address in enumerate(addresses):
            left = min(self._limits.connect_s, self.budget.left_s())
            try:
                stream = super().connect_tcp(str(address), port, left, None, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses) - 1:
                    raise
            else:
                return _BudgetStream(stream, self.budget)
        raise FetchError("the name of the host is unknown", "fetch_failed")

    def _addresses(self, host: str, port: int) -> list[Address]:
        """Resolve a name once; one closed address among its answers refuses it as a whole."""
        try:
            found: list[Address] = [ipaddress.ip_address(host)]
        except ValueError:
            texts = _within(self.budget.left_s(), lambda: self._resolve(host, port))
            try:
                found = [ipaddress.ip_address(text) for text in texts]
            except ValueError:
                raise FetchError("the name of the host has no usable address") from None
        for address in found:
            check_address(address, self._limits.allowed)
        return found

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Any = None
    ) -> httpcore2.NetworkStream:
        raise FetchError("the URL leads to no host")


def _within(seconds: float, resolve: Callable[[], list[str]]) -> list[str]:
    """Resolve in a thread of its own: a resolver knows no deadline."""
    answers: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve())
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True, name="resolve").start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise FetchError("the name of the host was not resolved in time", "fetch_failed") from None
    if isinstance(answer, Exception):
        raise FetchError("the name of the host is unknown", "fetch_failed")
    return answer


@dataclass
class _Budget:
    """What all connections of one fetch may still take."""

    deadline: float
    idle_s: float
    bytes_left: int
    cancelled: Callable[[], bool]

    def left_s(self) -> float:
        """Give the seconds that are left.

        Raises:
            FetchError: None are, or nobody wants the file any more.
        """
        if self.cancelled():
            raise FetchError("the fetch was cancelled", "cancelled")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise FetchError("the file did not come within the time limit", "fetch_failed")
        return left

    def take(self, count: int) -> None:
        """Count received bytes.

        Raises:
            FetchError: There were too many.
        """
        self.bytes_left -= count
        if self.bytes_left < 0:
            raise FetchError("the host of the URL sends more than the limit", "too_large")


class _BudgetStream(httpcore2.NetworkStream):
    """A connection whose every step counts against the budget: a slow sender gains nothing."""

    def __init__(self, stream: httpcore2.NetworkStream, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._wait())
        self._budget.take(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._wait())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._wait())
        return _BudgetStream(stream, self._budget)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _wait(self) -> float:
        return min(self._budget.left_s(), self._budget.idle_s)
