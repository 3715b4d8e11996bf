"""Who may ask, how often, and what is said to those who may not."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter

from experiments.errors import UsageError
from experiments.serving.jobs import QueueFullError, ShareFullError
from experiments.serving.uploads import RequestError

if TYPE_CHECKING:
    from experiments.serving.engine import Engine
    from experiments.serving.settings import Settings

_bearer = HTTPBearer(auto_error=False, description="an API key, if the operator asks for one")


class Rates:
    """Rates of requests.

    Args:
        settings: Of the server.

    Raises:
        UsageError: A rate or the storage of their counts is none.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            self.jobs, self.reads = parse(settings.rate), parse(settings.read_rate)
            storage = storage_from_string(settings.rate_storage)
        except Exception as error:  # of the library or of a driver that it lacks
            raise UsageError(
                f"--rate, --read-rate or --rate-storage cannot be used ({error}); say for example "
                "60/minute and memory://"
            ) from error
        self._limiter = MovingWindowRateLimiter(storage)

    def take(self, rate: RateLimitItem, who: str) -> None:
        """Count a request.

        Raises:
            RequestError: There were too many.
        """
        if not self._limiter.hit(rate, who):
            headers = {"Retry-After": str(max(1, rate.get_expiry() // max(1, rate.amount)))}
            raise RequestError(429, "rate", f"more than {rate}; wait, and try again", headers)


def engine_of(request: Request) -> Engine:
    """Find the engine of the server that a request came to."""
    engine: Engine = request.app.state.engine
    return engine


def owner(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> str:
    """Tell whose request it is.

    Returns:
        The identity of the key; empty without keys.

    Raises:
        RequestError: A key is needed and was not given, or is none, or that came too often.
    """
    engine = engine_of(request)
    rates: Rates = request.app.state.rates
    if not engine.settings.with_keys:
        return ""
    key = None if given is None else engine.keys.find(given.credentials)
    if key is None:
        rates.take(rates.reads, f"stranger {_address(request)}")
        headers = {"WWW-Authenticate": "Bearer"}
        raise RequestError(401, "key", "send a key: 'Authorization: Bearer <key>'", headers)
    request.state.key = key.identity
    return key.identity


Owner = Annotated[str, Depends(owner)]


def reader(request: Request, who: Owner) -> str:
    """Count a request that only reads; tell whose it is."""
    rates: Rates = request.app.state.rates
    rates.take(rates.reads, f"read {client_of(request, who)}")
    return who


def maker(request: Request, who: Owner) -> str:
    """Count a request for a new job, and see that there is room for it; tell whose it is.

    Raises:
        RequestError: The server takes none now.
    """
    engine = engine_of(request)
    rates: Rates = request.app.state.rates
    if not engine.healthy:
        said = "is shutting down" if engine.loaded else "is still loading its model"
        raise RequestError(503, "not_ready", f"the server {said}", {"Retry-After": "10"})
    rates.take(rates.jobs, f"make {client_of(request, who)}")
    try:
        engine.store.check_room(client_of(request, who))
    except QueueFullError as error:
        raise full(engine, error) from None
    if not engine.has_disk():
        raise RequestError(503, "disk", "the server's disk is full", {"Retry-After": "60"})
    return who


def full(engine: Engine, error: QueueFullError) -> RequestError:
    """Say that the queue, or a client's share of it, is full, and when to come back."""
    queued, workers = engine.store.count("queued"), engine.settings.workers
    wait_s = engine.metrics.retry_after_s(queued, workers)
    headers, later = {"Retry-After": str(wait_s)}, f"come back in {wait_s} s"
    if isinstance(error, ShareFullError):
        share = engine.settings.jobs_of_client
        said = f"{share} of your videos wait or run, and no more may at once; {later}"
        return RequestError(429, "share_full", said, headers)
    return RequestError(429, "queue_full", f"the queue is full; {later}", headers)


def client_of(request: Request, who: str) -> str:
    """Tell whose share a request takes: its key's, or its address's where there are no keys."""
    return who or _address(request)


def _address(request: Request) -> str:
    """Give the sender's address; of IPv6 the network of 64 bits that one subscriber has."""
    host = request.client.host if request.client else "?"
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
            return str(ipaddress.ip_network(f"{host.partition('%')[0]}/64", strict=False))
    return host


Reader = Annotated[str, Depends(reader)]
Maker = Annotated[str, Depends(maker)]
