"""`python -m experiments.evaluate --run runs/<run>`: test a run's best checkpoint again."""

from __future__ import annotations

import sys

from experiments.run import main as run

USAGE = """\
usage: python -m experiments.evaluate --run runs/<run> [options]

Test the best checkpoint of a run again, on the run's own data or on --data/--root.
Writes scores and metrics into runs/<run>/test/. Options are those of
`python -m experiments.run test`.
"""


def main(argv: list[str] | None = None) -> int:
    """Test a run again.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend.
    """
    words = sys.argv[1:] if argv is None else argv
    if "-h" in words or "--help" in words:
        sys.stdout.write(USAGE)
        return 0
    if not any(word.split("=")[0] == "--run" for word in words):
        sys.stderr.write("error: say which run: --run runs/<run>\n")
        return 2
    return run(["test", *words])


if __name__ == "__main__":
    sys.exit(main())
