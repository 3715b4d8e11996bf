"""What the programs share: mistakes of a user end in one line and exit code 2."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from experiments.errors import UsageError, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: Signals that end a process at once, unless they are handled: those of `kill`, and of a terminal
#: that is closed.
_ENDING = (signal.SIGTERM, signal.SIGHUP)


class OneLineParser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments, where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as a `UsageError` that names the program's help."""
        raise UsageError(f"{message}; see {self.prog} --help")


class SignalError(KeyboardInterrupt):
    """Say that the process was told to end, so that what it began can be taken back.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ends_by_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, by a `SignalError`.

    Signals that somebody handles or ignores already, as `nohup` does, are left alone.
    """

    def leave(number: int, _: FrameType | None) -> None:
        raise SignalError(number)

    taken = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def exit_code(program: Callable[[], int]) -> int:
    """Run a program that reads ledgers; say a mistake that the user can mend in one line.

    Args:
        program: Does the work; its result is the exit code.

    Returns:
        The program's own code, or 2 after a mistake.
    """
    from callbacks.ledger import LedgerError

    try:
        return program()
    except (UsageError, LedgerError, OSError) as error:
        sys.stderr.write(f"error: {told(error)}\n")
        return 2
