"""Run the web server until it is told to end, and let it end well."""

from __future__ import annotations

import socket
import sys
import threading
import time
from types import FrameType

import uvicorn

from experiments.errors import UsageError
from experiments.serving.app import create_app
from experiments.serving.engine import Engine

#: Seconds that open connections get after the jobs. [ours]
_CONNECTIONS_S = 5
#: Connections at once; who comes beyond them gets 503 at once. [ours]
_MAX_CONNECTIONS = 512
#: Connections that the kernel holds until they are taken, as uvicorn has it.
_BACKLOG = 2048


class DrainingServer(uvicorn.Server):
    """Lets running jobs end before it goes; a second signal does not wait.

    Args:
        config: Of uvicorn.
        engine: What works on the jobs.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, at SIGTERM or Ctrl-C."""
        if self._engine.draining or not self._engine.loaded:
            super().handle_exit(sig, frame)
            return
        # in a thread: a signal may come while this one holds the locks of the workers
        threading.Thread(target=self._leave, daemon=True, name="leave").start()

    def _leave(self) -> None:
        """Keep answering, with 503 to new videos, until the jobs are done."""
        self._engine.drain()
        deadline = time.monotonic() + self._engine.settings.drain_s
        while self._engine.workers.active and time.monotonic() < deadline:
            time.sleep(0.05)
        # one more look of the requests that wait for the last job
        time.sleep(0.5)
        self.should_exit = True


def run_server(engine: Engine) -> None:
    """Serve until the process is told to end; running jobs are done before that.

    Args:
        engine: What answers.

    Raises:
        UsageError: A rate is none, the address is taken, or the model cannot be loaded.
    """
    settings = engine.settings
    config = uvicorn.Config(
        create_app(engine),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http="h11",
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_CONNECTIONS_S,
    )
    sockets = _listen(settings.host, settings.port)
    server = DrainingServer(config, engine)
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    engine.on_failure = failed
    sys.stderr.write(f"http://{settings.host}:{settings.port} is up once the model is loaded\n")
    server.run(sockets)
    if failures:
        raise UsageError(str(failures[0]) or type(failures[0]).__name__) from failures[0]


def _listen(host: str, port: int) -> list[socket.socket]:
    """Open the sockets of all addresses of a host, before anything slow is done.

    Raises:
        UsageError: The host has none here, or the port is taken or not allowed.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            # of a name with several addresses all get the port that the first one was given
            chosen = sockets[0].getsockname()[1] if sockets else address[1]
            sockets.append(
                socket.create_server(
                    (address[0], chosen), family=family, backlog=_BACKLOG, dualstack_ipv6=False
                )
            )
    except OSError as error:
        for one in sockets:
            one.close()
        raise UsageError(
            f"--host, --port: {host}:{port} cannot be listened on ({error.strerror or error}); "
            "name another"
        ) from error
    return sockets
