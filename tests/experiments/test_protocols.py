"""Runs under protocols: which videos, resumed, and never on what a run was chosen by."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.manifest import write_manifest
from datamodules.storage.output import lock_or_refuse
from datamodules.store.prepared import MANIFEST_NAME, PreparedStore
from experiments.comparing.matrix import as_csv, cross_auc
from experiments.comparing.results import measure
from experiments.comparing.runs import read_runs
from experiments.comparing.warnings import warnings
from experiments.errors import UsageError
from experiments.evaluate import _split, main
from experiments.evaluation.ledgers import read_evaluations
from experiments.protocols.apart import seen_by
from experiments.protocols.running import Job
from experiments.protocols.schema import (
    TestSet,
    named_sets,
    protocol_names,
    read_protocol,
)
from experiments.protocols.stores import Stores, find_stores, select
from experiments.report import main as report
from experiments.run import main as run_main
from experiments.run_folder import ENVIRONMENT
from tests.support.bench import write_df40
from tests.support.ledgers import toy_record
from tests.support.run_folders import write_run
from tests.support.stores import write_store

SMALL = (
    *("--exp", "xception"),
    *("--model.init_args.encoder=resnet18", "--model.init_args.weights=none"),
    *("--gpus", "0"),
    "--data.init_args.num_frames=1",
    "--data.init_args.image_size=32",
    "--data.init_args.batch_size=4",
    "--data.init_args.num_workers=0",
    "--data.init_args.eval_clips_per_video=2",
    "--trainer.max_epochs=1",
    *("--wandb", "off"),
)
QUIET = ("--gpus", "0", "--wandb", "off")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its store, and two stores of other data sets."""
    root = tmp_path_factory.mktemp("protocols")
    counts = {(split, label): 2 for split in ("train", "val", "test") for label in (0, 1)}
    records = write_store(root / "own", counts)  # type: ignore[arg-type]
    named = [replace(record, method="swap" if record.label else None) for record in records]
    write_manifest(named, root / "own" / MANIFEST_NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(ENVIRONMENT, raising=False)
        patch.chdir(root)
        assert run_main(["fit", "--root", "own", "--run", "runs/r", *SMALL, "--no-test"]) == 0
        patch.delenv(ENVIRONMENT, raising=False)
    return root


def test_protocols_that_come_along_are_sound() -> None:
    assert protocol_names() == [
        "cross_auc", "cross_compression", "cross_dataset", "cross_manipulation", "leave_one_out",
        "within",
    ]  # fmt: skip
    for name in protocol_names():
        assert read_protocol(name).sets
    held_out = read_protocol("leave_one_out").sets
    assert [one.methods for one in held_out] == [
        ("Deepfakes",), ("Face2Face",), ("FaceSwap",), ("NeuralTextures",),
    ]  # fmt: skip
    assert read_protocol("cross_auc").matrix
    names = {one.name for one in read_protocol("cross_manipulation").sets}
    assert {"simswap_ff", "blendface_ff", "uniface_ff", "fomm_ff", "deepfacelab"} <= names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sets: [a]", "description is missing"),
        ("description: x\nsets: [a, a]", "set a is there twice"),
        ("description: x\nsets: []", "has no set"),
        ("description: x\nsets: [{name: a, split: val}]", "unknown key 'split'"),
        ("description: x\nsets: [{name: a/b}]", "cannot be a folder"),
        ("description: x\nsets: [{name: a, methods: b}]", "must be a list of texts"),
        ("description: x\nsets: [{name: a, unseen: true}]", "unseen needs methods"),
        ("description: x\nsets: [{name: a, own: 1}]", "of the wrong type"),
        ("- a", "not a mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_protocol_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_protocol(str(path))


def test_sets_are_chosen_by_name() -> None:
    protocol = read_protocol("cross_dataset")
    assert [s.name for s in named_sets(protocol, ("dfdc",)).sets] == ["dfdc"]
    assert [s.name for s in named_sets(None, ("simswap_ff", "mine")).sets] == ["simswap_ff", "mine"]
    with pytest.raises(UsageError, match="the protocol has no set nope; there are: celeb_df"):
        named_sets(protocol, ("nope",))
    with pytest.raises(UsageError, match="say what to test on"):
        named_sets(None, ())
    with pytest.raises(UsageError, match="unknown protocol 'nope'; there are: cross_auc"):
        read_protocol("nope")


def test_a_set_takes_its_test_videos_alone() -> None:
    def record(name: str, label: int, dataset: str, **values: object) -> object:
        return toy_record(name, label, dataset=dataset, **values)

    records = [
        record("a", 0, "FaceForensics++"), record("b", 0, "FaceForensics++", split="val"),
        record("c", 1, "FaceForensics++", method="Face2Face"),
        record("d", 1, "FaceForensics++", method="Deepfakes"),
        record("e", 1, "FaceForensics++", method="Deepfakes", compression="c40"),
        record("f", 1, "simswap_ff", method="simswap"), record("g", 0, "Celeb-DF-v2"),
    ]  # fmt: skip

    def chosen(wanted: TestSet) -> str:
        return "".join(r.video_id for r in select(wanted, records))  # type: ignore[arg-type]

    assert chosen(TestSet("ffpp")) == "acde"
    assert chosen(TestSet("x", "ffpp", ("Deepfakes",), "c23")) == "ad"
    assert chosen(TestSet("simswap_ff")) == "af"  # reals of what it was made of
    assert chosen(TestSet("celeb_df_v2")) == ""  # no fake
    own = Stores(named={"mine": Path("s")}, _manifests={Path("s"): records[:4]})  # type: ignore[dict-item]
    found = own.find(TestSet("mine"))
    assert found is not None  # a store of one data set is what the user calls it
    assert [r.video_id for r in found.videos] == ["a", "c", "d"]
    own.records(Path("s")).append(records[5])  # type: ignore[arg-type]
    assert own.find(TestSet("mine")) is None


def test_one_command_tests_and_resumes(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    write_df40(place / "bench", "simswap")
    write_df40(place / "bench", "blendface")
    sets = "simswap_ff blendface_ff fomm_ff"
    words = ["--run", "runs/r", "--datasets", sets, "--stores", "bench", *QUIET]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "not tested: fomm_ff" in told.err
    assert told.err.count("\n") == 1 or "STORES=fomm_ff=<prepared>" in told.err
    ledgers = [
        Path(f"runs/r/evaluations/{n}_ff/scores/test.parquet") for n in ("simswap", "blendface")
    ]
    found = read_evaluations(ledgers)
    assert [one.facts["set"] for one in found] == ["simswap_ff", "blendface_ff"]
    assert found[0].videos["video_id"].to_list() != []
    metrics = json.loads(Path("runs/r/evaluations/simswap_ff/record.json").read_text())
    assert "test/simswap_ff/video_auc" in metrics["stages"][-1]["metrics"]
    before = ledgers[0].stat().st_mtime_ns
    assert main(words) == 0
    assert capsys.readouterr().out.count("done before") == 2
    assert ledgers[0].stat().st_mtime_ns == before
    assert set(read_runs([Path("runs/r")])[0].evaluations) == {"simswap_ff", "blendface_ff"}


def test_two_processes_at_one_test_do_not_mix(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = ["--run", "runs/r", "--protocol", "within", *QUIET]
    shutil.rmtree("runs/r/evaluations/test", ignore_errors=True)
    job = Job(Path("runs/r"), TestSet("test", own=True), None)
    with lock_or_refuse(job.folder / "lock", "as another process holds it"):
        assert "another process is writing into runs/r/evaluations/test;" in said(words, capsys)
        assert not job.ledger.exists()
    assert main(words) == 0
    assert job.is_done()
    before = job.ledger.stat().st_mtime_ns
    # What another process did between our two looks is not done again.
    looks = iter([False, True])
    monkeypatch.setattr(Job, "is_done", lambda _: next(looks))
    assert main(words) == 0
    assert job.ledger.stat().st_mtime_ns == before


def test_what_is_done_can_be_read_where_nothing_can_be_written(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    words = ["--run", "runs/r", "--protocol", "within", *QUIET]
    assert main(words) == 0
    folder = Path("runs/r/evaluations/test")

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        assert main(words) == 0
        assert "done before" in capsys.readouterr().out
        (folder / "done.json").unlink()
        error = said(words, capsys)
        assert error.endswith("Read-only file system; make it writable, or write elsewhere\n")
        assert "runs/r/evaluations/test" in error
        monkeypatch.delenv(ENVIRONMENT, raising=False)
        plain = said(["--run", "runs/r", *QUIET], capsys)
        assert "runs/r/test" in plain
        assert "make it writable" in plain
        ledger = str(folder / "scores" / "test.parquet")
        assert report([ledger, "--out", "elsewhere"]) == 2
        error = capsys.readouterr().err
        assert (
            error
            == "error: elsewhere: Read-only file system; make it writable, or write elsewhere\n"
        )


def test_its_own_test_videos_are_the_protocol_within(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert main(["--run", "runs/r", "--protocol", "within", *QUIET]) == 0
    job = Job(Path("runs/r"), TestSet("test", own=True), None)
    assert job.is_done()
    (found,) = read_evaluations([job.ledger])
    assert set(found.videos["split"]) == {"test"}
    (job.folder / "done.json").write_text("{}")
    assert not job.is_done()


def test_paths_with_spaces_stay_whole(tmp_path: Path) -> None:
    run, store = tmp_path / "my run", tmp_path / "my store"
    run.mkdir()
    store.mkdir()
    given, rest = _split(
        ["--run", str(run), "a b", "", "--stores", f"x={store}", str(store), *QUIET]
    )
    assert given == {"--run": [str(run), "a", "b"], "--stores": [f"x={store}", str(store)]}
    assert rest == [*QUIET]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_a_run_was_chosen_by_is_no_test_set(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    store = PreparedStore("own")
    dataset = store.records[0].dataset
    lines = (place / "own" / "manifest.jsonl").read_text().splitlines()
    for split, use in (("val", "chosen by"), ("train", "trained on")):
        other = tmp_path / split
        other.mkdir()
        kept = [
            json.dumps({**json.loads(line), "split": "test", "group_ids": [f"g{n}"]})
            for n, line in enumerate(lines)
            if json.loads(line)["split"] == split
        ]
        (other / "manifest.jsonl").write_text("\n".join(kept) + "\n")
        error = said(["--run", "runs/r", "--datasets", dataset, "--stores", str(other)], capsys)
        assert f"was {use}" in error
        assert "is no test set" in error
        monkeypatch.delenv(ENVIRONMENT, raising=False)
        plain = said(["--run", "runs/r", "--data", "folder", "--root", str(other), *QUIET], capsys)
        monkeypatch.delenv(ENVIRONMENT)
        assert f"was {use}" in plain
    people = [
        json.dumps({**json.loads(line), "split": "test", "sha256": f"{n:064x}"})
        for n, line in enumerate(lines)
        if json.loads(line)["split"] == "val"
    ]
    other = tmp_path / "val"
    (other / "manifest.jsonl").write_text("\n".join(people) + "\n")
    error = said(["--run", "runs/r", "--datasets", dataset, "--stores", str(other)], capsys)
    assert "test on other people" in error


def test_mistakes_are_one_line(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert "not tested: celeb_df_v1, celeb_df_v2" in said(
        ["--run", "runs/r", "--protocol", "cross_dataset", "--stores", "own"], capsys
    )
    assert "no run that can be tested" in said(
        ["--run", str(tmp_path), "--protocol", "within"], capsys
    )
    assert "neither a prepared store" in said(
        ["--run", "runs/r", "--datasets", "a", "--stores", str(tmp_path)], capsys
    )
    assert "is no prepared store" in said(
        ["--run", "runs/r", "--datasets", "a", f"--stores=a={tmp_path}"], capsys
    )
    assert "need --protocol or --datasets" in said(["--run", "runs/r", "runs/q"], capsys)
    assert "unknown protocol" in said(["--run", "runs/r", "--protocol", "nope"], capsys)


HELD_OUT = """description: x
sets:
  - {name: held, dataset: toy, methods: [swap], unseen: true}
  - {name: other, dataset: toy, methods: [blend], unseen: true}
"""


@pytest.fixture
def two_forgeries(place: Path, tmp_path: Path) -> Path:
    """A protocol, and a store with two forgeries in each split."""
    (tmp_path / "mine.yaml").write_text(HELD_OUT)
    counts = {(split, label): 4 for split in ("train", "val", "test") for label in (0, 1)}
    records = write_store(tmp_path / "two", counts)  # type: ignore[arg-type]
    fakes = {r.video_id: n for n, r in enumerate(r for r in records if r.label)}
    named = [
        replace(r, method=("swap", "blend")[fakes[r.video_id] % 2] if r.label else None,
                dataset="toy")
        for r in records
    ]  # fmt: skip
    write_manifest(named, tmp_path / "two" / MANIFEST_NAME)
    return tmp_path


def test_a_run_is_trained_without_a_manipulation_and_tested_on_it(
    two_forgeries: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(two_forgeries)
    without = "--data.init_args.exclude_methods=[swap]"
    fit = ["fit", "--root", "two", *SMALL, "--no-test"]
    assert run_main([*fit, "--run", "runs/without", without]) == 0
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert run_main([*fit, "--run", "runs/all"]) == 0
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    seen = json.loads(Path("runs/without/seen.json").read_text())
    assert [seen[split]["methods"] for split in ("train", "val")] == [["blend"], ["blend"]]
    assert "person" not in str(seen)

    words = ["--protocol", "mine.yaml", "--stores", "two", *QUIET]
    assert main(["--run", "runs/without", *words]) == 0
    told = capsys.readouterr().out
    assert "left out: runs/without on other: it was trained on blend" in told
    (found,) = read_evaluations([Path("runs/without/evaluations/held/scores/test.parquet")])
    fakes = found.videos.filter(found.videos["label"] == 1)
    assert set(fakes["method"]) == {"swap"}
    assert json.loads(Path("runs/without/evaluations/held/done.json").read_text())["overlap"] == (
        "none"
    )
    # Its own test keeps all forgeries; its training does not, also without its memory.
    assert main(["--run", "runs/without", "--protocol", "within", *QUIET]) == 0
    (own,) = read_evaluations([Path("runs/without/evaluations/test/scores/test.parquet")])
    assert set(own.videos["method"]) == {"", "swap", "blend"}
    remembered = seen_by(Path("runs/without"))
    Path("runs/without/seen.json").unlink()
    assert seen_by(Path("runs/without")) == remembered

    error = said(["--run", "runs/all", *words], capsys)
    assert "runs/all on held: it was trained on swap" in error
    assert "--data.init_args.exclude_methods='[<method>]'" in error
    assert not Path("runs/all/evaluations").exists()
    wrong = "--data.init_args.exclude_methods=[swop]"
    assert run_main([*fit, "--run", "runs/wrong", wrong]) == 2
    assert "no video is forged by 'swop'; there are: blend, swap" in capsys.readouterr().err


def test_a_run_remembers_what_it_saw_and_says_when_it_cannot(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    dataset = PreparedStore("own").records[0].dataset
    lines = (place / "own" / MANIFEST_NAME).read_text().splitlines()
    shutil.copytree("own", tmp_path / "val")
    kept = [{**json.loads(x), "split": "test"} for x in lines if json.loads(x)["split"] == "val"]
    (tmp_path / "val" / MANIFEST_NAME).write_text("\n".join(map(json.dumps, kept)) + "\n")
    shutil.copytree("own", tmp_path / "test")
    shutil.copytree("runs/r", tmp_path / "r", ignore=shutil.ignore_patterns("evaluations"))
    config = (tmp_path / "r" / "config.yaml").read_text()
    (tmp_path / "r" / "config.yaml").write_text(config.replace("root: own", "root: gone"))
    monkeypatch.chdir(tmp_path)
    words = ["--run", "r", "--datasets", dataset, *QUIET, "--stores"]
    assert "was chosen by" in said([*words, "val"], capsys)
    # Without its memory and its store nobody knows: tested, and marked.
    memory = Path("r/seen.json").read_text()
    Path("r/seen.json").unlink()
    assert main([*words, "test"]) == 0
    assert "warning: r: nobody can check" in capsys.readouterr().err
    done = Path("r/evaluations") / dataset / "done.json"
    assert json.loads(done.read_text())["overlap"] == "unchecked"
    (run,) = read_runs([Path("r")])
    assert any(
        "nobody could check that r was not" in x for x in warnings([run], measure([run], 20))
    )
    # What can be checked later is marked then, and not tested again.
    Path("r/seen.json").write_text(memory)
    assert main([*words, "test"]) == 0
    told = capsys.readouterr()
    assert "done before" in told.out
    assert "warning" not in told.err
    assert json.loads(done.read_text())["overlap"] == "none"


def test_stores_are_found_by_name_and_below(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = find_stores(["own", "mine=own", "."])
    assert found.roots[0] == Path("own")
    assert Path("own") in found.roots[1:]
    assert found.named == {"mine": Path("own")}


def test_reals_of_one_set_meet_fakes_of_another(tmp_path: Path) -> None:
    run = read_runs([write_run(tmp_path / "r", skill=0.4)])[0]
    matrix = cross_auc(run.evaluations)
    assert list(matrix) == ["ffpp", "celeb_df_v2"]
    one, two = run.evaluations.values()
    reals = one.score[(one.label == 0) & (one.score == one.score)]
    fakes = two.score[(two.label == 1) & (two.score == two.score)]
    assert matrix["ffpp"]["celeb_df_v2"] == pytest.approx((fakes[:, None] > reals).mean())
    text = as_csv(matrix)
    assert text.splitlines()[0] == "reals,ffpp,celeb_df_v2"
    assert len(text.splitlines()) == 3
