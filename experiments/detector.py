"""A trained run as a detector: the run folder is the unit of deployment."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

from callbacks.ledger import LedgerError
from datamodules.errors import DataError
from datamodules.kept_frames import KeptFrames
from datamodules.preprocess.alignments import ALIGNMENTS, Alignment, check_alignment
from datamodules.store.prepared import read_prepared_info
from datamodules.video.reader import file_sha256
from experiments.engines import TorchEngine, choose_engine
from experiments.errors import UsageError, parser_reason
from experiments.evaluation.operating_point import FILE_NAME, read_operating_point
from experiments.explaining.maps import Explainer
from experiments.model_choice import experiment_config
from experiments.predicting.scorer import ClipScores, ClipSpec, ModelFacts
from experiments.shorthand import CONFIGS
from lightning_modules import ForgeryModule, FrameMethod
from weights.errors import WeightsError
from weights.loading import load_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datamodules.store.prepared import PreparedInfo
    from experiments.engines import Engine
    from experiments.evaluation.operating_point import OperatingPoint

#: Checkpoints of a run in order of preference: validation chose the first.
_CHECKPOINTS = ("best.ckpt", "last.ckpt")
#: Numbers in a batch of normalised clips where no batch size is given: two clips of 32 x 224 x 224
#: on a CPU (0.2 GB for FTCN), eight on a GPU. [ours]
_BATCH_VALUES = {"cpu": 2 * 3 * 32 * 224**2, "cuda": 8 * 3 * 32 * 224**2}
_MAX_BATCH = 64
_SYNTHETIC = (
    "this run was trained on small synthetic demo videos: its scores of real footage mean nothing"
)


@dataclass(frozen=True)
class Detector:
    """A method with trained weights, ready to score clips.

    Attributes:
        model: In eval mode, on `device`.
        method: Name of the method's class.
        name: What reports call it.
        run: The run folder.
        checkpoint: The file the weights come from.
        checkpoint_sha256: Of that file.
        data: The run's data block, `class_path` and `init_args`.
        device: Where the network runs.
        notes: What a reader of its scores should know about how it was loaded.
        operating_point: How its scores become calls; None where none was fitted for it.
        engine: What runs the network; torch unless given.
    """

    model: ForgeryModule
    method: str
    name: str
    run: Path
    checkpoint: Path
    checkpoint_sha256: str
    data: dict[str, Any]
    device: torch.device
    notes: tuple[str, ...] = field(default=())
    operating_point: OperatingPoint | None = None
    engine: Engine | None = None

    @property
    def num_frames(self) -> int:
        """Frames in a clip (T)."""
        return self.model.num_frames

    @property
    def image_size(self) -> int:
        """Height and width of a clip in pixels."""
        return self.model.image_size

    @property
    def alignment(self) -> Alignment:
        """How its clips are aligned; runs that do not say were trained on `clip`."""
        named = (self.data.get("init_args") or {}).get("alignment", ALIGNMENTS[0])
        return check_alignment(named)

    @property
    def frame_rule(self) -> str | None:
        """How frames are pooled to a clip; None where the method scores clips only."""
        return str(self.model.frame_pooling) if isinstance(self.model, FrameMethod) else None

    @property
    def trained_on(self) -> str:
        """Name of the class of the data the run was trained on."""
        return str(self.data["class_path"]).rpartition(".")[2]

    @property
    def prepared_by(self) -> str | None:
        """Face backend and version of the data it was trained on, None where they are gone."""
        about = self._prepared()
        return None if about is None else f"{about.backend} {about.backend_version}"

    @cached_property
    def spread(self) -> KeptFrames | None:
        """Frames of a track that its clips are cut of, if it was trained on spread ones.

        Clips of consecutive frames move several times slower than what such a run knows. None for
        single frames too, which do not move.
        """
        if self.num_frames == 1:
            return None
        kept = KeptFrames(**((self.data.get("init_args") or {}).get("kept_frames") or {}))
        if kept.spacing == "spread":
            return kept
        # A store may hold spread frames alone, which it counts as if there were no others.
        about = self._prepared()
        spacing, _, count = str(about and about.parameters.get("frames")).partition(":")
        return KeptFrames(spacing="spread", count=int(count)) if spacing == "spread" else None

    def _prepared(self) -> PreparedInfo | None:
        """Read how the data that it was trained on were prepared, None where they are gone."""
        try:
            return read_prepared_info(str((self.data.get("init_args") or {}).get("root")))
        except DataError:
            return None

    @cached_property
    def spec(self) -> ClipSpec:
        """What clips it takes, and how its scores are read."""
        engine = (self.engine or TorchEngine(self.model)).name
        return ClipSpec(
            name=self.name,
            method=self.method,
            num_frames=self.num_frames,
            image_size=self.image_size,
            alignment=self.alignment,
            frame_rule=self.frame_rule,
            video_rule=self.model.video_pooling,
            spread=self.spread,
            batch=self._batch(),
            facts=ModelFacts(
                source=str(self.run),
                checkpoint=self.checkpoint.name,
                checkpoint_sha256=self.checkpoint_sha256,
                trained_on=self.trained_on,
                device=f"{self.device.type}, {engine}",
                engine=engine,
                prepared_by=self.prepared_by,
                notes=self.notes,
            ),
            operating_point=self.operating_point,
        )

    def _batch(self) -> int:
        """Choose how many clips the device takes at once without trouble."""
        values = 3 * self.num_frames * self.image_size**2
        budget = _BATCH_VALUES.get(self.device.type, _BATCH_VALUES["cpu"])
        return min(_MAX_BATCH, max(1, budget // values))

    def score_clips(self, clips: NDArray[np.uint8] | Tensor) -> ClipScores:
        """Score aligned clips.

        Args:
            clips: RGB, shape (B, T, H, W, 3), uint8.

        Returns:
            Their scores.

        Raises:
            ValueError: If the clips have another type, length or size than the network takes.
        """
        given = torch.as_tensor(clips)
        if given.dtype != torch.uint8 or tuple(given.shape[1:]) != self.spec.clip_shape:
            raise ValueError(
                f"clips must be uint8 of shape (B, {', '.join(map(str, self.spec.clip_shape))}), "
                f"got {given.dtype} of shape {tuple(given.shape)}"
            )
        return ClipScores(*(self.engine or TorchEngine(self.model))(given))

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map what in aligned clips (B, T, H, W, 3) speaks for fake: (B, T, h, w), at least 0."""
        return self.explainer.explain(clips)

    @property
    def no_maps(self) -> str:
        """Why it can explain nothing, in one line; empty where it can."""
        try:
            self.explainer  # noqa: B018  # making it is what fails
        except UsageError as error:
            return str(error)
        return ""

    @cached_property
    def explainer(self) -> Explainer:
        """What makes its maps; making it raises a `UsageError` where there are none."""
        try:
            return Explainer(self.model)
        except ValueError as error:
            raise UsageError(f"{self.name} cannot be explained: {error}") from error


