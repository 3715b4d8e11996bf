"""Frozen means frozen on two processes, and both end with the same weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.distributed import run_job
from tests.support.freezing import SCHEDULE, STOPPED

if TYPE_CHECKING:
    from pathlib import Path

Found = dict[str, list[str]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    folder: Path = tmp_path_factory.mktemp("alternation")
    done = run_job("alternation", folder)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((folder / f"rank{k}.json").read_text()) for k in (0, 1))
    return first, second


def test_ranks_are_equal_to_the_last_bit(ranks: tuple[Found, Found]) -> None:
    assert ranks[0] == ranks[1]


def test_only_the_phase_s_group_moves(ranks: tuple[Found, Found]) -> None:
    for name, (letters, _) in ranks[0].items():
        assert letters == (SCHEDULE[STOPPED:] if name.startswith("resumed") else SCHEDULE), name


def test_a_resumed_run_is_the_whole_one(ranks: tuple[Found, Found]) -> None:
    digests = {name: digest for name, (_, digest) in ranks[0].items()}
    assert digests.pop("resumed False") == digests["sgd 1 32-true"]
    assert digests.pop("resumed True") == digests["separate"]
    assert len(set(digests.values())) == len(digests) == 9  # the settings were really different
