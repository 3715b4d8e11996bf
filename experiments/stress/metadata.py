"""What a video file tells before a face is looked at, and how far that alone gives the label away.

A detector that reads file size, codec or frame rate does well on such data and knows nothing of
forgeries.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lightning_modules.bootstrap import bootstrap_interval
from lightning_modules.dependence import shared_identities
from lightning_modules.metrics import roc_auc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from datamodules.schema import VideoRecord
    from datamodules.storage.root import DataRoot
    from lightning_modules.dependence import Shared

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

#: Resamples behind every interval. [ours]
NUM_RESAMPLES = 2000
#: A single feature is judged by a tree of this depth, which finds an odd value in the middle as
#: well as a tendency; leaves hold at least so many videos. [ours]
_DEPTH, _LEAST_LEAF = 3, 5
#: Trees of the forest over all features. [ours]
_NUM_TREES = 300


class Table(NamedTuple):
    """Features of N videos.

    Attributes:
        names: Of the K features.
        values: Shape (N, K), float64; NaN where a file does not tell.
        label: 0 real, 1 fake, shape (N,), int64.
        group: Number of the first identity, shape (N,), int64.
        split: Of each video, shape (N,), text.
        shared: Whom they show; None where each shows one person.
    """

    names: tuple[str, ...]
    values: Floats
    label: Ints
    group: Ints
    split: NDArray[np.str_]
    shared: Shared | None

    def of(self, split: str) -> Table:
        """Keep the videos of one split."""
        kept = self.split == split
        return Table(
            *(self.names, self.values[kept], self.label[kept], self.group[kept]),
            *(self.split[kept], None if self.shared is None else self.shared.of(kept)),
        )


class Baseline(NamedTuple):
    """How far something that is no forgery tells fakes.

    Attributes:
        name: Of the feature, model or condition.
        kind: `feature`, `model` or `condition`.
        auc: Video AUC on the test split, NaN where there is none.
        low: Lower end of its 95 % interval, by the bootstrap over identity groups.
        high: Upper end.
        videos: Videos measured.
    """

    name: str
    kind: str
    auc: float
    low: float
    high: float
    videos: int


def file_table(
    raw: DataRoot, records: Sequence[VideoRecord], tell: Callable[[int, int], None]
) -> Table:
    """Read the features of raw video files; nothing is decoded.

    Args:
        raw: Their root.
        records: The videos.
        tell: Called with the number of files read and of all.
    """
    rows = []
    for done, record in enumerate(records):
        tell(done, len(records))
        with raw.hold(record.path) as path:
            rows.append(_of_file(path))
    tell(len(records), len(records))
    return _table(rows, records)


def store_table(records: Sequence[VideoRecord], face_px: Sequence[float]) -> Table:
    """Take the features that a prepared store knows.

    Args:
        records: Its videos.
        face_px: Median side of the main face of each in pixels, NaN without one.
    """
    rows = [
        {
            "fps": record.fps or math.nan,
            "width": float(record.width),
            "height": float(record.height),
            "duration_s": record.num_frames / record.fps if record.fps else math.nan,
            "frames": float(record.num_frames),
            "face_px": side,
        }
        for record, side in zip(records, face_px, strict=True)
    ]
    return _table(rows, records)


def baselines(table: Table) -> list[Baseline]:
    """Fit on the training split and measure on the test split: features alone, then all together.

    Args:
        table: Videos of both splits.

    Returns:
        One row for each feature that varies, best first, and two for models of all features.
        Choosing the best of several after the fact flatters it a little, so no row is the largest
        of others.
    """
    train, test = table.of("train"), table.of("test")
    if min(len(np.unique(part.label)) for part in (train, test)) < 2:
        return []
    rows = []
    for column, name in enumerate(table.names):
        if len(np.unique(train.values[:, column])) > 1:
            rows.append(_measure(name, "feature", _tree(), train, test, [column]))
    rows.sort(key=lambda row: -row.auc)
    everything = list(range(len(table.names)))
    rows.append(_measure("logistic regression", "model", _linear(), train, test, everything))
    rows.append(_measure("random forest", "model", _forest(), train, test, everything))
    return rows


def _of_file(path: Any) -> dict[str, float]:
    """Read the header and the packets of a file; a folder of pictures tells its size only."""
    from datamodules.errors import DataError
    from datamodules.video.libav import open_container, video_stream

    size = float(path.stat().st_size)
    try:
        with open_container(path) as container:
            stream = video_stream(container, path)
            context = stream.codec_context
            duration = float(container.duration or 0) / 1e6 or math.nan
            return {
                "file_bytes": size,
                "duration_s": duration,
                "bitrate": 8 * size / duration,
                "fps": float(stream.average_rate or math.nan),
                "frames": float(stream.frames or math.nan),
                "width": float(context.width),
                "height": float(context.height),
                "bits_per_pixel": _bits_per_pixel(size, duration, stream),
                "audio_streams": float(len(container.streams.audio)),
                f"codec={context.name}": 1.0,
                f"profile={context.profile}": 1.0,
                f"pixel_format={context.pix_fmt}": 1.0,
                f"container={container.format.name.split(',')[0]}": 1.0,
            }
    except DataError:
        return {"file_bytes": size}


def _bits_per_pixel(size: float, duration: float, stream: Any) -> float:
    pixels = stream.codec_context.width * stream.codec_context.height
    shown = pixels * float(stream.average_rate or math.nan) * duration
    return 8 * size / shown if shown else math.nan


def _table(rows: Sequence[dict[str, float]], records: Sequence[VideoRecord]) -> Table:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    # A word that a file does not have is 0; a number that it does not tell is unknown.
    values = [[row.get(n, 0.0 if "=" in n else math.nan) for n in names] for row in rows]
    identities = [record.identities for record in records]
    groups = [names[0] for names in identities]
    return Table(
        names,
        np.array(values, np.float64).reshape(len(rows), len(names)),
        np.array([record.label for record in records], np.int64),
        np.unique(groups, return_inverse=True)[1].astype(np.int64),
        np.array([record.split for record in records]),
        shared_identities(identities),
    )


def _measure(
    name: str, kind: str, model: Any, train: Table, test: Table, columns: Sequence[int]
) -> Baseline:
    model.fit(train.values[:, columns], train.label)
    score = model.predict_proba(test.values[:, columns])[:, 1]
    low, high = bootstrap_interval(
        test.label, score, test.group, shared=test.shared, num_resamples=NUM_RESAMPLES
    )
    return Baseline(name, kind, roc_auc(test.label, score), low, high, len(score))


def _tree() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    tree = DecisionTreeClassifier(
        max_depth=_DEPTH, min_samples_leaf=_LEAST_LEAF, class_weight="balanced", random_state=0
    )
    return make_pipeline(_filled(), tree)


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    return make_pipeline(_filled(), StandardScaler(), model)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline

    forest = RandomForestClassifier(
        _NUM_TREES, min_samples_leaf=2, class_weight="balanced", random_state=0
    )
    return make_pipeline(_filled(), forest)


def _filled() -> Any:
    """Put the median where a file does not tell."""
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="median", keep_empty_features=True)
