from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.faces import pose
from datamodules.faces.detect import face_backend
from datamodules.faces.pose import head_angles, pose_figures
from datamodules.video.reader import open_video
from weights import catalog


def project(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Draw the 11 points of the coarse face, turned by degrees, into 68 others."""
    y, p, r = np.radians([yaw, pitch, roll])
    # In x right, y down, z away: the nose (towards -z) to the right, then up, then clockwise.
    turn = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    turn = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]]) @ turn
    turn = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]]) @ turn
    points = np.random.default_rng(0).normal(size=(68, 2))
    points[list(pose._RIGID)] = 80 * (pose._FACE @ turn.T)[:, :2] + [300, 200]
    return points


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-50, 0, 0), (0, 25, 0), (0, 0, 40), (20, -15, -30)]
)
def test_angles_of_a_projected_face(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(head_angles(project(*angles)[None])[0], angles, atol=1e-6)


def test_signs_on_the_face_itself() -> None:
    """The nose of a face turned right lies right of the middle of its eyes, looking up above."""

    def nose(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(points[30] - points[[36, 45]].mean(axis=0))

    assert nose(project(20, 0, 0))[0] > 5
    assert nose(project(0, 20, 0))[1] < nose(project(0, 0, 0))[1] - 5
    eyes = project(0, 0, 20)[[36, 45]]
    assert eyes[1, 1] > eyes[0, 1]


def test_figures_are_medians_and_ranges() -> None:
    figures = pose_figures(np.stack([project(yaw, 5, 0) for yaw in range(-50, 51)]))
    assert (figures["yaw"], figures["yaw_range"]) == (0.0, 90.0)
    assert (figures["pitch"], figures["pitch_range"]) == (5.0, 0.0)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("fake/loopy/loopy_loopy_side4_652.mp4", 40, 65),  # looks to the right of the picture
        ("real/victoria_justice_374.mp4", -55, -25),  # to the left
    ],
)
def test_yaw_of_real_heads(shared_videos: Path, name: str, low: float, high: float) -> None:
    if not all((catalog.FILES / entry.name).is_file() for entry in catalog.CATALOG):
        pytest.skip("the face detector is not installed (python -m weights.catalog)")
    with open_video(shared_videos / name, "decord", None) as reader:
        face = face_backend("mesh").faces(next(iter(reader)))[0]
    assert low < head_angles(face.points68[None])[0, 0] < high
