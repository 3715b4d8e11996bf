"""What the programs share: mistakes of a user end in one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class OneLineParser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments, where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as a `UsageError` that names the program's help."""
        raise UsageError(f"{message}; see {self.prog} --help")


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
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
