"""Where a number comes from: code, configuration, checkpoint; and files written whole or not."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytorch_lightning import Trainer

#: The resolved configuration of a run, inside the run folder.
CONFIG_NAME = "config.yaml"
#: Settings that say where a run lies or how it was started, and not what it does.
PLACES = ("trainer.default_root_dir", "checkpoint.dirpath", "ckpt_path", "trainer.logger")
#: Names of settings by which runs of one experiment are told apart, wherever they stand.
SEEDS = ("seed_everything", "seed")
#: Folder of a run that holds its checkpoints.
CHECKPOINT_FOLDER = "checkpoints"
#: Hex digits kept of a sha256 or a commit: enough to tell them apart in a table [ours].
_DIGITS = 16


@dataclass(frozen=True)
class Provenance:
    """What made a score. A text is empty where the thing does not exist.

    Attributes:
        experiment: Name of the experiment; empty if the run has none.
        seed: Of the run; None if it has none.
        run: Name of the run folder.
        checkpoint: Digest of the checkpoint file.
        config: Digest of the run's resolved configuration.
        recipe: Digest of the same without seeds and places: runs that share it differ in their
            seed alone.
        code: Commit of the code, with `-dirty` where files differ from it.
    """

    experiment: str
    seed: int | None
    run: str
    checkpoint: str
    config: str
    recipe: str
    code: str


def provenance_of(trainer: Trainer) -> Provenance:
    """Describe what the trainer is scoring with.

    Args:
        trainer: A trainer inside one of its stages.

    Returns:
        The description. Run, configuration, experiment and seed are those of the checkpoint, if it
        lies in a run.
    """
    folder = Path(trainer.default_root_dir)
    # `None` before any checkpoint, although the stub says that it is always there.
    checkpoint = Path(trainer.ckpt_path) if trainer.ckpt_path else None
    if checkpoint and checkpoint.parent.name == CHECKPOINT_FOLDER:
        folder = checkpoint.parents[1]
    config = _config(folder / CONFIG_NAME)
    seed = config.get("seed_everything")
    return Provenance(
        experiment=str(config.get("experiment") or ""),
        # `true` asks for a drawn seed, which is not in the file.
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        run=folder.name,
        checkpoint=digest(checkpoint) if checkpoint else "",
        config=digest(folder / CONFIG_NAME),
        recipe=recipe_of(config),
        code=code_version(),
    )


def recipe_of(config: Mapping[str, Any]) -> str:
    """Return the digest of a configuration without its seeds, and without where a run lies.

    Args:
        config: Resolved; empty if there is none.

    Returns:
        Hex digits; empty without a configuration.
    """
    kept = _without_seeds(config, "")
    # Order of keys is no setting; that of a list, as of callbacks, may be.
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] if config else ""


def _without_seeds(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        named = {key: f"{name}.{key}".removeprefix(".") for key in value}
        return {
            key: _without_seeds(inner, named[key])
            for key, inner in value.items()
            if key not in SEEDS and not named[key].startswith(PLACES)
        }
    if isinstance(value, list):
        return [_without_seeds(inner, name) for inner in value]
    return value


def digest(path: Path) -> str:
    """Return the start of a file's sha256, or an empty text if there is no such file.

    Args:
        path: The file to read.
    """
    if not path.is_file():
        return ""
    value = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value.update(block)
    return value.hexdigest()[:_DIGITS]


@lru_cache(maxsize=1)
def code_version() -> str:
    """Return the commit of the code, `-dirty` added if tracked files differ; or `unknown`."""
    commit = _git("rev-parse", f"--short={_DIGITS}", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8, wholly or not at all.

    Args:
        path: The file; its folder is made if it is missing.
        text: The whole content.

    Raises:
        OSError: If the folder or the disk refuses it; an older file stays as it was.
    """
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Let a file be written under another name, which it loses when the block ends well.

    Args:
        path: The file; its folder is made if it is missing.

    Yields:
        Where to write.

    Raises:
        OSError: If the folder or the disk refuses it; an older file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _config(path: Path) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        return {}
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _git(*words: str) -> str:
    root = Path(__file__).resolve().parents[1]
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
