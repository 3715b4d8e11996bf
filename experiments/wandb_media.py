"""What W&B shows of a test besides its figures: predictions, curves, and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from callbacks.provenance import CHECKPOINT_FOLDER
from experiments.evaluation.figures import counted_videos, why_missing
from experiments.evaluation.ledgers import read_evaluations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from experiments.evaluation.ledgers import Evaluation

#: Points of a curve and rows of a table that W&B is sent at most [ours]: it draws no more than
#: 10,000 rows of a table.
_MAX_POINTS, _MAX_ROWS = 200, 10_000
#: Columns of the table of predictions.
_COLUMNS = ("video_id", "label", "method", "dataset", "score", "status", "num_clips")
#: Checkpoint -> its alias.
_ALIASES = {"best.ckpt": "best", "last.ckpt": "latest"}


@rank_zero_only
def log_media(loggers: Sequence[Logger], folder: Path) -> None:
    """Log predictions, ROC and precision-recall curve of every test of a folder; offline, too.

    Names are `test/<table>`, or `test/<set>/<table>` for sets that have a name, as the figures'.

    Args:
        loggers: Of the run; only those of W&B get anything.
        folder: Where the stage wrote its scores.

    Raises:
        LedgerError: If a ledger is damaged.
    """
    runs = list(_wandb_runs(loggers))
    ledgers = sorted((folder / "scores").glob("test*.parquet")) if runs else []
    for evaluation in read_evaluations(ledgers):
        name = evaluation.facts["set"]
        prefix = "test" if name == "test" else f"test/{name}"
        for run in runs:
            run.log({f"{prefix}/{key}": value for key, value in _media(evaluation)})


@rank_zero_only
def log_checkpoints(loggers: Sequence[Logger], folder: Path) -> None:
    """Send the checkpoints as versions of one artifact, named `best` and `latest`.

    Only where a run is online: offline they would be copied, and the run folder has them.

    Args:
        loggers: Of the run.
        folder: Of the run.
    """
    import wandb

    for run in _wandb_runs(loggers):
        for file, alias in _ALIASES.items():
            path = folder / CHECKPOINT_FOLDER / file
            if run.offline or not path.is_file():
                continue
            artifact = wandb.Artifact(f"{folder.name}-checkpoint", type="model")
            artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=[alias])


def _wandb_runs(loggers: Sequence[Logger]) -> Iterator[Any]:
    yield from (logger.experiment for logger in loggers if isinstance(logger, WandbLogger))


def _media(evaluation: Evaluation) -> Iterator[tuple[str, Any]]:
    import wandb
    from sklearn.metrics import precision_recall_curve, roc_curve

    rows = evaluation.videos.select(_COLUMNS).head(_MAX_ROWS).rows()
    yield "predictions", wandb.Table(columns=list(_COLUMNS), data=[list(row) for row in rows])
    videos = counted_videos(evaluation)
    if why_missing(videos.label):
        return
    false_positive, true_positive, _ = roc_curve(videos.label, videos.score)
    precision, recall, _ = precision_recall_curve(videos.label, videos.score)
    # wandb.plot.roc_curve counts probabilities of all classes by itself; these are our points.
    yield "roc", _line("false positives", false_positive, "true positives", true_positive, "ROC")
    yield "pr", _line("recall", recall, "precision", precision, "Precision and recall")


def _line(x_name: str, x: Any, y_name: str, y: Any, title: str) -> Any:
    import wandb

    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_POINTS)).astype(int))
    points = [[float(x[k]), float(y[k])] for k in kept]
    table = wandb.Table(columns=[x_name, y_name], data=points)
    return wandb.plot.line(table, x_name, y_name, title=title)
