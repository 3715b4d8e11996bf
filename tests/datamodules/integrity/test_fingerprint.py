from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from datamodules.integrity.fingerprint import (
    MAX_DISTANCE,
    NUM_FRAMES,
    fingerprint,
    near_pairs,
    picture_hash,
)
from datamodules.integrity.pool import run_all
from datamodules.store.prepared import TrackReader
from tests.support.stores import portrait, write_track


def pictures(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    noise = np.random.default_rng(seed).normal(size=(count, 64, 64))
    return noise.cumsum(axis=1).cumsum(axis=2)


def bits_of(packed: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[list[int]]:
    return np.unpackbits(packed, axis=1)[:, :255].tolist()


def test_the_hash_is_that_of_an_independent_transform() -> None:
    from scipy.fft import dctn  # type: ignore[import-untyped]

    waves = dctn(pictures(3), axes=(1, 2))[:, :16, :16].reshape(3, -1)[:, 1:]
    assert bits_of(picture_hash(pictures(3))) == (waves > 0).astype(int).tolist()


def test_brightness_and_contrast_do_not_matter() -> None:
    shown = pictures(4)
    assert np.array_equal(picture_hash(shown), picture_hash(3 * shown + 50))


def prints_of(
    hashes: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Make prints of tracks that show one picture all the time."""
    return np.repeat(hashes[:, None], NUM_FRAMES + 1, axis=1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("flips", [0, MAX_DISTANCE, MAX_DISTANCE + 1])
def test_pairs_are_found_up_to_the_limit(mirrored: bool, flips: int) -> None:
    shown = pictures(6)
    others = picture_hash(shown[..., ::-1] if mirrored else shown)
    turned = np.unpackbits(others[2:3], axis=1)
    turned[:, 10 : 10 + flips] ^= 1
    prints = prints_of(np.concatenate([picture_hash(shown), np.packbits(turned, axis=1)]))
    found = near_pairs(prints, [0, 0, 0, 1, 1, 1, 2])
    if flips > MAX_DISTANCE:
        assert found == []
    else:
        (pair,) = found
        assert (pair.first, pair.second, pair.distance) == (2, 6, flips)
        assert pair.mirrored is mirrored


def test_all_pairs_of_many_are_found() -> None:
    """The blocks and the preselection lose nothing: as a plain comparison of all pairs."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, (40, 256), dtype=np.uint8)
    bits[:, 255] = 0
    copies = bits ^ (rng.random(bits.shape) < 0.15).astype(np.uint8)
    copies[:, 255] = 0
    prints = prints_of(np.packbits(np.concatenate([bits, copies]), axis=1))
    parts = np.array([0] * 40 + [1] * 40)
    found = {(pair.first, pair.second): pair.distance for pair in near_pairs(prints, parts)}
    distances = (bits[:, None] != copies[None]).sum(axis=2)
    expected = {
        (int(i), int(40 + j)): int(distances[i, j])
        for i, j in zip(*np.nonzero(distances <= MAX_DISTANCE), strict=True)
    }
    assert found == expected
    assert len(expected) > 30


def test_tracks_that_show_nothing_have_no_print(tmp_path: Path) -> None:
    path = tmp_path / "0.zip"
    write_track(path, 9, draw=lambda _, __, shape: np.full((*shape, 3), 7, np.uint8))
    assert fingerprint(TrackReader(path)) is None


def test_a_track_and_a_part_of_it_are_alike(tmp_path: Path) -> None:
    write_track(tmp_path / "0.zip", 30, draw=portrait)
    write_track(tmp_path / "1.zip", 30, frames=range(17, 25), draw=portrait)
    write_track(tmp_path / "2.zip", 30, seed=1, draw=portrait)
    found = [fingerprint(TrackReader(tmp_path / f"{i}.zip")) for i in range(3)]
    pairs = near_pairs(np.stack([f for f in found if f is not None]), [0, 1, 2])
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]


def work(number: int) -> int:
    if number == 3:
        raise ValueError("three\nis not welcome")
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def test_neither_an_error_nor_a_dead_worker_stops_the_rest() -> None:
    results = dict(run_all(work, range(20), 2))
    assert results.pop(3) == "ValueError: three is not welcome"
    assert results.pop(5) == "the worker process died over it"
    assert results == {number: number * number for number in range(20) if number not in (3, 5)}
