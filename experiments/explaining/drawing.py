"""Pictures of moments: a strip of faces with their maps, and maps over the frames of a video."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from datamodules.atomic import write_text_atomically
from experiments.explaining.overlay import CLEAR, COLOURS, enlarge, lay_over, opacity, to_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from experiments.explaining.moments import Moment

#: Picture of all moments, and folder of those of single ones.
MOMENTS = "moments.png"
_STILLS = "moments"
#: Moments in a row. [ours]
_COLUMNS = 6
#: Inches of a column, and of a row of faces, maps and curves below each other. [ours]
_WIDTH, _HEIGHT = 2.1, 5.3
#: Height and width in pixels that a face is enlarged to at least. [ours]
_LEAST_PIXELS = 224
_FONT = "DejaVu Sans"
#: Less of a colour is not noticed on a face. [ours]
_LEAST_OPACITY = 0.1


def write_moments(
    folder: Path, moments: dict[str, list[Moment]], limits: Sequence[str]
) -> list[dict[str, Any]]:
    """Write `moments.png`, `moments/`, and `moments.json`, which has the limits of maps as well.

    Args:
        folder: Where the files go; there already.
        moments: Of each scorer, by its name.
        limits: What a reader must know of maps, see `map_limits`.

    Returns:
        What `moments.json` says of each moment.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    every = [moment for of_one in moments.values() for moment in of_one]
    listed = []
    for number, moment in enumerate(every):
        name = f"{_STILLS}/{number:03d}.png"
        (folder / _STILLS).mkdir(exist_ok=True)
        (folder / name).write_bytes(_png(draw_still(moment)))
        listed.append(moment.facts() | {"image": name})
    content = {"limits": list(limits), "moments": listed}
    write_text_atomically(folder / "moments.json", json.dumps(content, indent=1) + "\n")
    if listed:
        draw_moments(folder / MOMENTS, moments)
    return listed


def draw_still(moment: Moment) -> NDArray[np.uint8]:
    """Put the face of a moment beside the same with its map.

    Returns:
        RGB, shape (H, 2 H + 8, 3), uint8.
    """
    peak = moment.peak
    face = _large(moment.clip.pictures[peak])
    marked = lay_over(face, enlarge(moment.strength[peak], *face.shape[:2]))
    between = np.full((len(face), 8, 3), 255, np.uint8)
    return np.hstack([face, between, marked])


def draw_moments(path: Path, moments: dict[str, list[Moment]]) -> None:
    """Draw the moments of each scorer in rows: face, the same with its map, and the clip's curve.

    Args:
        path: The PNG to write.
        moments: Of each scorer, by its name, at least one in all.
    """
    rows = list(_rows(moments))
    columns = max(len(row) for _, row in rows)
    height = sum(_HEIGHT - 0.6 * _is_still(row) for _, row in rows)
    size = (max(4.6, _WIDTH * columns + 1.3), height + 0.5)
    figure = Figure(figsize=size, dpi=110)
    FigureCanvasAgg(figure)
    ratios = [part for _, row in rows for part in (4, 4, 0.01 if _is_still(row) else 1)]
    grid = figure.add_gridspec(3 * len(rows), columns, height_ratios=ratios)
    below: list[Axes] = []
    for number, (name, row) in enumerate(rows):
        for column, moment in enumerate(row):
            axes = [figure.add_subplot(grid[3 * number + part, column]) for part in range(3)]
            _draw_moment(axes, moment, name if column == 0 else "")
            below += axes
    _draw_scale(figure, below)
    note = "Marked is where the network found what raised its score, not what was forged."
    figure.text(0.01, 0.004, f"{note}\nSee moments.json for what maps cannot tell.", fontsize=8)
    engine = ConstrainedLayoutEngine(rect=(0, 0.35 / size[1], 1, 1 - 0.35 / size[1]))
    figure.set_layout_engine(engine)
    figure.savefig(path, format="png")


