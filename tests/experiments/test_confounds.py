"""What files alone give away: found where it is there, and not where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.confounds import main
from experiments.stress.controls import controls
from experiments.stress.metadata import Table, baselines
from tests.support.videos import write_video


def write_raw(folder: Path, fake_frames: int) -> Path:
    """Videos whose fakes may have another length; the sizes vary in both classes alike."""
    rows = ["path,label,method,identity_group,split"]
    for split, count in (("train", 8), ("test", 4)):
        for label, place in (("real", "real"), ("fake", "fake/swap")):
            for k in range(count):
                path = f"{place}/{split}{k}.mp4"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                frames = fake_frames if label == "fake" else 6
                write_video(folder / path, frames, height=64 + 32 * (k % 2))
                rows.append(f"{path},{label},swap,{split}{k},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize(("fake_frames", "told"), [(9, True), (6, False)])
def test_files_that_differ_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_frames: int, told: bool
) -> None:
    raw = write_raw(tmp_path / "raw", fake_frames)
    assert main(["--root", str(raw), "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "confounds.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert bool(report["warnings"]) is told
    assert ("**Warning:**" in capsys.readouterr().out) is told
    # Nothing that all files share is a feature.
    assert not {"fps", "width", "audio_streams", "codec=h264"} & set(rows)
    assert rows["height"]["auc"] == 0.5
    assert rows["random forest"]["videos"] == 8
    if told:
        assert rows["frames"]["auc"] == 1
        assert rows["frames"]["warning"]
        assert rows["duration_s"]["auc"] == 1
        assert "frames (1.000)" in report["warnings"][0]
    else:
        assert "frames" not in rows


def test_baselines_are_fitted_on_train_and_measured_on_test() -> None:
    rng = np.random.default_rng(0)
    label = np.tile([0, 1], 100)
    split = np.repeat(["train", "test"], 100)
    # Tells the label in train only; a value in the middle tells it in both; the third is noise.
    swapped = np.where(split == "train", label, rng.permutation(label))
    middle = np.where(label == 1, 5.0, rng.choice([1.0, 9.0], 200))
    values = np.stack([swapped, middle, np.full(200, np.nan)], axis=1).astype(float)
    table = Table(("swapped", "middle", "unknown"), values, label, np.arange(200), split, None)
    rows = {row.name: row for row in baselines(table)}
    assert rows["middle"].auc == 1
    assert 0.3 < rows["swapped"].auc < 0.7
    # 100 videos, 50 of each class, without an error: no proof of an AUC of 1.
    assert 0.95 < rows["middle"].low < rows["middle"].high == 1
    assert "logistic regression" in rows
    one_class = table._replace(label=np.where(split == "test", 1, label))
    assert baselines(one_class) == []


def test_faces_are_matched_to_a_small_one() -> None:
    change = controls([100.0] * 9 + [40.0, float("nan")])[-1]
    assert change.parameters()["face_px"] == pytest.approx(94, abs=6.1)
    assert controls([])[-1].parameters()["face_px"] == 0


def test_a_prepared_store_and_a_run_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.jsonl").write_text("")
    words = ["--root", str(tmp_path), "--out", str(tmp_path / "out"), "--run", "x"]
    assert main(words) == 2
    assert "give the raw videos as --root" in capsys.readouterr().err
