import numpy as np
from numpy.typing import NDArray

from datamodules.faces.landmarks import (
    FLIP_FOREHEAD,
    FOREHEAD_LEFT_TO_RIGHT,
    estimate_forehead,
    forehead_from_outline,
    points81,
)
from datamodules.transforms import FLIP_68


def drawn_face() -> NDArray[np.float32]:
    """A symmetric face: the jaw is half a circle around (100, 100), the rest lies inside."""
    points = np.random.default_rng(0).uniform(80, 120, (68, 2)).astype(np.float32)
    angle = np.pi * np.arange(17) / 16
    points[:17] = np.stack([100 - 50 * np.cos(angle), 100 + 60 * np.sin(angle)], axis=1)
    return points


def test_an_outline_becomes_thirteen_points_in_the_order_of_the_scheme() -> None:
    outline = np.stack([np.arange(11.0), np.zeros(11)], axis=1)
    forehead = forehead_from_outline(outline)
    np.testing.assert_allclose(forehead[FOREHEAD_LEFT_TO_RIGHT, 0], np.linspace(0, 10, 13))
    # Points 77 and 78 are the ends, point 71 the middle of the 81-point scheme.
    assert forehead[[77 - 68, 71 - 68, 78 - 68], 0].tolist() == [0, 5, 10]


def test_an_estimated_forehead_arches_over_the_face_and_turns_with_it() -> None:
    face = drawn_face()
    forehead = estimate_forehead(face)
    assert forehead.shape == (13, 2)
    row = forehead[FOREHEAD_LEFT_TO_RIGHT]
    assert (np.diff(row[:, 0]) > 0).all()
    assert (row[:, 1] < 100).all()
    np.testing.assert_allclose(row[6], (100, 100 - 0.34 * 60), atol=1e-4)
    turn = np.array([[0.0, -1], [1, 0]], np.float32)
    np.testing.assert_allclose(estimate_forehead(face @ turn), forehead @ turn, atol=1e-3)
    assert estimate_forehead(np.stack([face] * 3)).shape == (3, 13, 2)


def test_a_mirror_keeps_the_order_of_all_81() -> None:
    face = drawn_face()
    mirrored = (face * [-1, 1])[FLIP_68]
    forehead = (estimate_forehead(face) * [-1, 1])[FLIP_FOREHEAD]
    np.testing.assert_allclose(estimate_forehead(mirrored), forehead, atol=1e-4)


def test_points81_join_what_is_known() -> None:
    face = drawn_face()
    np.testing.assert_array_equal(points81(face)[68:], estimate_forehead(face))
    known = np.zeros((13, 2), np.float32)
    joined = points81(face, known)
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, np.concatenate([face, known]))
