"""The comparison of i3d, made fakes and alternate freezing on probes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from experiments.benchmarks import effect
from experiments.errors import UsageError

#: As little as the command line takes; both classes are in every split.
TINY = (
    "--gpus 0 --trainer.max_epochs=1 --trainer.check_val_every_n_epoch=1 "
    "--data.init_args.num_identities=6 --data.init_args.frame_size=64 "
    "--data.init_args.video_frames=8 --data.init_args.num_frames=4 --data.init_args.batch_size=4 "
    "--data.init_args.num_workers=0 --data.init_args.render_workers=1"
)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    effect.add_options(parser)
    return parser.parse_args(words)


class Recorder:
    """Stands in for the runs: writes metrics where a run would."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, stage: str, *words: str, folder: Path | None = None) -> None:
        self.calls.append((stage, *words))
        named = words[words.index("--run") + 1] if "--run" in words else words[1]
        place = Path(named) if folder is None else folder
        place.mkdir(parents=True, exist_ok=True)
        auc = 0.5 + 0.1 * len(self.calls)
        figures = {"video_auc": auc, "video_auc_low": auc - 0.1, "video_auc_high": auc + 0.1}
        (place / "metrics.json").write_text(json.dumps({"test": figures}))


def test_each_training_is_tested_on_each_probe_and_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Recorder()
    monkeypatch.setattr(effect, "_call", runs)
    options = parse("--seeds", "7", "--out", str(tmp_path))
    lines = list(effect.run(options))
    assert [call[0] for call in runs.calls] == ["fit", "test", "test"] * 3
    assert all("--seed_everything=7" in call for call in runs.calls if call[0] == "fit")
    # First training: the fit's own test is the first figure, then come the two other probes.
    assert "| i3d | 0.700 +- nan | 0.800 +- nan | 0.600 +- nan |" in lines
    assert (
        "| i3d | 7 | 0.700 [0.600, 0.800] | 0.800 [0.700, 0.900] | 0.600 [0.500, 0.700] |" in lines
    )
    assert list(effect.run(options)) == lines
    assert len(runs.calls) == 9


def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Recorder()
    monkeypatch.setattr(effect, "_call", runs)
    (tmp_path / "i3d-3" / "checkpoints").mkdir(parents=True)
    (tmp_path / "i3d-3" / "checkpoints" / "last.ckpt").touch()
    list(effect.run(parse("--seeds", "3", "--out", str(tmp_path))))
    resumed = [call for call in runs.calls if "--resume" in call]
    assert resumed == [("fit", "--resume", str(tmp_path / "i3d-3"), "--wandb", "off")]


def test_a_failed_run_is_named(tmp_path: Path) -> None:
    options = parse("--seeds", "1", "--out", str(tmp_path), "--arguments=--trainer.epochs=1")
    with pytest.raises(UsageError, match=r"experiments\.run fit .*epochs.* failed: error: "):
        list(effect.run(options))


def test_a_store_is_tested_once_with_its_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def run(stage: str, *words: str) -> None:
        calls.append((stage, *words))
        folder = Path(words[words.index("--run") + 1])
        folder.mkdir(parents=True)
        figures = {"video_auc": 0.6, "video_auc_low": 0.5, "video_auc_high": 0.7}
        pairs = {**figures, "video_auc": 0.55}
        rows = {"test": figures, "test, same-footage pairs": pairs}
        (folder / "metrics.json").write_text(json.dumps(rows))

    monkeypatch.setattr(effect, "_call", run)
    root = tmp_path / "store"
    options = parse("--study", "video_blend", "--root", str(root), "--seeds", "1")
    options.out = tmp_path / "out"
    lines = list(effect.run(options))
    assert [call[0] for call in calls] == ["fit"] * 3
    assert all(str(root) in call and "folder" in call for call in calls)
    assert "| sta + blends | 0.600 +- nan | 0.550 +- nan |" in lines


@pytest.mark.slow
def test_the_whole_comparison_runs(tmp_path: Path) -> None:
    data = f" --data.init_args.data_dir={tmp_path / 'demo'}"
    lines = list(
        effect.run(parse("--seeds", "1", "--out", str(tmp_path), "--arguments", TINY + data))
    )
    conditions = effect.STUDIES["freezing"].conditions
    table = [line for line in lines if line.startswith(tuple(f"| {c} " for c in conditions))]
    assert len(table) == 2 * len(conditions)
    for name in ("i3d-1", "i3d-fakes-1", "altfreezing-fakes-1"):
        for probe in ("temporal", "spatial"):
            assert (tmp_path / name / "test" / probe / "scores" / "test.csv").is_file()
