"""Speed and memory of a method, against the same network on plain layers as released.

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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.machine import at_least_one, processor
from experiments.benchmarks.released_attention import ExplicitAttention
from experiments.errors import UsageError
from lightning_modules.backbones.sta_adapter import Attention

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
        frames: T; 1 for networks of images.
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


def _hff(setting: Setting) -> nn.Module:
    from lightning_modules.backbones.hff import HFFNetwork

    network = HFFNetwork(setting.size)
    for name, weight in network.named_parameters():
        if "gamma" in name:
            nn.init.constant_(weight, 0.5)  # at 0 the attention would do nothing
    # Else nothing of the image comes to the logit, or too much.
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
            nn.init.constant_(part.running_var, 2)
    return network


def _sta_vb(setting: Setting) -> nn.Module:
    from lightning_modules.backbones.clip_tower import build_tower
    from lightning_modules.backbones.sta import StANetwork

    network = StANetwork(build_tower("ViT-L-14-quickgelu", setting.size, 14), setting.frames)
    # Frozen as it is meant to be; adapters that still change nothing would hide their errors.
    network.freeze_tower()
    network.freeze_unreached()
    for block in network.backbone.stages():
        nn.init.normal_(block.adapter.up.weight, std=block.adapter.up.in_features**-0.5)
    return network


@dataclass(frozen=True)
class Subject:
    """A network that can be measured.

    Attributes:
        build: Builds it.
        logit: Takes the log-odds of fake, (B,), from its output.
        jobs: What its ways differ in.
        frames: T unless asked for; None for a network of images.
        size: H and W in pixels unless asked for.
        relu_in_place: Whether all ReLUs were released in place; else they stay as they are here.
    """

    build: Callable[[Setting], nn.Module]
    logit: Callable[[Any], Tensor]
    jobs: tuple[Job, ...] = ("forward", "forward bfloat16", "training step")
    frames: int | None = 32
    size: int = 224
    relu_in_place: bool = True

    def shape(self, setting: Setting) -> tuple[int, ...]:
        """Give the shape of its input."""
        time_axis = () if self.frames is None else (setting.frames,)
        return (setting.batch, 3, *time_axis, setting.size, setting.size)


NETWORKS = {
    "ftcn_tt": Subject(_ftcn_tt, lambda output: output[0]),
    "i3d": Subject(_i3d, lambda output: output[0]),
    # In training, and under autocast, its layers run one by one.
    "hff": Subject(
        _hff,
        lambda output: output.logits[:, 1] - output.logits[:, 0],
        jobs=("forward",),
        frames=None,
        size=256,
        relu_in_place=False,  # a block's first one leaves its input to the shortcut
    ),
    "sta_vb": Subject(_sta_vb, lambda output: output.logits[:, 1] - output.logits[:, 0], frames=8),
}


def build(setting: Setting, network: Network) -> nn.Module:
    """Build a network with fixed random weights.

    Args:
        setting: What is measured.
        network: `ours`, or the same weights in layers as released: plain ones, one by one, with
            ReLU in place where that was released.
    """
    torch.manual_seed(0)
    subject = NETWORKS[setting.method]
    built = subject.build(setting)
    for module in built.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.ones_(module.weight)  # a block that starts at scale 0 would hide its errors
        if network == "released":
            make_plain(module, subject.relu_in_place)
    return built.to(setting.device)


def make_plain(module: nn.Module, in_place: bool) -> None:
    """Make one module of a network as it was released: no fused layers, explicit attention.

    Args:
        module: A part of the network; changed.
        in_place: Whether its ReLUs were released in place.
    """
    if isinstance(module, nn.Conv3d):
        module.__class__ = nn.Conv3d
    if isinstance(module, Attention):
        module.__class__ = ExplicitAttention
    if isinstance(module, nn.ReLU) and in_place:
        module.inplace = True
    if hasattr(module, "fused"):
        module.__dict__["fused"] = False


def measure(setting: Setting, network: Network, job: Job) -> Measurement:
    """Run one job in this process.

    Args:
        setting: What is measured.
        network: Which network runs.
        job: What it does.
    """
    torch.set_num_threads(setting.threads)
    module = build(setting, network)
    subject = NETWORKS[setting.method]
    clip = torch.randn(subject.shape(setting)).to(setting.device)
    resting = _memory(setting.device)
    outcome = _step(subject, module, clip, job)
    times = []
    for _ in range(setting.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        _step(subject, module, clip, job)
        if setting.device != "cpu":
            torch.cuda.synchronize()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_s, wall_s = (min(column) for column in zip(*times, strict=True))
    return Measurement(cpu_s, wall_s, _memory(setting.device), resting, outcome)


def _step(subject: Subject, module: nn.Module, clip: Tensor, job: Job) -> float:
    if job == "training step":
        module.train().zero_grad()
        torch.manual_seed(0)  # dropout
        logit = subject.logit(module(clip))
        loss = F.binary_cross_entropy_with_logits(logit, torch.ones_like(logit))
        torch.autograd.backward(loss)
        return loss.item()
    half = job == "forward bfloat16"
    with torch.inference_mode(), torch.autocast(clip.device.type, torch.bfloat16, enabled=half):
        return float(subject.logit(module.eval()(clip))[0])


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
        if job != "forward bfloat16":
            yield from _memory_lines(theirs, ours)


def _heading(setting: Setting) -> Iterator[str]:
    yield f"{setting.method} on {processor(setting.device)}, torch {torch.__version__}"
    shape = " x ".join(map(str, NETWORKS[setting.method].shape(setting)))
    yield f"{setting.threads} threads, input {shape}, {_gflop(setting):.1f} GFLOP forward"
    clock = "CPU s (wall s)" if setting.device == "cpu" else "wall s (CPU s)"
    yield f"{clock:<32}{'plain, as released':>24}{'ours':>18}{'ratio':>8}  difference"


def _line(job: str, setting: Setting, theirs: Measurement, ours: Measurement) -> str:
    if setting.device == "cpu":
        cells = [f"{m.cpu_s:.3f} ({m.wall_s:.3f})" for m in (theirs, ours)]
        ratio = theirs.cpu_s / ours.cpu_s
    else:
        cells = [f"{m.wall_s:.4f} ({m.cpu_s:.4f})" for m in (theirs, ours)]
        ratio = theirs.wall_s / ours.wall_s
    difference = abs(theirs.outcome - ours.outcome) / max(1, abs(theirs.outcome))
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
        module(torch.empty(NETWORKS[setting.method].shape(setting)))
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
    parser.add_argument("--frames", type=at_least_one, help="frames in a clip")
    parser.add_argument("--size", type=at_least_one, help="height and width, pixels")
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
    subject = NETWORKS[options.what]
    if subject.frames is None and options.frames is not None:
        raise UsageError(f"{options.what} takes images; leave --frames out, and give --batch")
    frames, size = options.frames or subject.frames or 1, options.size or subject.size
    setting = Setting(
        *(options.what, frames, size, options.batch),
        *(options.threads, options.repeats, options.device),
    )
    if setting.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here; leave --device out")
    half = has_bfloat16(setting.device)
    jobs = [job for job in subject.jobs if half or job != "forward bfloat16"]
    yield from benchmark(setting, options.rounds, jobs)


def _do_task(text: str) -> None:
    """Do what `measure_apart` asks of a process of its own."""
    task = json.loads(text)
    found = measure(Setting(**task["setting"]), task["network"], task["job"])
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _do_task(sys.argv[1])
