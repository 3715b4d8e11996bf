"""A real S3 API server on the loopback device, and a proxy that counts and cuts its answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def free_port() -> int:
    """Find a port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a server until the block ends.

    Yields:
        Its URL.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def s3_environment(endpoint: str) -> dict[str, str]:
    """Give the variables by which every S3 client finds the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


class CuttingProxy:
    """Passes bytes on, counts those of the answers, and can cut every connection after some.

    Args:
        upstream: URL of the server.

    Attributes:
        num_bytes: Bytes of answers passed on.
        cut_after: Cut whatever would go beyond so many more bytes; None for never.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = int(upstream.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.num_bytes = 0
        self.cut_after: int | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def heal(self) -> None:
        """Cut no more."""
        self.cut_after = None

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._upstream))
                for source, sink in ((client, server), (server, client)):
                    arguments = (source, sink, source is server)
                    threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answer: bool) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                allowed = self._allowed(len(content)) if answer else len(content)
                sink.sendall(content[:allowed])
                if allowed < len(content):
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _allowed(self, count: int) -> int:
        with self._lock:
            left = self.cut_after
            if left is not None:
                count = min(count, left)
                self.cut_after = left - count
            self.num_bytes += count
            return count
