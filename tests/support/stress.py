"""Raw videos with known faces, and a small run trained on them, for programs that stress runs."""

from __future__ import annotations

from pathlib import Path

from datamodules.datasets.folder import read_folder
from datamodules.preprocess.batch import prepare_folder
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.storage.root import open_root
from tests.support.cases import CASES
from tests.support.programs import run_here
from tests.support.raw_folder import write_clip


def write_raw(folder: Path, per_class: int = 2) -> Path:
    """Write videos of 128 x 96 pixels: train, val and test, each with some of both classes.

    Args:
        folder: The folder to make.
        per_class: Videos of each class and split.

    Returns:
        `folder`.
    """
    rows = ["path,label,method,identity_group,split"]
    for split in ("train", "val", "test"):
        for label, place in (("real", "real"), ("fake", "fake/swap")):
            for k in range(per_class):
                path = f"{place}/{split}{k}.mp4"
                clip = write_clip(folder / path, num_frames=8)
                # A box that players skip: every file is one of its own.
                box = b"free" + path.encode()
                clip.write_bytes(clip.read_bytes() + (4 + len(box)).to_bytes(4, "big") + box)
                rows.append(f"{path},{label},swap,{split}{label}{k},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


def train_small(raw: Path, folder: Path) -> Path:
    """Prepare raw videos into `folder/prepared` and train a tiny network for one step.

    Args:
        raw: As `write_raw` leaves it.
        folder: Gets the run.

    Returns:
        The run folder.
    """
    source = read_folder(open_root(raw), name="raw")
    prepare_folder(source, folder / "prepared", PrepareOptions(backend="given"), 1)
    run = folder / "run"
    words = [*CASES["sta_vb_b32"].words, "--gpus", "0", "--root", str(folder / "prepared")]
    words += ["--data.init_args.num_workers=0", "--data.init_args.batch_size=2"]
    words += ["--data.init_args.fake_from_real=null", "--data.init_args.kept_frames=null"]
    words += ["--data.init_args.alignment=clip", "--trainer.max_epochs=1", "--no-test"]
    words += ["--wandb", "off", "--trainer.enable_progress_bar=false"]
    assert run_here("fit", *words, "--run", str(run)) == 0
    return run
