"""Speed and memory of a method, against the same network on plain `nn.Conv3d` as released.

Everything is measured in one run: fresh processes of the two networks take turns, each warms up
once, and the least of all repeats counts. On a CPU the ratio is taken from the CPU time of the
process, which a busy machine disturbs less than the wall clock; both are printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.machine import at_least_one, processor
from experiments.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Network = Literal["released", "ours"]
Job = Literal["forward", "forward bfloat16", "training step"]

MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        method: Key of `NETWORKS`.
        frames: T.
        size: H and W in pixels.
        batch: B.
        threads: Of a CPU.
        repeats: Measurements in a process.
        device: Where the networks run.
    """

    method: str
    frames: int
    size: int
    batch: int
    threads: int
    repeats: int
    device: str


class Measurement(NamedTuple):
    """What a process found out.

    Attributes:
        cpu_s: CPU time of the process for one step, the least of its repeats.
        wall_s: Time on the clock, the least of its repeats.
        peak_mib: Most memory that was taken: resident memory of the process on a CPU, tensors on
            other devices.
        resting_mib: The same before the first step.
        outcome: Logit or loss of the first step, to see that both networks compute the same.
    """

    cpu_s: float
    wall_s: float
    peak_mib: float
    resting_mib: float
    outcome: float


def _ftcn_tt(setting: Setting) -> nn.Module:
    from lightning_modules.backbones.ftcn import FTCNNetwork

    recompute = setting.device != "cpu"
    return FTCNNetwork(num_frames=setting.frames, image_size=setting.size, recompute=recompute)


def _i3d(setting: Setting) -> nn.Module:
    from lightning_modules.backbones.i3d import I3DNetwork

    return I3DNetwork(setting.frames, setting.size, recompute=setting.device != "cpu")


#: Networks that can be measured; each returns the logit first.
NETWORKS: dict[str, Callable[[Setting], nn.Module]] = {"ftcn_tt": _ftcn_tt, "i3d": _i3d}


def build(setting: Setting, network: Network) -> nn.Module:
    """Build a network with fixed random weights.

    Args:
        setting: What is measured.
        network: `ours`, or the same weights in layers as released: plain `nn.Conv3d`, one by
            one, with ReLU in place.
    """
    torch.manual_seed(0)
    built = NETWORKS[setting.method](setting)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.ones_(module.weight)  # a block that starts at scale 0 would hide its errors
        if network == "released" and isinstance(module, nn.Conv3d):
            module.__class__ = nn.Conv3d
        if network == "released" and isinstance(module, nn.ReLU):
            module.inplace = True
        if network == "released" and hasattr(module, "fused"):
            module.__dict__["fused"] = False
    return built.to(setting.device)


