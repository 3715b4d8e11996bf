"""Perturbed stores: the clean store's faces in changed frames, made once, resumed, never mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import datamodules.perturbations.searching as searching
import datamodules.perturbations.stores as stores
import datamodules.perturbations.tracks as tracks
from datamodules.datasets.folder import read_folder
from datamodules.errors import DataError
from datamodules.faces.detect import Face, five_points
from datamodules.perturbations.stores import PerturbedStores, make_stores
from datamodules.perturbations.table import Perturbation, Reencoding, perturbation
from datamodules.preprocess.batch import prepare_folder
from datamodules.preprocess.prepare import PrepareOptions
from datamodules.storage.root import open_root
from datamodules.store.prepared import PreparedStore
from tests.support.raw_folder import UNIT_FACE, face_rows, write_clip, write_faces
from tests.support.videos import write_video

NOISE, COMPRESSED = perturbation("noise", 2), perturbation("compression", 3)
SMALL = Perturbation("small", 0, Reencoding(scale=0.5, max_fps=12.5))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test videos, one of two people, and one of training; `raw` and `clean`."""
    folder = tmp_path_factory.mktemp("perturbed")
    raw = folder / "raw"
    write_clip(raw / "real" / "a.mp4", num_frames=12)
    fake = raw / "fake" / "swap" / "b.mp4"
    write_clip(fake, num_frames=12)
    write_faces(fake, face_rows(range(12), left=5), face_rows(range(2, 12), left=80))
    write_clip(raw / "real" / "t.mp4", num_frames=12)
    rows = ["path,label,method,identity_group,split", "real/a.mp4,real,,p,test"]
    rows += ["fake/swap/b.mp4,fake,swap,q,test", "real/t.mp4,real,,r,train"]
    (raw / "manifest.csv").write_text("\n".join(rows))
    source = read_folder(open_root(raw), name="toy")
    prepare_folder(source, folder / "clean", PrepareOptions(backend="given"), 1)
    return folder


def make(base: Path, out: Path, *wanted: Perturbation, seed: int = 0) -> PerturbedStores:
    return make_stores(open_root(base / "raw"), base / "clean", out, wanted, seed=seed)


