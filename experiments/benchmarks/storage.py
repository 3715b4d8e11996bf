"""Forms to store face tracks in: size, reading speed, and what they do to the pixels.

Measured on the crops of a lossless store (`make data ... ARGS="--format png"`). `--write` makes
a copy of that store whose crops went through a form, to train a detector on: what a form costs
in accuracy is the question behind all the others.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from datamodules.store.jpeg_rows import restart_interval
from datamodules.store.prepared import PreparedStore, TrackWriter
from experiments.benchmarks.loading import choose_clips
from experiments.benchmarks.machine import at_least_one, processor
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

Pictures = list["NDArray[np.uint8]"]

#: Below this scale, in pixels, lie most traces of a forgery: the residual is the picture less its
#: Gaussian blur.
_RESIDUAL_SIGMA = 1.5
#: Key frames of a stored video: a clip of 32 frames meets one or two.
_GOP = 32


@dataclass
class Figures:
    """What was measured of a form, a value for each clip."""

    num_bytes: list[int] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    residual_db: list[float] = field(default_factory=list)


def _png(crops: Pictures) -> list[bytes]:
    return [_encoded(".png", crop, [cv2.IMWRITE_PNG_COMPRESSION, 1]) for crop in crops]


def _jpeg(quality: int, sampling: int) -> Callable[[Pictures], list[bytes]]:
    def encode(crops: Pictures) -> list[bytes]:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        markers = cv2.IMWRITE_JPEG_RST_INTERVAL
        return [
            _encoded(".jpg", crop, [*options, markers, restart_interval(crop.shape[1])])
            for crop in crops
        ]

    return encode


def _encoded(suffix: str, crop: NDArray[np.uint8], options: Sequence[int]) -> bytes:
    return bytes(cv2.imencode(suffix, cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), options)[1].tobytes())


def _read_pictures(files: list[bytes], _: Pictures) -> Pictures:
    pictures = [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_COLOR_RGB) for f in files]
    return [np.asarray(picture, np.uint8) for picture in pictures]


def _h264(crf: int, pixels: str) -> Callable[[Pictures], list[bytes]]:
    def encode(crops: Pictures) -> list[bytes]:
        """Encode one video of all crops, on a canvas that all of them fit."""
        height, width = (2 * -(-max(c.shape[k] for c in crops) // 2) for k in (0, 1))
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            stream.gop_size = _GOP
            for crop in crops:
                rest = ((0, height - crop.shape[0]), (0, width - crop.shape[1]), (0, 0))
                frame = av.VideoFrame.from_ndarray(np.pad(crop, rest, "edge"), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return [file.getvalue()]

    return encode


def _read_video(files: list[bytes], crops: Pictures) -> Pictures:
    with av.open(io.BytesIO(files[0])) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return [f[: c.shape[0], : c.shape[1]] for f, c in zip(frames, crops, strict=True)]


_444, _420 = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
#: How a form writes the crops of a clip, and reads them back.
FORMS: dict[str, tuple[Callable[[Pictures], list[bytes]], Callable[..., Pictures]]] = {
    "png": (_png, _read_pictures),
    "jpg-q95-444": (_jpeg(95, _444), _read_pictures),
    "jpg-q95-420": (_jpeg(95, _420), _read_pictures),
    "jpg-q90-444": (_jpeg(90, _444), _read_pictures),
    "h264-crf10": (_h264(10, "yuv420p"), _read_video),
    "h264-crf10-444": (_h264(10, "yuv444p"), _read_video),
    "h264-crf18": (_h264(18, "yuv420p"), _read_video),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--root", required=True, help="prepared folder, stored as png")
    parser.add_argument("--clips", type=at_least_one, default=24, help="clips measured")
    parser.add_argument("--frames", type=at_least_one, default=32, help="frames in a clip")
    parser.add_argument("--write", type=Path, help="folder for a copy in the form of --form")
    parser.add_argument("--form", choices=[*FORMS], default="h264-crf10", help="of that copy")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure every form, or write a copy of the store in one of them.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.

    Raises:
        DataError: If the store cannot be read.
        UsageError: If it is not lossless, or the copy's folder is there already.
    """
    cv2.setNumThreads(1)
    store = PreparedStore(options.root)
    if store.info.parameters.get("image_format") != "png":
        raise UsageError(f'{options.root} is not lossless; prepare it with ARGS="--format png"')
    if options.write is not None:
        yield _write_copy(store, Path(options.root), options.write, options.form)
        return
    places = choose_clips(store, options.clips, options.frames)
    yield f"{len(places)} clips of {options.frames} crops on {processor()}, one thread"
    yield f"{'form':<16}{'KB':>7}{'ms':>8}{'clips/s':>9}{'PSNR':>7}{'(min)':>7}{'residual':>10}"
    for name in FORMS:
        figures = Figures()
        for place in places:
            _measure(name, store.reader(place.track).crops(place.positions), figures)
        yield _line(name, figures)


