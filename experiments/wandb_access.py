"""Whether W&B can be reached, without asking it."""

from __future__ import annotations

import netrc
import os
from urllib.parse import urlsplit


def has_key() -> bool:
    """Tell whether a key is set or `wandb login` left one; nothing is sent anywhere."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    # `wandb login` keeps the key here; asking wandb itself would reach for the network.
    server = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(server) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def project() -> str:
    """Return the name of the project that runs are logged into."""
    return os.environ.get("WANDB_PROJECT", "face-forgery-suite")
