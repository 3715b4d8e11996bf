"""How a job may fail: a code for programs, one line for people."""

from __future__ import annotations

#: Code of a failed job -> HTTP status with which it is told. The file or URL is the client's, so
#: that what it does to its decoder is no error of the server's.
STATUS_OF = {
    "refused_url": 422,
    "fetch_failed": 422,
    "too_large": 413,
    "over_limits": 422,
    "unreadable": 422,
    "too_slow": 422,
    "too_much_memory": 422,
    "crashed": 422,
    "cancelled": 409,
    "expired": 410,
    "interrupted": 503,
    "internal": 500,
}


class JobError(Exception):
    """Say why a job has no result.

    Attributes:
        code: One of `STATUS_OF`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
