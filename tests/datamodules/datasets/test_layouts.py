"""The registry of layouts and the options that all of them share."""

from pathlib import Path

import pytest

from datamodules.datasets.adapter import LayoutOptions
from datamodules.datasets.layouts import LAYOUTS, describe_layouts, read_layout
from datamodules.datasets.records import limited
from datamodules.errors import DataError
from datamodules.preprocess.__main__ import main
from datamodules.storage.root import open_root
from tests.support.layouts import make_files


def plain(root: Path) -> Path:
    return make_files(root, ["real/a.mp4", "real/b.mp4", "fake/x/a.mp4"])


def test_every_layout_shows_its_tree() -> None:
    text = describe_layouts()
    for name, layout in LAYOUTS.items():
        assert f"{name}: {layout.title}" in text
        assert "<root>/" in text.partition(f"{name}: ")[2].partition("\n\n\n")[0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nosuch", {}, "no layout 'nosuch'; known are: folder"),
        ("folder", {"compression": "c23"}, "folder takes no --compression"),
        ("folder", {"keep_apart": "footage"}, "folder takes no --keep-apart"),
        ("folder", {"all_test": True, "split_file": Path("s.csv")}, "exclude each other"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_layout(name, open_root(plain(tmp_path)), LayoutOptions(**options))  # type: ignore[arg-type]


def test_list_counts_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = plain(tmp_path / "set")
    before = sorted(tmp_path.rglob("*"))
    assert main(["-d", str(root), "--list", "--all-test"]) == 0
    out = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert ["fake", "x", "-", "0", "0", "1", "1"] in [line.split() for line in out.splitlines()]
    assert "1 fakes with the genuine video" in out
    assert "has no real video" not in out


def test_layouts_are_listed_without_a_root(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--layouts"]) == 0
    assert "folder: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "OUT=<prepared>"),
        (["-o", "x"], "ROOT=<videos>"),
        (["--list"], "ROOT=<videos>"),
        (["-d", ".", "--list", "--layout", "ff"], "no layout 'ff'; known are: "),
    ],
)
def test_command_line_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_choices_of_the_user_are_kept_in_words(tmp_path: Path) -> None:
    root = open_root(plain(tmp_path))
    assert read_layout("folder", root, LayoutOptions()).reading == "--layout folder"
    source = read_layout("folder", root, LayoutOptions(all_test=True))
    assert source.reading == "--layout folder --all-test"
    assert limited(source, 1).reading == source.reading
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{r.path},{r.label}\n" for r in source.records))
    source = read_layout("folder", root, LayoutOptions(manifest=table))
    assert source.reading == "--layout folder --csv '<manifest.csv>'"
