"""Plot the scores of a video over its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.predicting.scores import segments
from experiments.predicting.threshold import threshold_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from experiments.predicting.report import FaceTimes, VideoReport

#: Colours that colour-blind readers tell apart (Okabe and Ito, "Color Universal Design", 2008),
#: without the yellow, which is too light for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")
#: Legend lines; the report lists all people. [ours]
_MAX_LEGEND = 10
#: A longer name is cut in its middle. [ours]
_MAX_NAME = 50
_FONT = "DejaVu Sans"


def draw_timeline(path: Path, report: VideoReport) -> None:
    """Draw the frame scores of each person, one colour each; gaps stay where there are none.

    Args:
        path: The PNG to write.
        report: The scored video.
    """
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_threshold(axes, report)
    for person in report.persons:
        _draw_person(axes, report, person)
    result = "no score" if report.score is None else f"score {report.score:.3f}"
    # No mathematics in a title: a file name may hold dollar signs.
    axes.set_title(
        f"{_printable(report.video.name)}: {result}", parse_math=False, family=_FONT, loc="left"
    )
    names = [_printable(model.spec.name) for model in report.models]
    by = f"mean of {', '.join(names)}" if len(names) > 1 else f"by {names[0]}"
    axes.set_xlabel(f"time in seconds   ({by})", parse_math=False)
    axes.set_ylabel("score (0 real, 1 fake)")
    axes.set_xlim(0, max(report.video.duration_s, 1e-3))
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if report.faces:
        _draw_legend(axes, len(report.persons))
    else:
        axes.text(0.5, 0.5, "no face found: no score", ha="center", transform=axes.transAxes)
    figure.savefig(path, format="png")


def _draw_threshold(axes: Axes, report: VideoReport) -> None:
    limit = threshold_of(report)
    axes.axhspan(limit.score, 1.03, color="#D55E00", alpha=0.06, linewidth=0)
    label = f"threshold {limit.score:.2f}" if limit.fitted else "middle (no threshold fitted)"
    axes.axhline(limit.score, color="#555555", linewidth=1, linestyle=(0, (4, 3)), label=label)


def _draw_person(axes: Axes, report: VideoReport, person: int) -> None:
    place = report.persons.index(person)
    colour = _COLOURS[place % len(_COLOURS)]
    style = _STYLES[place // len(_COLOURS) % len(_STYLES)]
    label = f"person {person}: {report.person_score(person):.3f}"
    for face in report.faces:
        if face.person != person:
            continue
        for time_s, value in _lines(report, face):
            # A single frame makes no line.
            marker = "." if len(time_s) == 1 else None
            axes.plot(time_s, value, color=colour, linestyle=style, marker=marker, label=label)
            label = "_nolegend_"


def _lines(
    report: VideoReport, face: FaceTimes
) -> list[tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]]:
    score = report.frame_score(face.track)
    return [(face.time_s[run], score[run]) for run in segments(face.frame_index, score)]


def _draw_legend(axes: Axes, num_people: int) -> None:
    lines, labels = axes.get_legend_handles_labels()
    hidden = num_people - _MAX_LEGEND
    title = f"and {hidden} more, see report.json" if hidden > 0 else None
    axes.legend(
        lines[: _MAX_LEGEND + 1],
        labels[: _MAX_LEGEND + 1],
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
    )


def _printable(name: str) -> str:
    """Replace what the font cannot draw, and cut a long name in its middle."""
    letters = font_manager.get_font(font_manager.findfont(_FONT))
    known = "".join(c if letters.get_char_index(ord(c)) else "\N{WHITE SQUARE}" for c in name)
    half = _MAX_NAME // 2
    return known if len(known) <= _MAX_NAME else f"{known[:half]}…{known[-half:]}"
