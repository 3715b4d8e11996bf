"""Synthetic demo data: rendered on the spot, prepared like a user's own videos."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.utilities import rank_zero_info

from datamodules.errors import DataError
from datamodules.synthetic.dataset import SyntheticSpec, write_synthetic_dataset

# LightningCLI reads the types of the constructor while the program runs.
from datamodules.synthetic.forgery import ForgeryKind
from datamodules.video_datamodule import VideoDataModule

if TYPE_CHECKING:
    from collections.abc import Iterator


class SyntheticDataModule(VideoDataModule):
    """Clips of synthetic talking heads, real and forged in known ways.

    `prepare_data` renders small H.264 videos and prepares them by the same pipeline as a user's
    own, with the exact faces given instead of detected. Both is done once for each set of
    parameters, in `data_dir/<hash of the parameters>`: `videos/` (raw, with `manifest.csv`) and
    `prepared/`. Nobody appears in two splits; each fake has a real video of the same footage. The
    videos are made up and show nobody: figures on them say that a method learns, not how well it
    does on real forgeries.

    Args:
        data_dir: Where rendered data sets are kept.
        num_identities: People.
        videos_per_identity: Real videos of each person; each has one fake.
        video_frames: Frames of a video, at 25 a second.
        frame_size: Side of the square video in pixels, a multiple of 16.
        kinds: Kinds of forgery in turn, `temporal`, `spatial` or `both`; see
            `datamodules.synthetic.forgery`. One named twice comes twice as often.
        temporal_strength: Factor on the tremble of `temporal` and `both`; 1 is about 2 % of the
            eye distance and of the brightness, and 4 grey levels of the texture.
        spatial_strength: How much of another person shows in `spatial` and `both`, 0..1.
        generator_scale: How many times a forged face was enlarged, 1..8; above 1 it is softer than
            the frame around it and lacks the camera's noise, as what networks make.
        split_fractions: Shares of the people in train, val and test.
        render_seed: Of everything that is rendered.
        render_workers: Processes that render and prepare; None for one per core.
        **kwargs: As `VideoDataModule` takes them; `root` is found by itself.
    """

    def __init__(
        self,
        data_dir: Path = Path("data/demo"),
        num_identities: int = 60,
        videos_per_identity: int = 2,
        video_frames: int = 24,
        frame_size: int = 128,
        kinds: tuple[ForgeryKind, ...] = ("temporal", "both"),
        temporal_strength: float = 2.5,
        spatial_strength: float = 0.8,
        generator_scale: float = 1.0,
        split_fractions: tuple[float, float, float] = (0.6, 0.2, 0.2),
        render_seed: int = 0,
        render_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.spec = SyntheticSpec(
            num_identities=num_identities,
            videos_per_identity=videos_per_identity,
            num_frames=video_frames,
            frame_size=frame_size,
            kinds=tuple(kinds),
            temporal_strength=temporal_strength,
            spatial_strength=spatial_strength,
            generator_scale=generator_scale,
            split_fractions=split_fractions,
            seed=render_seed,
        )
        self.folder = Path(data_dir) / _digest(self.spec)
        self.render_workers = render_workers
        super().__init__(root=self.folder / "prepared", **kwargs)

    def prepare_data(self) -> None:
        """Render and prepare what is not there; a run that was stopped starts over cleanly.

        Raises:
            DataError: If a video could not be rendered or prepared.
        """
        prepared, videos = self.folder / "prepared", self.folder / "videos"
        if (prepared / "manifest.jsonl").is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with _only_one(self.folder / "lock"):
            # Another run may have made it while this one waited.
            if not videos.is_dir():
                self._render(videos)
            if not (prepared / "manifest.jsonl").is_file():
                self._prepare(videos, prepared)

    def _render(self, videos: Path) -> None:
        count = 2 * self.spec.num_identities * self.spec.videos_per_identity
        rank_zero_info(f"rendering {count} synthetic videos into {videos}")
        partial = videos.with_name("videos.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_synthetic_dataset(partial, self.spec, self._workers())
        # The name appears only when all is written.
        partial.rename(videos)

    def _prepare(self, videos: Path, prepared: Path) -> None:
        # Imported here: a run on data that are there needs no decoder.
        from datamodules.datasets.folder import read_folder
        from datamodules.preprocess.batch import prepare_folder
        from datamodules.preprocess.prepare import PrepareOptions
        from datamodules.storage.root import open_root

        rank_zero_info(f"preparing them into {prepared}")
        source = read_folder(open_root(videos), name="synthetic")
        done = prepare_folder(source, prepared, PrepareOptions(backend="given"), self._workers())
        lost = [record.video_id for record in done.records if record.status != "ok"]
        if lost:
            # Else the next run would take the store for complete.
            (prepared / "manifest.jsonl").unlink()
            raise DataError(
                f"{len(lost)} synthetic video(s) could not be prepared, the first is {lost[0]}; "
                f"see {prepared / 'report.csv'}"
            )

    def _workers(self) -> int:
        from joblib import cpu_count

        return self.render_workers or int(cpu_count())


def _digest(spec: SyntheticSpec) -> str:
    from datamodules.preprocess.prepare import PREPARE_VERSION

    return hashlib.sha256(f"{PREPARE_VERSION} {spec.digest()}".encode()).hexdigest()[:12]


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Let a second run wait until the first one is done."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
