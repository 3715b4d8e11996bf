"""The certificate finds what is wrong, and the scoring command keeps its contract."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_modules.backbones.ftcn import FTCNNetwork
from weights import certify, golden_numbers
from weights.convert import LAYOUTS
from weights.parity import Finding, Subject, certify_evaluation, certify_training, render

NUMBERS = {name: golden_numbers.read_golden(f"{name}.json") for name in ("ftcn_tt", "altfreezing")}
GOLDEN = NUMBERS["ftcn_tt"]
TINY = GOLDEN["variants"]["tiny"]


def one_clip(golden: dict[str, Any]) -> dict[str, Any]:
    return {**golden, "clips": {"clip0": golden["clips"]["clip0"]}}


def make_subject(dtype: torch.dtype = torch.float64, method: str = "ftcn_tt") -> Subject:
    return certify._subject(method, {}, TINY, dtype)


@pytest.fixture(scope="module")
def official_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = {key: tuple(shape) for key, shape, _ in GOLDEN["state_dict"]}
    path = tmp_path_factory.mktemp("official") / "ftcn_tt.pth"
    torch.save({f"module.{k}": v for k, v in golden_numbers.fill_state(shapes).items()}, path)
    return path


@pytest.fixture
def clips_file(tmp_path: Path) -> Path:
    clips = [golden_numbers.make_clip(name, 8, 64, 64) for name in ("clip0", "clip1")]
    np.save(tmp_path / "clips.npy", torch.cat(clips).float().numpy())
    return tmp_path / "clips.npy"


def test_rules_are_carried_out_as_the_file_shows() -> None:
    for key, values in GOLDEN["fill_examples"].items():
        shape = next(tuple(shape) for name, shape, _ in GOLDEN["state_dict"] if name == key)
        filled = golden_numbers.fill_state({key: shape})[key].flatten()[: len(values)]
        assert golden_numbers.difference(filled.tolist(), values) < 1e-10
    mean, std = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
    for name, example in GOLDEN["input_examples"].items():
        clip = golden_numbers.make_clip(name.split("_")[0], 8, 64, 64)[0].permute(1, 2, 3, 0)
        video = np.rint(clip.numpy() * std + mean).astype(int)
        assert video.sum() == example["uint8_sum"]
        assert video[3, 10, 20].tolist() == example["V[3,10,20,:]"]
        assert video[7, 63, 1].tolist() == example["V[7,63,1,:]"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("method", "count"), [("ftcn_tt", 28), ("altfreezing", 27)])
def test_the_network_passes(method: str, count: int, dtype: torch.dtype) -> None:
    golden = NUMBERS[method]["variants"]["tiny"]
    findings = certify_evaluation(make_subject(dtype, method), golden, "table", "column")
    assert len(findings) == count
    assert [finding.row for finding in findings if not finding.passed] == []


@pytest.mark.parametrize("watched", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "stages"), [("ftcn_tt", 26), ("altfreezing", 25)])
def test_a_training_step_passes(method: str, stages: int, watched: bool) -> None:
    golden = NUMBERS[method]["train_mode"]
    findings = certify_training(make_subject(method=method), golden, "table", watched=watched)
    assert len(findings) == 4 + (stages if watched else 0)
    assert max(finding.difference for finding in findings) < 1e-8


def test_the_paper_structure_passes() -> None:
    golden = one_clip(GOLDEN["paper_structure_variant"]["variants"]["tiny"])
    subject = certify._subject("ftcn_tt", {"structure": "paper"}, golden, torch.float64)
    findings = certify_evaluation(subject, golden, "table", "column")
    assert {"s5", "head.fc"} <= {finding.row for finding in findings}
    assert [finding.row for finding in findings if not finding.passed] == []


def test_a_small_fault_is_found_where_it_is() -> None:
    subject = make_subject()
    norm = subject.network.get_submodule("backbone.stages.stage3.1.a.bn")
    assert isinstance(norm, nn.BatchNorm3d)
    norm.eps = 1.1e-5
    findings = certify_evaluation(subject, one_clip(TINY), "table", "column")
    failed = [finding.row for finding in findings if not finding.passed]
    assert failed[0] == "s3.pathway0_res1"
    assert "s3.pathway0_res0" not in failed
    assert failed[-1] == "logit (as used)"
    text = render(findings)
    assert "FAIL table, column, s3.pathway0_res1" in text
    assert text.splitlines()[-1].startswith("FAIL")


def test_a_report_of_passes_says_so_and_nan_is_no_pass() -> None:
    good = Finding("table", "column", "row", 1e-9, 1e-8)
    assert render([good]).splitlines()[-1] == "PASS: 1 of 1 within the limits."
    assert not good._replace(difference=float("nan")).passed
    assert golden_numbers.difference([float("nan")], [1.0]) == float("inf")
    assert golden_numbers.difference([1.0], [1.0, 2.0]) == float("inf")
    assert render([]).startswith("FAIL")


def test_the_program_prints_a_certificate_and_its_verdict_is_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened = {**GOLDEN, "variants": {"full": {}, "tiny": one_clip(TINY)}}
    del shortened["train_mode"]
    monkeypatch.setattr(golden_numbers, "read_golden", lambda _: shortened)
    method = certify.METHODS["ftcn_tt"]
    released = replace(method, structures=method.structures[:1])
    monkeypatch.setitem(certify.METHODS, "ftcn_tt", released)
    assert certify.main(["ftcn_tt", "--quick"]) == 0
    output = capsys.readouterr().out
    assert "14,765,889 parameters, 275 keys" in output
    assert output.splitlines()[-1] == "PASS: 57 of 57 within the limits."
    bad = Finding("table", "column", "row", 1.0, 1e-8)
    monkeypatch.setattr(certify, "certify", lambda *_, **__: [bad])
    assert certify.main(["ftcn_tt"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(certify.METHODS.keys() - {"sta_vb"}))  # it is sta
def test_full_certificate(method: str) -> None:
    findings = certify.certify(method)
    columns = {finding.column.removeprefix("full ") for finding in findings}
    assert {"float32", "float64"} <= columns
    assert [finding for finding in findings if not finding.passed] == []


@pytest.mark.parametrize("double", [False, True])
def test_scores_are_printed_one_a_line_and_nothing_else(
    official_file: Path, clips_file: Path, capsys: pytest.CaptureFixture[str], double: bool
) -> None:
    arguments = ["ftcn_tt", "--weights", str(official_file), "--clips", str(clips_file)]
    assert certify.main([*arguments, *(["--double"] if double else [])]) == 0
    printed = capsys.readouterr()
    golden = [TINY["clips"][name]["logit_float64"] for name in ("clip0", "clip1")]
    logits = [[float(line)] for line in printed.out.splitlines()]
    # Clips are float32 in the file, so --double is not exact to the golden number either.
    assert golden_numbers.difference(logits, golden) < (1e-6 if double else 5e-6)
    assert printed.err == ""


def test_structure_width_and_depth_come_from_the_checkpoint(
    clips_file: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = FTCNNetwork("paper", num_frames=8, image_size=64, width=4, depth=2).eval()
    layout = LAYOUTS["ftcn_tt"]
    path = tmp_path / "paper.pth"
    torch.save({layout.official_key(k): v for k, v in network.state_dict().items()}, path)
    with torch.no_grad():
        expected, _ = network(torch.from_numpy(np.load(clips_file)))
    assert certify.score_clips("ftcn_tt", path, clips_file) == pytest.approx(expected.tolist())


def fails(arguments: list[Any], capsys: pytest.CaptureFixture[str]) -> str:
    assert certify.main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_mistakes_give_one_line(
    official_file: Path, clips_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there are: ['ftcn_tt'" in fails(["ftcn"], capsys)
    assert "belong together" in fails(["ftcn_tt", "--weights", official_file], capsys)
    assert "--bogus" in fails(["ftcn_tt", "--bogus"], capsys)
    score = ["ftcn_tt", "--weights", official_file, "--clips"]
    assert "none.npy cannot be read: No such file" in fails([*score, tmp_path / "none.npy"], capsys)
    assert "cannot be read" in fails([*score, tmp_path], capsys)
    assert "is no .npy file" in fails([*score, Path(__file__)], capsys)
    weights = ["ftcn_tt", "--clips", clips_file, "--weights"]
    assert "no weight file" in fails([*weights, tmp_path / "none.pth"], capsys)
    torch.save({"resnet.head.projection.weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert "looks like official altfreezing" in fails([*weights, tmp_path / "other.pth"], capsys)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 7, 32, 32), "7 frames"),
        ((1, 3, 40, 16, 16), "40 frames"),
        ((1, 3, 8, 8, 32), "8 x 32 pixels are too small"),
        ((3, 8, 32, 32), "must hold float clips"),
        ((0, 3, 8, 32, 32), "no clips"),
        ((1, 4, 8, 32, 32), r"not \(1, 4, 8, 32, 32\)"),
    ],
)
def test_clips_that_the_network_cannot_take(
    official_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shape: tuple[int, ...],
    message: str,
) -> None:
    np.save(tmp_path / "clips.npy", np.zeros(shape, np.float32))
    arguments = ["ftcn_tt", "--weights", official_file, "--clips", tmp_path / "clips.npy"]
    assert re.search(message, fails(arguments, capsys))


def test_clips_that_are_no_numbers(
    official_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clips.npy"
    arguments = ["ftcn_tt", "--weights", official_file, "--clips", path]
    np.save(path, np.full((1, 3, 8, 32, 32), np.nan, np.float32))
    assert "not finite" in fails(arguments, capsys)
    np.save(path, np.zeros((1, 3, 8, 32, 32), np.uint8))
    assert "must hold float clips" in fails(arguments, capsys)
