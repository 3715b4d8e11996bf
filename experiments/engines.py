"""What runs a network: torch, OpenVINO in float32, or torch in bfloat16.

`auto` takes the fastest engine whose scores of a probe equal those of torch in float32; bfloat16
never does, and is for those who ask for it. Measured speeds: docs/predict.md.
"""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch

from experiments.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from lightning_modules import ForgeryModule

_LOG = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino", "bf16")
#: Largest difference of a probability of the probe that counts as equal, and of its log-odds,
#: relative to them where they are larger than 1. [ours]
_SAME_PROBABILITY, _SAME_LOG_ODDS = 1e-5, 1e-4
#: Clips that OpenVINO scores at once: tracing may freeze the number, so it is always the same.
_CLIPS = 2
#: Clips of the probe: a full batch and a part of one.
_PROBE_CLIPS = 3
#: Raised when networks are converted in another way, so that older files are not used.
_CACHE_VERSION = 1


class Logits(NamedTuple):
    """Log-odds of B clips.

    Attributes:
        clip: Shape (B,), float64.
        frame: Shape (B, T), float64; None where a method scores clips only.
    """

    clip: NDArray[np.float64]
    frame: NDArray[np.float64] | None


class Engine(Protocol):
    """Runs a network."""

    @property
    def name(self) -> str:
        """One of `ENGINES`."""

    def __call__(self, clips: Tensor) -> Logits:
        """Score raw clips, (B, T, H, W, 3), uint8, on any device."""


@dataclass(frozen=True)
class TorchEngine:
    """The network as it is.

    Attributes:
        model: In eval mode.
        name: Of the engine.
    """

    model: ForgeryModule
    name: str = "torch"

    def __call__(self, clips: Tensor) -> Logits:
        """Score clips in float32."""
        with torch.inference_mode():
            return _logits(self.model(self.model.normalise(clips.to(self.model.device))))


@dataclass(frozen=True)
class Bf16Engine:
    """The network in bfloat16, for processors and GPUs that calculate in it.

    Attributes:
        model: In eval mode.
        name: Of the engine.
    """

    model: ForgeryModule
    name: str = "bf16"

    def __call__(self, clips: Tensor) -> Logits:
        """Score clips; log-odds differ by about 0.01 from those in float32."""
        device = self.model.device
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            return _logits(self.model(self.model.normalise(clips.to(device))))


