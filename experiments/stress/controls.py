"""Controls: the same videos with what should not matter taken away, or with only that left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datamodules.perturbations.encoding import Encoding
from datamodules.perturbations.table import FaceChange, Perturbation, Reencoding

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Both classes get this: the quality of FaceForensics++ c23, and a key frame every 12. [ours]
ALIKE = Encoding(crf=23, gop=12)
#: Faces of a match are as large as this share of the videos has them at least; the others are left
#: as they are, since enlarging would mark them. [ours]
_SMALLEST_SHARE = 0.1
#: What each control means for a detector that does not cheat.
MEANINGS = {
    "blank_face": "faces hidden: should be at chance, 0.5",
    "face_only": "all but the faces hidden: should stay as it was",
    "reencoded": f"both classes as H.264, CRF {ALIKE.crf:g}, GOP {ALIKE.gop}: should stay",
    "matched": "faces of one size, then as `reencoded`: should stay",
}


def controls(face_px: Sequence[float]) -> list[Perturbation]:
    """Make the controls for some videos.

    Args:
        face_px: Median side of the main face of each in pixels; NaN where there is none.
    """
    known = np.asarray(face_px, np.float64)
    known = known[np.isfinite(known)]
    side = float(np.quantile(known, _SMALLEST_SHARE)) if len(known) else 0.0
    return [
        Perturbation("blank_face", 0, FaceChange(hidden="face")),
        Perturbation("face_only", 0, FaceChange(hidden="rest")),
        Perturbation("reencoded", 0, Reencoding(encoding=ALIKE)),
        Perturbation("matched", 0, Reencoding(face_px=round(side, 1), encoding=ALIKE)),
    ]
