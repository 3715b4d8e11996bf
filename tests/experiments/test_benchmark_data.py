"""Benchmarks of loading and memory: what they compare, and how they read a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from datamodules.store.prepared import PreparedStore
from experiments.benchmark import main
from experiments.benchmarks.loading import choose_clips
from experiments.benchmarks.memory import slope_per_thousand
from tests.support.stores import write_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    write_store(root, {("train", 0): 3, ("train", 1): 3})
    return root


def test_both_loaders_load_the_same_clips(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--clips", "2", "--rounds", "1", "--frames", "4", "--size", "32"]
    assert main(["data", "--root", str(store), *arguments]) == 0
    lines = capsys.readouterr().out.partition("fakes, CPU ms")[0].splitlines()
    table = {line[:20].strip(): line[20:].split() for line in lines[2:]}
    assert float(table["all"][0]) > 0 < float(table["all"][1])
    assert float(table["clips / s / core"][-1]) > 0
    parts = sum(
        float(table[name][0])
        for name in ("read and decode", "align", "augment", "to tensor", "collate")
    )
    assert parts == pytest.approx(float(table["all"][0]), abs=0.4)


def test_every_way_of_making_fakes_is_measured(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--clips", "2", "--rounds", "1", "--frames", "4", "--size", "32"]
    assert main(["data", "--root", str(store), *arguments]) == 0
    table = capsys.readouterr().out.partition("forging\n")[2].splitlines()
    names = ["temporal_dropout", "temporal_repeat", "cross_blend", "self_blend", "video_blend"]
    assert [line.split()[0] for line in table] == names
    for line in table:
        whole, *parts = map(float, line.split()[1:])
        assert sum(parts) == pytest.approx(whole, abs=0.3)


def test_memory_is_watched_while_clips_are_loaded(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--clips", "20", "--frames", "4", "--size", "32"]
    assert main(["memory", "--root", str(store), *arguments]) == 0
    out = capsys.readouterr().out
    assert "clips loaded: MiB after 1: " in out
    assert "MiB per thousand" in out


def test_the_slope_is_that_of_the_second_half() -> None:
    grows = [0.0] * 50 + [0.5 * i for i in range(50)]
    assert slope_per_thousand(grows) == pytest.approx(500)
    assert slope_per_thousand([7.0] * 30 + [9.0] * 70) == pytest.approx(0)


def test_clips_are_chosen_alike_every_time(store: Path) -> None:
    chosen = choose_clips(PreparedStore(store), 3, 4)
    assert chosen == choose_clips(PreparedStore(store), 3, 4)
    assert len({place.track for place in chosen}) == len(chosen)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
        (["data"], "required: --root"),
        (["data", "--root", "absent"], "absent is no folder"),
        (["data", "--root", ".", "--clips", "0"], "a whole number from 1 on, not '0'"),
        (["memory"], "give --root"),
        (["prepare", "--raw", "absent"], "absent"),
        (["ftcn_tt", "--threads", "-1"], "a whole number from 1 on, not '-1'"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert reason in error


def test_too_long_clips_are_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--root", str(store), "--frames", "5000"]) == 2
    assert "lower --frames" in capsys.readouterr().err
