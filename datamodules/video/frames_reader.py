"""Folders of pictures as videos: frame k is the k-th picture by the number in its name.

Benchmarks hand out frames instead of videos, `frames/<video>/000.png` and so on; numbers may leave
gaps, and the frames then follow each other without them. A single picture is a video of one frame.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.errors import DataError
from datamodules.video.info import ASSUMED_FPS, VideoInfo
from datamodules.video.lazy_reader import LazyReader, check_count
from datamodules.video.libav import DamagedVideoError, short_reason

#: Kinds of pictures that count as frames.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_DIGITS = re.compile(r"(\d+)")
#: Markers of a JPEG file: its scan begins, the picture ends (ITU-T T.81).
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


@dataclass(frozen=True)
class FrameFiles:
    """The pictures of one video, in their order. N frames.

    Attributes:
        files: The pictures.
        numbers: The number in each name, ascending; 0 to N - 1 where names hold several numbers
            or none. Steps larger than 1 are frames that were left out.
    """

    files: tuple[Path, ...]
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class FrameScan:
    """What decoding all pictures of a video told.

    Attributes:
        num_frames: Pictures that decode, up to the first that does not.
        height: Height in pixels.
        width: Width in pixels.
        sha256: Over the name and the bytes of every picture; of a lone picture over its bytes.
        damage: What is wrong with the first bad picture, or an empty string.
    """

    num_frames: int
    height: int
    width: int
    sha256: str
    damage: str


def is_frames(path: Path) -> bool:
    """Tell whether a path is read as frames: a folder, or a picture."""
    return path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES


def frame_files(path: Path, names: Sequence[str] = ()) -> FrameFiles:
    """List the pictures of a video in their order.

    Args:
        path: A folder, of which sub-folders, hidden files and other kinds of files are no
            frames; or a picture.
        names: The pictures of the folder that belong to the video; all unless given.

    Returns:
        The pictures, by the number in their names.

    Raises:
        DataError: There is none, one of the names is missing, or names tell no order.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES and not path.is_dir():
        return FrameFiles((path,), (0,))
    found = _pictures(path)
    if names:
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(
                f"{path}: lacks {len(missing)} of {len(names)} frames, the first is {missing[0]}; "
                "copy or download it again"
            )
        found = sorted(set(names))
    if not found:
        raise DataError(
            f"{path}: holds no picture ({' '.join(PICTURE_SUFFIXES)}); give a folder of frames"
        )
    return _ordered(path, found)


def _pictures(folder: Path) -> list[str]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be read ({short_reason(error)}); check the path"
        ) from error
    return [
        entry.name
        for entry in entries
        if entry.suffix.lower() in PICTURE_SUFFIXES and not entry.name.startswith(".")
    ]


def _ordered(folder: Path, names: Sequence[str]) -> FrameFiles:
    """Sort names by the numbers in them; whatever else is in them has to be the same in all."""
    parts = {name: _DIGITS.split(name.rpartition(".")[0]) for name in names}
    texts = {name: tuple(part[::2]) for name, part in parts.items()}
    odd = next((name for name in names if texts[name] != texts[names[0]]), None)
    if odd is not None:
        raise DataError(
            f"{folder}: {names[0]} and {odd} are not named alike, so that their order is not "
            "known; name frames by their numbers alone"
        )
    of_key = defaultdict(list)
    for name in names:
        of_key[tuple(int(digits) for digits in parts[name][1::2])].append(name)
    doubled = next((twins for twins in of_key.values() if len(twins) > 1), None)
    if doubled:
        raise DataError(
            f"{folder}: {doubled[0]} and {doubled[1]} are the same frame by their names; "
            "remove one of them"
        )
    keys = sorted(of_key)
    single = all(len(key) == 1 for key in keys)
    return FrameFiles(
        tuple(folder / of_key[key][0] for key in keys),
        tuple(key[0] for key in keys) if single else tuple(range(len(keys))),
    )


def frames_step(files: FrameFiles) -> float:
    """Tell how many frames lie between neighbours, on average: 1 where none was left out."""
    gaps = [after - before for before, after in pairwise(files.numbers)]
    return sum(gaps) / len(gaps) if gaps else 1.0


def decode_picture(file: Path, index: int = 0, content: bytes | None = None) -> NDArray[np.uint8]:
    """Decode a picture.

    Args:
        file: The picture.
        index: Which frame of its video it is, for the error.
        content: Its bytes; read from the file unless given.

    Returns:
        RGB, upright, shape (H, W, 3), uint8; grey becomes RGB, transparency is left out.

    Raises:
        DamagedVideoError: It is missing, empty, cut off or no picture; names the file.
    """
    import cv2

    content = _bytes(file, index) if content is None else content
    if not content:
        raise DamagedVideoError(f"{file}: is empty (0 bytes); copy or download it again", index)
    # some versions of OpenCV fill the rest of a JPEG file that is cut off with grey
    cut = content.startswith(_JPEG_START) and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN)
    picture = None if cut else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise DamagedVideoError(
            f"{file}: is no readable picture; it is damaged or cut off: copy or download it again",
            index,
        )
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def _bytes(file: Path, index: int) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DamagedVideoError(
            f"{file}: cannot be read ({short_reason(error)}); copy or download it again", index
        ) from error


