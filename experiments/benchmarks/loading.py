"""Loading of training clips: prepared tracks against folders of frames, on the same clips.

The reference does what a DeepfakeBench data set does for a clip (protocol of DeepfakeBench,
sections 1 and 4): 32 PNG frames of 256 x 256, aligned beforehand, are read one by one, resized,
augmented one by one with one seed for the clip, made a normalised float tensor and stacked to a
batch. Ours reads a stored track, aligns, augments with about the same operations, and leaves
normalising to the device. Both take turns clip by clip in one thread, and CPU seconds count.

Below stands what fakes cost that are made of real videos (`fake_from_real`), without augmentation:
all; decoding, of which a blended face needs a second one; aligning the real clip; and forging,
from decoded clips and stored landmarks to the finished frames and masks.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from datamodules.clip_dataset import ClipCutter
from datamodules.clip_sampling import num_windows, window_positions
from datamodules.preprocess.align import clip_transform, crop_matrices, needed_rows
from datamodules.store.prepared import PreparedStore
from datamodules.transforms import ClipAugmentation
from experiments.benchmarks.forging import forging_lines
from experiments.benchmarks.machine import at_least_one, processor
from experiments.benchmarks.times import Times
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datamodules.store.prepared import TrackReader

#: Side of the frames that DeepfakeBench distributes, in pixels (its section 1).
_BENCH_SIZE = 256
#: Clips of a batch.
_BATCH = 4
#: The augmentation of DeepfakeBench's section 4, as far as both have it: mirror, blur, colour and
#: JPEG each with probability 0.5, and its rotation, whose place in ours the jitter takes.
AUGMENTATION = ClipAugmentation(
    flip_prob=0.5,
    landmark_jitter_px=4.0,
    colour_prob=0.5,
    jpeg_prob=0.5,
    jpeg_quality=(40, 100),
    blur_prob=0.5,
)


@dataclass(frozen=True)
class ClipPlace:
    """A clip of a store: its track, and its positions in it."""

    track: str
    positions: tuple[int, ...]


class FrameFolder:
    """The reference: a clip as a folder of PNG frames, loaded as DeepfakeBench does.

    Args:
        folder: Holds `000.png`, `001.png`, ...
        image_size: Height and width of the loaded clip in pixels.
    """

    def __init__(self, folder: Path, image_size: int) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.image_size = image_size

    def load(self, seed: int, times: Times) -> torch.Tensor:
        """Load the clip.

        Args:
            seed: Of the augmentation, the same for all frames.
            times: Where the time is booked.

        Returns:
            Shape (T, 3, H, W), float32, normalised with mean and deviation 0.5.
        """
        frames = times.take("read and decode", self._read)
        frames = times.take("align", lambda: [self._resize(frame) for frame in frames])
        frames = times.take("augment", lambda: [_augment(frame, seed) for frame in frames])
        clip = times.take("to tensor", lambda: torch.stack([_tensor(frame) for frame in frames]))
        assert isinstance(clip, torch.Tensor)
        return clip

    def _read(self) -> list[NDArray[np.uint8]]:
        pictures: list[Any] = [cv2.imread(str(path)) for path in self.paths]
        return [np.asarray(cv2.cvtColor(p, cv2.COLOR_BGR2RGB), np.uint8) for p in pictures]

    def _resize(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = (self.image_size, self.image_size)
        resized = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        # There and back again, as the original does.
        return np.array(Image.fromarray(resized))


def _bench_augmentation(image_size: int) -> Any:
    """Build DeepfakeBench's augmentation (section 4 of its protocol), for one frame."""
    import albumentations as alb

    return alb.Compose(
        [
            alb.HorizontalFlip(p=0.5),
            alb.Rotate((-10, 10), p=0.5),
            alb.GaussianBlur(blur_limit=(3, 7), p=0.5),
            alb.OneOf([alb.LongestMaxSize(image_size)], p=1.0),
            alb.OneOf(
                [
                    alb.RandomBrightnessContrast((-0.1, 0.1), (-0.1, 0.1)),
                    alb.FancyPCA(),
                    alb.HueSaturationValue(),
                ],
                p=0.5,
            ),
            alb.ImageCompression(quality_range=(40, 100), p=0.5),
        ]
    )


_COMPOSE: list[Any] = []


