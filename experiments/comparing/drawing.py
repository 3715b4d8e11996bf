"""Figures as SVG that takes its colours from the page, so that light and dark need one drawing."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that runs take by turns; the page defines one for light and one for dark.
NUM_COLOURS = 8
#: Line styles that tell runs apart without colour.
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
#: What is drawn with -> the name of the page's colour. The values mean nothing by themselves.
_INK, _GRID, _REAL, _FAKE = "#010101", "#020202", "#030303", "#040404"
_NAMES = {_INK: "ink", _GRID: "grid", _REAL: "real", _FAKE: "fake"} | {
    f"#0505{i:02x}": f"run{i}" for i in range(NUM_COLOURS)
}
_PIXELS_PER_INCH = 98
#: Left, bottom, right and top margin of a panel in inches.
_MARGINS = (0.6, 0.5, 0.12, 0.3)
REAL, FAKE, INK = _REAL, _FAKE, _INK
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of runs may hold dollars
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Pen:
    """How a run is drawn everywhere.

    Attributes:
        number: Its place among the runs.
    """

    number: int

    @property
    def colour(self) -> str:
        """The stand-in that the page replaces."""
        return f"#0505{self.number % NUM_COLOURS:02x}"

    @property
    def css(self) -> str:
        """The page's colour."""
        return f"var(--run{self.number % NUM_COLOURS})"

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line."""
        return {"color": self.colour, "linestyle": DASHES[self.number % len(DASHES)]}


class Album:
    """Draws figures for one page: their ids never meet.

    Attributes:
        count: Figures so far.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def figure(self, rows: int, columns: int, size: tuple[float, float]) -> Iterator[Sheet]:
        """Draw one figure.

        Args:
            rows: Of panels.
            columns: Of panels.
            size: Width and height of one panel in inches.

        Yields:
            The panels; its `svg` is there when the block ends.
        """
        import matplotlib as mpl
        from matplotlib.figure import Figure

        self.count += 1
        with mpl.rc_context({**_STYLE, "svg.hashsalt": str(self.count)}):
            figure = Figure((columns * size[0], rows * size[1]))
            panels = figure.subplots(rows, columns, squeeze=False)
            for position, panel in enumerate(panels.ravel()):
                row, column = divmod(position, columns)
                panel.set_position(_box(row, column, (rows, columns), size))
            sheet = Sheet(panels.ravel().tolist())
            yield sheet
            sheet.svg = _svg(figure, f"f{self.count}")


@dataclass
class Sheet:
    """Panels of a figure.

    Attributes:
        panels: Row by row.
        svg: The drawing.
    """

    panels: list[Axes]
    svg: str = ""


def _box(
    row: int, column: int, shape: tuple[int, int], size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Place a panel by fixed margins: measuring the texts first would take as long as drawing."""
    left, bottom, right, top = _MARGINS
    width, height = shape[1] * size[0], shape[0] * size[1]
    return (
        (column * size[0] + left) / width,
        1 - ((row + 1) * size[1] - bottom) / height,
        (size[0] - left - right) / width,
        (size[1] - bottom - top) / height,
    )


def _svg(figure: Figure, prefix: str) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # The page sets the width, up to the drawing's own: letters stay of one size.
    own = f' style="max-width: {figure.get_figwidth() * _PIXELS_PER_INCH:.0f}px"'
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf"\1{own}", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    # Hundredths of a point are enough; what is between tags is text, and stays.
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(?<=\d\.\d\d)\d+", "", tag[0]), text)
    for value, name in _NAMES.items():
        text = text.replace(value, f"var(--{name})")
    return text
