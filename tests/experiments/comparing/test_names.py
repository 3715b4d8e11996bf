"""Runs whose names mean something to a browser, LaTeX, CSV, polars or matplotlib."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from experiments.compare import main
from experiments.comparing.drawing import Album
from experiments.comparing.matrix import as_csv
from experiments.comparing.results import hardest, measure
from experiments.comparing.runs import read_runs
from tests.support.run_folders import write_run

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ("video_id", "^r.*$", "$\\foo$ 100%", "<img src=x onerror=alert(1)>", "javascript:a#b?c",
          "lr0.00012", "[a]\n&b", "x[0-9]*")  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
def test_any_name_is_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.comparing.results.NUM_RESAMPLES", 50)
    one = {"ffpp": ("Deepfakes",)}
    runs = [write_run(tmp_path / n, seed=k, skill=0.2, sets=one) for k, n in enumerate(("r", name))]
    assert main([*map(str, runs), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    links = [unquote(link) for link in re.findall(r'<a href="([^#"]+)"', page)]
    assert all((tmp_path / "out" / link).is_file() for link in links)
    assert not any(link.startswith("javascript:") for link in re.findall('href="(.*?)"', page))
    with (tmp_path / "out" / "results.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [row["run"] for row in rows] == ["r", name]
    latex = (tmp_path / "out" / "results.tex").read_text(encoding="utf-8")
    assert len(latex.splitlines()) == 10
    assert not re.search(r"\\\\\n\s*\[", latex)
    found = read_runs(runs)
    scores = hardest(measure(found, 50))[0].scores
    assert set(scores) == {"r", name}
    assert all(0 <= score <= 1 for score in scores.values())


def test_texts_of_drawings_stay_as_they_are() -> None:
    with Album().figure(1, 1, (3, 3)) as sheet:
        (panel,) = sheet.panels
        panel.set(title="lr0.00012 $x_1$", yscale="log")
        panel.set_yticks([0.001, 0.002], ["0.001", "0.002"])
        panel.plot([0, 1 / 3], [0.001, 0.002])
    assert ">lr0.00012 $x_1$<" in sheet.svg
    assert ">0.002<" in sheet.svg
    assert not re.search(r'="[^"]*\.\d{3}', sheet.svg)


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one = {"ffpp": ("Deepfakes",)}
    for seed, place in enumerate(("a/runs", "b/runs", "b/other")):
        (tmp_path / place).mkdir(parents=True)
        write_run(tmp_path / place / "x", seed=seed, sets=one)
    names = [run.name for run in read_runs([tmp_path / p / "x" for p in ("a/runs", "b/runs")])]
    assert names == ["a/runs/x", "b/runs/x"]
    names = [run.name for run in read_runs([tmp_path / p / "x" for p in ("b/runs", "b/other")])]
    assert names == ["runs/x", "other/x"]


def test_a_matrix_of_any_names_is_csv() -> None:
    names = ["a,b", 'c "d"', "e\nf"]
    text = as_csv({name: dict.fromkeys(names, 0.5) for name in names})
    rows = list(csv.reader(text.splitlines(keepends=True)))
    assert [row[0] for row in rows] == ["reals", *names]
    assert {len(row) for row in rows} == {4}


def test_curves_of_a_run_that_still_trains_are_read_and_damaged_ones_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "r", sets={"ffpp": ("Deepfakes",)})
    curves = run / "metrics" / "metrics.csv"
    whole = curves.read_text(encoding="utf-8")
    curves.write_text(whole + "2,29,0.3,1,2,3,4", encoding="utf-8")
    assert read_runs([run])[0].curves["step"].to_list()[-1] == 29
    curves.write_text("loss\n0.5\n", encoding="utf-8")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    curves.write_bytes(b'step,a\n1,"x\n')
    assert main([str(run), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "metrics.csv is damaged" in said
    assert said.count("\n") == 1
