"""What alternate freezing saves: a training step with frozen weights, against one without.

    python -m experiments.benchmark freezing [--frames 32] [--size 224] [--batch 1] [--threads 1]
                                             [--rounds 3] [--device cpu]

One I3D in one process takes whole steps (forward, backward, SGD with momentum) in turns: nothing
frozen, spatial weights frozen, temporal weights frozen. The least of all rounds counts; on a CPU it
is CPU time, which a busy machine disturbs less than the wall clock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

from callbacks import AltFreezing, split_by_axis
from experiments.benchmarks.machine import at_least_one, processor
from experiments.benchmarks.network import Setting, build
from experiments.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

NOTHING = "nothing"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--frames", type=at_least_one, default=32, help="frames in a clip")
    parser.add_argument("--size", type=at_least_one, default=224, help="height and width, pixels")
    parser.add_argument("--batch", type=at_least_one, default=1, help="clips in a batch")
    parser.add_argument("--threads", type=at_least_one, default=1, help="of the CPU")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="turns of each phase")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure as the command line says.

    Args:
        options: What `add_options` added.

    Yields:
        Lines of a report.

    Raises:
        UsageError: If there is no such device.
    """
    setting = Setting(
        *("i3d", options.frames, options.size, options.batch, options.threads),
        *(options.rounds, options.device),
    )
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here; leave --device out")
    yield f"i3d on {processor(setting.device)}, torch {torch.__version__}, " + (
        f"{setting.threads} threads, clips {setting.batch} x 3 x {setting.frames} x "
        f"{setting.size} x {setting.size}"
    )
    yield f"{'frozen':<16}{'CPU s' if setting.device == 'cpu' else 'wall s':>10}{'ratio':>8}"
    seconds = measure(setting)
    whole = seconds.pop(NOTHING)
    yield f"{NOTHING:<16}{whole:>10.3f}{1:>8.3f}"
    for axis, taken in seconds.items():
        yield f"{axis:<16}{taken:>10.3f}{taken / whole:>8.3f}"
    cycle = AltFreezing()
    steps = cycle.spatial_frozen_steps, cycle.temporal_frozen_steps
    mean = (steps[0] * seconds["spatial"] + steps[1] * seconds["temporal"]) / sum(steps)
    yield f"{f'by turns {steps[0]}:{steps[1]}':<16}{mean:>10.3f}{mean / whole:>8.3f}"


def measure(setting: Setting) -> dict[str, float]:
    """Take steps with nothing, spatial and temporal weights frozen in turns.

    Args:
        setting: What is measured; its repeats are the turns.

    Returns:
        Seconds for a step by what is frozen, the least of all turns.
    """
    torch.set_num_threads(setting.threads)
    network = build(setting, "ours").train()
    groups = split_by_axis(network)
    frozen: dict[str, Mapping[str, nn.Parameter]] = {
        NOTHING: {},
        "spatial": groups.spatial,
        "temporal": groups.temporal,
    }
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
    shape = (setting.batch, 3, setting.frames, setting.size, setting.size)
    clip = torch.randn(shape).to(setting.device)
    _step(network, optimizer, clip)  # warm up; all momenta exist from here on
    seconds = dict.fromkeys(frozen, float("inf"))
    for _ in range(setting.repeats):
        for name, parameters in frozen.items():
            network.requires_grad_(True)
            for parameter in parameters.values():
                parameter.requires_grad_(False)
            start = _now(setting)
            _step(network, optimizer, clip)
            seconds[name] = min(seconds[name], _now(setting) - start)
    return seconds


def _now(setting: Setting) -> float:
    if setting.device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, clip: Tensor) -> None:
    optimizer.zero_grad()
    logit: Tensor = network(clip)[0]
    loss = F.binary_cross_entropy_with_logits(logit, torch.ones_like(logit))
    torch.autograd.backward(loss)
    optimizer.step()
