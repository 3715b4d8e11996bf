"""Read weight files, safely and strictly."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from weights.convert import LAYOUTS, Layout, recognise
from weights.errors import WeightsError
from weights.programs import refuse_program

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Prefixes that training scripts put before every key, in the order they are taken off:
#: DistributedDataParallel's, then that of the module around the network (theirs and ours).
PREFIXES = ("module.", "network.")

#: Entries of a checkpoint that hold its state dict: this suite's and most others'; SlowFast's.
WRAPPINGS = ("state_dict", "model_state")

#: How reading fails where the bytes are no pickle, a damaged one, or one that is refused.
_DAMAGES = (
    *(pickle.UnpicklingError, struct.error),
    *(AssertionError, AttributeError, LookupError, TypeError),
)

#: Names listed for each kind of difference before "and N more".
NAMES_SHOWN = 3

#: [ours] Largest difference of a constant, wide enough for files in half precision.
CONSTANT_ROUNDING = 2e-3


class LoadReport(NamedTuple):
    """What did not pass from a file to a network, and why that is right.

    Attributes:
        left_out: Keys of the file: the official network does not use them either, or they
            classify another task's classes; and repeated parts that the network has fewer of.
        fresh: Keys of ours that such a file does not have; they stayed as initialised.
    """

    left_out: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Say it in a line; empty if all of the file went in and filled the network."""
        # A part of the network may have hundreds of keys.
        parts = list(dict.fromkeys(key.partition(".")[0] for key in self.fresh))
        halves = [("left out", self.left_out), ("as initialised", parts)]
        return "; ".join(f"{name}: {', '.join(keys)}" for name, keys in halves if keys)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, without running any code it may contain.

    Unwraps an optional `state_dict` or `model_state` entry, and takes the prefixes `module.` and
    `network.` off.

    Args:
        path: A file written by `torch.save`: a state dict, or a checkpoint with one inside; or a
            file of tensors named `*.safetensors`, as the Hugging Face hub has them.

    Returns:
        Tensors by key, on the CPU.

    Raises:
        WeightsError: If there is no such file, or no state dict in it.
    """
    path = Path(path)
    refuse_program(path)
    try:
        content = _read_file(path)
    except FileNotFoundError:
        raise WeightsError(f"There is no weight file {path}.") from None
    except _DAMAGES:
        raise WeightsError(
            f"{path} was not written by torch.save, is damaged, or holds more than tensors and "
            "plain values (which is refused, because it could run code)."
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{path} cannot be read as weights: {reason[0]}") from None
    tensors = _tensors_of(content, path)
    for prefix in PREFIXES:
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def load_weights(module: nn.Module, path: str | Path) -> LoadReport:
    """Load a file into a method, strictly: all keys, all shapes, nothing left over.

    Args:
        module: The network, or a method that keeps it in its attribute `network`.
        path: Weights in an official layout, or a checkpoint of this suite.

    Returns:
        What was left out and what stayed as initialised; see `load_official`.

    Raises:
        WeightsError: If the file does not fit; one line that says how, by name.
    """
    network = getattr(module, "network", module)
    state = read_state_dict(path)
    method = recognise(state)
    if method is None or state.keys() == network.state_dict().keys():
        load_own(network, state, source=str(path))
        return LoadReport()
    if method in LAYOUTS:
        return load_official(network, state, LAYOUTS[method], source=str(path))
    raise _cannot_take(network, method, str(path))


def is_checkpoint_of(network: nn.Module, path: str | Path) -> bool:
    """Tell whether a file holds a network in our own layout, key by key.

    Args:
        network: The network.
        path: Any file, or a name that is none.
    """
    if not Path(path).is_file():
        return False
    try:
        return read_state_dict(path).keys() == network.state_dict().keys()
    except WeightsError:
        return False


def load_own(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict in our own layout, strictly.

    Args:
        network: Takes the weights.
        state: Tensors by key of ours; keys that belong to other parts of a method, such as its
            loss, count as left over.
        source: What to call it in an error.
    """
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    _require_same(expected, state, source, type(network).__name__)
    _require_finite(state, source)
    require_constants(network, state, source)
    network.load_state_dict(dict(state))


