"""From run folders to the page and the tables, without a network."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments.compare import main
from experiments.comparing.cost import cost_of
from experiments.comparing.drawing import Album, Pen
from experiments.comparing.plots import cost_figure
from experiments.comparing.results import by_method, hardest, holm, measure, seed_spread
from experiments.comparing.runs import read_runs
from experiments.evaluation.comparison import compare
from experiments.evaluation.ledgers import read_evaluations
from lightning_modules.metrics import roc_auc
from tests.support.ledgers import toy_record, write_toy
from tests.support.run_folders import write_run

VOID = {"meta", "link", "img", "line", "br", "input"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    return [
        write_run(root / "weak", "a", 1, 0.3, lr=0.1, data={"root": "x", "batch_size": 4}),
        write_run(root / "strong", "b", 1, 3.0, lr=0.2, data={"root": "x", "batch_size": 4}),
        write_run(root / "again", "b", 2, 2.9, sets={"ffpp": ("Deepfakes", "Face2Face")}),
    ]


@pytest.fixture(scope="module")
def report(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: object) -> None:
            raise AssertionError("the network was tried")

        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        assert main([*map(str, folders), "--out", str(out), "--title", "A <b> & c"]) == 0
    return out


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Checks that tags close in order, and collects ids and what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.inner_links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        if values.get("src"):
            self.loaded.append(values["src"] or "")
        if tag == "link":
            self.loaded.append(values["href"] or "")
        if tag == "a" and (values["href"] or "").startswith("#"):
            self.inner_links.append((values["href"] or "")[1:])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.inner_links) <= set(reader.ids)
    assert all(source.startswith("data:") for source in reader.loaded)
    assert "<script" not in page
    assert "url(http" not in page
    assert "A &lt;b&gt; &amp; c" in page
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 5_000_000


def test_every_drawing_is_there_and_takes_the_colours_of_the_page(page: str) -> None:
    drawings = re.findall(r"<figure.*?(<svg.*?</svg>)", page, re.DOTALL)
    assert len(drawings) == 6  # curves and histograms of two sets, learning, cost
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 3
        assert "width" not in root.attrib
    text = "".join(drawings)
    colours = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r'"#[^"]*"|url\([^)]*\)', "", text)))
    assert colours <= {"#000000", "#ffffff"}
    assert "var(--run2)" in text
    assert "var(--ink)" in text


def test_figures_of_the_page_are_those_of_the_ledgers(folders: list[Path], page: str) -> None:
    (own,) = read_evaluations([folders[1] / "scores" / "test.parquet"])
    kept = ~np.isnan(own.score)
    auc = roc_auc(own.label[kept], own.score[kept])
    assert f"{auc:.4f}" in page
    assert "1 no_clip" in page
    assert "celeb_df_v2: not tested: again" in page
    assert "no fake has a real video of its own footage" in page


def test_a_difference_is_marked_against_the_first_run(folders: list[Path]) -> None:
    runs = read_runs(folders)
    first, second = measure(runs, num_resamples=400)
    assert [run.name for run in runs] == ["weak", "strong", "again"]
    assert first.cells["weak"].versus is None
    assert first.cells["weak"].mark == ""
    assert first.cells["strong"].mark == "▲"
    found = compare(runs[1].evaluations["ffpp"], runs[0].evaluations["ffpp"], 400)
    assert first.cells["strong"].versus == found
    assert first.cells["strong"].p_value >= found.p_bootstrap
    assert list(second.cells) == ["weak", "strong"]
    turned = measure(read_runs(folders[1::-1]), num_resamples=400)
    assert turned[0].cells["weak"].mark == "▼"


def test_the_cost_is_that_of_the_records(folders: list[Path], tmp_path: Path) -> None:
    (old,) = read_runs(folders[:1])
    assert cost_of(old).gflops == 1.5
    assert np.isnan(cost_of(old).test_clips_per_s)
    run = tmp_path / "run"
    shutil.copytree(folders[0], run)
    machine = {"cpus": 4, "gpus": [], "accelerator": "CPUAccelerator"}

    def tested(folder: Path, stage: str, rate: float, **metrics: float) -> None:
        """Write the record of a test."""
        key = "val" if stage == "validate" else "test"
        found = {f"{key}/{name}": value for name, value in metrics.items()}
        entry = {"stage": stage, "status": "finished", "started": "2026-01-02", "machine": machine}
        entry |= {"metrics": found | {f"{key}/clips_per_s": rate}, "cost": {"parameters": 1}}
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps({"stages": [entry]}))

    tested(run / "test" / "own-1", "test", 8.0, num_clips=40.0, num_videos=10.0)
    tested(run / "validate" / "own-1", "validate", 99.0, num_clips=20.0, num_videos=10.0)
    cost = cost_of(read_runs([run])[0])
    assert (cost.test_clips_per_s, cost.test_videos_per_s) == (8.0, 2.0)
    assert (cost.test_device, cost.parameters) == ("4 CPU cores", 2.0)
    sets = {"a/num_clips": 50.0, "b/num_clips": 50.0, "a/num_videos": 20.0, "b/num_videos": 5.0}
    tested(run / "evaluations" / "a", "test", 10.0, **sets)
    cost = cost_of(read_runs([run])[0])
    assert (cost.test_clips_per_s, cost.test_videos_per_s) == (10.0, 2.5)
    out = tmp_path / "out"
    assert main([str(run), "--out", str(out)]) == 0
    assert ">2.50<" in (out / "index.html").read_text().split('id="cost"')[1]


def test_runs_with_other_settings_are_no_seeds_of_each_other(
    tmp_path: Path, folders: list[Path]
) -> None:
    place = {"default_root_dir": str(tmp_path), "callbacks": [{"init_args": {"seed": 3}}]}
    named = {"one": (1, 0.1), "two": (2, 0.1), "other": (3, 0.2), "another": (4, 0.2)}
    made = [
        write_run(tmp_path / name, "b", seed, 1.0, data={"seed": seed, "lr": lr},
                  trainer=place | {"default_root_dir": name, "callbacks": [{"seed": seed}]})
        for name, (seed, lr) in named.items()
    ]  # fmt: skip
    runs = read_runs(made)
    results = measure(runs, num_resamples=50)
    rows = seed_spread(runs, results)[:2]
    assert [(row.settings, row.num_seeds) for row in rows] == [
        ("data.lr 0.1", 2), ("data.lr 0.2", 2)
    ]  # fmt: skip
    areas = [results[0].cells[name].auc for name in ("one", "two")]
    assert rows[0].mean == pytest.approx(np.mean(areas))
    assert rows[0].deviation == pytest.approx(np.std(areas, ddof=1))
    assert seed_spread(runs[1:3], results) == []
    # One experiment, but one of the runs has settings that the other lacks.
    runs = read_runs(folders)
    assert seed_spread(runs, measure(runs, num_resamples=50)) == []
    assert main([*map(str, made), "--out", str(tmp_path / "out")]) == 0
    table = (tmp_path / "out" / "index.html").read_text().split("Seeds:")[1].split("</table>")[0]
    assert "data.lr 0.1" in table
    assert "data.lr 0.2" in table


def test_manipulations_are_measured_against_all_reals(folders: list[Path]) -> None:
    results = measure(read_runs(folders[:1]), num_resamples=50)
    table = by_method(results)
    assert list(table) == [
        ("ffpp", "Deepfakes", 12), ("ffpp", "Face2Face", 12), ("celeb_df_v2", "Celeb-synthesis", 12)
    ]  # fmt: skip
    whole = results[1].cells["weak"].auc
    assert table["celeb_df_v2", "Celeb-synthesis", 12]["weak"] == whole
    videos = results[0].cells["weak"].evaluation.videos.drop_nulls("score")
    reals = videos.filter(videos["label"] == 0)["score"].to_numpy()
    fakes = videos.filter(videos["method"] == "Face2Face")["score"].to_numpy()
    won = (fakes[:, None] > reals).mean() + (fakes[:, None] == reals).mean() / 2
    assert table["ffpp", "Face2Face", 12]["weak"] == pytest.approx(won, abs=1e-12)


def test_hard_videos_are_those_on_the_wrong_side(folders: list[Path]) -> None:
    found = hardest(measure(read_runs(folders[:1]), num_resamples=50), count=3)
    assert found
    errors = [one.error for one in found if one.set_name == "ffpp"]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) <= 3
    for one in found:
        assert one.error > 0.5
        assert one.error == pytest.approx(abs(one.scores["weak"] - one.video["label"]))


def test_p_values_are_corrected_for_their_number() -> None:
    nan = float("nan")
    found = holm({"a": 0.01, "b": 0.04, "c": nan, "d": 0.03})
    assert found["a"] == pytest.approx(0.03)
    assert found["d"] == pytest.approx(0.06)
    assert found["b"] == pytest.approx(0.06)  # never below a smaller one's
    assert np.isnan(found["c"])


def test_tables_hold_all_figures(report: Path) -> None:
    with (report / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["set"], r["run"]) for r in rows][:3] == [
        ("ffpp", "weak"), ("ffpp", "strong"), ("ffpp", "again"),
    ]  # fmt: skip
    assert rows[0]["reference"] == rows[0]["difference"] == ""
    assert rows[1]["reference"] == "weak"
    gap = float(rows[1]["video_auc"]) - float(rows[0]["video_auc"])
    assert float(rows[1]["difference"]) == pytest.approx(gap)
    latex = (report / "results.tex").read_text()
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1
    assert r"celeb\_df\_v2" in latex
    body = latex.split("\\midrule")[1].split("\\bottomrule")[0]
    assert {line.count("&") for line in body.strip().splitlines()} == {3}


def test_settings_that_differ_are_shown_and_places_are_not(page: str) -> None:
    section = page.split('id="settings"')[1].split("<h2")[0]
    assert "<code>lr</code>" in section
    assert "batch_size" in section  # one run has none
    assert "default_root_dir" not in section


def test_one_run_has_a_page_too(folders: list[Path], tmp_path: Path) -> None:
    assert main([str(folders[0]), "--out", str(tmp_path)]) == 0
    assert "<title>weak</title>" in (tmp_path / "index.html").read_text()


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_mistakes_are_one_line(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no such run folder" in said([str(tmp_path / "none")], capsys)
    (tmp_path / "empty").mkdir()
    assert "no ledger of a test" in said([str(tmp_path / "empty")], capsys)
    damaged = write_run(tmp_path / "damaged")
    (damaged / "record.json").write_text("{")
    assert "record.json is damaged" in said([str(damaged)], capsys)
    (damaged / "record.json").write_text(json.dumps({}))
    (damaged / "scores" / "test.parquet").write_bytes(b"PAR1")
    assert "test.parquet" in said([str(damaged)], capsys)
    assert "required" in said([], capsys)


def test_copies_of_a_test_count_once_and_other_videos_are_told_apart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", sets={"test": ("x",)})
    again = run / "test" / "own-1" / "scores"
    again.mkdir(parents=True)
    for file in (run / "scores").iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    assert list(read_runs([run])[0].evaluations) == ["test"]
    other = write_run(tmp_path / "r2", sets={"test": ("y",)})
    write_toy(
        other / "test" / "folder-2" / "scores" / "test.parquet",
        [toy_record("z/0", 0), toy_record("z/1", 1)], [[0.0], [1.0]], set="test", manifest="n",
    )  # fmt: skip
    assert list(read_runs([other])[0].evaluations) == ["test", "test (folder-2)"]


def test_bounds_that_round_past_their_area_are_drawn(folders: list[Path]) -> None:
    runs = read_runs(folders)
    first = measure(runs, num_resamples=50)[0]
    cells = {
        name: replace(cell, bounds={"auc": (np.nextafter(cell.auc, 2), np.nextafter(cell.auc, 0))})
        for name, cell in first.cells.items()
    }
    pens = {run.name: Pen(number) for number, run in enumerate(runs)}
    costs = {run.name: cost_of(run) for run in runs}
    drawn = cost_figure(Album(), replace(first, cells=cells), costs, pens)
    assert "<svg" in drawn


def test_all_that_share_the_highest_figure_are_bold(tmp_path: Path) -> None:
    made = [write_run(tmp_path / name, "b", 1, 1.0) for name in ("one", "two")]
    assert main([*map(str, made), "--out", str(tmp_path / "out")]) == 0
    # Of two runs on two sets.
    assert (tmp_path / "out" / "index.html").read_text().count('<span class="best">') == 4