def load_detector(run_dir: Path | str, device: str = "auto", engine: str = "torch") -> Detector:
    """Load a run's best checkpoint, or its last one where validation has chosen none.

    Args:
        run_dir: Folder with `config.yaml` and `checkpoints/`, as a fit leaves it.
        device: A torch device, or `auto`: the GPU where there is one, else the CPU.
        engine: What runs the network: one of `ENGINES`.

    Returns:
        The detector, in eval mode.

    Raises:
        UsageError: If the folder is no run, has no checkpoint, its configuration does not build
            a method, its operating point cannot be read, or the device or engine is not there.
        WeightsError: If the checkpoint is damaged, holds more than tensors and plain values, or
            is of another method or structure.
    """
    run = Path(run_dir)
    chosen = _device(device)
    config = _read_config(run)
    checkpoint, notes = _find_checkpoint(run)
    model = _build(config, run)
    _load_weights(model, checkpoint)
    sha256 = file_sha256(checkpoint)
    point, stale = _operating_point(checkpoint, sha256, model.video_pooling.key)
    synthetic = str(config["data"]["class_path"]).endswith("SyntheticDataModule")
    made = Detector(
        model=model.eval().requires_grad_(False).to(chosen),
        method=type(model).__name__,
        name=run.resolve().name,
        run=run,
        checkpoint=checkpoint,
        checkpoint_sha256=sha256,
        data=config["data"],
        device=chosen,
        notes=(*([_SYNTHETIC] if synthetic else []), *notes, *stale),
        operating_point=point,
    )
    return _with_engine(made, engine)


