"""Frozen means frozen on two processes, and both end with the same weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.distributed import run_job
from tests.support.freezing import SCHEDULE, STEPS

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
    # In each setting other weights come out: the settings were really different.
    digests = [digest for name, (_, digest) in ranks[0].items() if " " in name]
    assert len(set(digests)) == len(digests) - 3  # two resumed runs, one setting twice


def test_only_the_phase_s_group_moves(ranks: tuple[Found, Found]) -> None:
    for name, (letters, _) in ranks[0].items():
        assert letters == (SCHEDULE[STEPS - 5 :] if name.startswith("resumed") else SCHEDULE), name


@pytest.mark.parametrize("separate", [False, True])
def test_a_resumed_run_is_the_whole_one(ranks: tuple[Found, Found], separate: bool) -> None:
    assert ranks[0][f"resumed {separate}"][1] == ranks[0][f"whole {separate}"][1]