def _draw_scale(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw from 0 to 1 what a strength looks like; what is not drawn on faces is hatched."""
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, aspect=30, pad=0.01)
    bar.ax.axhspan(0, CLEAR, facecolor="white", edgecolor="#9a9a9a", hatch="////", linewidth=0)
    bar.set_ticks([CLEAR / 2, CLEAR, *(step / 10 for step in range(4, 11, 2))])
    bar.ax.set_yticklabels(["not\ndrawn", f"{CLEAR:g}", "0.4", "0.6", "0.8", "1"], fontsize=8)
    bar.ax.tick_params(axis="y", length=0)
    bar.set_label("strength: share of the clip's strongest place, times its score", fontsize=8)


class FrameMaps:
    """Lays maps over the frames of a video.

    Args:
        moments: Whose maps; where several show a face in a frame, the strongest counts.
        frame_size: Height and width of a frame in pixels.
    """

    def __init__(self, moments: Sequence[Moment], frame_size: tuple[int, int]) -> None:
        self._size = frame_size
        self._by_frame: dict[int, list[tuple[Moment, int]]] = {}
        for moment in moments:
            for position, frame in enumerate(moment.clip.frame_index.tolist()):
                self._by_frame.setdefault(frame, []).append((moment, position))

    def paint(self, frame: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """Colour a frame where its maps are strong.

        Args:
            frame: RGB, shape (H, W, 3), uint8.
            number: Which one.

        Returns:
            The frame; the very same where no map shows it.
        """
        shown = self._by_frame.get(number)
        if not shown:
            return frame
        strength = np.zeros(self._size, np.float32)
        for moment, position in shown:
            clip = moment.clip
            size = clip.pictures.shape[1]
            part = moment.strength[position]
            np.maximum(
                strength, to_frame(part, clip.matrices[position], size, self._size), out=strength
            )
        return lay_over(frame, strength)


def _is_still(row: Sequence[Moment]) -> bool:
    return all(_has_one_frame(moment) for moment in row)


def _has_one_frame(moment: Moment) -> bool:
    """Tell whether a clip has one frame alone, though it may show it many times."""
    return len(np.unique(moment.clip.time_s)) == 1


def _rows(moments: dict[str, list[Moment]]) -> Iterator[tuple[str, list[Moment]]]:
    for name, of_one in moments.items():
        for start in range(0, len(of_one), _COLUMNS):
            yield name, of_one[start : start + _COLUMNS]


def _draw_moment(axes: Sequence[Axes], moment: Moment, name: str) -> None:
    clip, peak = moment.clip, moment.peak
    face = _large(clip.pictures[peak])
    strength = enlarge(moment.strength[peak], *face.shape[:2])
    for place, picture in zip(axes, (face, lay_over(face, strength)), strict=False):
        place.imshow(picture)
        place.set_xticks([])
        place.set_yticks([])
    minutes, seconds = divmod(float(clip.time_s[peak]), 60)
    axes[0].set_title(
        f"{int(minutes)}:{seconds:04.1f}  person {clip.person}\nscore {clip.score:.2f}",
        fontsize=9,
        family=_FONT,
    )
    axes[1].set_xlabel(_unmarked(moment), fontsize=8)
    axes[0].set_ylabel(name, fontsize=9, parse_math=False)
    _draw_curve(axes[2], moment)


def _unmarked(moment: Moment) -> str:
    """Say why a face bears no mark; nothing where it bears one."""
    if not moment.maps.any():
        return "no place raised the score"
    if float(opacity(moment.strength[moment.peak]).max()) < _LEAST_OPACITY:
        return "low score: hardly marked"
    return ""


def _draw_curve(axes: Axes, moment: Moment) -> None:
    """Draw how much of the evidence each frame of the clip has, and mark the one that is shown."""
    if _has_one_frame(moment):
        axes.set_axis_off()  # a single frame has all of it
        return
    curve, time_s = moment.curve, moment.clip.time_s
    order = np.argsort(time_s, kind="stable")
    axes.fill_between(time_s[order], curve[order], color="#9a9a9a", linewidth=0)
    axes.axvline(float(time_s[moment.peak]), color="black", linewidth=1.2)
    axes.set_ylim(0, max(float(curve.max()), 1e-6) * 1.15)
    axes.set_xlim(float(time_s.min()), float(time_s.max()))
    axes.set_yticks([])
    axes.set_ylabel("evidence", fontsize=7)
    axes.set_xticks([float(time_s.min()), float(time_s.max())])
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.1f} s")


def _png(picture: NDArray[np.uint8]) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", picture[..., ::-1])[1])


def _large(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    factor = -(-_LEAST_PIXELS // len(picture))
    if factor == 1:
        return picture
    size = (factor * picture.shape[1], factor * picture.shape[0])
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
