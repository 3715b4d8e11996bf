"""What a child and its parent say to each other: JSON lines and plain arrays, never pickles.

A child reads files of strangers and may have been taken over by one: its parent believes nothing
of what it says, and takes only arrays of the shape and type that it expects.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Bytes of a message without its array. [ours]
_MAX_HEADER = 16384
#: Characters of a text that a child may have shown to people. [ours]
_MAX_TEXT = 500


class WireError(Exception):
    """Say that the other side does not keep to the protocol."""


def send(pipe: Connection, message: dict[str, Any], *arrays: NDArray[Any]) -> None:
    """Send a message, and arrays behind it.

    Args:
        pipe: To the other side.
        message: Plain values.
        arrays: Their shapes and types the other side knows, or finds in the message.

    Raises:
        OSError: The other side is gone.
    """
    pipe.send_bytes(json.dumps(message).encode())
    for array in arrays:
        pipe.send_bytes(np.ascontiguousarray(array).data.cast("B"))


def receive(pipe: Connection) -> dict[str, Any]:
    """Wait for a message.

    Raises:
        EOFError: The other side is gone.
        WireError: It is no message.
    """
    try:
        message = json.loads(pipe.recv_bytes(_MAX_HEADER))
    except EOFError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise WireError("the message cannot be read") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise WireError("the message names no kind")
    return message


def receive_array(pipe: Connection, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Wait for an array of known shape and type.

    Raises:
        EOFError: The other side is gone.
        WireError: It has another number of bytes.
    """
    array = np.empty(tuple(shape), dtype)
    try:
        # not straight into the array: only here does a limit hold before anything is taken
        data = pipe.recv_bytes(max(1, array.nbytes))
    except EOFError:
        raise
    except OSError as error:
        raise WireError("the array is too large") from error
    if len(data) != array.nbytes:
        raise WireError("the array has the wrong size")
    array[...] = np.frombuffer(data, dtype).reshape(array.shape)
    return array  # which may be written to, as torch wants it


def whole_number(message: dict[str, Any], name: str, low: int, high: int) -> int:
    """Read a number of a message.

    Raises:
        WireError: It is none, or out of its range.
    """
    value = message.get(name)
    if type(value) is not int or not low <= value <= high:
        raise WireError(f"{name} is out of its range")
    return value


def text(message: dict[str, Any], name: str) -> str:
    """Read a text of a message, on one line, cut to a length fit to be shown."""
    value = message.get(name)
    line = " ".join(value.split()) if isinstance(value, str) else ""
    return "".join(c for c in line if c.isprintable())[:_MAX_TEXT]