def measure(setting: Setting, network: Network, job: Job) -> Measurement:
    """Run one job in this process.

    Args:
        setting: What is measured.
        network: Which network runs.
        job: What it does.
    """
    torch.set_num_threads(setting.threads)
    module = build(setting, network)
    shape = (setting.batch, 3, setting.frames, setting.size, setting.size)
    clip = torch.randn(shape).to(setting.device)
    resting = _memory(setting.device)
    outcome = _step(module, clip, job)
    times = []
    for _ in range(setting.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        _step(module, clip, job)
        if setting.device != "cpu":
            torch.cuda.synchronize()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_s, wall_s = (min(column) for column in zip(*times, strict=True))
    return Measurement(cpu_s, wall_s, _memory(setting.device), resting, outcome)


def _step(module: nn.Module, clip: Tensor, job: Job) -> float:
    if job == "training step":
        module.train().zero_grad()
        torch.manual_seed(0)  # dropout
        logit: Tensor = module(clip)[0]
        loss = F.binary_cross_entropy_with_logits(logit, torch.ones_like(logit))
        torch.autograd.backward(loss)
        return loss.item()
    half = job == "forward bfloat16"
    with torch.inference_mode(), torch.autocast(clip.device.type, torch.bfloat16, enabled=half):
        return float(module.eval()(clip)[0][0])


def _memory(device: str) -> float:
    """Give the most memory taken so far, in MiB."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
    return torch.cuda.max_memory_allocated() / MIB


def measure_apart(setting: Setting, network: Network, job: Job) -> Measurement:
    """Run one job in a process of its own, so that no memory is left over from another.

    Raises:
        UsageError: If the process fails; with the last line it wrote.
    """
    task = json.dumps({"setting": asdict(setting), "network": network, "job": job})
    command = [sys.executable, "-m", "experiments.benchmarks.network", task]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UsageError(f"{job} of {network} network: {reason}")
    return Measurement(*json.loads(done.stdout.splitlines()[-1]))


def _least(measurements: Sequence[Measurement]) -> Measurement:
    cpu_s, wall_s, peak_mib, resting_mib, _ = map(min, zip(*measurements, strict=True))
    return Measurement(cpu_s, wall_s, peak_mib, resting_mib, measurements[0].outcome)


def benchmark(setting: Setting, rounds: int, jobs: Sequence[Job]) -> Iterator[str]:
    """Measure both networks in turns.

    Args:
        setting: What is measured.
        rounds: How often the networks take turns.
        jobs: What is measured.

    Yields:
        Lines of a report.
    """
    yield from _heading(setting)
    released: dict[Job, Measurement] = {}
    for job in jobs:
        found: dict[Network, list[Measurement]] = {"released": [], "ours": []}
        for _ in range(rounds):
            for network, measurements in found.items():
                measurements.append(measure_apart(setting, network, job))
        theirs, ours = _least(found["released"]), _least(found["ours"])
        released[job] = theirs
        yield _line(job, setting, theirs, ours)
        if job == "forward bfloat16" and "forward" in released:
            yield _line("  against released in float32", setting, released["forward"], ours)
        if job == "training step":
            yield from _memory_lines(theirs, ours)


def _heading(setting: Setting) -> Iterator[str]:
    yield f"{setting.method} on {processor(setting.device)}, torch {torch.__version__}"
    yield f"{setting.threads} threads, clips {setting.batch} x 3 x {setting.frames} x " + (
        f"{setting.size} x {setting.size}, {_gflop(setting):.1f} GFLOP forward"
    )
    clock = "CPU s (wall s)" if setting.device == "cpu" else "wall s (CPU s)"
    yield f"{clock:<32}{'nn.Conv3d as released':>24}{'ours':>18}{'ratio':>8}  difference"


def _line(job: str, setting: Setting, theirs: Measurement, ours: Measurement) -> str:
    if setting.device == "cpu":
        cells = [f"{m.cpu_s:.3f} ({m.wall_s:.3f})" for m in (theirs, ours)]
        ratio = theirs.cpu_s / ours.cpu_s
    else:
        cells = [f"{m.wall_s:.4f} ({m.cpu_s:.4f})" for m in (theirs, ours)]
        ratio = theirs.wall_s / ours.wall_s
    difference = abs(theirs.outcome - ours.outcome)
    return f"{job:<32}{cells[0]:>24}{cells[1]:>18}{ratio:>7.2f}x  {difference:.1e}"


def _memory_lines(theirs: Measurement, ours: Measurement) -> Iterator[str]:
    pairs = {
        "  peak memory, MiB": (theirs.peak_mib, ours.peak_mib),
        "  of which for the step, MiB": (
            theirs.peak_mib - theirs.resting_mib,
            ours.peak_mib - ours.resting_mib,
        ),
    }
    for name, (their_mib, our_mib) in pairs.items():
        yield f"{name:<32}{their_mib:>24.0f}{our_mib:>18.0f}{our_mib / their_mib:>7.2f}"


def _gflop(setting: Setting) -> float:
    """Count floating-point operations of a forward pass, a multiplication and an addition as 2."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module = build(Setting(**{**asdict(setting), "device": "meta"}), network="released").eval()
        module(torch.empty(setting.batch, 3, setting.frames, setting.size, setting.size))
    return float(counter.get_total_flops()) / 1e9


def has_bfloat16(device: str) -> bool:
    """Say whether bfloat16 arithmetic is in the hardware and not imitated."""
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported())
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark to a parser."""
    parser.add_argument("--frames", type=at_least_one, default=32, help="frames in a clip")
    parser.add_argument("--size", type=at_least_one, default=224, help="height and width, pixels")
    parser.add_argument("--batch", type=at_least_one, default=1, help="clips in a batch")
    parser.add_argument("--threads", type=at_least_one, default=1, help="of the CPU")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="turns of the networks")
    parser.add_argument("--repeats", type=at_least_one, default=2, help="measurements in a turn")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure a method as the command line says.

    Args:
        options: What `add_options` added, and the method's name as `what`.

    Yields:
        Lines of a report.

    Raises:
        UsageError: If there is no such device, or a network does not take such clips.
    """
    setting = Setting(
        *(options.what, options.frames, options.size, options.batch),
        *(options.threads, options.repeats, options.device),
    )
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here; leave --device out")
    jobs: list[Job] = ["forward", "training step"]
    if has_bfloat16(setting.device):
        jobs.insert(1, "forward bfloat16")
    yield from benchmark(setting, options.rounds, jobs)


def _do_task(text: str) -> None:
    """Do what `measure_apart` asks of a process of its own."""
    task = json.loads(text)
    found = measure(Setting(**task["setting"]), task["network"], task["job"])
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _do_task(sys.argv[1])
