"""Errors of the programs that a user can mend."""

from __future__ import annotations

import errno
import re

#: How the parser goes on behind the reason of the attempt that was meant.
_OTHER_ATTEMPTS = re.compile(
    r"- (?:Expected a <class 'NoneType'>|Not a valid subclass|Problem with given class_path "
    r"'pytorch_lightning\.Callback')"
)
#: What the system says of a place where nothing can be written.
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class UsageError(Exception):
    """Say in one line what was typed, what is wrong with it, and what to type instead."""


def parser_reason(text: str) -> str:
    """Pick the reason out of a parser's report, which shows all that it tried and was given.

    Args:
        text: What jsonargparse says.

    Returns:
        The reason in one line.
    """
    tried = _OTHER_ATTEMPTS.split(text.rpartition("Errors:")[2])[0]
    key = re.search(r'Parser key "([^"]+)"', text)
    reason = " ".join((tried or text).split()).removeprefix("- ")
    return f"{key[1]}: {reason}" if key and key[1] not in reason else reason


def told(error: Exception) -> str:
    """Say a mistake that the user can mend in one line.

    Args:
        error: Names the thing and the remedy, unless the system refused something.
    """
    if isinstance(error, OSError) and error.errno in _REFUSED and error.filename:
        return f"{error.filename}: {error.strerror}; make it writable, or write elsewhere"
    return " ".join(str(error).split())
