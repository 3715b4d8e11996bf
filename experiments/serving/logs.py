"""Logs of the server: one JSON object a line on standard error, and nothing of any user in it.

No addresses, no URLs, no file names, no scores, no keys and no job ids stand in a line; a key is
named by the start of its hash.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def set_up() -> None:
    """Send our lines to standard error, and let the web server itself say only what went wrong."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        # looked up at each line: whoever embeds the server may have replaced it
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # its access lines hold addresses and paths
    logging.getLogger("uvicorn.access").disabled = True
    # a warning for each malformed request would let anybody fill the log
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)


def log(event: str, **facts: Any) -> None:
    """Write a line.

    Args:
        event: What happened.
        facts: Plain values that tell nothing of a user.
    """
    structlog.get_logger().info(event, **facts)
