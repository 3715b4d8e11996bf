"""The perturbations by name and level, each with its parameters and where they come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from datamodules.errors import DataError
from datamodules.perturbations.encoding import Encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class PixelChange:
    """One of `PIXEL_CHANGES`, on every frame.

    Attributes:
        function: Its name.
        value: Its parameter.
    """

    function: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Reencoding:
    """What happens on the way through a program or a platform, in this order.

    Attributes:
        max_fps: Frames are left out evenly until at most so many a second are left; 0 for all.
        scale: Factor on height and width.
        short_side: The picture is shrunk until its shorter side has so many pixels; 0 for never.
        face_px: It is shrunk until the median face has so many pixels a side; 0 for never.
        encoding: How it is encoded; None for not at all.
        for_pixels: Pixels a second that the rate of `encoding` is meant for. Smaller videos get
            less, by the power 0.75 of the ratio; 0 gives all videos the same rate.
        restore: Whether it is enlarged to its first size again.
    """

    max_fps: float = 0
    scale: float = 1
    short_side: int = 0
    face_px: float = 0
    encoding: Encoding | None = None
    for_pixels: float = 0
    restore: bool = False


@dataclass(frozen=True, kw_only=True)
class FaceChange:
    """Hide the known faces, or everything else, behind grey.

    Attributes:
        hidden: `face` or `rest`.
        grow: Factor on the sides of boxes that hold the detected box and all landmarks. [ours]
    """

    hidden: Literal["face", "rest"]
    grow: float = 1.1


Change = PixelChange | Reencoding | FaceChange


@dataclass(frozen=True)
class Perturbation:
    """One change of known strength.

    Attributes:
        name: As in `NAMES`, or that of a control.
        level: 1 (weak) to 5 (strong); 0 for changes that have no levels.
        change: What is done.
    """

    name: str
    level: int
    change: Change

    @property
    def key(self) -> str:
        """Name of its folder, unique."""
        return f"{self.name}-{self.level}" if self.level else self.name

    def parameters(self) -> dict[str, Any]:
        """Give all that its result depends on, as JSON values."""
        kind = type(self.change).__name__
        return {"name": self.name, "level": self.level, "kind": kind, **asdict(self.change)}


#: The six of DeeperForensics-1.0 that change pixels: name there, and parameters of levels 1 to 5
#: (Jiang et al., CVPR 2020; `add_distortion_to_video.py` of the released code, commit 4f6ecff).
_PIXELS: dict[str, tuple[str, tuple[float, ...]]] = {
    "saturation": ("CS", (0.4, 0.3, 0.2, 0.1, 0.0)),
    "contrast": ("CC", (0.85, 0.725, 0.6, 0.475, 0.35)),
    "blocks": ("BW", (16, 32, 48, 64, 80)),
    "noise": ("GNC", (0.001, 0.002, 0.005, 0.01, 0.05)),
    "blur": ("GB", (7, 9, 13, 17, 21)),
    "pixelation": ("JPEG", (2, 3, 4, 5, 6)),
}
#: The seventh, VC: constant rate factors for ffmpeg's default H.264 encoder (same source).
_VIDEO_COMPRESSION = (30, 32, 35, 38, 40)
#: H.264: 23 and 40 are the levels of FaceForensics++ (Rossler et al., ICCV 2019). [others: ours]
_H264 = (18, 23, 28, 34, 40)
#: HEVC: 28 is the default of x265. [others: ours]
_HEVC = (23, 28, 33, 38, 43)
#: Factors on height and width; area averaging down, bicubic up. [ours]
_RESIZE = (0.75, 0.5, 0.375, 0.25, 0.166)
#: Frames a second. [ours]
_FRAME_RATE = (24, 20, 15, 12, 10)
#: Shorter side in pixels, kilobits a second and pixels a second of five H.264 variants of Apple's
#: "HLS Authoring Specification for Apple Devices" (16:9 up to 30 frames a second). That a platform
#: sends these, one pass, a key frame every 60 frames, and the power of 0.75: [ours].
_SOCIAL = (
    (720, 3000, 1280 * 720 * 30),
    (432, 1100, 768 * 432 * 30),
    (432, 730, 768 * 432 * 30),
    (360, 365, 640 * 360 * 30),
    (234, 145, 416 * 234 * 30),
)

SEVEN = (*_PIXELS, "compression")
REAL = ("h264", "hevc", "resize", "frame_rate", "social")
NAMES = (*SEVEN, *REAL)
#: What `--perturbations` takes beside names.
GROUPS: dict[str, tuple[str, ...]] = {"seven": SEVEN, "real": REAL, "all": NAMES}


def perturbation(name: str, level: int) -> Perturbation:
    """Find a perturbation.

    Args:
        name: One of `NAMES`.
        level: 1 to 5.

    Raises:
        DataError: If there is none of this name or level.
    """
    if name not in NAMES:
        raise DataError(f"no perturbation is called {name!r}; there are: {', '.join(NAMES)}")
    if level not in LEVELS:
        raise DataError(f"perturbation level {level} is none of 1 to 5")
    return Perturbation(name, level, _change(name, level - 1))


def chosen(names: Sequence[str], levels: Sequence[int]) -> list[Perturbation]:
    """List what a user asked for, each once.

    Args:
        names: Of perturbations, or of `GROUPS`.
        levels: Which levels of each.

    Raises:
        DataError: If there is none of a name or level.
    """
    wanted = dict.fromkeys(name for word in names for name in GROUPS.get(word, (word,)))
    return [perturbation(name, level) for name in wanted for level in sorted(set(levels))]


def _change(name: str, row: int) -> Change:
    if name in _PIXELS:
        return PixelChange(function=name, value=_PIXELS[name][1][row])
    if name == "social":
        side, kbps, pixels = _SOCIAL[row]
        encoding = Encoding(kbps=kbps, gop=60)
        return Reencoding(max_fps=30, short_side=side, encoding=encoding, for_pixels=pixels)
    changes = {
        "compression": Reencoding(encoding=Encoding(crf=_VIDEO_COMPRESSION[row])),
        "h264": Reencoding(encoding=Encoding(crf=_H264[row])),
        "hevc": Reencoding(encoding=Encoding(codec="hevc", crf=_HEVC[row])),
        "resize": Reencoding(scale=_RESIZE[row], restore=True),
        "frame_rate": Reencoding(max_fps=_FRAME_RATE[row]),
    }
    return changes[name]
