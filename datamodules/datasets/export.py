"""Write a prepared store for another benchmark: `python -m datamodules.datasets.export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = "python -m datamodules.datasets.export"
_DESCRIPTION = """
Write the faces of a prepared store as crops of 256 pixels with landmarks, aligned as DeepfakeBench
aligns them, and the JSON files that its loaders read.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Export a store.

    Args:
        argv: Command line, without the program's name.

    Returns:
        0; 2 after an error of the user's; 130 if interrupted.
    """
    from datamodules.errors import DataError

    try:
        _export(_parser().parse_args(argv))
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: the folder cannot be written ({error})\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; no JSON file was written\n")
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line, as in the other programs."""

    def error(self, message: str) -> NoReturn:
        from datamodules.errors import DataError

        raise DataError(f"{message}; see {_PROGRAM} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=_PROGRAM, description=_DESCRIPTION)
    parser.add_argument(
        "--manifest", required=True, help="manifest.jsonl of the prepared store, a file or a URL"
    )
    parser.add_argument("--format", choices=("deepfakebench",), default="deepfakebench")
    parser.add_argument("-o", "--output", required=True, help="folder to write into")
    parser.add_argument(
        "--frames",
        default="spread:32",
        help="frames with a face that are taken: all, first:N or spread:N (spread:32)",
    )
    parser.add_argument(
        "--raw",
        help="raw videos: cut crops out of whole frames, not of the store's crops, whose borders "
        "may show as black corners",
    )
    parser.add_argument("--name", help="name of the data set (default: that of the bench)")
    parser.add_argument(
        "--prefix", help="what stands before the paths in the JSON files (./<folder>/)"
    )
    return parser


def _export(arguments: argparse.Namespace) -> None:
    """Write the folder, and say what is in it."""
    from datamodules.datasets.bench_export import export_bench
    from datamodules.datasets.records import as_folder_name
    from datamodules.errors import DataError
    from datamodules.preprocess.frame_choice import check_choice
    from datamodules.storage.root import is_url, open_root
    from datamodules.store.prepared import MANIFEST_NAME, PreparedStore

    folder, _, file = str(arguments.manifest).rpartition("/")
    if file != MANIFEST_NAME:
        raise DataError(f"{arguments.manifest} is no {MANIFEST_NAME} of a prepared store")
    root = folder if is_url(folder) else Path(arguments.manifest).parent
    if is_url(arguments.output):
        raise DataError(f"{arguments.output} is a URL; give a folder of this machine, and copy it")
    out = Path(arguments.output)
    in_store = isinstance(root, Path) and out.resolve().is_relative_to(root.resolve())
    if in_store or (out.exists() and not out.is_dir()):
        raise DataError(f"{out} is a file or lies in the store; give another folder to write into")
    name = arguments.name and as_folder_name(arguments.name, "--name")
    # The bench leaves alone what begins with a dot; before all else it puts a back-slash.
    prefix = f"./{out.resolve().name}/" if arguments.prefix is None else arguments.prefix
    store = PreparedStore(root)
    try:
        choice = check_choice(arguments.frames)
        raw = open_root(arguments.raw) if arguments.raw else None
        done = export_bench(store, out, choice, prefix, name, raw, _tell)
    finally:
        store.close()
    for note in done.notes:
        sys.stdout.write(f"{note}\n")
    files = ", ".join(str(file) for file in done.files)
    sys.stdout.write(f"{done.num_videos} videos, {done.num_frames} frames: {files}\n")


def _tell(done: int, total: int) -> None:
    # Every tenth of the work is a line.
    if done * 10 // total > (done - 1) * 10 // total:
        sys.stderr.write(f"{done} of {total} videos\n")


if __name__ == "__main__":
    sys.exit(main())
