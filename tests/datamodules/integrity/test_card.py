from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from datamodules.integrity import card as cards
from datamodules.integrity.__main__ import main
from datamodules.integrity.audit import audit
from datamodules.integrity.card import (
    CARD_NAME,
    CARD_TEXT_NAME,
    code_version,
    compare_cards,
    data_card,
    read_card,
    reproduce_command,
    write_data_card,
)
from datamodules.preprocess.__main__ import _parser as preparation_parser
from datamodules.preprocess.batch import prepare_folder
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.storage.root import LocalRoot
from tests.datamodules.integrity.portraits import change, draw_track, write_portraits


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_portraits(tmp_path / "store")
    return tmp_path / "store"


def texts(store: Path) -> list[bytes]:
    return [(store / name).read_bytes() for name in (CARD_NAME, CARD_TEXT_NAME)]


def test_equal_stores_have_equal_cards(store: Path, tmp_path: Path) -> None:
    before = texts(store)
    write_data_card(store)
    assert texts(store) == before
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(store, other)
    (other / CARD_NAME).unlink()
    assert main(["--card", str(other)]) == 0
    assert texts(other) == before
    assert main(["--compare", str(store), str(other / CARD_NAME)]) == 0
    assert str(tmp_path).encode() not in before[0] + before[1]


def test_a_card_tells_what_differs(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(store, tmp_path / "other")
    records = write_portraits(tmp_path / "scratch")
    draw_track(other, records[0], seed=99)
    write_data_card(other)
    assert main(["--compare", str(store), str(other)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "DIFFERENT crops"
    assert [line.split(":")[0] for line in said[1:]] == ["store_hash"]
    change(store, records, 0, dataset="renamed")
    write_data_card(store)
    names = [line.split(":")[0] for line in compare_cards(read_card(store), read_card(other))]
    assert "manifest_hash" in names


def test_the_checker_notices_a_card_of_other_tracks(store: Path, tmp_path: Path) -> None:
    assert audit(str(store), fast=True).findings == []
    draw_track(store, write_portraits(tmp_path / "scratch")[0], seed=99)
    (finding,) = audit(str(store), fast=True).findings
    assert (finding.level, finding.check) == ("error", "data card")
    assert finding.message.endswith("if the tracks are right, `make data-card` writes another")
    (store / CARD_NAME).unlink()
    (finding,) = audit(str(store), fast=True).findings
    assert finding.level == "warning"


def test_a_stale_card_is_not_compared(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(store, tmp_path / "other"))
    draw_track(other, write_portraits(tmp_path / "scratch")[0], seed=99)
    assert main(["--compare", str(store), str(other)]) == 2
    assert "describes other data than lie there" in capsys.readouterr().err
    (other / "manifest.jsonl").unlink()
    assert main(["--compare", str(store), str(other)]) == 2
    assert "is not finished; run `make data` again" in capsys.readouterr().err


def test_what_a_card_says(store: Path) -> None:
    card = json.loads((store / CARD_NAME).read_text())
    assert card["videos"]["class"] == {"fake": 4, "real": 4}
    assert card["videos"]["split"] == {"test": 2, "train": 4, "val": 2}
    assert card["num_tracks"] == 8
    assert card["faces"] == {"backend": "given", "version": "1", "weights": {}}
    text = (store / CARD_TEXT_NAME).read_text()
    assert card["store_hash"] in text
    assert "to be filled in by you" in text


def test_weights_are_named_by_their_hash() -> None:
    faces = cards._faces({"backend": "mesh", "backend_version": "1-99bf9494-1055cb9d"})
    assert sorted(faces["weights"]) == ["face_detection_full_range.tflite", "face_landmark.tflite"]
    assert all(len(entry["sha256"]) == 64 for entry in faces["weights"].values())


def test_the_code_is_that_which_made_the_tracks(
    store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = read_card(store)["code"]
    monkeypatch.setattr(cards, "code_version", lambda: "another")
    assert data_card(LocalRoot(store))["code"] == made
    draw_track(store, write_portraits(tmp_path / "scratch")[0], seed=99)
    assert data_card(LocalRoot(store))["code"] == "another"


def test_no_git_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code_version() == "unknown"


def test_the_command_is_one() -> None:
    """Every parameter of the preparation is an option, and has its value again."""
    options = PrepareOptions(max_frames=100, start_score=0.7, image_format="png")
    parameters = {"dataset": "two words", **options.parameters()}
    words = reproduce_command(parameters).replace("<raw videos>", "R").replace("<prepared>", "O")

    parsed = preparation_parser().parse_args(shlex.split(words)[3:])
    assert (parsed.name, parsed.max_frames, parsed.face_thres) == ("two words", 100, 0.7)
    assert (parsed.format, parsed.backend, parsed.bbox_thres) == ("png", "mesh", 0.5)


def test_make_data_writes_a_card(tmp_path: Path) -> None:
    from datamodules.datasets.folder import read_folder
    from tests.support.raw_folder import write_clip

    write_clip(tmp_path / "raw/real/a.mp4")
    write_clip(tmp_path / "raw/fake/swap/a.mp4")
    source = read_folder(LocalRoot(tmp_path / "raw"))
    prepare_folder(source, tmp_path / "out", PrepareOptions(backend="given"), num_workers=1)
    card = read_card(tmp_path / "out")
    assert card["videos"]["method"] == {"real": 1, "swap": 1}
    assert card["parameters"]["dataset"] == "raw"
    assert card["decoders"] == {"decord": 2}
    assert set(card["face_px"]) == {"real", "fake"}