def load_weight_file(
    experiment: str, path: Path, device: str = "auto", engine: str = "torch"
) -> Detector:
    """Load a weight file of released code, or of this suite, into the method of an experiment.

    Args:
        experiment: Its name; clips are as its YAML says.
        path: A file that `weights.loading.load_weights` reads.
        device: As `load_detector` takes it.
        engine: As `load_detector` takes it.

    Returns:
        The detector, in eval mode, without an operating point.

    Raises:
        UsageError: If the device or engine is not there.
        WeightsError: If the file is damaged, holds more than tensors and plain values, or does not
            fit the method.
    """
    chosen = _device(device)
    config = experiment_config(experiment)
    model = _build(config, CONFIGS / f"{experiment}.yaml")
    report = load_weights(model, path)
    note = f"{path.name}: loaded ({report.text})" if report.text else ""
    made = Detector(
        model=model.eval().requires_grad_(False).to(chosen),
        method=type(model).__name__,
        name=f"{experiment}:{path.name}",
        run=path.parent,
        checkpoint=path,
        checkpoint_sha256=file_sha256(path),
        # Where it was trained is not known, nor how those data were prepared.
        data={"class_path": "", "init_args": config["data"].get("init_args") or {}},
        device=chosen,
        notes=(note,) if note else (),
    )
    return _with_engine(made, engine)


def _with_engine(detector: Detector, name: str) -> Detector:
    engine, notes = choose_engine(detector.model, name, detector.checkpoint_sha256)
    return replace(detector, engine=engine, notes=(*detector.notes, *notes))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("meta"):
        raise UsageError(f"device '{name}' computes nothing; type --device auto")
    try:
        # Placing a tensor is the only test that also knows the number of devices.
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device '{name}' cannot be used here ({reason}); type --device auto"
        ) from error


def _read_config(run: Path) -> dict[str, Any]:
    path = run / "config.yaml"
    if not run.is_dir():
        raise UsageError(f"there is no run folder {run}; `make train` writes one into runs/")
    if not path.is_file():
        raise UsageError(f"{run} is no run folder: it has no config.yaml")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML file ({error}); restore the one of the run") from error
    for block in ("model", "data"):
        value = config.get(block) if isinstance(config, dict) else None
        if not isinstance(value, dict) or "class_path" not in value:
            raise UsageError(f"{path} names no {block} class; restore the one the fit wrote")
    return dict(config)


def _find_checkpoint(run: Path) -> tuple[Path, tuple[str, ...]]:
    for name in _CHECKPOINTS:
        path = run / "checkpoints" / name
        if path.is_file():
            best = name == _CHECKPOINTS[0]
            note = f"scored with {name}: validation has chosen no best checkpoint in this run"
            return path, () if best else (note,)
    raise UsageError(
        f"{run} has no checkpoint (checkpoints/best.ckpt or last.ckpt): "
        "its training has not come that far; choose another run"
    )


def _operating_point(
    checkpoint: Path, sha256: str, pooling: str
) -> tuple[OperatingPoint | None, tuple[str, ...]]:
    """Read what lies beside the checkpoint; what was fitted for another one is not used."""
    path = checkpoint.with_name(FILE_NAME)
    if not path.is_file():
        return None, ()
    try:
        point = read_operating_point(path)
    except LedgerError as error:
        raise UsageError(str(error)) from error
    if sha256.startswith(point.checkpoint or "-") and point.pooling == pooling:
        return point, ()
    note = f"{FILE_NAME} was fitted for another checkpoint or rule and is not used; fit it again"
    return None, (note,)


def _build(config: dict[str, Any], run: Path) -> ForgeryModule:
    """Build the method as the fit did: its clip size is the data's."""
    clip_size = config["data"].get("init_args") or {}
    arguments = dict(config["model"].get("init_args") or {})
    for name in ("num_frames", "image_size"):
        if name in clip_size:
            arguments[name] = clip_size[name]
    # The checkpoint holds all weights; the file the fit started from need not be here.
    arguments["weights"] = None
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ForgeryModule, "model")
    block = {"class_path": config["model"]["class_path"], "init_args": arguments}
    try:
        model = parser.instantiate(parser.parse_object({"model": block})).model
    except (ArgumentError, ValueError, TypeError) as error:
        reason = parser_reason(str(error))
        raise UsageError(f"{run / 'config.yaml'} builds no method here: {reason}") from error
    assert isinstance(model, ForgeryModule)
    return model


def _load_weights(model: ForgeryModule, path: Path) -> None:
    try:
        # weights_only: a checkpoint from elsewhere must not be able to run code.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors and plain values, which is not loaded "
            "because it could run code; copy it again from the run"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise WeightsError(
            f"{path} is damaged ({str(error).splitlines()[0]}); copy it again from the run"
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise WeightsError(f"{path} is no checkpoint of a run: it has no state_dict")
    try:
        model.on_load_checkpoint(checkpoint)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    model.load_state_dict(checkpoint["state_dict"], strict=True)