def track_bytes(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*.zip")}


@pytest.fixture(scope="module")
def made(base: Path) -> PerturbedStores:
    return make(base, base / "stores", NOISE, COMPRESSED, SMALL)


def test_a_store_holds_the_same_faces_of_changed_frames(base: Path, made: PerturbedStores) -> None:
    clean = {r.video_id: r for r in PreparedStore(base / "clean").records}
    store = PreparedStore(made.folders["noise-2"])
    assert [r.split for r in store.records] == ["test", "test"]
    assert store.info.parameters["perturbation"]["value"] == 0.002
    for record in store.records:
        assert len(record.tracks) == len(clean[record.video_id].tracks)
        for path in record.tracks:
            old, new = PreparedStore(base / "clean").reader(path), store.reader(path)
            new.verify()
            assert np.array_equal(old.track.points68, new.track.points68)
            assert np.array_equal(old.track.frame_index, new.track.frame_index)
            assert np.array_equal(old.crop_boxes, new.crop_boxes)
            difference = np.subtract(old.crops([3])[0], new.crops([3])[0], dtype=float)
            assert 3 < difference.std() < 40


def test_faces_move_with_size_and_rate(base: Path, made: PerturbedStores) -> None:
    store = PreparedStore(made.folders["small"])
    clean = PreparedStore(base / "clean")
    for record in store.records:
        old, new = clean.reader(record.tracks[-1]), store.reader(record.tracks[-1])
        assert (record.height, record.width, record.fps, record.num_frames) == (48, 64, 12.5, 6)
        assert (new.meta.height, new.meta.fps) == (48, 12.5)
        even = old.track.frame_index % 2 == 0
        assert np.array_equal(new.track.frame_index, old.track.frame_index[even] // 2)
        assert np.allclose(new.track.points68, old.track.points68[even] / 2)
        assert np.allclose(new.track.points5, old.track.points5[even] / 2)


def test_a_second_run_makes_only_what_is_missing(
    base: Path, made: PerturbedStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = track_bytes(base / "stores")
    calls = []
    work = stores.perturb_record
    monkeypatch.setattr(
        stores, "perturb_record", lambda task: (calls.append(task.record.path), work(task))[1]
    )
    assert make(base, base / "stores", NOISE, COMPRESSED, SMALL).num_kept == 6
    assert not calls
    gone = next((made.folders["noise-2"] / "tracks").rglob("b/0.zip"))
    gone.unlink()
    (made.folders["small"] / "manifest.jsonl").unlink()  # as a run leaves it that was killed
    assert make(base, base / "stores", NOISE, COMPRESSED, SMALL).num_kept == 5
    assert calls == ["fake/swap/b.mp4"]
    assert track_bytes(base / "stores") == before
    assert (made.folders["small"] / "manifest.jsonl").is_file()


def test_another_seed_makes_other_noise_only(base: Path, tmp_path: Path) -> None:
    first = make(base, tmp_path, NOISE, COMPRESSED)
    before = track_bytes(tmp_path)
    assert make(base, tmp_path, NOISE, COMPRESSED, seed=1).num_kept == 0
    after = track_bytes(tmp_path)
    assert {k: before[k] == after[k] for k in before} == {k: "noise" not in k for k in before}
    assert not first.failures


def test_another_raw_video_is_refused_and_tried_again(base: Path, tmp_path: Path) -> None:
    raw = base / "raw" / "real" / "a.mp4"
    right = raw.read_bytes()
    write_video(raw, 11)
    try:
        done = make(base, tmp_path, NOISE)
    finally:
        raw.write_bytes(right)
    (place, reason), *others = done.failures.items()
    assert place.startswith("noise-2/toy/")
    assert "is not the file that was prepared" in reason
    assert not others
    statuses = [r.status for r in PreparedStore(done.folders["noise-2"]).records]
    assert sorted(statuses) == ["ok", "unreadable"]
    again = make(base, tmp_path, NOISE)
    assert again.num_kept == 1
    assert not again.failures


def test_what_cannot_be_made_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no video of the val split"):
        make_stores(open_root(base / "raw"), base / "clean", tmp_path, [NOISE], split="val")
    source = read_folder(open_root(base / "raw"), name="toy")
    options = PrepareOptions(backend="given", frames="spread:4")
    prepare_folder(source, tmp_path / "spread", options, 1)
    raw, spread = open_root(base / "raw"), tmp_path / "spread"
    done = make_stores(raw, spread, tmp_path / "s", [SMALL, NOISE])
    assert all("with --frames spread:4" in reason for reason in done.failures.values())
    assert {place.split("/")[0] for place in done.failures} == {"small"}
    record = PreparedStore(done.folders["noise-2"]).records[0]
    new = PreparedStore(done.folders["noise-2"]).reader(record.tracks[0])
    old = PreparedStore(spread).reader(record.tracks[0])
    assert np.array_equal(new.track.frame_index, old.track.frame_index)
    # The frames themselves are the same ones: noise changes them, but not to others.
    for k in range(len(new)):
        assert np.abs(np.subtract(new.crops([k])[0], old.crops([k])[0], dtype=float)).mean() < 25


class NoiseBlind:
    """Finds one face of 30 pixels in the middle, in every frame that is not too noisy."""

    name, version = "given", "1"

    def begin(self, video: Path) -> None:
        """Any video will do."""

    def faces(self, frame_rgb: np.ndarray) -> list[Face]:
        """Find it."""
        if cv2.Laplacian(frame_rgb[..., 1], cv2.CV_32F).var() > 5000:
            return []
        box = np.array([50, 30, 80, 60], np.float32)
        points = (box[:2] + 30 * UNIT_FACE).astype(np.float32)
        return [Face(box, 0.9, points, five_points(points))]


def test_faces_searched_again_may_not_be_found(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = perturbation("noise", 1), perturbation("noise", 5), SMALL
    raw = open_root(base / "raw")
    with pytest.raises(DataError, match=r"came from files \(backend given\); prepare it with"):
        make_stores(raw, base / "clean", tmp_path, wanted, search=True)
    clean = tmp_path / "clean"
    shutil.copytree(base / "clean", clean)
    info = json.loads((clean / "prepared.json").read_text())
    info["parameters"]["backend"] = "mesh"
    (clean / "prepared.json").write_text(json.dumps(info))
    for module in (stores, searching):
        monkeypatch.setattr(module, "cached_backend", lambda *_: NoiseBlind())
    done = make_stores(raw, clean, tmp_path / "out", wanted, search=True)
    assert not done.failures
    quiet, loud, small = (PreparedStore(done.folders[p.key]) for p in wanted)
    assert quiet.info.parameters["perturbation_faces"] == "own"
    assert [(r.status, len(r.tracks)) for r in quiet.records] == [("ok", 1)] * 2
    assert [(r.status, r.tracks) for r in loud.records] == [("no_face", ())] * 2
    assert loud.info.counts == {"videos": 2, "videos_no_face": 2}
    # They lie where the searching found them, in every frame of the changed video.
    for store, frames, height in ((quiet, 12, 96), (small, 6, 48)):
        reader = store.reader(store.records[0].tracks[0])
        reader.verify()
        assert reader.track.box[0].tolist() == [50, 30, 80, 60]
        assert reader.track.frame_index.tolist() == list(range(frames))
        assert reader.meta.height == height
    # Again: nothing is done twice, those without a face neither.
    assert make_stores(raw, clean, tmp_path / "out", wanted, search=True).num_kept == 6
    # Those of the clean videos are other tracks.
    assert make_stores(raw, clean, tmp_path / "out", wanted).num_kept == 0


@pytest.mark.parametrize("frames", ["all", "spread:4"])
def test_faces_may_turn_up_where_the_clean_video_had_none(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: str
) -> None:
    raw, clean = open_root(base / "raw"), tmp_path / "clean"
    source = read_folder(raw, name="toy")
    prepare_folder(source, clean, PrepareOptions(backend="given", frames=frames), 1)
    info = json.loads((clean / "prepared.json").read_text())
    info["parameters"]["backend"] = "mesh"
    (clean / "prepared.json").write_text(json.dumps(info))
    # As a finder leaves it that saw no face in one video, and could not read another one.
    rows = [json.loads(line) for line in (clean / "manifest.jsonl").read_text().splitlines()]
    lost = next(row for row in rows if row["video_id"].endswith("/b"))
    lost |= {"status": "no_face", "tracks": []}
    broken = {**lost, "video_id": "toy/x", "status": "unreadable", "num_frames": 0}
    text = "".join(json.dumps(row) + "\n" for row in [*rows, broken])
    (clean / "manifest.jsonl").write_text(text)
    for module in (stores, searching, tracks):
        monkeypatch.setattr(module, "cached_backend", lambda *_: NoiseBlind())
    wanted = perturbation("noise", 1), perturbation("noise", 5)
    done = make_stores(raw, clean, tmp_path / "out", wanted, search=True)
    assert not done.failures
    quiet, loud = (PreparedStore(done.folders[p.key]) for p in wanted)
    statuses = [{r.video_id[-1]: r.status for r in store.records} for store in (quiet, loud)]
    assert statuses[0] == {"a": "ok", "b": "ok", "x": "unreadable"}
    assert statuses[1] == {"a": "no_face", "b": "no_face", "x": "unreadable"}
    readers = {r.video_id[-1]: quiet.reader(r.tracks[0]) for r in quiet.records if r.tracks}
    readers["b"].verify()
    assert readers["b"].meta.fps == readers["a"].meta.fps
    assert readers["b"].meta.fps == 25 if frames == "all" else 5 < readers["b"].meta.fps < 10
    assert readers["b"].meta.height == 96
    # With the faces of the clean videos there is nothing to cut out of it.
    done = make_stores(raw, clean, tmp_path / "same", wanted[:1])
    assert {r.video_id[-1]: r.status for r in PreparedStore(done.folders["noise-1"]).records} == {
        "a": "ok", "b": "no_face", "x": "unreadable"
    }  # fmt: skip
