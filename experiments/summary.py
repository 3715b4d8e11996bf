"""The table at the end of a run, and where everything lies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.table import Table

from experiments.evaluation.pairs import paired_metrics

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from datamodules import VideoDataModule

#: Columns of the table: metric, heading.
_COLUMNS = (
    ("frame_auc", "frame AUC"),
    ("clip_auc", "clip AUC"),
    ("video_auc", "video AUC"),
    ("interval", "95 % interval"),
    ("video_eer", "EER"),
    ("video_ap", "AP"),
    ("num_videos", "videos"),
)


@rank_zero_only
def print_summary(trainer: Trainer, datamodule: VideoDataModule, folder: Path) -> None:
    """Print the metrics of the last evaluation and the files of the run.

    Args:
        trainer: After a test or validation.
        datamodule: Names the test sets and the videos without a score.
        folder: The run folder.
    """
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
    rows = metric_rows(metrics, datamodule.test_names)
    if "test" in rows:
        paired = paired_metrics(folder / "scores" / "test.parquet")
        if paired is not None:
            rows["test, same-footage pairs"] = paired
    (folder / "metrics.json").write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110)
    if rows:
        console.print(_table(rows))
    if "test" in rows or any(name in rows for name in datamodule.test_names):
        unscored = datamodule.unscored("test")
        if unscored:
            console.print(
                f"{len(unscored)} test videos have no score (no face, too short or unreadable) "
                "and are counted in no figure above; the score file lists them."
            )
    for line in _places(trainer, folder):
        console.print(line, highlight=False, soft_wrap=True)


def metric_rows(metrics: dict[str, float], test_names: list[str]) -> dict[str, dict[str, float]]:
    """Sort logged metrics into one row for each evaluated set.

    Args:
        metrics: Logged names and values, `test/video_auc` or `test/<name>/video_auc`.
        test_names: Names of the test sets.

    Returns:
        Metric values by set; sets that were not evaluated are left out.
    """
    prefixes = {"val": "val", "test": "test"}
    if test_names != ["test"]:
        prefixes = {"val": "val"} | {name: f"test/{name}" for name in test_names}
    rows = {}
    for name, prefix in prefixes.items():
        row = {
            key.removeprefix(f"{prefix}/"): value
            for key, value in metrics.items()
            if key.startswith(f"{prefix}/")
            and key.count("/") == prefix.count("/") + 1
            # How fast it went is no score; the record has it.
            and not key.endswith("/clips_per_s")
        }
        if "video_auc" in row:
            rows[name] = row
    return rows


def _table(rows: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Scores (fake is positive; test only reports)")
    table.add_column("set")
    # Only methods that score frames have a figure of frames.
    has_frames = any("frame_auc" in row for row in rows.values())
    known = [column for column in _COLUMNS if has_frames or column[0] != "frame_auc"]
    for _, heading in known:
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(_cell(row, key) for key, _ in known))
    return table


def _cell(row: dict[str, float], key: str) -> str:
    if key == "interval":
        if "video_auc_low" not in row:
            return "-"
        return f"{row['video_auc_low']:.3f} - {row['video_auc_high']:.3f}"
    value = row.get(key)
    if value is None:
        return "-"
    return f"{value:.0f}" if key.startswith("num_") else f"{value:.4f}"


def _places(trainer: Trainer, folder: Path) -> list[str]:
    checkpoint = trainer.ckpt_path or getattr(trainer.checkpoint_callback, "best_model_path", "")
    places = {
        "run folder": folder,
        "checkpoint": checkpoint,
        "scores": folder / "scores",
        "W&B offline run": next(iter(sorted((folder / "wandb").glob("offline-run-*"))), None),
    }
    lines = [f"{name + ':':<17}{_relative(Path(p))}" for name, p in places.items() if p]
    if trainer.interrupted:
        lines.append(f"interrupted; go on with: python -m experiments.run fit --resume {folder}")
    return lines


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
