"""Plot the scores of a video over its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.predicting.scores import segments

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from experiments.predicting.scores import TrackScore

#: Colours that colour-blind readers tell apart (Okabe and Ito, "Color Universal Design", 2008),
#: without the yellow, which is too light for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLES = ("-", "--", ":", "-.")
#: Legend lines; the report lists all tracks. [ours]
_MAX_LEGEND = 10
#: A longer name is cut in its middle. [ours]
_MAX_NAME = 50
_FONT = "DejaVu Sans"


def draw_timeline(
    path: Path,
    tracks: Sequence[TrackScore],
    *,
    name: str,
    duration_s: float,
    score: float | None,
) -> None:
    """Draw the frame scores of each track, one colour a track, and leave gaps where there are none.

    Args:
        path: The PNG to write.
        tracks: The scored tracks, none for a video without faces.
        name: Of the video, for the title.
        duration_s: Of the video in seconds.
        score: Of the video, None without faces.
    """
    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for track in tracks:
        _draw_track(axes, track)
    result = "no score" if score is None else f"score {score:.3f}"
    # No mathematics in a title: a file name may hold dollar signs.
    axes.set_title(f"{_printable(name)}: {result}", parse_math=False, family=_FONT)
    axes.set_xlabel("time in seconds")
    axes.set_ylabel("score (0 real, 1 fake)")
    axes.set_xlim(0, max(duration_s, 1e-3))
    axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.3)
    if tracks:
        _draw_legend(axes, len(tracks))
    else:
        axes.text(0.5, 0.5, "no face found: no score", ha="center", transform=axes.transAxes)
    figure.savefig(path, format="png")


def _draw_track(axes: Axes, track: TrackScore) -> None:
    colour = _COLOURS[track.track % len(_COLOURS)]
    style = _STYLES[track.track // len(_COLOURS) % len(_STYLES)]
    label = (
        f"face {track.track}: {track.score:.3f}"
        f" ({track.time_s[0]:.1f} to {track.clips[-1].end_s:.1f} s)"
    )
    for run in segments(track):
        time_s, value = track.time_s[run], track.frame_score[run]
        # A single frame makes no line.
        marker = "." if len(time_s) == 1 else None
        axes.plot(time_s, value, color=colour, linestyle=style, marker=marker, label=label)
        label = "_nolegend_"


def _draw_legend(axes: Axes, num_tracks: int) -> None:
    lines, labels = axes.get_legend_handles_labels()
    hidden = num_tracks - _MAX_LEGEND
    title = f"and {hidden} more, see report.json" if hidden > 0 else None
    axes.legend(
        lines[:_MAX_LEGEND],
        labels[:_MAX_LEGEND],
        title=title,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
    )


def _printable(name: str) -> str:
    """Replace what the font cannot draw, and cut a long name in its middle."""
    font = font_manager.get_font(font_manager.findfont(_FONT))
    known = "".join(c if font.get_char_index(ord(c)) else "\N{WHITE SQUARE}" for c in name)
    half = _MAX_NAME // 2
    return known if len(known) <= _MAX_NAME else f"{known[:half]}…{known[-half:]}"
