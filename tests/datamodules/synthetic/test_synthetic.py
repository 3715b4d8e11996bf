"""Synthetic videos: known forgeries, exact landmarks, no short cuts, same bytes."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from datamodules.datasets.folder import read_folder
from datamodules.errors import DataError
from datamodules.faces.detect import five_points
from datamodules.manifest import validate_manifest
from datamodules.preprocess.align import clip_transform, transform_points
from datamodules.storage.root import open_root
from datamodules.synthetic.canvas import FaceCanvas, draw_canvas
from datamodules.synthetic.datamodule import SyntheticDataModule
from datamodules.synthetic.dataset import (
    SyntheticSpec,
    render_video,
    write_mp4,
    write_synthetic_dataset,
)
from datamodules.synthetic.face import Expression, draw_look, draw_shape, face_landmarks, to_canvas
from datamodules.synthetic.footage import Footage, draw_footage
from datamodules.synthetic.forgery import FORGERY_KINDS, ForgeryKind, make_forgery
from datamodules.synthetic.scene import Rendering, render

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TINY = SyntheticSpec(num_identities=5, videos_per_identity=1, num_frames=6, frame_size=64)
#: FTCN's target points at 224 pixels, rounded.
TARGET = np.array([[75, 75], [148, 74], [112, 120], [79, 153], [146, 152]]) / 224


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    write_synthetic_dataset(root, replace(TINY, masks=True))
    return root


def test_videos_are_h264_with_all_frames(tiny: Path) -> None:
    paths = sorted(tiny.rglob("*.mp4"))
    assert len(paths) == 10
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.average_rate == 25
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert [frame.shape for frame in frames] == [(64, 64, 3)] * 6


def test_decoded_frames_are_those_rendered(tiny: Path) -> None:
    rendered = render_video(TINY, identity=1, video=0, kind=None).frames
    with av.open(str(tiny / "real/person0001_0.mp4")) as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert np.abs(decoded.astype(int) - rendered).mean() < 8


def test_faces_file_matches_the_rendering(tiny: Path) -> None:
    rendered = render_video(TINY, identity=1, video=0, kind=None)
    with np.load(tiny / "real/person0001_0.mp4.faces.npz") as file:
        assert file["frame_index"].tolist() == [*range(6)]
        np.testing.assert_array_equal(file["box"], rendered.box)
        np.testing.assert_array_equal(file["points68"], rendered.points68)
        assert file["score"].tolist() == [1.0] * 6
        assert {file[name].dtype for name in ("box", "points68", "score")} == {np.dtype("f4")}


def test_masks_are_written_beside_fakes_only(tiny: Path) -> None:
    assert len([*tiny.glob("fake/*/*.mask.npz")]) == 5
    assert not [*tiny.glob("real/*.mask.npz")]
    with np.load(next(tiny.glob("fake/temporal/*.mask.npz"))) as file:
        assert file["mask"].shape == (6, 64, 64)
        assert file["mask"].max() > 200


def test_same_spec_same_bytes_on_any_number_of_processes(tiny: Path, tmp_path: Path) -> None:
    write_synthetic_dataset(tmp_path, replace(TINY, masks=True), num_workers=2)
    assert _hashes(tmp_path) == _hashes(tiny)


@pytest.mark.parametrize("size", [64, 80, 112])
def test_same_frames_same_bytes(size: int, tmp_path: Path) -> None:
    frames = render_video(replace(TINY, frame_size=size), 4, 0, "temporal").frames
    for i in range(12):
        write_mp4(tmp_path / f"{i}.mp4", frames, 25, 20)
    assert len(set(_hashes(tmp_path).values())) == 1


def test_another_seed_gives_other_people(tiny: Path, tmp_path: Path) -> None:
    write_synthetic_dataset(tmp_path, replace(TINY, num_identities=3, seed=1))
    name = "real/person0000_0.mp4"
    assert (tmp_path / name).read_bytes() != (tiny / name).read_bytes()


def test_manifest_pairs_and_splits(tmp_path: Path) -> None:
    spec = replace(TINY, num_identities=10, videos_per_identity=2, num_frames=1)
    spec = replace(spec, kinds=("temporal", "both", "spatial", "spatial"))
    rows = _rows(write_synthetic_dataset(tmp_path, spec))
    reals = {row["path"]: row for row in rows if row["label"] == "real"}
    fakes = [row for row in rows if row["label"] == "fake"]
    assert len(reals) == len(fakes) == 20
    assert {row["paired_real"] for row in fakes} == set(reals)
    for row in fakes:
        pair = reals[row["paired_real"]]
        assert (row["split"], row["identity"]) == (pair["split"], pair["identity"])
    splits_of = defaultdict(set)
    for row in rows:
        splits_of[row["identity_group"]].add(row["split"])
    assert {len(splits) for splits in splits_of.values()} == {1}
    assert Counter(next(iter(s)) for s in splits_of.values()) == {"train": 6, "val": 2, "test": 2}
    # Four fakes in val and test each: every kind, `spatial` twice.
    for split in ("val", "test"):
        kinds = Counter(row["method"] for row in fakes if row["split"] == split)
        assert kinds == {"temporal": 1, "both": 1, "spatial": 2}


def test_manifest_is_what_the_pipeline_reads(tiny: Path) -> None:
    source = read_folder(open_root(tiny), name="synthetic")
    validate_manifest([replace(record, status="unreadable") for record in source.records])
    assert {record.method for record in source.records} == {None, "temporal", "both"}
    assert all(r.paired_real for r in source.records if r.label == 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kinds": ("temporal", "swap")}, "no forgery swap"),
        ({"kinds": ()}, "kinds is empty"),
        ({"num_identities": 0}, "at least 1"),
        ({"num_identities": 2}, "2 people cannot fill all splits"),
        ({"frame_size": 100}, "multiple of 16"),
        ({"spatial_strength": 1.5}, "spatial_strength"),
        ({"generator_scale": 0.5}, "generator_scale 0.5"),
        ({"split_fractions": (0.0, 0.0, 0.0)}, "split_fractions"),
    ],
)
def test_wrong_parameters_are_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        replace(TINY, **changes)


def test_a_folder_with_videos_is_refused(tiny: Path) -> None:
    with pytest.raises(DataError, match="already holds videos"):
        write_synthetic_dataset(tiny, TINY)


def test_landmarks_follow_a_mark_on_the_skin() -> None:
    face = _face(3)
    side = len(face.alpha)
    flat = to_canvas(face_landmarks(face.shape, Expression(0, 0, (0, 0)))[30], side)
    marked = np.zeros_like(face.colour)
    cv2.circle(marked, np.round(flat * 32).astype(int).tolist(), 3 * 32, (255,) * 3, -1, 16, 5)
    footage = _still(draw_footage(face, 30, 128, np.random.default_rng(1)))
    # Eyes and mouth are painted on top, far from the tip of the nose.
    made = render(replace(footage, face=replace(face, colour=marked)), None, _rng())
    y, x = np.mgrid[:128, :128]
    for frame, tip in zip(made.frames.astype(float), made.points68[:, 30], strict=True):
        near = np.hypot(x - tip[0], y - tip[1]) < 6
        weight = np.where(near, frame.mean(axis=2), 0)
        weight = np.maximum(weight - 0.3 * weight.max(), 0)
        seen = [(weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()]
        assert np.hypot(*(seen - tip)) < 0.7


def test_eyes_and_mouth_are_where_the_landmarks_say() -> None:
    dark = []
    for seed in range(6):
        footage = draw_footage(_face(seed), 25, 128, np.random.default_rng(seed))
        made, motion = render(_still(footage), None, _rng()), footage.motion
        for i in np.flatnonzero((motion.blink < 0.1) & (motion.opening > 0.6)):
            grey = made.frames[i].mean(axis=2)
            points = made.points68[i]
            cheek = _at(grey, (points[31] + points[2]) / 2)
            eye = min(_at(grey, points[36:42].mean(axis=0)), _at(grey, points[42:48].mean(axis=0)))
            dark.append((eye < cheek, _at(grey, points[[62, 66]].mean(axis=0)) < cheek))
    assert len(dark) > 8
    assert np.mean(dark) > 0.95


def test_aligned_faces_lie_on_the_target_points() -> None:
    for seed in range(6):
        made = render(draw_footage(_face(seed), 16, 128, np.random.default_rng(seed)), None, _rng())
        points5 = np.stack([five_points(points) for points in made.points68])
        aligned = transform_points(points5, clip_transform(points5, 224))
        assert np.abs(aligned.mean(axis=0) / 224 - TARGET).max() < 0.06
        # A head that moves: one transform for all frames cannot hold it still.
        assert aligned.std(axis=0).max() > 1


def test_boxes_hold_the_face_and_stay_in_the_frame() -> None:
    for seed in range(6):
        made = render(draw_footage(_face(seed), 16, 128, np.random.default_rng(seed)), None, _rng())
        assert (made.points68.min(axis=1) >= made.box[:, :2]).all()
        assert (made.points68.max(axis=1) <= made.box[:, 2:]).all()
        assert made.box.min() >= 0
        assert made.box.max() <= 128


@pytest.mark.parametrize("kind", FORGERY_KINDS)
def test_only_the_mask_is_forged(kind: ForgeryKind) -> None:
    real, fake = _pair(kind)
    change = np.abs(fake.frames.astype(int) - real.frames).max(axis=3)
    np.testing.assert_array_equal(fake.points68, real.points68)
    assert real.mask.max() == 0
    assert change[fake.mask == 0].max() <= 1
    assert change[fake.mask > 200].mean() > 2
    assert 0.03 < (fake.mask > 127).mean() < 0.3


def test_temporal_forgeries_tremble_and_spatial_ones_do_not() -> None:
    tremble = {kind: _tremble(_pair(kind)[1]) for kind in FORGERY_KINDS}
    real = _tremble(_pair("temporal")[0])
    assert tremble["temporal"] > 1.5 * real
    assert tremble["both"] > 1.5 * real
    assert 0.7 * real < tremble["spatial"] < 1.3 * real


def test_strength_is_a_dial() -> None:
    real, nothing = _pair("temporal", temporal=0.0)
    assert np.abs(nothing.frames.astype(int) - real.frames).max() <= 1
    levels = [_tremble(_pair("temporal", temporal=strength)[1]) for strength in (0.0, 1.0, 2.0)]
    assert levels[0] < levels[1] < levels[2]
    weak, strong = (
        np.abs(pair[1].frames.astype(int) - pair[0].frames).mean()
        for pair in (_pair("spatial", spatial=0.3), _pair("spatial", spatial=1.0))
    )
    assert weak < strong


@pytest.mark.parametrize("kind", ["spatial", "both"])
def test_a_generated_face_is_softer_than_the_frame_around_it(kind: ForgeryKind) -> None:
    sharp, soft = _pair(kind)[1], _pair(kind, generator_scale=2)[1]
    forged, outside = sharp.mask[0] > 250, sharp.mask[0] == 0
    assert np.array_equal(sharp.frames[0][outside], soft.frames[0][outside])
    assert _detail(soft)[forged].mean() < 0.8 * _detail(sharp)[forged].mean()


def test_a_generated_face_has_no_noise_of_the_camera() -> None:
    face = _face(7)
    footage = replace(draw_footage(face, 12, 128, np.random.default_rng(2)), noise=6.0)
    forgery = make_forgery("spatial", face, 12, 0, 1.0, 2, np.random.default_rng(3))
    noisy, clean = (render(f, forgery, _rng()) for f in (footage, _still(footage)))
    noise = np.abs(noisy.frames[0].astype(float) - clean.frames[0]).mean(axis=2)
    assert noise[noisy.mask[0] == 255].mean() < 0.1
    assert noise[noisy.mask[0] == 0].mean() > 3


def test_trivial_detectors_are_near_chance_and_the_tremble_is_not(tmp_path: Path) -> None:
    spec = replace(TINY, num_identities=40, num_frames=10, temporal_strength=1.5)
    rows = _rows(write_synthetic_dataset(tmp_path, spec))
    labels = [row["label"] == "fake" for row in rows]
    figures = [_figures(tmp_path / row["path"]) for row in rows]
    auc = {name: roc_auc_score(labels, [f[name] for f in figures]) for name in figures[0]}
    assert auc.pop("tremble") > 0.9
    assert {name: value for name, value in auc.items() if abs(value - 0.5) > 0.12} == {}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> SyntheticDataModule:
    module = _module(tmp_path_factory.mktemp("demo"))
    module.prepare_data()
    return module


def test_data_module_yields_balanced_clips(demo: SyntheticDataModule) -> None:
    demo.setup("fit")
    batch = next(iter(demo.train_dataloader()))
    assert batch["clip"].shape == (4, 4, 32, 32, 3)
    assert sorted(batch["label"].tolist()) == [0, 0, 1, 1]
    assert {record.status for record in demo.records} == {"ok"}
    assert len(demo.records) == 10
    groups = {split: {r.group_ids for _, r in demo.scored(split)} for split in ("train", "test")}
    assert not groups["train"] & groups["test"]


def test_data_module_makes_its_data_once(demo: SyntheticDataModule) -> None:
    files = {path: path.stat().st_mtime_ns for path in demo.folder.rglob("*") if path.is_file()}
    again = _module(demo.folder.parent)
    again.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in files} == files
    other = SyntheticDataModule(data_dir=demo.folder.parent, temporal_strength=2.0)
    assert other.folder != demo.folder


def test_stopped_run_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(root: Path, *_: object) -> None:
        (root / "real").mkdir(parents=True)
        (root / "real/half.mp4").write_bytes(b"half a video")
        raise KeyboardInterrupt

    module = _module(tmp_path, num_identities=3)
    with monkeypatch.context() as patch:
        patch.setattr("datamodules.synthetic.datamodule.write_synthetic_dataset", stop)
        with pytest.raises(KeyboardInterrupt):
            module.prepare_data()
    assert not (module.folder / "videos").exists()
    module.prepare_data()
    module.setup("fit")
    assert len(module.records) == 6
    assert not [*module.folder.rglob("half.mp4")]


def _module(data_dir: Path, num_identities: int = 5) -> SyntheticDataModule:
    return SyntheticDataModule(
        data_dir=data_dir,
        num_identities=num_identities,
        videos_per_identity=1,
        video_frames=6,
        frame_size=64,
        render_workers=1,
        num_frames=4,
        image_size=32,
        batch_size=4,
        num_workers=0,
    )


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _face(seed: int) -> FaceCanvas:
    rng = np.random.default_rng(seed)
    return draw_canvas(draw_shape(rng), draw_look(rng), 128)


def _still(footage: Footage) -> Footage:
    """Footage without noise."""
    return replace(footage, noise=0.0)


def _pair(
    kind: ForgeryKind, temporal: float = 1.5, spatial: float = 1.0, generator_scale: float = 1.0
) -> tuple[Rendering, Rendering]:
    """Real and fake of the same footage, without noise."""
    face = _face(7)
    footage = _still(draw_footage(face, 12, 128, np.random.default_rng(2)))
    forgery = make_forgery(
        kind, face, 12, temporal, spatial, generator_scale, np.random.default_rng(3)
    )
    return render(footage, None, _rng()), render(footage, forgery, _rng())


def _tremble(made: Rendering) -> float:
    """Second difference in time of the middle of the face."""
    x, y = made.points68[:, 30].mean(axis=0).astype(int)
    return _second_difference(made.frames[:, y - 16 : y + 16, x - 14 : x + 14].mean(axis=3))


def _detail(made: Rendering) -> NDArray[Any]:
    return np.abs(cv2.Laplacian(made.frames[0].astype(np.float32).mean(axis=2), cv2.CV_32F))


def _second_difference(grey: NDArray[Any]) -> float:
    return float(np.abs(grey[2:] - 2 * grey[1:-1] + grey[:-2]).mean())


def _at(grey: NDArray[Any], point: NDArray[Any]) -> float:
    x, y = np.round(point).astype(int)
    return float(grey[y - 1 : y + 2, x - 1 : x + 2].mean())


def _figures(path: Path) -> dict[str, float]:
    """What a detector might see without looking at the face's motion, and the tremble."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="gray") for f in container.decode(video=0)])
    frames = frames.astype(np.float32)
    return {
        "brightness": float(frames.mean()),
        "contrast": float(frames.std()),
        "file size": float(path.stat().st_size),
        "noise of the corners": float(np.abs(np.diff(frames[:, :12, :12], axis=0)).mean()),
        "sharpness": float(np.mean([np.abs(cv2.Laplacian(f, cv2.CV_32F)).mean() for f in frames])),
        "brightness of the face": float(frames[:, 24:44, 24:40].mean()),
        "tremble": _second_difference(
            np.stack([cv2.blur(frame, (3, 3)) for frame in frames])[:, 24:44, 24:40]
        ),
    }


def _rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def _hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