def load_official(
    network: nn.Module, state: Mapping[str, Tensor], layout: Layout, source: str
) -> LoadReport:
    """Load a state dict in an official layout, strictly.

    Args:
        network: Takes the weights; one that the layout's renames know.
        state: Tensors by official key, prefixes stripped.
        layout: The official layout.
        source: What to call it in an error.

    Returns:
        Keys of the file that were left out (the official network does not use them either, or
        they classify another task's classes), and keys of ours that stayed as initialised.

    Raises:
        WeightsError: If a key is missing, extra, or of another shape, or the weights were trained
            with other options than the network's.
    """
    own = network.state_dict()
    try:
        sources = layout.sources(own)
    except KeyError:
        raise _cannot_take(network, layout.method, source) from None
    _require_options(network, layout, source)
    state = layout.adapt(state)
    expected = {key: tuple(own[ours].shape) for ours, key in sources.items()}
    surplus = _surplus(layout, expected, state)
    state = {key: value for key, value in state.items() if key not in surplus}
    left_out = [
        key for key in state if key not in expected and key.startswith(layout.dead_prefixes)
    ]
    foreign = [k for k in layout.other_task if k in state and tuple(state[k].shape) != expected[k]]
    if foreign:
        # Weight and bias belong together, even where one of them happens to fit.
        left_out += [key for key in layout.other_task if key in state]
        expected = {key: shape for key, shape in expected.items() if key not in layout.other_task}
    alive = {key: value for key, value in state.items() if key not in left_out}
    _require_same(expected, alive, source, layout.method)
    _require_finite(alive, source)
    loaded = {ours: alive[key] for ours, key in sources.items() if key in alive}
    require_constants(network, loaded, source)
    network.load_state_dict(own | loaded)
    left_out += dict.fromkeys(surplus.values())
    return LoadReport(tuple(left_out), tuple(key for key in own if key not in loaded))


def _surplus(layout: Layout, expected: Iterable[str], state: Iterable[str]) -> dict[str, str]:
    """Find the keys of repeated parts that the network has fewer of.

    Args:
        layout: Of the file.
        expected: Official keys that the network takes.
        state: Keys of the file.

    Returns:
        A word for the part by key.
    """
    if layout.repeated is None:
        return {}
    pattern = re.compile(layout.repeated)
    kept = {match[1] for match in map(pattern.fullmatch, expected) if match}
    found = {key: match for key in state if (match := pattern.fullmatch(key))}
    return {key: key[: m.end(1)] for key, m in found.items() if m[1] not in kept}


def require_constants(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights whose constants are others than those the network was built with.

    Args:
        module: Its parts name their constants in an attribute `constants`: buffers that never
            change, such as fixed filters.
        state: Tensors by key of ours.
        source: What to call it in an error.

    Raises:
        WeightsError: If a constant differs by more than rounding.
    """
    for name, part in module.named_modules():
        for constant in getattr(part, "constants", ()):
            key = f"{name}.{constant}".lstrip(".")
            mine = part.get_buffer(constant)
            given = state.get(key)
            if given is not None and not torch.allclose(
                given.to(mine), mine, rtol=0, atol=CONSTANT_ROUNDING
            ):
                raise WeightsError(
                    f"{source}: {key}, which is never trained, holds other values than this "
                    f"{type(module).__name__} was built with; set the option that made them "
                    "(srm_layout) alike, or take an undamaged file."
                )


def _require_finite(state: Mapping[str, Tensor], source: str) -> None:
    wrong = [key for key, value in state.items() if not value.isfinite().all()]
    if wrong:
        raise WeightsError(
            f"{source}: {_some(wrong)}: not all values are finite numbers; the training it comes "
            "from has diverged, or the file is damaged"
        )


def _require_options(network: nn.Module, layout: Layout, source: str) -> None:
    own: Mapping[str, str] = getattr(network, "options", {})
    for name, value in layout.options.items():
        if own.get(name) != value:
            raise WeightsError(
                f"{source} holds {layout.method} weights, which are for {name}: {value}, and this "
                f"network has {name}: {own.get(name)}; set model.init_args.{name} to {value}."
            )


def _cannot_take(network: nn.Module, method: str, source: str) -> WeightsError:
    return WeightsError(
        f"{source} looks like official {method} weights, which {type(network).__name__} "
        "cannot take."
    )


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings():
        # What is wrong with a file is said in one line.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    for wrapping in WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict.")
    tensors = {str(k): value for k, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors; a state dict was expected.")
    return tensors


def _require_same(
    expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: str, target: str
) -> None:
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    other = [
        f"{key} is {tuple(value.shape)}, wanted {expected[key]}"
        for key, value in state.items()
        if key in expected and tuple(value.shape) != expected[key]
    ]
    if not missing and not extra and not other:
        return
    parts = [
        f"{len(names)} {kind}: {_some(names)}"
        for kind, names in (("missing", missing), ("extra", extra), ("of another shape", other))
        if names
    ]
    method = recognise(state)
    hint = f" It looks like official {method} weights." if method not in (None, target) else ""
    raise WeightsError(
        f"{source} does not fit {target} ({len(expected)} entries). {'; '.join(parts)}.{hint}"
    )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
