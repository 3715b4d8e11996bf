"""Parity certificate: recompute the golden numbers of official code, stage by stage.

    python -m weights.certify ftcn_tt
    python -m weights.certify ftcn_tt --weights OFFICIAL.pth --clips CLIPS.npy [--double]

The first prints a certificate and exits with 0 if everything passed, with 1 otherwise. The second
loads a checkpoint in the official layout strictly and prints one logit (log-odds of fake) a line,
nothing else. Users' mistakes give one line on standard error and exit code 2.

Limits: float32 within 1e-4, float64 within 1e-8 (hff, sta: 1e-9) of each statistic and logit,
relative to the golden number where that is larger than 1; a training step within 1e-4 relative
(gradient norms in float32: see `parity.GRADIENT_LIMIT_FLOAT32`). The stages of a float32 training
step of `altfreezing` have 5e-4: its last norms are over 32 values each, which amplifies how
convolutions round their sums. Ours are off by up to 2.0e-4, plain `nn.Conv3d` by 1.0e-4 to 1.9e-4
(without and with oneDNN); only sums in float64, rounded after every layer, come to 2.3e-5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from weights import golden_numbers as gold
from weights.certify_hff import certify_hff
from weights.certify_sta import certify_sta
from weights.convert import LAYOUTS, recognise
from weights.errors import WeightsError
from weights.loading import load_official, read_state_dict
from weights.parity import (
    TRAINING_LIMIT,
    Finding,
    Subject,
    Tap,
    certify_evaluation,
    certify_training,
    name_of,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


@dataclass(frozen=True)
class Method:
    """How a method is certified. A method with golden numbers adds a row to `METHODS`.

    Attributes:
        network: `module:Class`. A word that is imported when it is needed, because `weights`
            stands below the methods and must not import them; this program alone, which nobody
            imports, has to know both sides.
        clip_arguments: Constructor arguments that follow from the clips' shape.
        logit: Takes the log-odds of fake, (B,), from the network's output.
        axes: Of what the network scores.
        layouts: Names of the layouts its files may have, if there are others than its own.
        certificate: Recomputes golden numbers of another form than the fields below describe;
            takes whether to be quick.
        golden: Name of the file in `weights/golden/`.
        structures: Name, constructor arguments, and where in the file its numbers are (None: at
            the top).
        taps: Where the golden stages are seen in the network.
        stage_limit_float32: Largest difference of a stage of a training step in float32.
    """

    network: str
    clip_arguments: Callable[[tuple[int, ...]], dict[str, Any]]
    logit: Callable[[Any], Tensor]
    axes: tuple[str, ...] = ("B", "3", "T", "H", "W")
    layouts: tuple[str, ...] = ()
    certificate: Callable[[bool], list[Finding]] | None = None
    golden: str = ""
    structures: tuple[tuple[str, dict[str, Any], str | None], ...] = ()
    taps: tuple[Tap, ...] = ()
    stage_limit_float32: float = TRAINING_LIMIT

    def build(self, clip_shape: tuple[int, ...], arguments: Mapping[str, Any]) -> nn.Module:
        """Build the network for clips of shape (B, 3, T, H, W)."""
        module, _, name = self.network.partition(":")
        network: nn.Module = getattr(import_module(module), name)(
            **arguments, **self.clip_arguments(clip_shape)
        )
        return network


_STA = Method(
    network="lightning_modules.backbones.sta:build_network",
    clip_arguments=lambda shape: {"num_frames": shape[2], "image_size": shape[-1]},
    logit=lambda output: output[0][:, 1] - output[0][:, 0],
    layouts=("sta",),
    certificate=certify_sta,
)

_TRANSFORMER = r"head\.time_T\."

METHODS = {
    "ftcn_tt": Method(
        network="lightning_modules.backbones.ftcn:FTCNNetwork",
        golden="ftcn_tt.json",
        structures=(
            ("released", {}, None),
            ("paper", {"structure": "paper"}, "paper_structure_variant"),
        ),
        clip_arguments=lambda shape: {"num_frames": shape[2], "image_size": None},
        taps=(
            Tap(r"s1\.conv", "backbone.stem.conv"),
            Tap(r"s1\.bn", "backbone.stem.pool"),  # official: norm and pool are one sequence
            Tap(r"s1", "backbone.stem"),
            Tap(r"s(\d)\.pathway0_res(\d+)", r"backbone.stages.stage\1.\2"),
            Tap(r"s(\d)", r"backbone.stages.stage\1"),
            Tap(r"pathway0_pool", "backbone.temporal_pool"),
            Tap(r"head\.pool", "head", "input", lambda x: x.transpose(1, 2)[..., None, None]),
            # official: all tokens of the batch in one list
            Tap(r"head\.fc", "head.projection", view=lambda x: x.flatten(0, 1)),
            Tap(_TRANSFORMER + r"dropout.*", "head.dropout"),
            Tap(_TRANSFORMER + r"layer(\d+)\.attention.*", r"head.layers.\1.attention_out"),
            Tap(_TRANSFORMER + r"layer(\d+)\.after_attention", r"head.layers.\1.mlp_norm", "input"),
            Tap(_TRANSFORMER + r"layer(\d+)\.after_mlp", r"head.layers.\1"),
            Tap(_TRANSFORMER + r"mlp_head\.0.*", "head.norm"),
        ),
        logit=lambda output: output[0],
    ),
    "altfreezing": Method(
        network="lightning_modules.backbones.i3d:I3DNetwork",
        golden="altfreezing.json",
        structures=(("i3d_ori", {}, None),),
        clip_arguments=lambda shape: {"num_frames": shape[2], "image_size": None},
        taps=(
            Tap(r"s1\.(conv|bn)", r"backbone.stem.\1"),
            Tap(r"s1", "backbone.stem"),
            Tap(r"s(\d)\.pathway0_res(\d+)", r"backbone.stages.stage\1.\2"),
            Tap(r"s(\d)", r"backbone.stages.stage\1"),
            Tap(r"pathway0_pool", "backbone.temporal_pool"),
            Tap(r"head\.avgpool", "dropout", "input", lambda x: x[..., None, None, None]),
        ),
        logit=lambda output: output[0],
        # Norms over 32 values each amplify rounding: plain `nn.Conv3d` is off by 1.9e-4 as well.
        stage_limit_float32=5e-4,
    ),
    "hff": Method(
        network="lightning_modules.backbones.hff:HFFNetwork",
        clip_arguments=lambda shape: {"image_size": shape[-1]},
        logit=lambda output: output[0][:, 1] - output[0][:, 0],
        axes=("N", "3", "H", "W"),
        layouts=("hff", "hff_bench"),
        certificate=certify_hff,
    ),
    "sta": _STA,
    "sta_vb": _STA,  # the experiment
}


def find_method(name: str) -> Method:
    """Look a method up.

    Raises:
        WeightsError: If it is unknown; the message lists those that exist.
    """
    if name not in METHODS:
        raise WeightsError(f"There is no method {name!r} to certify; there are: {[*METHODS]}.")
    return METHODS[name]


def score_clips(
    name: str, weights_path: Path, clips_path: Path, dtype: torch.dtype = torch.float32
) -> list[float]:
    """Score clips with a checkpoint in the official layout.

    Args:
        name: The method.
        weights_path: The checkpoint.
        clips_path: Normalised clips, shape (B, 3, T, H, W), as `numpy.save` writes them; for a
            network of images they are (N, 3, H, W).
        dtype: What to compute in.

    Returns:
        Log-odds of fake, one a clip.

    Raises:
        WeightsError: If a file cannot be read or does not fit.
    """
    method = find_method(name)
    state = read_state_dict(weights_path)
    found = recognise(state)
    if found not in (*method.layouts, name, None):
        raise WeightsError(f"{weights_path} looks like official {found} weights, not {name}.")
    layout = LAYOUTS[found or name]
    clips = _read_clips(clips_path, method.axes)
    arguments = layout.structure({key: tuple(value.shape) for key, value in state.items()})
    try:
        network = method.build(tuple(clips.shape), arguments)
        load_official(network, state, layout, source=str(weights_path))
        network.to(dtype).eval()
        with torch.inference_mode():
            logits = [method.logit(network(clip[None].to(dtype))) for clip in clips]
    except ValueError as error:
        raise WeightsError(f"{clips_path} does not fit {name}: {error}") from None
    return [logit.item() for logit in logits]


def _read_clips(path: Path, axes: tuple[str, ...]) -> Tensor:
    try:
        clips = np.load(path, allow_pickle=False)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise WeightsError(f"{path} is no .npy file of numbers, or is cut off") from None
    if not isinstance(clips, np.ndarray) or clips.ndim != len(axes) or clips.dtype.kind != "f":
        kind = f"{clips.dtype} {clips.shape}" if isinstance(clips, np.ndarray) else "an archive"
        raise WeightsError(f"{path} must hold float clips ({', '.join(axes)}), not {kind}.")
    # torch takes neither foreign byte orders nor extended precision.
    clips = clips.astype(np.float64 if clips.dtype.itemsize > 4 else np.float32)
    if not len(clips) or not np.isfinite(clips).all():
        raise WeightsError(f"{path} holds no clips, or values that are not finite.")
    return torch.from_numpy(clips)


def certify(name: str, *, quick: bool = False) -> list[Finding]:
    """Recompute a method's golden numbers.

    Args:
        name: The method.
        quick: Leave out clips of the official size, which take most of the time.

    Returns:
        Everything that was compared.
    """
    method = find_method(name)
    if method.certificate is not None:
        return method.certificate(quick)
    return _certify_stages(name, method, quick)


def _certify_stages(name: str, method: Method, quick: bool) -> list[Finding]:
    golden = gold.read_golden(method.golden)
    findings: list[Finding] = []
    for structure, arguments, place in method.structures:
        numbers = golden if place is None else golden[place]
        table = f"{name}, structure {structure}"
        findings.append(_certify_size(name, numbers, arguments, table))
        for variant, entry in numbers["variants"].items():
            if quick and variant == "full":
                continue
            for dtype in (torch.float32, torch.float64):
                column = f"{variant} {name_of(dtype)}"
                subject = _subject(name, arguments, entry, dtype)
                findings += certify_evaluation(subject, entry, f"{table}: evaluation", column)
        if "train_mode" in numbers:
            entry = numbers["train_mode"]
            for dtype in (torch.float64, torch.float32):
                for watched in (True, False):
                    subject = _subject(name, arguments, entry, dtype)
                    findings += certify_training(
                        subject,
                        entry,
                        f"{table}: a training step",
                        watched=watched,
                        stage_limit_float32=method.stage_limit_float32,
                    )
    return findings


def _subject(
    name: str, arguments: Mapping[str, Any], golden: Mapping[str, Any], dtype: torch.dtype
) -> Subject:
    """Build a network with rule-made weights, loaded strictly as an official file would be."""
    method, layout = METHODS[name], LAYOUTS[name]
    network = method.build((1, 3, golden["T"], golden["H"], golden["W"]), arguments).to(dtype)
    keys = {layout.official_key(key): key for key in network.state_dict()}
    shapes = {key: tuple(network.state_dict()[own].shape) for key, own in keys.items()}
    load_official(network, gold.fill_state(shapes), layout, source="the rule-made state dict")
    return Subject(network, keys, method.taps, method.logit)


def _certify_size(
    name: str, golden: Mapping[str, Any], arguments: Mapping[str, Any], table: str
) -> Finding:
    """Compare the number of parameters and, where the file lists them, all keys and shapes."""
    network = METHODS[name].build((1, 3, 8, 64, 64), arguments)
    same = sum(weight.numel() for weight in network.parameters()) == golden["parameters"]
    keys = {key: list(value.shape) for key, value in network.state_dict().items()}
    row = f"{golden['parameters']:,} parameters"
    if "state_dict" in golden:
        official = {key: shape for key, shape, _ in golden["state_dict"]}
        row += f", {len(official)} keys"
        layout = LAYOUTS[name]
        same = same and official == {layout.official_key(k): shape for k, shape in keys.items()}
    return Finding(f"{table}: size", "as listed", row, 0.0 if same else float("inf"), 0.0)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        raise WeightsError(f"{message} (python -m weights.certify --help)")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m weights.certify", description="Compare a method with its official code."
    )
    parser.add_argument("method", help=f"one of {', '.join(METHODS)}")
    parser.add_argument("--weights", type=Path, help="checkpoint in the official layout")
    parser.add_argument(
        "--clips",
        type=Path,
        help="normalised clips (B, 3, T, H, W), or frames (N, 3, H, W) for hff; float .npy",
    )
    parser.add_argument("--double", action="store_true", help="compute in float64")
    parser.add_argument("--quick", action="store_true", help="leave out the official clip size")
    options = parser.parse_args(arguments)
    if (options.weights is None) != (options.clips is None):
        parser.error("--weights and --clips belong together")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: Of the command line; by default the process's own.

    Returns:
        Exit code.
    """
    try:
        options = _parse(arguments)
        if options.weights is not None:
            dtype = torch.float64 if options.double else torch.float32
            for logit in score_clips(options.method, options.weights, options.clips, dtype):
                sys.stdout.write(f"{logit:.17g}\n" if options.double else f"{logit:.9g}\n")
            return 0
        findings = certify(options.method, quick=options.quick)
    except WeightsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(render(findings) + "\n")
    return 0 if all(finding.passed for finding in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
