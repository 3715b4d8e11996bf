"""Whether the Hugging Face hub answers: asked before its client waits for what never comes."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How often the hub is asked, and the pause between in seconds. Its client asks six times with
#: growing pauses, about 25 seconds a file, and the libraries look for up to two files. [ours]
_TRIES, _PAUSE_S = 2, 1.0

#: Modules of the HTTP clients that versions of the hub are built on: what fails there is raised as
#: an error of theirs.
_CLIENTS = ("httpx", "requests", "urllib3")


def is_of_client(error: BaseException) -> bool:
    """Tell whether an error is one of an HTTP client's, most of which share no class with others.

    Args:
        error: What was raised.
    """
    return any(kind.__module__.startswith(_CLIENTS) for kind in type(error).__mro__)


@contextmanager
def cache_if_out_of_reach() -> Iterator[str]:
    """Take files of the hub from the cache alone, for a block, where the hub does not answer.

    The hub's own client asks, so that mirrors (`HF_ENDPOINT`), proxies and certificates are those
    of a download, and `HF_HUB_ETAG_TIMEOUT` (10 seconds by default) is how long it waits; as long
    waits a download that does not pass through the hub. `HF_HUB_OFFLINE` asks nobody.

    Yields:
        Why the cache alone counts, empty if the hub answers.
    """
    from huggingface_hub import constants

    patience_s = socket.getdefaulttimeout()
    offline = constants.HF_HUB_OFFLINE
    reason = "HF_HUB_OFFLINE is set" if offline else _out_of_reach()
    try:
        # The client looks at it with every request.
        constants.HF_HUB_OFFLINE = bool(reason)
        # torch.hub, where timm's older weights come from, would wait for minutes.
        socket.setdefaulttimeout(constants.HF_HUB_ETAG_TIMEOUT)
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(patience_s)


def _out_of_reach() -> str:
    from huggingface_hub import constants, get_session

    reason = ""
    for attempt in range(_TRIES):
        time.sleep(_PAUSE_S if attempt else 0)
        try:
            # Any answer will do, a refusal too: mirrors have no page there.
            get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        except Exception as error:
            if not (isinstance(error, OSError) or is_of_client(error)):
                raise
            reason = f"{constants.ENDPOINT} cannot be reached: {error}"
        else:
            return ""
    return reason
