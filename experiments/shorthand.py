"""The short command line: a pure function from what is typed to what LightningCLI reads.

Imports nothing heavy, so that mistakes and `--help` answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.errors import UsageError
from weights.pretrained import is_file_name

CONFIGS = Path(__file__).parent / "configs"
STAGES = ("fit", "validate", "test", "predict")
DEFAULT_EXPERIMENT = "ftcn_tt"
DEFAULT_DATA = "demo"

USAGE = """\
usage: python -m experiments.run [{fit,validate,test,predict}] [options] [LightningCLI arguments]

Train, validate, test or score with one experiment; without a stage it is fit, without --exp
ftcn_tt. fit tests the best checkpoint when it ends.

options:
  --exp NAME            experiment: a YAML of experiments/configs
  --data NAME           what it runs on: a YAML of experiments/configs/data (default demo)
  --root, -d FOLDER     prepared store for --data folder (made by `make data`)
  --split CSV           columns path (or video_id) and split; overrides the store's own split
  --gpus N              N GPUs; 0 for the CPU; left out: whatever the machine has
  --strategy S          ddp, fsdp, ...; any strategy of Lightning
  --weights, -p FILE    start from pre-trained weights (official layout or a checkpoint of ours);
                        none, or a name the method knows, as imagenet
  --freeze              train the head alone, the backbone stays as loaded
  --run DIR             run folder to write, or, with another stage than fit, to read
  --resume DIR          go on with an interrupted run, exactly where its last checkpoint is
  --checkpoint, -c FILE checkpoint to start the stage from (fit: to go on from)
  --wandb MODE          auto (offline unless a key is set), online, offline, off
  --no-test             fit only
  --print_config        print the resolved configuration and stop
  -h, --help            this text; `python -m experiments.run fit --help` lists every argument

examples:
  python -m experiments.run --gpus 8 --strategy ddp
  python -m experiments.run fit --exp ftcn_tt --data folder --root data/mine --gpus 1
  python -m experiments.run test --run runs/ftcn_tt-demo-20260101-120000
  python -m experiments.run fit --trainer.max_epochs 3 --model.init_args.structure paper