def _measure(form: str, crops: Pictures, figures: Figures) -> None:
    """Write and read back one clip."""
    write, read = FORMS[form]
    files = write(crops)
    start = time.process_time()
    found = read(files, crops)
    figures.read_s.append(time.process_time() - start)
    figures.num_bytes.append(sum(map(len, files)))
    errors = [f.astype(np.float64) - c for f, c in zip(found, crops, strict=True)]
    square = float(np.mean(np.concatenate([e.ravel() ** 2 for e in errors])))
    figures.psnr.append(10 * np.log10(255**2 / square) if square else np.inf)
    figures.residual_db.append(_residual_snr(crops, errors))


def _residual_snr(crops: Pictures, errors: list[NDArray[np.float64]]) -> float:
    """Compare the high-pass residual with its error, in dB."""

    def power(pictures: Sequence[NDArray[Any]]) -> float:
        planes = [p.astype(np.float64) for p in pictures]
        rests = [p - cv2.GaussianBlur(p, (0, 0), _RESIDUAL_SIGMA) for p in planes]
        return sum(float(np.square(r).sum()) for r in rests)

    wrong = power(errors)
    return 10 * float(np.log10(power(crops) / wrong)) if wrong else np.inf


def _line(name: str, figures: Figures) -> str:
    size, seconds = np.mean(figures.num_bytes) / 1024, np.mean(figures.read_s)
    psnr, least = np.mean(figures.psnr), np.min(figures.psnr)
    return (
        f"{name:<16}{size:>7.0f}{1e3 * seconds:>8.1f}{1 / seconds:>9.1f}{psnr:>7.1f}{least:>7.1f}"
        f"{np.mean(figures.residual_db):>10.1f}"
    )


def _write_copy(store: PreparedStore, root: Path, out: Path, form: str) -> str:
    """Copy a store, its crops as a form gives them back; stored losslessly, so as it gave them."""
    if out.exists():
        raise UsageError(f"{out} is there already; give the name of a new folder")
    ignored = shutil.ignore_patterns("tracks", "ledger")
    shutil.copytree(root, out, ignore=ignored)
    write, read = FORMS[form]
    num_bytes = 0
    for record in store.records:
        for track in record.tracks:
            reader = store.reader(track)
            crops = reader.crops(range(len(reader)))
            files = write(crops)
            num_bytes += sum(map(len, files))
            with TrackWriter(out / track, replace(reader.meta)) as writer:
                for k, crop in enumerate(read(files, crops)):
                    faces = reader.track
                    writer.add(
                        int(faces.frame_index[k]),
                        crop,
                        reader.crop_boxes[k],
                        box=faces.box[k],
                        points5=faces.points5[k],
                        points68=faces.points68[k],
                        score=float(faces.score[k]),
                        forehead=None if faces.forehead is None else faces.forehead[k],
                    )
                writer.figures = reader.figures
    return f"{out}: {form}, {num_bytes / 2**20:.1f} MiB of crops"
