"""Draw what every way of making fakes does to a real video, for a person to judge."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from datamodules.atomic import atomic_open
from datamodules.clip_dataset import ClipCutter
from datamodules.errors import DataError
from datamodules.fake_from_real import ClipForger, FakeFromReal
from datamodules.store.prepared import PreparedStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from datamodules.fake_from_real import Made
    from datamodules.schema import VideoRecord

#: Frames of each clip that are shown, evenly over its time, and the factor on differences.
_SHOWN = 5
_FACTOR = 10
#: Draws of a clip for each way, before none is shown: not every clip fits every way.
_TRIES = 8
#: Width of the column of names, in pixels.
_MARGIN = 150


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line, as in the other programs."""

    def error(self, message: str) -> NoReturn:
        raise DataError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m datamodules.blending --preview`.

    Args:
        arguments: Of the command line; by default the process's own.

    Returns:
        Exit code: 0 done, 2 a mistake that the user can mend.
    """
    parser = _Parser(prog="python -m datamodules.blending", description=__doc__)
    parser.add_argument("--preview", action="store_true", required=True, help="draw the sheet")
    parser.add_argument("--root", required=True, help="prepared folder, or its URL")
    parser.add_argument("--out", type=Path, required=True, help="the picture, as sheet.png")
    parser.add_argument("--video", help="video_id of a real video; drawn by the seed if not given")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--frames", type=int, default=32, help="frames in a clip")
    parser.add_argument("--size", type=int, default=224, help="height and width of a clip, pixels")
    try:
        options = parser.parse_args(arguments)
        _check(options)
        sheet, video = draw_sheet(
            PreparedStore(options.root), options.video, options.seed, options.frames, options.size
        )
        _write(sheet, options.out)
    except (DataError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{options.out}: {video}, seed {options.seed}\n")
    return 0


def draw_sheet(
    store: PreparedStore, video_id: str | None, seed: int, num_frames: int, image_size: int
) -> tuple[NDArray[np.uint8], str]:
    """Draw the sheet: of each way original, mask, fake and their difference.

    Args:
        store: Real videos; all splits are taken, for this shows nothing to a detector.
        video_id: Which one; None for one drawn by the seed.
        seed: Of all draws.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a clip in pixels.

    Returns:
        The picture, RGB, shape (H, W, 3), uint8, and the `video_id` of its video.

    Raises:
        DataError: If there is no such real video, or a track is missing or damaged.
    """
    records = [record for record in store.records if record.status == "ok"]
    row = _choose(records, video_id, seed, store)
    cutter = ClipCutter(store, image_size)
    forger = ClipForger(FakeFromReal(), cutter, records, num_frames)
    blocks = []
    for number, name in enumerate(forger.forgeries):
        draws = map(np.random.default_rng, np.random.SeedSequence([seed, number]).spawn(_TRIES))
        tried = (forger.try_to_make(name, row, rng) for rng in draws)
        made = next((one for one in tried if one is not None), None)
        if made is None:
            blocks.append(_named(np.zeros((40, image_size * _SHOWN, 3), np.uint8), name, "none"))
            continue
        blocks.append(_block(name, _original(cutter, made), made))
    return np.concatenate(blocks), records[row].video_id


def _original(cutter: ClipCutter, made: Made) -> NDArray[np.uint8]:
    """Cut what the fake was made of; where frames were chosen, consecutive ones."""
    if made.mask is not None:
        return made.real.clip.frames
    track, positions = made.place.track, made.place.positions
    last = len(cutter.frame_index(track)) - 1
    consecutive = [min(positions[0] + t, last) for t in range(len(positions))]
    return cutter.warp(track, consecutive, made.real.matrices, cutter.image_size)


def _block(name: str, original: NDArray[np.uint8], made: Made) -> NDArray[np.uint8]:
    """Draw the four rows of one way."""
    fake = made.clip.frames
    mask = np.zeros(fake.shape[:3], np.float32) if made.mask is None else made.mask
    grey = np.repeat((255 * mask[..., None]).astype(np.uint8), 3, axis=3)
    difference = np.abs(fake.astype(int) - original) * _FACTOR
    rows = {
        "original": original,
        "mask": grey,
        "fake": fake,
        f"difference x{_FACTOR}": np.minimum(difference, 255).astype(np.uint8),
    }
    some = np.linspace(0, len(fake) - 1, min(_SHOWN, len(fake))).round().astype(int)
    frames = made.clip.frame_index
    notes = [f"frame {t}: video's {frames[t]}" for t in some]
    drawn = []
    for title, clip in rows.items():
        line = np.concatenate([clip[t] for t in some], axis=1)
        drawn.append(_named(line, name if title == "original" else "", title))
        if title == "fake":
            _note(drawn[-1], notes, fake.shape[2])
    return np.concatenate(drawn)


def _named(line: NDArray[np.uint8], name: str, title: str) -> NDArray[np.uint8]:
    """Put names before a row of pictures."""
    import cv2

    margin = np.full((len(line), _MARGIN, 3), 32, np.uint8)
    for y, text, size in ((18, name, 0.45), (36, title, 0.4)):
        cv2.putText(margin, text, (4, y), cv2.FONT_HERSHEY_SIMPLEX, size, (255,) * 3, 1, 16)
    return np.concatenate([margin, line], axis=1)


def _note(line: NDArray[np.uint8], notes: Sequence[str], width: int) -> None:
    """Write a note into each picture of a row."""
    import cv2

    for k, text in enumerate(notes):
        place = (_MARGIN + k * width + 4, len(line) - 6)
        cv2.putText(line, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 0), 1, 16)


def _choose(
    records: Sequence[VideoRecord], video_id: str | None, seed: int, store: PreparedStore
) -> int:
    """Find the row of the video to forge."""
    real = [row for row, record in enumerate(records) if record.label == 0]
    if video_id is not None:
        real = [row for row in real if records[row].video_id == video_id]
    if not real:
        what = "real video with a face" if video_id is None else f"real video {video_id}"
        raise DataError(f"{store.files} holds no {what}; see its manifest.jsonl")
    return real[seed % len(real)]


def _check(options: argparse.Namespace) -> None:
    for name, low in (("seed", 0), ("frames", 2), ("size", 16)):
        if getattr(options, name) < low:
            raise DataError(f"--{name} is {getattr(options, name)}; it must be at least {low}")
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise DataError(f"--out {options.out} is no picture's name; let it end in .png")


def _write(sheet: NDArray[np.uint8], path: Path) -> None:
    import cv2

    _, content = cv2.imencode(path.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with atomic_open(path) as file:
        file.write(content.tobytes())
