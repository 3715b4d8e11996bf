"""The figures of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from experiments.comparing.drawing import FAKE, INK, REAL, Album, Pen
from experiments.evaluation.figures import NUM_BINS, counted_videos

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from experiments.comparing.cost import Cost
    from experiments.comparing.results import SetResults
    from experiments.comparing.runs import Run
    from experiments.evaluation.figures import Videos

#: Points that a drawn curve needs no more than [ours]: finer steps than a screen has.
_MAX_POINTS = 400
#: Most metrics of training that get a panel, so that the page stays readable [ours].
_MAX_CURVES = 6
#: Error rates of a DET curve's axes, in percent.
_DET_TICKS = (0.1, 1, 5, 20, 50, 80)


def curve_figure(album: Album, result: SetResults, pens: Mapping[str, Pen]) -> str:
    """Draw ROC, precision-recall, DET and reliability of all runs on a set.

    Args:
        album: Where the figure goes.
        result: The set.
        pens: Of the runs.

    Returns:
        SVG; empty where no run has scored both classes.
    """
    videos = {run: counted_videos(cell.evaluation) for run, cell in result.cells.items()}
    videos = {run: found for run, found in videos.items() if len(set(found.label.tolist())) == 2}
    if not videos:
        return ""
    with album.figure(1, 4, (3.0, 2.9)) as sheet:
        roc, recall, det, calibration = sheet.panels
        for run, found in videos.items():
            _roc(roc, found, pens[run])
            _precision_recall(recall, found, pens[run])
            _det(det, found, pens[run])
            _reliability(calibration, found, pens[run])
        _finish_square(roc, "ROC", "false positives", "true positives", diagonal=True)
        _finish_square(recall, "Precision and recall", "recall", "precision")
        _finish_square(
            calibration, "Calibration", "probability of fake", "share of fakes", diagonal=True
        )
        _finish_det(det)
    return sheet.svg


def histogram_figure(album: Album, result: SetResults) -> str:
    """Draw how the scores of real and fake videos lie, a panel a run.

    Args:
        album: Where the figure goes.
        result: The set.
    """
    count = len(result.cells)
    columns = max(2, count if count <= 4 else min(4, -(-count // 2)))
    rows = -(-count // columns)
    with album.figure(rows, columns, (12 / columns, 1.9)) as sheet:
        for panel, (run, cell) in zip(sheet.panels, result.cells.items(), strict=False):
            found = counted_videos(cell.evaluation)
            for value, colour, name in ((0, REAL, "real"), (1, FAKE, "fake")):
                scores = found.score[found.label == value]
                weight = np.full(len(scores), 1 / max(1, len(scores)))
                panel.hist(
                    scores,
                    np.linspace(0, 1, 26).tolist(),
                    weights=weight,
                    color=colour,
                    alpha=0.55,
                    histtype="stepfilled",
                    label=f"{name} ({len(scores)})",
                )
            panel.set(title=run, xlim=(0, 1), xlabel="score", ylabel="share of videos")
            panel.legend(fontsize=8, loc="upper center")
        for panel in sheet.panels[count:]:
            panel.set_visible(False)
    return sheet.svg


def learning_figure(album: Album, runs: Sequence[Run], pens: Mapping[str, Pen]) -> str:
    """Draw what training logged, by epoch: validation first, then losses.

    Args:
        album: Where the figure goes.
        runs: All of them.
        pens: Of the runs.

    Returns:
        SVG; empty where no run logged anything.
    """
    names = dict.fromkeys(name for run in runs for name in run.curves.columns)
    first: tuple[str, ...] = ("val/video_auc", "val/video_eer", "train/loss")
    wanted = [name for name in first if name in names]
    wanted += [n for n in names if n.startswith("train/") and n not in wanted and _is_loss(n)]
    wanted = wanted[:_MAX_CURVES] if "step" in names else []
    if not wanted:
        return ""
    columns = min(3, len(wanted))
    with album.figure(-(-len(wanted) // columns), columns, (12 / columns, 2.5)) as sheet:
        for panel, name in zip(sheet.panels, wanted, strict=False):
            for run in runs:
                if {name, "step"} <= set(run.curves.columns):
                    step, value = _by_step(run.curves, name)
                    marker = "." if len(step) < 40 else None
                    panel.plot(step, value, marker=marker, **pens[run.name].line)
            panel.set(title=name, xlabel="optimiser step")
            if name.startswith("train/"):
                panel.set_yscale("log")
                _plain_ticks(panel.yaxis)
        for panel in sheet.panels[len(wanted) :]:
            panel.set_visible(False)
    return sheet.svg


def _plain_ticks(axis: Axis) -> None:
    """Label a logarithmic axis in plain numbers; at 1, 2 and 5 too where it is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _is_loss(name: str) -> bool:
    return name not in ("train/clips_per_s", "train/data_wait", "train/loss")


