from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.compare import main
from experiments.comparing.runs import read_runs
from experiments.comparing.stress import confounds, robustness
from experiments.errors import UsageError
from tests.support.ledgers import SOURCE, toy_record, write_toy
from tests.support.run_folders import write_run


def write(folder: Path, checkpoint: str) -> Path:
    rows = [
        {"name": "clean", "level": 0, "video_auc": 0.9},
        {"name": "blur", "level": 1, "video_auc": 0.8},
        {"name": "blur", "level": 5, "video_auc": None},
    ]
    (folder / "scores").mkdir(parents=True)
    content = {"run": "r", "checkpoint": checkpoint, "rows": rows}
    (folder / "scores" / "robustness.json").write_text(json.dumps(content))
    (folder / "confounds.json").write_text(json.dumps({"warnings": ["fps alone: AUC 0.71"]}))
    return folder


def test_the_page_shows_what_was_measured_of_its_checkpoints(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", sets={"ffpp": ("a",)})
    own, other = write(tmp_path / "own", "c-r"), write(tmp_path / "other", "another")
    (found,) = robustness(read_runs([run]), [own, other]).values()
    assert found.levels == ["-", "1", "5"]
    assert found.rows["blur"]["1"] == 0.8
    assert math.isnan(found.rows["blur"]["5"])
    assert robustness(read_runs([run]), [other]) == {}
    assert confounds([own, other]) == ["confound: fps alone: AUC 0.71"]
    out = tmp_path / "out"
    assert main([str(run), "--out", str(out), "--stress", str(own)]) == 0
    page = (out / "index.html").read_text()
    assert "confound: fps alone: AUC 0.71" in page
    assert ">0.800<" in page.split('id="robustness"')[1]


def test_the_heat_map_is_measured_on_ledgers_where_they_tell_conditions(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", sets={"ffpp": ("a",)})
    records = [toy_record(f"v/{k}", k % 2) for k in range(8)]
    source = replace(SOURCE, run="r", checkpoint="c-r")

    def scored(name: str, logits: list[float], **condition: str | int) -> None:
        path = write(tmp_path / "own" / name, "another") / "x" / "scores" / "test.parquet"
        write_toy(path, records, [[one] for one in logits], source=source, **condition)

    scored("clean", [-1.0, 1.0] * 4)
    noise = {"perturbation": "noise", "faces": "clean"}
    scored("noise-2", [-1.0, 1.0] * 3 + [1.0, -1.0], level=2, **noise)
    scored("noise-5", [0.0] * 8, level=5, **noise)
    scored("again", [1.0, -1.0] * 4, level=5, perturbation="noise", faces="own")
    scored("blank", [1.0, -1.0] * 4, level=0, perturbation="blank_face", faces="clean")
    (found,) = robustness(read_runs([run]), [tmp_path / "own"]).values()
    assert found.levels == ["-", "2", "5"]
    assert found.rows == {
        "clean": {"-": 1.0},
        "noise": {"2": 0.75, "5": 0.5},
        "noise, faces found again": {"5": 0.0},
    }


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        confounds([tmp_path / "none"])
    (tmp_path / "confounds.json").write_text("{")
    with pytest.raises(UsageError, match=r"confounds\.json is damaged"):
        confounds([tmp_path])