"""

_VALUE_OPTIONS = {
    "--exp": "exp",
    "--data": "data",
    "--root": "root",
    "-d": "root",
    "--split": "split",
    "--gpus": "gpus",
    "--strategy": "strategy",
    "--weights": "weights",
    "-p": "weights",
    "--run": "run",
    "--resume": "resume",
    "--checkpoint": "checkpoint",
    "-c": "checkpoint",
    "--wandb": "wandb",
}
_FLAGS = {"--freeze": "freeze", "--no-test": "no_test", "-h": "help", "--help": "help"}


@dataclass
class Shorthand:
    """What was typed, understood.

    Attributes:
        stage: One of `STAGES`.
        options: Values of the short options that were given.
        flags: Short flags that were given.
        rest: Everything else, for LightningCLI.
        notes: What was assumed, for the first line of the log.
        stage_given: Whether the stage was typed.
    """

    stage: str = "fit"
    options: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    rest: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stage_given: bool = False

    @property
    def wants_help(self) -> bool:
        """Whether only the short help is wanted; the long one needs a stage."""
        return "help" in self.flags and not self.stage_given


def parse_shorthand(argv: list[str]) -> Shorthand:
    """Split what was typed into short options and the rest.

    Args:
        argv: Arguments after the program's name.

    Raises:
        UsageError: If an option lacks its value or contradicts another.
    """
    typed = Shorthand()
    words = list(argv)
    if words and words[0] in STAGES:
        typed.stage, typed.stage_given = words.pop(0), True
    elif words and not words[0].startswith("-"):
        raise UsageError(f"unknown stage '{words[0]}'; choose one of {', '.join(STAGES)}")
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in _FLAGS and not equals:
            typed.flags.add(_FLAGS[name])
        elif name in _VALUE_OPTIONS:
            if not equals:
                if not words:
                    raise UsageError(f"{name} needs a value; see --help")
                value = words.pop(0)
            typed.options[_VALUE_OPTIONS[name]] = value
        else:
            typed.rest.append(word)
    _check(typed)
    return typed


def expand(typed: Shorthand) -> list[str]:
    """Turn the short options into LightningCLI arguments.

    Args:
        typed: What `parse_shorthand` understood; notes on what was assumed are added to it.

    Returns:
        Arguments for LightningCLI, the stage first.

    Raises:
        UsageError: If an experiment, data, run folder or file does not exist.
    """
    args = [typed.stage]
    for path in _config_files(typed):
        args += ["--config", str(path)]
    args += _device_arguments(typed.options)
    args += _model_and_data_arguments(typed)
    checkpoint = _checkpoint(typed)
    if checkpoint is not None:
        args += ["--ckpt_path", str(checkpoint)]
    if "help" in typed.flags:
        args.append("--help")
    return args + typed.rest


def experiment_names() -> list[str]:
    """Return the experiments that exist, in alphabetical order."""
    return sorted(p.stem for p in CONFIGS.glob("*.yaml") if not p.stem.startswith("_"))


def data_names() -> list[str]:
    """Return the data an experiment can run on, in alphabetical order."""
    return sorted(p.stem for p in (CONFIGS / "data").glob("*.yaml"))


def _check(typed: Shorthand) -> None:
    if "resume" in typed.options and typed.stage != "fit":
        raise UsageError(f"--resume goes with fit; for {typed.stage} type --run DIR")
    if "resume" in typed.options and "checkpoint" in typed.options:
        raise UsageError("--resume takes the run's last checkpoint; drop --checkpoint")
    mode = typed.options.get("wandb", "auto")
    if mode not in ("auto", "online", "offline", "off"):
        raise UsageError(f"--wandb takes auto, online, offline or off, not '{mode}'")
    gpus = typed.options.get("gpus", "0")
    if not gpus.isdecimal():
        raise UsageError(f"--gpus takes a whole number, not '{gpus}'")


def _config_files(typed: Shorthand) -> list[Path]:
    options = typed.options
    run = options.get("resume") or (options.get("run") if typed.stage != "fit" else None)
    if run is not None:
        config = Path(run) / "config.yaml"
        if not config.is_file():
            raise UsageError(f"{run} is no run folder: it has no config.yaml")
        if "exp" in options:
            raise UsageError(f"the experiment of {run} is in its config.yaml; drop --exp")
        extra = [_named_config("data", options["data"])] if "data" in options else []
        return [config, *extra]
    if not typed.stage_given:
        typed.notes.append("no stage given: fit")
    if "exp" not in options:
        typed.notes.append(f"no experiment given: {DEFAULT_EXPERIMENT}")
        options["exp"] = DEFAULT_EXPERIMENT
    options.setdefault("data", DEFAULT_DATA if "root" not in options else "folder")
    own = CONFIGS / "data" / options["data"] / f"{options['exp']}.yaml"
    return [
        CONFIGS / "_base.yaml",
        _named_config("experiment", options["exp"]),
        _named_config("data", options["data"]),
        # What one experiment needs otherwise on these data.
        *([own] if own.is_file() else []),
    ]


def _named_config(kind: str, name: str) -> Path:
    names = experiment_names() if kind == "experiment" else data_names()
    if name not in names:
        raise UsageError(f"unknown {kind} '{name}'; there are: {', '.join(names)}")
    return CONFIGS / f"{name}.yaml" if kind == "experiment" else CONFIGS / "data" / f"{name}.yaml"


def _device_arguments(options: dict[str, str]) -> list[str]:
    args: list[str] = []
    if "gpus" in options:
        gpus = int(options["gpus"])
        accelerator = "gpu" if gpus else "cpu"
        args += ["--trainer.accelerator", accelerator, "--trainer.devices", str(max(gpus, 1))]
    if "strategy" in options:
        args += ["--trainer.strategy", options["strategy"]]
    return args


def _model_and_data_arguments(typed: Shorthand) -> list[str]:
    options = typed.options
    args: list[str] = []
    if "root" in options:
        args += ["--data.init_args.root", options["root"]]
    elif options.get("data") == "folder":
        raise UsageError("--data folder needs --root: the prepared store that `make data` wrote")
    if "split" in options:
        args += ["--data.init_args.split_csv", _existing(options["split"], "--split")]
    if "weights" in options:
        weights = options["weights"]
        known = weights if not is_file_name(weights) else _existing(weights, "--weights")
        args += ["--model.init_args.weights", known]
    if "freeze" in typed.flags:
        args += ["--model.init_args.freeze_backbone", "true"]
    return args


def _checkpoint(typed: Shorthand) -> Path | None:
    options = typed.options
    if "checkpoint" in options:
        return Path(_existing(options["checkpoint"], "--checkpoint"))
    if "resume" in options:
        return _run_checkpoint(options["resume"], "last")
    if "run" in options and typed.stage != "fit":
        return _run_checkpoint(options["run"], "best")
    return None


def _run_checkpoint(run: str, name: str) -> Path:
    path = Path(run) / "checkpoints" / f"{name}.ckpt"
    if not path.is_file():
        raise UsageError(f"{run} has no checkpoint {path.relative_to(run)}; nothing to go on from")
    return path


def _existing(path: str, option: str) -> str:
    if not Path(path).is_file():
        raise UsageError(f"{option}: there is no file {path}")
    return path
