"""Write a data set of synthetic talking heads, real and forged, as true H.264 files.

The videos are made up by a program and show nobody ([ours], documented as synthetic). They serve
the demo, the tests and probes of what a method can see: kind and strength of every forgery are
known. What a detector may not lean on is kept out on purpose: each fake has a real video of the
same footage (person, motion, light, wall, compression), the sensor's noise is added after the
forgery with the same deviation, and both go through one and the same encoding.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed

from datamodules.errors import DataError
from datamodules.synthetic.canvas import draw_canvas
from datamodules.synthetic.face import draw_look, draw_shape
from datamodules.synthetic.footage import FPS, draw_footage
from datamodules.synthetic.forgery import FORGERY_KINDS, ForgeryKind, make_forgery
from datamodules.synthetic.scene import Rendering, render

if TYPE_CHECKING:
    from pathlib import Path

    from datamodules.schema import Split
    from datamodules.synthetic.canvas import ByteArray

#: Counted up whenever the same parameters give other pixels; part of `SyntheticSpec.digest`.
RENDERER_VERSION = 2
#: Quantisers of x264 to draw from, from fine to clearly compressed. Constant in a video: a rate
#: factor would coarsen the background where the face trembles, and so give fakes away. The wide
#: range keeps file sizes from doing so.
_QUANTISERS = (16, 31)
#: Streams of random numbers; each is independent of the others.
_IDENTITY, _FOOTAGE, _FORGERY, _NOISE = range(4)


@dataclass(frozen=True, kw_only=True)
class SyntheticSpec:
    """Everything that decides on the bytes of a synthetic data set.

    Attributes:
        num_identities: People; nobody appears in two splits.
        videos_per_identity: Real videos of each person; each has one fake of its footage.
        num_frames: Frames of a video, at 25 a second.
        frame_size: Side of the square frame in pixels, a multiple of 16.
        kinds: Kinds of forgery, dealt out in turn inside each split; a kind named twice comes
            twice as often.
        temporal_strength: Factor on the errors of `temporal` and `both`; 1 trembles by about
            2 % of the eye distance.
        spatial_strength: How much of the other person shows in `spatial` and `both`, 0..1.
        generator_scale: How many times a forged face was enlarged; above 1 it is softer than the
            frame around it and lacks the camera's noise.
        split_fractions: Shares of the people in train, val and test.
        masks: Whether to write the mask of the forged region beside each fake.
        seed: Seed of everything random.
    """

    num_identities: int = 60
    videos_per_identity: int = 2
    num_frames: int = 24
    frame_size: int = 128
    kinds: tuple[ForgeryKind, ...] = ("temporal", "both")
    temporal_strength: float = 2.5
    spatial_strength: float = 0.8
    generator_scale: float = 1.0
    split_fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    masks: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise DataError(f"synthetic data: {fault}")

    def digest(self) -> str:
        """Name the data set by its parameters and the renderer's version, 12 digits."""
        text = json.dumps([RENDERER_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def splits(self) -> list[Split]:
        """Give each person a split, in order; a split with a share gets at least one."""
        # Imported here: the schema pulls torch in, which a rendering process can do without.
        from datamodules.schema import SPLITS

        shares = np.array(self.split_fractions) / sum(self.split_fractions)
        counts = np.maximum(np.round(shares * self.num_identities).astype(int), shares > 0)
        # What rounding gave or took is the largest split's.
        counts[counts.argmax()] += self.num_identities - counts.sum()
        return [SPLITS[i] for i in np.repeat(np.arange(3), counts)]

    def _fault(self) -> str | None:
        unknown = [kind for kind in self.kinds if kind not in FORGERY_KINDS]
        checks = {
            f"no forgery {', '.join(unknown)}; kinds are {', '.join(FORGERY_KINDS)}": unknown,
            "kinds is empty; name at least one": not self.kinds,
            "num_identities, videos_per_identity and num_frames must be at least 1": min(
                self.num_identities, self.videos_per_identity, self.num_frames
            )
            < 1,
            f"frame_size {self.frame_size} is no multiple of 16 from 64 on": self.frame_size < 64
            or self.frame_size % 16,
            "strengths must not be negative, spatial_strength at most 1": self.temporal_strength < 0
            or not 0 <= self.spatial_strength <= 1,
            f"generator_scale {self.generator_scale} is not between 1 and 8": not 1
            <= self.generator_scale
            <= 8,
            "split_fractions must be three shares that are not all 0": min(self.split_fractions) < 0
            or sum(self.split_fractions) <= 0,
            f"{self.num_identities} people cannot fill all splits": self.num_identities
            < sum(share > 0 for share in self.split_fractions),
        }
        return next((message for message, wrong in checks.items() if wrong), None)


def write_synthetic_dataset(
    root: Path, spec: SyntheticSpec | None = None, num_workers: int = 1
) -> Path:
    """Render a data set.

    Writes `real/*.mp4`, `fake/<kind>/*.mp4`, beside each video `<video>.faces.npz` with the exact
    faces (`frame_index` (N,) int64, `box` (N, 4), `points68` (N, 68, 2), `score` (N,) float32),
    if asked for `<video>.mask.npz` (`mask` (N, H, W) uint8), and last of all `manifest.csv`.
    The same `spec` gives the same bytes, whatever the number of workers.

    Args:
        root: Folder to write into; made if missing.
        spec: What to render; None takes the defaults.
        num_workers: Processes to render with.

    Returns:
        Path of `manifest.csv`.

    Raises:
        DataError: If `root` already holds videos.
        OSError: If the disk refuses the bytes.
    """
    spec = spec or SyntheticSpec()
    if any((root / name).exists() for name in ("real", "fake", "manifest.csv")):
        raise DataError(f"{root}: already holds videos; name another folder or remove it")
    for folder in ("real", *(f"fake/{kind}" for kind in spec.kinds)):
        (root / folder).mkdir(parents=True, exist_ok=True)
    jobs = _jobs(spec)
    if num_workers == 1:
        pairs = [_write_pair(root, spec, *job) for job in jobs]
    else:
        pairs = Parallel(n_jobs=num_workers)(delayed(_write_pair)(root, spec, *job) for job in jobs)
    rows = sorted((row for pair in pairs for row in pair), key=lambda row: str(row["path"]))
    path = root / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def render_video(
    spec: SyntheticSpec, identity: int, video: int, kind: ForgeryKind | None
) -> Rendering:
    """Render one video of a data set in memory, before encoding.

    Args:
        spec: The data set.
        identity: Which person, from 0.
        video: Which video of this person, from 0.
        kind: Kind of forgery, or None for the real video.

    Returns:
        Frames, landmarks, boxes and masks.
    """
    look_rng = _rng(spec, _IDENTITY, identity)
    face = draw_canvas(draw_shape(look_rng), draw_look(look_rng), spec.frame_size)
    footage = draw_footage(
        face, spec.num_frames, spec.frame_size, _rng(spec, _FOOTAGE, identity, video)
    )
    forgery = None
    if kind is not None:
        forgery = make_forgery(
            kind,
            face,
            spec.num_frames,
            spec.temporal_strength,
            spec.spatial_strength,
            spec.generator_scale,
            _rng(spec, _FORGERY, identity, video),
        )
    return render(footage, forgery, _rng(spec, _NOISE, identity, video, int(kind is not None)))


def write_mp4(path: Path, frames: ByteArray, fps: int, quantiser: int) -> None:
    """Encode frames as H.264 in an mp4 file; same frames, same bytes.

    Args:
        path: File to write.
        frames: RGB, shape (N, H, W, 3), uint8.
        fps: Frames a second.
        quantiser: Constant quantiser of x264 (`qp`); larger is coarser.
    """
    # Imported here: whoever reads synthetic videos needs no encoder.
    import av
    from av.codec.context import Flags

    # More threads would cut the picture otherwise; x264's macroblock tree reads memory of chance
    # content where the frame is few blocks wide (seen at 64 pixels). Both give other bytes.
    options = {"qp": str(quantiser), "preset": "veryfast", "g": "12", "threads": "1"}
    options["x264-params"] = "mbtree=0"
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.flags |= Flags.bitexact
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _jobs(spec: SyntheticSpec) -> list[tuple[int, int, Split, ForgeryKind]]:
    """Deal out (person, video, split, kind), one for each pair of a real and a fake."""
    dealt: dict[Split, int] = defaultdict(int)
    jobs = []
    for identity, split in enumerate(spec.splits()):
        for video in range(spec.videos_per_identity):
            jobs.append((identity, video, split, spec.kinds[dealt[split] % len(spec.kinds)]))
            dealt[split] += 1
    return jobs


def _write_pair(
    root: Path, spec: SyntheticSpec, identity: int, video: int, split: Split, kind: ForgeryKind
) -> list[dict[str, Any]]:
    name = f"person{identity:04d}_{video}"
    real, fake = f"real/{name}.mp4", f"fake/{kind}/{name}_{kind}.mp4"
    quantiser = int(_rng(spec, _FOOTAGE, identity, video, 1).integers(*_QUANTISERS))
    rows = []
    for path, made in ((real, None), (fake, kind)):
        rendering = render_video(spec, identity, video, made)
        write_mp4(root / path, rendering.frames, FPS, quantiser)
        _write_faces(root / f"{path}.faces.npz", rendering)
        if spec.masks and made is not None:
            np.savez_compressed(root / f"{path}.mask.npz", mask=rendering.mask)
        rows.append(
            {
                "path": path,
                "label": "real" if made is None else "fake",
                "method": made or "none",
                "identity": f"person{identity:04d}",
                "identity_group": f"person{identity:04d}",
                "split": split,
                "paired_real": "" if made is None else real,
                "fps": FPS,
                "frames": spec.num_frames,
                "width": spec.frame_size,
                "height": spec.frame_size,
                "quantiser": quantiser,
                "sha256": hashlib.sha256((root / path).read_bytes()).hexdigest(),
            }
        )
    return rows


def _write_faces(path: Path, rendering: Rendering) -> None:
    count = len(rendering.frames)
    np.savez(
        path,
        frame_index=np.arange(count),
        box=rendering.box,
        points68=rendering.points68,
        score=np.ones(count, np.float32),
    )


def _rng(spec: SyntheticSpec, *stream: int) -> np.random.Generator:
    return np.random.default_rng([spec.seed, *stream])
