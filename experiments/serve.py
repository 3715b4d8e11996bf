"""`python -m experiments.serve --run DIR`: score videos over HTTP.

Every setting is a flag and a variable of the environment: `--port 9000` is `FORGERY_PORT=9000`.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command_line import OneLineParser
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experiments.predicting.scorer import ClipScorer
    from experiments.serving.settings import Settings

#: Variables with our settings, read by then, and what others call their secrets. [ours]
_SECRET = re.compile("^FORGERY_|KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)


def main(argv: list[str] | None = None) -> int:
    """Run the server, or manage its keys.

    Args:
        argv: Arguments after the program's name; None takes them from the process.

    Returns:
        Exit code: 0 ended as asked; 2 a mistake that the user can mend, said in one line.
    """
    try:
        try:
            arguments, settings = _read(argv)
        except ImportError as error:
            raise UsageError(
                f"the server needs the package {error.name}: pip install -e '.[serve]'"
            ) from error
        with _state_of(settings):
            if _manages_keys(arguments, settings):
                return 0
        return _serve(arguments, settings)
    except UsageError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2


def _read(argv: list[str] | None) -> tuple[argparse.Namespace, Settings]:
    """Read flags and environment.

    Raises:
        UsageError: One of them is wrong.
        ImportError: A package of the extra `serve` is missing.
    """
    from pydantic import ValidationError

    from experiments.serving.settings import Settings

    parser = OneLineParser(prog="python -m experiments.serve", description=__doc__)
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    add("--run", type=Path, metavar="DIR", help="runs/<run>, one or several", **several)
    add("--weights", metavar="METHOD:FILE", help="released weight files", **several)
    add("--exp", metavar="NAME", help="newest finished run of each experiment", **several)
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where --exp looks (runs)")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--new-key", metavar="NAME", help="make an API key, show it once, and end")
    keys.add_argument("--revoke-key", metavar="NAME", help="take an API key back, and end")
    keys.add_argument("--list-keys", action="store_true", help="name the API keys, and end")
    _add_settings(parser, Settings)
    arguments = parser.parse_args(argv)
    given = {
        name: value for name, value in vars(arguments).items() if name in Settings.model_fields
    }
    try:
        return arguments, Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        flag, variable = f"--{name.replace('_', '-')}", f"FORGERY_{name.upper()}"
        raise UsageError(f"{flag} or {variable}: {first['msg']}") from error


def _add_settings(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Make a flag of each setting, whose values the settings themselves check."""
    for name, field in settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        told = f"{field.description} ({_shown(field.get_default(call_default_factory=True))})"
        if field.annotation in (bool, bool | None):
            action: Any = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=argparse.SUPPRESS, help=told)
        else:
            parser.add_argument(flag, default=argparse.SUPPRESS, metavar="X", help=told)


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default) or "none"
    return "not set" if default in (None, "") else str(default)


def _manages_keys(arguments: argparse.Namespace, settings: Settings) -> bool:
    """Do what is asked with keys, if anything is."""
    from experiments.serving.keys import KeyFile

    keys = KeyFile(settings.state_dir / "keys.json")
    if arguments.new_key:
        sys.stdout.write(f"{keys.add(arguments.new_key)}\n")
        sys.stderr.write("This key is shown once; send it as 'Authorization: Bearer <key>'.\n")
    elif arguments.revoke_key:
        keys.revoke(arguments.revoke_key)
    elif arguments.list_keys:
        for key in keys.read():
            made = time.strftime("%Y-%m-%d", time.gmtime(key.created))
            sys.stdout.write(f"{key.name}\t{made}\t{key.identity}\n")
    else:
        return False
    return True


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    _check(arguments, settings)
    _forget_secrets()
    with _state_of(settings):
        _find_scratch(settings.state_dir)
    # after that: what they import looks for a place for its caches
    from experiments.serving import logs, task
    from experiments.serving.engine import Engine
    from experiments.serving.running import run_server

    logs.set_up()

    def load() -> Sequence[ClipScorer]:
        from experiments.model_choice import load_detectors

        return load_detectors(
            arguments.run,
            arguments.weights,
            arguments.exp,
            runs_folder=arguments.runs,
            device=settings.device,
            engine=settings.engine,
        )

    options = {"backend": settings.backend, "stride": settings.stride}
    with _state_of(settings):
        engine = Engine(settings, load, task.score, options=options)
    run_server(engine)
    return 0


def _forget_secrets() -> None:
    """Take secrets out of the environment, which the processes that open videos inherit."""
    for name in list(os.environ):
        if _SECRET.search(name):
            del os.environ[name]


def _find_scratch(state_dir: Path) -> None:
    """Put temporary files of libraries into the state folder where nothing else can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        scratch = state_dir / "scratch"
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ["TMPDIR"] = str(scratch)
        os.environ.setdefault("MPLCONFIGDIR", str(scratch / "matplotlib"))


def _check(arguments: argparse.Namespace, settings: Settings) -> None:
    """Find mistakes before anything slow is done."""
    from experiments.model_choice import newest_run, split_weights
    from experiments.serving.keys import KeyFile

    if not (arguments.run or arguments.weights or arguments.exp):
        raise UsageError("--run, --weights or --exp: name what scores: --run runs/<run>")
    for text in arguments.weights:
        split_weights(text)
    for name in arguments.exp:
        newest_run(name, arguments.runs)
    for run in arguments.run:
        if not run.is_dir():
            raise UsageError(f"--run: {run} does not exist; name a run folder")
    with _state_of(settings):
        if settings.with_keys and not KeyFile(settings.state_dir / "keys.json").read():
            raise UsageError(
                f"listening on {settings.host} needs API keys, and there is none: make one with "
                "--new-key NAME, or say --no-keys"
            )


@contextmanager
def _state_of(settings: Settings) -> Iterator[None]:
    """Turn what the system says of an unusable state folder into one line."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else f"jobs.sqlite: {error}"
        raise UsageError(
            f"--state-dir: {settings.state_dir} cannot be used ({reason}); name another folder"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
