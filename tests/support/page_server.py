"""`python -m tests.support.page_server NAME ...`: the true server, but for its networks.

Each name is a stand-in for a network that scores brightness. A single one has an operating point.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.operating_point import OperatingPoint
from experiments.serving import logs, task
from experiments.serving.engine import Engine
from experiments.serving.running import run_server
from experiments.serving.settings import Settings
from tests.support.scorers import BrightnessScorer, clip_spec

#: Calls fake from 0.5 on.
POINT = OperatingPoint(
    slope=1.0,
    offset=0.0,
    threshold=0.5,
    abstain_low=0.5,
    abstain_high=0.5,
    criterion="eer",
    calibration="none",
    pooling="mean",
    checkpoint="0" * 64,
    fitted_on={"set": "val", "run": "toy", "num_real": 20, "num_fake": 20},
)


class _Explaining(BrightnessScorer):
    no_maps = ""

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map the mouth, wherever the mouth may be."""
        maps = np.zeros((*clips.shape[:2], 4, 4), np.float32)
        maps[:, :, 2, 1:3] = 1
        return maps


def main(names: list[str]) -> None:
    """Serve until told to end."""
    logs.set_up()
    point = POINT if len(names) == 1 else None
    specs = [clip_spec(name, operating_point=point) for name in names]
    scorers = [_Explaining(replace(spec, num_frames=2)) for spec in specs]
    settings = Settings()
    options = {"backend": settings.backend, "stride": settings.stride}
    run_server(Engine(settings, lambda: scorers, task.score, options=options))


if __name__ == "__main__":
    main(sys.argv[1:])
