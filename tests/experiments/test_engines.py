from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import engines
from experiments.detector import load_detector
from experiments.engines import Logits, TorchEngine, choose_engine
from experiments.errors import UsageError
from lightning_modules import ForgeryModule
from tests.experiments.test_detector import clips
from tests.support.cases import METHOD_CASES, MethodCase
from tests.support.runs import write_run

CASES = [case for case in METHOD_CASES if case.name in ("ftcn_tt", "altfreezing")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_openvino_scores_as_torch_does(case: MethodCase, cache: Path) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    model = case.build().eval().requires_grad_(False)
    engine, notes = choose_engine(model, "openvino", "a" * 64)
    assert engine.name == "openvino"
    assert notes == ()
    for batch in (1, 2, 5):
        given, wanted = engine(clips(case, batch)), TorchEngine(model)(clips(case, batch))
        np.testing.assert_allclose(given.clip, wanted.clip, atol=1e-4)
        assert (given.frame is None) == (wanted.frame is None)
    (kept,) = cache.rglob("*.xml")
    before = kept.stat().st_mtime_ns
    again, _ = choose_engine(model, "openvino", "a" * 64)
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again(clips(case)).clip, engine(clips(case)).clip)


class Wrong:
    """An engine that is off by a little."""

    name = "openvino"

    def __init__(self, model: ForgeryModule, sha256: str) -> None:
        self._plain = TorchEngine(model)

    def __call__(self, given: torch.Tensor) -> Logits:
        clip, frame = self._plain(given)
        return Logits(clip + 1e-3, frame)


def test_an_engine_with_other_scores_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "OpenVinoEngine", Wrong)
    monkeypatch.setattr(engines, "_may_convert", lambda model: True)
    model = CASES[0].build().eval()
    engine, notes = choose_engine(model, "auto", "")
    assert engine.name == "torch"
    assert "not OpenVINO" in notes[0]
    with pytest.raises(UsageError, match="--engine torch"):
        choose_engine(model, "openvino", "")


def test_what_does_not_convert_is_scored_by_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such operation\nat line 3")

    monkeypatch.setattr(engines, "OpenVinoEngine", refuse)
    monkeypatch.setattr(engines, "_may_convert", lambda model: True)
    engine, notes = choose_engine(CASES[0].build().eval(), "auto", "")
    assert engine.name == "torch"
    assert notes == ("scored by torch, not OpenVINO: it cannot convert this network",)
    assert "no such operation" in caplog.text


def test_without_the_package_auto_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_may_convert", lambda model: False)
    model = CASES[0].build().eval()
    assert choose_engine(model, "auto", "")[0].name == "torch"
    with pytest.raises(UsageError, match="openvino"):
        choose_engine(model, "openvino", "")


def test_bfloat16_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    run = write_run(tmp_path / "run", CASES[0])
    detector = load_detector(run, "cpu", "bf16")
    assert "bfloat16" in detector.notes[0]
    assert detector.spec.facts.device == "cpu, bf16"
    plain = load_detector(run, "cpu").score_clips(clips(CASES[0]))
    np.testing.assert_allclose(detector.score_clips(clips(CASES[0])).clip, plain.clip, atol=0.05)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(UsageError, match="--engine torch"):
        load_detector(run, "cpu", "bf16")
