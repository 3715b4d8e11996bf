from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from experiments.detector import load_detector
from experiments.errors import UsageError
from tests.support.cases import METHOD_CASES, MethodCase
from tests.support.runs import write_run
from weights.errors import WeightsError

CASE = next(case for case in METHOD_CASES if case.name == "ftcn_tt")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "ftcn", CASE)


@pytest.fixture
def broken(run: Path, tmp_path: Path) -> Path:
    """A copy of the run whose parts a test may break; the checkpoint is a hard link."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
    return copy


def clips(case: MethodCase, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (batch, case.num_frames, case.image_size, case.image_size, 3)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("case", METHOD_CASES, ids=lambda case: case.name)
def test_every_method_scores_as_its_module_does(case: MethodCase, tmp_path: Path) -> None:
    detector = load_detector(write_run(tmp_path / "run", case), device="cpu")
    given = clips(case)
    with torch.no_grad():
        module = case.build().eval()
        wanted = module(module.normalise(given))
    clip, frame = detector.score_clips(given.numpy())
    np.testing.assert_allclose(clip, wanted.logit, rtol=0, atol=1e-6)
    assert (frame is None) == (detector.frame_rule is None)
    if frame is not None:
        np.testing.assert_allclose(frame, wanted.frame_logit, rtol=0, atol=1e-6)
    assert detector.method == case.method.__name__
    assert (detector.num_frames, detector.image_size) == (case.num_frames, case.image_size)
    assert detector.notes == ()


@pytest.mark.parametrize(("name", "said"), [("clip_linear", "has no map"), ("ftcn_tt", "")])
def test_a_detector_says_whether_it_explains(name: str, said: str, tmp_path: Path) -> None:
    case = next(case for case in METHOD_CASES if case.name == name)
    told = load_detector(write_run(tmp_path / "coarse", case), device="cpu").no_maps
    assert bool(told) == bool(said)
    assert said in told
    assert "coarse" in told or not said


def test_a_detector_is_fixed(run: Path) -> None:
    detector = load_detector(run, device="cpu")
    assert not detector.model.training
    assert not any(p.requires_grad for p in detector.model.parameters())
    logit = detector.score_clips(clips(CASE)).clip
    assert logit.dtype == np.float64
    np.testing.assert_array_equal(detector.score_clips(clips(CASE)).clip, logit)


def test_the_checkpoint_is_named_by_its_hash(run: Path) -> None:
    detector = load_detector(run, device="cpu")
    content = (run / "checkpoints" / "best.ckpt").read_bytes()
    assert detector.checkpoint_sha256 == hashlib.sha256(content).hexdigest()
    assert detector.trained_on == "FolderDataModule"


def test_last_stands_in_for_best_and_says_so(broken: Path) -> None:
    (broken / "checkpoints" / "best.ckpt").rename(broken / "checkpoints" / "last.ckpt")
    detector = load_detector(broken, device="cpu")
    assert detector.checkpoint.name == "last.ckpt"
    assert "last.ckpt" in detector.notes[0]


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, CASE.num_frames, 32, 32, 3),
        torch.zeros(1, 32, 32, CASE.num_frames, 3, dtype=torch.uint8),
        torch.zeros(CASE.num_frames, 32, 32, 3, dtype=torch.uint8),
    ],
    ids=["float", "axes", "no batch"],
)
def test_wrong_clips_are_refused(run: Path, wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="clips must be uint8"):
        load_detector(run, device="cpu").score_clips(wrong)


def change_config(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").unlink()
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def spoil_yaml(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "config.yaml").write_text("model: [")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "there is no run folder"),
        (lambda run: (run / "config.yaml").unlink(), "no run folder: it has no config.yaml"),
        (spoil_yaml, "no YAML file"),
        (lambda run: change_config(run, lambda c: c.pop("data")), "names no data class"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "has no checkpoint"),
        (
            lambda run: change_config(run, lambda c: c["model"].update(class_path="os.system")),
            "builds no method here",
        ),
        (
            lambda run: change_config(run, lambda c: c["model"]["init_args"].update(colour=3)),
            "colour",
        ),
        (
            lambda run: change_config(run, lambda c: c["data"]["init_args"].update(num_frames=5)),
            "5 frames a clip",
        ),
    ],
    ids=["folder", "config", "yaml", "data", "checkpoint", "class", "option", "clip size"],
)
def test_what_is_no_run_is_named(broken: Path, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(broken)
    with pytest.raises(UsageError, match=words) as caught:
        load_detector(broken, device="cpu")
    assert str(broken) in str(caught.value)
    assert len(str(caught.value)) < 400


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code was run",))


def replace_checkpoint(run: Path, content: Any) -> None:
    path = run / "checkpoints" / "best.ckpt"
    path.unlink()
    torch.save(content, path)


def cut_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def reshape_checkpoint(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = torch.zeros(7)
    replace_checkpoint(run, content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_checkpoint, "damaged"),
        (lambda run: replace_checkpoint(run, {"state_dict": {}, "x": Evil()}), "could run code"),
        (lambda run: replace_checkpoint(run, [1, 2]), "has no state_dict"),
        (lambda run: replace_checkpoint(run, {"state_dict": {}, "method": "I3D"}), "to I3D"),
        (lambda run: replace_checkpoint(run, {"state_dict": {}}), "does not fit"),
        (reshape_checkpoint, "1 tensors differ"),
    ],
    ids=["cut", "code", "list", "other method", "empty", "shape"],
)
def test_a_wrong_checkpoint_is_refused_unread(
    broken: Path, spoil: Callable[[Path], Any], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(broken)
    with pytest.raises(WeightsError, match=words) as caught:
        load_detector(broken, device="cpu")
    assert "best.ckpt" in str(caught.value)
    assert "code was run" not in capfd.readouterr().out


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_named(run: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}'"):
        load_detector(run, device=device)
