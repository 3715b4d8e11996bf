"""The benchmark of video-level blending: both ways agree, and it is the faster one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.benchmark import main

if TYPE_CHECKING:
    import pytest


def test_the_report_compares_both_ways_in_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video_blend", "--frames", "4", "--rounds", "1"]) == 0
    heading, _, plain, ours, agreement = capsys.readouterr().out.splitlines()
    assert heading.startswith("video-level blending, 224 x 224, one thread of")
    plain_ms, ratio = map(float, plain[24:].split())
    ours_ms, masks_ms, faster = map(float, ours[24:].split())
    assert ratio == 1
    assert 0 < masks_ms < ours_ms < plain_ms
    assert faster > 5
    assert agreement == "results differ by 1 grey level(s) at most"