class OpenVinoEngine:
    """The network converted to OpenVINO, in float32, on the CPU.

    Args:
        model: In eval mode, on the CPU.
        sha256: Of its weights: the name under which the converted network is kept.
    """

    name = "openvino"

    def __init__(self, model: ForgeryModule, sha256: str) -> None:
        import openvino

        self._model = model
        kept = _cache_file(model, sha256)
        converted: Any = openvino.Core().read_model(kept) if kept.is_file() else None
        if converted is None:
            converted = _convert(model)
            _keep(converted, kept)
        hints = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._compiled = openvino.Core().compile_model(converted, "CPU", hints)

    def __call__(self, clips: Tensor) -> Logits:
        """Score clips."""
        with torch.inference_mode():
            given = self._model.normalise(clips).numpy()
        parts = [self._run(given[at : at + _CLIPS]) for at in range(0, len(given), _CLIPS)]
        found = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Logits(found[0], found[1] if len(found) > 1 else None)

    def _run(self, given: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Score at most as many clips as the network takes; missing ones are filled up."""
        whole = np.zeros((_CLIPS, *given.shape[1:]), np.float32)
        whole[: len(given)] = given
        found = self._compiled(whole).values()
        return [np.array(value[: len(given)], np.float64) for value in found]


def choose_engine(model: ForgeryModule, name: str, sha256: str) -> tuple[Engine, tuple[str, ...]]:
    """Make the engine of a loaded network.

    Args:
        model: In eval mode, where it shall run.
        name: One of `ENGINES`.
        sha256: Of its weights.

    Returns:
        The engine, and notes on what a reader of its scores should know.

    Raises:
        UsageError: If the engine was asked for by name and cannot serve here.
    """
    plain = TorchEngine(model)
    if name == "bf16":
        _check_bf16(model.device)
        note = "scored in bfloat16: log-odds may differ by about 0.01 from those in float32"
        return Bf16Engine(model), (note,)
    if name == "torch" or (name == "auto" and not _may_convert(model)):
        return plain, ()
    if not _may_convert(model):
        raise UsageError(
            "--engine openvino needs a CPU (--device cpu) and the package: "
            "pip install 'face-forgery-suite[openvino]'"
        )
    try:
        engine = OpenVinoEngine(model, sha256)
        wrong, faster = _prove(engine, plain)
    except Exception as error:  # whatever the converter cannot do
        # its own words are for who runs the program, and nothing to readers of reports
        _LOG.warning("OpenVINO cannot run %s: %s", type(model).__name__, _first_line(error))
        wrong, faster = "it cannot convert this network", False
    if wrong and name == "openvino":
        raise UsageError(f"--engine openvino: {wrong}; type --engine torch")
    if wrong:
        return plain, (f"scored by torch, not OpenVINO: {wrong}",)
    return (engine, ()) if faster or name == "openvino" else (plain, ())


def _may_convert(model: ForgeryModule) -> bool:
    from importlib.util import find_spec

    return model.device.type == "cpu" and find_spec("openvino") is not None


def _check_bf16(device: torch.device) -> None:
    if device.type == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        raise UsageError(
            "--engine bf16: this processor does not calculate in bfloat16; type --engine torch"
        )


def _prove(engine: Engine, plain: Engine) -> tuple[str, bool]:
    """Compare an engine with torch in float32 on a probe.

    Returns:
        What is wrong with its scores, or an empty string; and whether it is the faster one.
    """
    assert isinstance(plain, TorchEngine)
    model = plain.model
    shape = (_PROBE_CLIPS, model.num_frames, model.image_size, model.image_size, 3)
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    results, seconds = [], []
    for one in (engine, plain):
        one(clips[:1])  # warms up
        start = time.perf_counter()
        results.append(one(clips))
        seconds.append(time.perf_counter() - start)
    for given, wanted in zip(*results, strict=True):
        if (given is None) != (wanted is None) or (given is not None and not _same(given, wanted)):
            return "its scores of a probe are others", False
    return "", seconds[0] < seconds[1]


def _same(given: NDArray[np.float64], wanted: NDArray[np.float64]) -> bool:
    if given.shape != wanted.shape or not np.isfinite(given).all():
        return False
    odds = np.abs(given - wanted) / np.maximum(1, np.abs(wanted))
    probability = np.abs(1 / (1 + np.exp(-given)) - 1 / (1 + np.exp(-wanted)))
    return bool(odds.max() <= _SAME_LOG_ODDS and probability.max() <= _SAME_PROBABILITY)


def _convert(model: ForgeryModule) -> Any:
    """Trace a copy of a network with plain layers, and convert it."""
    import openvino
    from pytorch_lightning.core.module import _jit_is_scripting

    plain = copy.deepcopy(model)
    for part in plain.modules():
        if hasattr(part, "fused"):
            part.__dict__["fused"] = False
        if isinstance(part, torch.nn.Conv3d):
            part.__class__ = torch.nn.Conv3d
    size = model.image_size
    example = torch.zeros(_CLIPS, 3, model.num_frames, size, size)
    # A module without a trainer may be looked through only in this mode.
    with warnings.catch_warnings(), torch.no_grad(), _jit_is_scripting():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace  # has no types
        traced = trace(_Scores(plain).eval(), example, check_trace=False)
        return openvino.convert_model(traced, example_input=example)


class _Scores(torch.nn.Module):
    """Gives tensors where a method gives a record."""

    def __init__(self, model: ForgeryModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip: Tensor) -> tuple[Tensor, ...]:
        output = self.model(clip)
        frame = output.frame_logit
        return (output.logit,) if frame is None else (output.logit, frame)


def _cache_file(model: ForgeryModule, sha256: str) -> Path:
    """Say where a converted network is kept: in the user's cache, by all that it depends on."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    size = f"{model.num_frames}x{model.image_size}"
    name = f"{type(model).__name__}-{sha256[:16]}-{size}-v{_CACHE_VERSION}.xml"
    return root / "face-forgery-suite" / "openvino" / name


def _keep(converted: Any, path: Path) -> None:
    """Keep a converted network for the next time, if there is room for it."""
    import openvino

    part = path.with_name(f"{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(converted, part, compress_to_fp16=False)
        part.with_suffix(".bin").replace(path.with_suffix(".bin"))
        part.replace(path)
    except (OSError, RuntimeError):
        for left in (part, part.with_suffix(".bin")):
            left.unlink(missing_ok=True)


def _logits(output: Any) -> Logits:
    frame = output.frame_logit
    return Logits(
        output.logit.double().cpu().numpy(),
        None if frame is None else frame.double().cpu().numpy(),
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