def _augment(frame: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    if not _COMPOSE:
        _COMPOSE.append(_bench_augmentation(frame.shape[0]))
    _COMPOSE[0].set_random_seed(seed)
    return np.asarray(_COMPOSE[0](image=frame)["image"], np.uint8)


def _tensor(frame: NDArray[np.uint8]) -> torch.Tensor:
    picture = transforms.ToTensor()(frame)
    return cast(torch.Tensor, transforms.Normalize([0.5] * 3, [0.5] * 3)(picture))


def _load_ours(
    cutter: ClipCutter, place: ClipPlace, rng: np.random.Generator, times: Times
) -> torch.Tensor:
    """Load a clip of ours, as a tensor that is still to be normalised."""
    clip = times.take("all", lambda: cutter.cut(place.track, place.positions, rng))
    return torch.from_numpy(clip.frames)


def choose_clips(store: PreparedStore, num_clips: int, num_frames: int) -> list[ClipPlace]:
    """Choose clips all over a store, by a fixed draw.

    Args:
        store: The store.
        num_clips: At most so many.
        num_frames: Frames in each (T); shorter tracks are left out.

    Raises:
        UsageError: If no track is long enough.
    """
    rng = np.random.default_rng(0)
    tracks = [t for record in store.records if record.status == "ok" for t in record.tracks]
    places = []
    for index in rng.permutation(len(tracks)):
        frame_index = store.reader(tracks[index]).track.frame_index
        if len(frame_index) >= num_frames:
            window = int(rng.integers(num_windows(frame_index, num_frames)))
            positions = window_positions(frame_index, num_frames, window)
            places.append(ClipPlace(tracks[index], tuple(positions)))
        if len(places) == num_clips:
            break
    if not places:
        raise UsageError(f"{store.files}: no track has {num_frames} frames; lower --frames")
    return places


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--root", required=True, help="prepared folder, or its URL")
    parser.add_argument("--clips", type=at_least_one, default=48, help="different clips")
    parser.add_argument("--frames", type=at_least_one, default=32, help="frames in a clip")
    parser.add_argument("--size", type=at_least_one, default=224, help="height and width, pixels")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="loads of every clip")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Load the same clips in both ways, in turns.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.

    Raises:
        DataError: If the store cannot be read.
        UsageError: If no track is long enough.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    store = PreparedStore(options.root)
    places = choose_clips(store, options.clips, options.frames)
    yield f"loading on {processor()}, one thread; {len(places)} clips of {options.frames} frames,"
    yield f"{options.size} x {options.size}, {options.rounds} rounds, files in memory"
    with tempfile.TemporaryDirectory() as folder:
        folders = _write_folders(store, places, Path(folder))
        theirs, ours = Times(), Times()
        for round_ in range(options.rounds + 1):
            if round_ == 1:  # the first one only warms up
                theirs, ours = Times(), Times()
            _load_all(store, places, folders, options.size, round_, (theirs, ours))
    yield from _report(theirs, ours, len(places) * options.rounds)
    yield from forging_lines(store, options.clips, options.frames, options.size, options.rounds)


def _write_folders(store: PreparedStore, places: list[ClipPlace], folder: Path) -> list[Path]:
    """Write the clips as aligned PNG frames, as the reference has them on disk."""
    cutter = ClipCutter(store, _BENCH_SIZE)
    folders = []
    for number, place in enumerate(places):
        below = folder / f"{number:04d}"
        below.mkdir()
        for k, frame in enumerate(cutter.cut(place.track, place.positions).frames):
            cv2.imwrite(str(below / f"{k:03d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        folders.append(below)
    return folders


def _load_all(
    store: PreparedStore,
    places: list[ClipPlace],
    folders: list[Path],
    image_size: int,
    round_: int,
    times: tuple[Times, Times],
) -> None:
    """Load every clip once in each way."""
    augmented = ClipCutter(store, image_size, AUGMENTATION)
    plain = ClipCutter(store, image_size)
    loaded: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for number, (place, folder) in enumerate(zip(places, folders, strict=True)):
        loaded[0].append(FrameFolder(folder, image_size).load(1000 * round_ + number, times[0]))
        rng = np.random.default_rng([round_, number])
        loaded[1].append(_load_ours(augmented, place, rng, times[1]))
        for clips, spent in zip(loaded, times, strict=True):
            if len(clips) == _BATCH or number == len(places) - 1:
                spent.take("collate", partial(torch.stack, tuple(clips)))
                clips.clear()
        reader = store.reader(place.track)
        times[1].take("read and decode", partial(_decode, reader, place.positions, image_size))
        times[1].take("plain", partial(plain.cut, place.track, place.positions))


def _decode(reader: TrackReader, positions: Sequence[int], image_size: int) -> None:
    """Decode what a clip needs, as the cutter does."""
    where = np.asarray(positions)
    matrix = clip_transform(reader.track.points5[where], image_size)
    from_crops = crop_matrices(matrix, reader.crop_boxes[where][:, :2])
    for _ in reader.each_crop(positions, needed_rows(from_crops, image_size)):
        pass


def _report(theirs: Times, ours: Times, count: int) -> Iterator[str]:
    """Write the table."""
    spent = ours.seconds
    parts = {
        "read and decode": spent["read and decode"],
        "align": spent["plain"] - spent["read and decode"],
        "augment": spent["all"] - spent["plain"],
        "to tensor": 0.0,
        "collate": spent["collate"],
    }
    yield f"{'CPU ms a clip':<20}{'PNG folders':>14}{'tracks':>10}"
    for name, seconds in parts.items():
        yield f"{name:<20}{1e3 * theirs.seconds[name] / count:>14.1f}{1e3 * seconds / count:>10.1f}"
    whole, mine = sum(theirs.seconds.values()), spent["all"] + spent["collate"]
    yield f"{'all':<20}{1e3 * whole / count:>14.1f}{1e3 * mine / count:>10.1f}"
    yield f"{'clips / s / core':<20}{count / whole:>14.1f}{count / mine:>10.1f}" + (
        f"   ratio {whole / mine:.2f}"
    )
