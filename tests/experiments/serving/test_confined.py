"""Whatever a child does, its job ends in one clear line and its parent goes on."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from experiments.serving import wire
from experiments.serving.batching import Batcher
from experiments.serving.child import Order
from experiments.serving.confined import run_confined
from experiments.serving.errors import JobError
from experiments.serving.limits import VideoLimits, check_video
from experiments.serving.sandbox import ProcessLimits
from tests.support.serving import SPEC, StandIn, clips, misbehave
from tests.support.videos import write_video

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = ProcessLimits(memory_bytes=2**30, cpu_s=30, wall_s=20.0, file_bytes=2**20)


@pytest.fixture
def network() -> Iterator[Batcher]:
    batcher = Batcher(StandIn())
    yield batcher
    batcher.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    write_video(path, 10)
    return path


@pytest.fixture
def order(video: Path, tmp_path: Path) -> Order:
    folder, scratch = tmp_path / "results", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    return Order(misbehave, video, folder, scratch, (SPEC,), (True,), limits=QUICK)


def run(order: Order, network: Batcher, how: str, **limits: Any) -> None:
    order = replace(order, options={"how": how}, limits=replace(order.limits, **limits))
    run_confined(order, [network])


def test_child_asks_the_networks_of_its_parent(order: Order, network: Batcher) -> None:
    told: list[tuple[str, int, int]] = []
    layers: list[str] = []
    order = replace(order, options={"how": "score"})
    run_confined(order, [network], lambda *now: told.append(now), held=layers.extend)
    scores, shape, mean = json.loads((order.folder / "report.json").read_text())["scores"]
    assert scores == [0.5] * 3
    assert shape == [2, 4, 4, 4]
    assert mean == 7
    assert told == [("finding faces", 1, 0)]
    assert "limits" in layers


def test_child_reaches_nothing(order: Order, network: Batcher) -> None:
    layers: list[str] = []
    order = replace(order, options={"how": "reach_out"})
    run_confined(order, [network], held=layers.extend)
    got = set(json.loads((order.folder / "report.json").read_text())["scores"])
    if "no_network" in layers:
        assert not got & {"inet", "unix", "fork", "execute", "signal", "memory"}
        assert not got & {"limits", "priority", "cores", "own", "own64", "rights", "times"}
    if "files" in layers:
        # runs and the state folder often lie in the project's folder
        assert not got & {"read", "write", "above", "project", "setup"}
    assert "pipes" not in got
    if set(layers) != {"limits", "no_network", "files"}:
        pytest.skip(f"this kernel has no more than {layers}")


@pytest.mark.parametrize(
    ("how", "code", "limits"),
    [
        ("crash", "crashed", {}),
        ("abort", "crashed", {}),
        ("leave", "crashed", {}),
        ("hang", "too_slow", {"wall_s": 1.0}),
        ("spin", "too_slow", {"cpu_s": 2}),
        ("eat", "too_much_memory", {}),
        ("fill", "over_limits", {}),
        ("raise", "internal", {}),
        ("lie_pickle", "internal", {}),
        ("lie_size", "internal", {}),
        ("lie_scorer", "internal", {}),
        ("lie_long", "internal", {}),
        ("lie_half", "too_slow", {"wall_s": 1.0}),
    ],
)
def test_every_end_of_a_child_is_one_line(
    how: str, code: str, limits: dict[str, Any], order: Order, network: Batcher
) -> None:
    start = time.monotonic()
    with pytest.raises(JobError) as caught:
        run(order, network, how, **limits)
    assert caught.value.code == code, caught.value
    assert time.monotonic() - start < 60
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    # the parent, its network and its server of forks go on
    run(replace(order, options={}), network, "score")


def test_cancelling_ends_a_child(order: Order, network: Batcher) -> None:
    over = threading.Event()
    threading.Timer(0.5, over.set).start()
    start = time.monotonic()
    with pytest.raises(JobError) as caught:
        run_confined(replace(order, options={"how": "hang"}), [network], cancelled=over.is_set)
    assert caught.value.code == "cancelled"
    assert time.monotonic() - start < 30


def test_a_broken_network_is_an_error_of_the_server(order: Order) -> None:
    batcher = Batcher(StandIn(ready=False))
    with pytest.raises(JobError) as caught:
        run(order, batcher, "score")
    assert caught.value.code == "internal"
    batcher.close()


def test_requests_of_several_are_scored_at_once() -> None:
    scorer = StandIn(wait_s=0.05)
    batcher = Batcher(scorer, max_wait_s=0.5)
    found: dict[int, Any] = {}

    def ask(level: int) -> None:
        with batcher:
            found[level] = batcher.score_clips(clips(2, level)).clip

    threads = [threading.Thread(target=ask, args=(level,)) for level in (0, 64, 128)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    for level in (0, 64, 128):
        np.testing.assert_allclose(found[level], level / 128 - 1)
    assert sum(scorer.batches) == 6
    assert max(scorer.batches) > 2
    assert max(scorer.batches) <= SPEC.batch


def test_who_is_alone_waits_for_nobody() -> None:
    batcher = Batcher(StandIn(), max_wait_s=60.0)
    start = time.monotonic()
    with batcher:
        batcher.score_clips(clips(1, 0))
    assert time.monotonic() - start < 30
    batcher.close()


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (VideoLimits(max_frames=5), "10 frames"),
        (VideoLimits(max_duration_s=0.1), "lasts"),
        (VideoLimits(max_side=16), "pixels a side"),
        (VideoLimits(max_pixels=100), "pixels a side"),
        (VideoLimits(max_gigapixels=1e-6), "pixels together"),
    ],
)
def test_limits_are_held_before_decoding(limits: VideoLimits, said: str, video: Path) -> None:
    check_video(video, VideoLimits())
    with pytest.raises(Exception, match=said):
        check_video(video, limits)


def test_arrays_that_came_may_be_written_to() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        wire.send(ours, {"kind": "score"}, np.arange(6, dtype=np.uint8))
        assert wire.receive(theirs) == {"kind": "score"}
        array = wire.receive_array(theirs, (2, 3), np.uint8)
    assert array.flags.writeable
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
