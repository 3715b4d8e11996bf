"""Draw scores over the frames of a video: a box a face, and a strip with legend and time below."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from experiments.predicting.palette import (
    DARK,
    LIGHT,
    UNKNOWN,
    draw_text,
    letters_on,
    paste,
    score_colours,
)
from experiments.predicting.report import frame_ends
from experiments.predicting.threshold import threshold_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from experiments.predicting.palette import Colour
    from experiments.predicting.report import FaceTimes, VideoReport

#: Videos whose shorter side is smaller are shown enlarged by a whole number: letters that can be
#: read need room. [ours]
_MIN_SIDE = 270
#: Shorter side at which a line is 2 pixels wide and letters are 15 high; others in proportion.
_UNIT_SIDE = 400
_LINE, _LETTERS = 2.0, 15.0
#: Height of the strip, and of its parts, in units. [ours]
_STRIP, _BAR = 52.0, 8.0
#: People who have a row of their own in the strip; the largest ones. [ours]
_MAX_ROWS = 4


class Sight(NamedTuple):
    """A face in a frame.

    Attributes:
        person: Number of the person.
        box: x0 y0 x1 y1 in pixels of the video.
        score: Of the frame; NaN where it has none.
    """

    person: int
    box: tuple[float, float, float, float]
    score: float


class Sights:
    """Faces by frame, for frames that are asked for in ascending order.

    Args:
        report: The scored video.
    """

    def __init__(self, report: VideoReport) -> None:
        self._report = report
        self._coming = sorted(report.faces, key=lambda face: -int(face.frame_index[0]))
        self._present: list[tuple[FaceTimes, NDArray[np.float64]]] = []

    def at(self, frame: int) -> list[Sight]:
        """Give the faces of a frame, the largest last.

        Args:
            frame: Number of the frame, larger than the last one asked for.
        """
        while self._coming and self._coming[-1].frame_index[0] <= frame:
            face = self._coming.pop()
            self._present.append((face, self._report.frame_score(face.track)))
        self._present = [item for item in self._present if item[0].frame_index[-1] >= frame]
        seen = []
        for face, score in self._present:
            row = int(np.searchsorted(face.frame_index, frame))
            if face.frame_index[row] == frame:
                x0, y0, x1, y1 = face.box[row].tolist()
                seen.append(Sight(face.person, (x0, y0, x1, y1), float(score[row])))
        return sorted(seen, key=lambda s: (s.box[2] - s.box[0]) * (s.box[3] - s.box[1]))


class Painter:
    """Draws the frames of a video.

    Args:
        report: Its scores.
        height: Of its frames in pixels.
        width: Of its frames in pixels.

    Attributes:
        zoom: How much larger frames are shown.
        size: Height and width of what is drawn, both even.
    """

    def __init__(self, report: VideoReport, height: int, width: int) -> None:
        self._report = report
        self._sights = Sights(report)
        self._threshold = threshold_of(report)
        self.zoom = max(1, -(-_MIN_SIDE // min(height, width)))
        self._shown = (height * self.zoom, width * self.zoom)
        unit = min(self._shown) / _UNIT_SIDE
        self._line = max(1, round(_LINE * unit))
        self._letters = max(11, round(_LETTERS * unit))
        strip = max(round(_STRIP * unit), 3 * self._letters)
        # 4:2:0 wants even sides: what is missing is added on the right and above the strip.
        self.size = (
            self._shown[0] + strip + (self._shown[0] + strip) % 2,
            width_even(self._shown[1]),
        )
        self._strip = _Strip(report, self.size[0] - self._shown[0], self.size[1], self._letters)
        self._label = lru_cache(maxsize=512)(self._draw_label)

    def paint(self, frame: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """Draw a frame.

        Args:
            frame: RGB, shape (H, W, 3), uint8.
            number: Which one; larger than the last.

        Returns:
            RGB, shape (*size, 3), uint8.
        """
        height, width = self._shown
        if self.zoom > 1:
            frame = np.asarray(cv2.resize(frame, (width, height)), np.uint8)
        picture = np.empty((*self.size, 3), np.uint8)
        picture[:height, :width] = frame
        picture[:height, width:] = picture[:height, width - 1 : width]
        inside = picture[:height, :width]
        taken: list[tuple[int, int, int, int]] = []
        for sight in self._sights.at(number):
            self._draw_face(inside, sight, taken)
        self._strip.draw(picture[height:], float(self._report.times_s[number]))
        return picture

    def _draw_face(
        self, picture: NDArray[np.uint8], sight: Sight, taken: list[tuple[int, int, int, int]]
    ) -> None:
        colour = _colour(sight.score, self._threshold.score)
        x0, y0, x1, y1 = (round(value * self.zoom) for value in sight.box)
        for rgb, width in ((DARK, self._line + 2 * max(1, self._line // 2)), (colour, self._line)):
            cv2.rectangle(picture, (x0, y0), (x1, y1), rgb, width, cv2.LINE_AA)
        text = "no score" if np.isnan(sight.score) else f"{sight.score:.2f}"
        label = self._label(f"Person {sight.person}  {text}", colour)
        height, width = label.shape[:2]
        left = max(0, min(x0 - self._line // 2, picture.shape[1] - width))
        for top in (y0 - height - self._line, y1 + self._line, y0 + self._line):
            place = (left, top, left + width, top + height)
            fits = top >= 0 and place[3] <= picture.shape[0]
            if fits and not any(_overlap(place, other) for other in taken):
                break
        taken.append(place)
        paste(picture, label, left, max(0, min(place[1], picture.shape[0] - height)))

    def _draw_label(self, text: str, colour: Colour) -> NDArray[np.uint8]:
        return draw_text(text, self._letters, letters_on(colour), colour)


class _Strip:
    """The strip below the frames: colour scale, and the scores of all people over time."""

    def __init__(self, report: VideoReport, height: int, width: int, letters: int) -> None:
        self._report = report
        self._limit = threshold_of(report)
        self._letters = max(9, round(letters * 0.8))
        self._pad = max(3, letters // 2)
        self._picture = np.full((height, width, 3), DARK, np.uint8)
        self._bar = max(4, round(height * _BAR / _STRIP))
        self._middle = min(width // 2, max(width // 4, 9 * letters))
        self._clock_width = self._write("0:00:00.0", 0, 0, measure=True)
        self._draw_scale()
        self._draw_times()

    def draw(self, picture: NDArray[np.uint8], time_s: float) -> None:
        """Copy the strip, with the time that it is.

        Args:
            picture: Where it goes, shape (h, w, 3), uint8.
            time_s: Time of the frame.
        """
        picture[:] = self._picture
        left, right = self._times
        at = left + round(
            (right - left) * min(1.0, time_s / max(self._report.video.duration_s, 1e-9))
        )
        thick = max(1, self._letters // 8)
        picture[self._pad : -self._pad, at : at + thick] = LIGHT
        minutes, seconds = divmod(time_s, 60)
        text = f"{int(minutes // 60)}:{int(minutes % 60):02d}:{seconds:04.1f}"
        part = draw_text(text, self._letters, LIGHT, DARK)
        paste(picture, part, picture.shape[1] - part.shape[1] - self._pad // 2, self._pad // 2)

    def _write(self, text: str, left: int, top: int, *, measure: bool = False) -> int:
        part = draw_text(text, self._letters, LIGHT, DARK)
        if not measure:
            paste(self._picture, part, left, top)
        return int(part.shape[1])

    def _draw_scale(self) -> None:
        """Draw the colour scale with its ends and the threshold."""
        left, right = self._pad, self._middle - self._pad
        colours = score_colours(np.linspace(0, 1, right - left), self._limit.score)
        top = self._pad
        self._picture[top : top + self._bar, left:right] = colours
        tick = left + round((right - left - 1) * self._limit.score)
        reach = max(2, self._bar // 3)
        self._picture[top - reach : top + self._bar + reach, tick : tick + 1 + self._bar // 8] = (
            LIGHT
        )
        below = top + self._bar + reach
        self._write("0 real", left - self._pad // 2, below)
        width = self._write("fake 1", 0, 0, measure=True)
        self._write("fake 1", right - width + self._pad // 2, below)

    def _draw_times(self) -> None:
        """Draw a row of colours for each of the main people: when they are seen, and how."""
        left, right = self._middle + self._pad, self._picture.shape[1] - self._pad
        self._times = (left, right)
        first = self._pad // 2 + self._bar // 2
        top = first + round(self._letters * 1.2)
        people = self._people()
        named = ", ".join(map(str, people))
        label = f"over time: person {named}" if people else "no face found"
        room = right - left - self._clock_width
        if self._write(label, 0, 0, measure=True) <= room:
            self._write(label, left - self._pad // 2, self._pad // 2)
        height = max(2, (self._picture.shape[0] - self._pad - top) // max(1, len(people)))
        for row, person in enumerate(people):
            line = self._row(person, right - left)
            shown = ~np.isnan(line)
            y0 = top + row * height
            part = self._picture[y0 : y0 + max(1, height - max(1, height // 5)), left:right]
            part[:, ~shown] = (45, 49, 54)
            part[:, shown] = score_colours(line[shown], self._limit.score)

    def _people(self) -> list[int]:
        """Choose the people who are seen longest, in the order of their numbers."""
        seen: dict[int, int] = {}
        for face in self._report.faces:
            seen[face.person] = seen.get(face.person, 0) + len(face.frame_index)
        return sorted(sorted(seen, key=lambda person: (-seen[person], person))[:_MAX_ROWS])

    def _row(self, person: int, width: int) -> NDArray[np.float64]:
        """Give the highest score of a person in each column of time, NaN where there is none."""
        line = np.full(width, np.nan)
        scale = width / max(self._report.video.duration_s, 1e-9)
        for face in self._report.faces:
            if face.person == person:
                start_s, end_s, score = _shown(self._report, face)
                first = np.clip((start_s * scale).astype(int), 0, width - 1)
                end = np.clip((end_s * scale).astype(int), first + 1, width)
                np.fmax.at(line, first, score)
                for row in np.flatnonzero(end - first > 1):  # a frame is wider than a column
                    line[first[row] : end[row]] = np.fmax(line[first[row] : end[row]], score[row])
        return line


def _shown(report: VideoReport, face: FaceTimes) -> tuple[NDArray[np.float64], ...]:
    """Tell from when to when a track's scores are shown: frames last as long as they last.

    Returns:
        Start and end in seconds, and score, of each frame that has one. What lies between them is
        theirs, unless more frames lack a score than is usual in the track.
    """
    score = report.frame_score(face.track)
    rows = np.flatnonzero(~np.isnan(score))
    start_s, end_s = face.time_s[rows], frame_ends(report, face)[rows]
    steps = np.diff(face.frame_index[rows])
    near = np.flatnonzero(steps <= 2 * (np.median(steps) if len(steps) else 1))
    end_s[near] = start_s[1:][near]
    return start_s, end_s, score[rows]


def width_even(width: int) -> int:
    """Round up to an even number."""
    return width + width % 2


def _colour(score: float, threshold: float) -> Colour:
    if np.isnan(score):
        return UNKNOWN
    # Two digits, as the label has them, so that labels are drawn once.
    red, green, blue = score_colours(np.array(round(score, 2)), threshold).tolist()
    return (red, green, blue)


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    return not apart