def scan_frames(files: FrameFiles) -> FrameScan:
    """Decode all pictures of a video once.

    Args:
        files: The pictures.

    Returns:
        What they hold. Pictures behind a damaged one are hashed, but not counted.

    Raises:
        DataError: The pictures are of different sizes.
    """
    digest = hashlib.sha256()
    size: tuple[int, int] | None = None
    count, damage = 0, ""
    for index, file in enumerate(files.files):
        try:
            content = _bytes(file, index)
            if len(files) > 1:
                # the length keeps a name from passing for bytes of the file before
                digest.update(f"{file.name}\0{len(content)}\0".encode())
            digest.update(content)
            if not damage:
                size = _same_size(decode_picture(file, index, content), size, file)
                count += 1
        except DamagedVideoError as error:
            damage = damage or str(error)
    return FrameScan(count, *(size or (0, 0)), digest.hexdigest(), damage)


def probe_frames(files: FrameFiles, allow_damaged: bool) -> VideoInfo:
    """Look at all pictures of a video once, as `probe_video` does at a file.

    Args:
        files: The pictures.
        allow_damaged: Whether to accept the frames before the first damaged picture.

    Returns:
        The facts to keep in a manifest; the frame rate is not known.

    Raises:
        DataError: A picture is damaged, or they are of different sizes.
    """
    scan = scan_frames(files)
    if scan.damage and not (allow_damaged and scan.num_frames):
        raise DamagedVideoError(scan.damage, scan.num_frames)
    return VideoInfo(
        num_frames=scan.num_frames,
        fps=0.0,
        height=scan.height,
        width=scan.width,
        decoder="frames_prefix" if scan.damage else "frames",
        duration_s=scan.num_frames / ASSUMED_FPS,
        sha256=scan.sha256,
        reason="its frames are pictures",
        damage=scan.damage,
        timestamps_s=np.arange(scan.num_frames) / ASSUMED_FPS,
    )


def _same_size(
    picture: NDArray[np.uint8], size: tuple[int, int] | None, file: Path
) -> tuple[int, int]:
    height, width = picture.shape[:2]
    if size not in (None, (height, width)):
        raise DataError(
            f"{file}: is of {width}x{height} pixels, the frames before it are of "
            f"{size[1]}x{size[0]}; bring them to one size"
        )
    return height, width


class FramesReader(LazyReader[FrameFiles]):
    """Read a folder of pictures, or a lone picture.

    Args:
        path: The folder or the picture.
        num_frames: What `probe_video` counted; another number means another folder.
        names: The pictures of the folder that belong to the video; all unless given.
    """

    #: Whether to end before the first damage instead of raising.
    prefix = False

    def __init__(
        self, path: Path | str, num_frames: int | None = None, names: Sequence[str] = ()
    ) -> None:
        super().__init__(path, num_frames)
        self._names = tuple(names)

    def __reduce__(self) -> tuple[type, tuple[Path, int | None, tuple[str, ...]]]:  # type: ignore[override]
        return type(self), (self._path, self._promised, self._names)

    def _open(self) -> FrameFiles:
        files = frame_files(self._path, self._names)
        if self.prefix:
            count = scan_frames(files).num_frames if self._promised is None else self._promised
            files = FrameFiles(files.files[:count], files.numbers[:count])
        check_count(self._path, len(files), self._promised)
        return files

    def _release(self, handle: FrameFiles) -> None:
        del handle

    _forget = _release

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self._promised if self._promised is not None else len(self._opened())

    @property
    def fps(self) -> float:
        """0: pictures do not tell when they were shown."""
        return 0.0

    def _read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        ascending, places = np.unique(indices, return_inverse=True)
        pictures = np.stack([self._picture(int(index)) for index in ascending])
        return pictures if np.array_equal(ascending, indices) else pictures[places]

    def _picture(self, index: int) -> NDArray[np.uint8]:
        file = self._opened().files[index]
        picture = decode_picture(file, index)
        self._shape = _same_size(picture, self._shape, file)
        return picture

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for index in range(len(self._opened())):
            yield self._picture(index)


class FramesPrefixReader(FramesReader):
    """Read the frames before the first damaged picture of a folder."""

    prefix = True