def _by_step(curves: pl.DataFrame, name: str) -> tuple[list[float], list[float]]:
    """Thin what was logged; a resumed run repeats some steps, of which the later one counts."""
    rows = curves.select("step", name).drop_nulls().unique("step", keep="last").sort("step")
    rows = rows.filter(pl.col(name).is_finite())
    rows = rows.gather_every(max(1, len(rows) // _MAX_POINTS))
    return rows["step"].to_list(), rows[name].to_list()


def _thinned(*values: np.ndarray) -> list[np.ndarray]:
    count = len(values[0])
    kept = np.unique(np.linspace(0, count - 1, min(count, _MAX_POINTS)).astype(int))
    return [value[kept] for value in values]


def _roc(panel: Axes, videos: Videos, pen: Pen) -> None:
    from sklearn.metrics import roc_curve

    false_positive, true_positive, _ = roc_curve(videos.label, videos.score)
    panel.plot(*_thinned(false_positive, true_positive), **pen.line)


def _precision_recall(panel: Axes, videos: Videos, pen: Pen) -> None:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(videos.label, videos.score)
    panel.plot(*_thinned(recall, precision), drawstyle="steps-post", **pen.line)


def _det(panel: Axes, videos: Videos, pen: Pen) -> None:
    from scipy.stats import norm
    from sklearn.metrics import det_curve

    false_positive, false_negative, _ = det_curve(videos.label, videos.score)
    x, y = _thinned(false_positive, false_negative)
    low, high = _DET_TICKS[0] / 200, 1 - _DET_TICKS[0] / 200
    panel.plot(norm.ppf(np.clip(x, low, high)), norm.ppf(np.clip(y, low, high)), **pen.line)


def _reliability(panel: Axes, videos: Videos, pen: Pen) -> None:
    from sklearn.calibration import calibration_curve

    share, prob = calibration_curve(videos.label, videos.score, n_bins=NUM_BINS)
    panel.plot(prob, share, marker="o", markersize=3, **pen.line)


def _finish_square(panel: Axes, title: str, x: str, y: str, diagonal: bool = False) -> None:
    if diagonal:
        panel.plot([0, 1], [0, 1], color=INK, linewidth=0.6, alpha=0.5)
    panel.set(title=title, xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _finish_det(panel: Axes) -> None:
    from scipy.stats import norm

    places = [float(norm.ppf(value / 100)) for value in _DET_TICKS]
    labels = [f"{value:g} %" for value in _DET_TICKS]
    ends = (float(norm.ppf(0.0004)), float(norm.ppf(0.9)))
    panel.set_xticks(places, labels, fontsize=7)
    panel.set_yticks(places, labels, fontsize=7)
    panel.set(title="DET", xlabel="false positives", ylabel="misses", xlim=ends, ylim=ends)


def cost_figure(
    album: Album, result: SetResults, costs: Mapping[str, Cost], pens: Mapping[str, Pen]
) -> str:
    """Draw the video AUC of a set against what the runs cost.

    Args:
        album: Where the figure goes.
        result: The set.
        costs: Of the runs.
        pens: Of the runs.

    Returns:
        SVG; empty where fewer than two runs say what they cost.
    """
    axes = {"GFLOPs a clip": "gflops", "parameters, M": "parameters"}
    axes["clips/s, testing"] = "test_clips_per_s"
    drawn = {
        title: {run: value for run in result.cells if (value := getattr(costs[run], name)) > 0}
        for title, name in axes.items()
    }
    drawn = {title: points for title, points in drawn.items() if len(points) > 1}
    if not drawn:
        return ""
    with album.figure(1, len(drawn), (min(4.0, 12 / len(drawn)), 2.6)) as sheet:
        for panel, (title, points) in zip(sheet.panels, drawn.items(), strict=True):
            for run, value in points.items():
                cell = result.cells[run]
                # Resamples of a perfect ranking round otherwise than the area itself.
                error = [[max(0.0, cell.auc - cell.low)], [max(0.0, cell.high - cell.auc)]]
                panel.errorbar(value, cell.auc, error, fmt="o", color=pens[run].colour)
            panel.set(xscale="log", xlabel=title, ylabel=f"video AUC, {result.name}")
            _plain_ticks(panel.xaxis)
    return sheet.svg
