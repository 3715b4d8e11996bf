"""What scores clips, as seen by everything that handles videos: plain facts, and two calls.

Between videos and networks only pixels and numbers pass, so that the two may live in different
processes: what decodes files that strangers sent need not load torch, nor hold the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from callbacks.provenance import code_version
from datamodules.kept_frames import KeptFrames
from lightning_modules.pooling import Pooling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datamodules.preprocess.alignments import Alignment
    from experiments.evaluation.operating_point import OperatingPoint


@dataclass(frozen=True)
class ModelFacts:
    """Where a scorer comes from, for its report.

    Attributes:
        source: The run folder, or the weight file, as it was named.
        checkpoint: Name of the file that the weights come from.
        checkpoint_sha256: Of that file.
        trained_on: Name of the class of the data it was trained on; empty where not known.
        device: Where the network runs, and what runs it there.
        engine: What runs it, one of `experiments.engines.ENGINES`.
        prepared_by: Face backend and version of the data it was trained on, None where unknown.
        notes: What a reader of its scores should know about how it was loaded.
        code: Version of the code that loaded it; who scores far from it may not be able to ask.
    """

    source: str
    checkpoint: str
    checkpoint_sha256: str
    trained_on: str = ""
    device: str = "cpu"
    engine: str = "torch"
    prepared_by: str | None = None
    notes: tuple[str, ...] = ()
    code: str = field(default_factory=code_version)

    @property
    def precision(self) -> str:
        """In what the network calculates: engines of the same give the same scores, to 1e-5."""
        return "bfloat16" if self.engine == "bf16" else "float32"


@dataclass(frozen=True)
class ClipSpec:
    """What must be known of a scorer to cut its clips and to read its scores. Can be pickled.

    Attributes:
        name: What a report calls it; no two scorers of one report share it.
        method: Name of the method's class.
        num_frames: Frames in a clip (T).
        image_size: Height and width of a clip in pixels.
        alignment: How its clips are aligned.
        frame_rule: How frames are pooled to a clip; None where the method scores clips only.
        video_rule: How clips are pooled to a track and a video.
        spread: Frames of a track that its clips are cut of; None for all.
        batch: Clips that it likes to score at once.
        facts: Where it comes from.
        operating_point: How its scores become decisions; None where none was fitted for it.
    """

    name: str
    method: str
    num_frames: int
    image_size: int
    alignment: Alignment
    frame_rule: str | None
    video_rule: Pooling
    spread: KeptFrames | None
    batch: int
    facts: ModelFacts
    operating_point: OperatingPoint | None = None

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip: T, H, W, 3."""
        return (self.num_frames, self.image_size, self.image_size, 3)


class ClipScores(NamedTuple):
    """What a scorer thinks of B clips.

    Attributes:
        clip: Log-odds of fake of each clip, shape (B,), float64.
        frame: Likewise of each frame, shape (B, T), float64; None where it scores clips only.
    """

    clip: NDArray[np.float64]
    frame: NDArray[np.float64] | None


class ClipScorer(Protocol):
    """Scores clips: a network in this process, or whoever passes them on to one."""

    @property
    def spec(self) -> ClipSpec:
        """What clips it takes, and how its scores are read."""

    def score_clips(self, clips: NDArray[np.uint8]) -> ClipScores:
        """Score aligned clips.

        Args:
            clips: RGB, shape (B, T, H, W, 3), uint8.

        Returns:
            Their scores.
        """


class ExplainingScorer(ClipScorer, Protocol):
    """A scorer that can also tell where in a clip it saw what."""

    @property
    def no_maps(self) -> str:
        """Why there is nothing in its network that maps could be made of; empty where there is."""

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map what speaks for fake.

        Args:
            clips: RGB, shape (B, T, H, W, 3), uint8.

        Returns:
            Maps, shape (B, T, h, w), float32, at least 0; h and w may be coarser than H and W.
        """
