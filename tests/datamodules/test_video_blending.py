"""Video-level blending: the golden numbers, and what the code that it follows does wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules.blending import CrossBlend, SelfBlend
from datamodules.clip_dataset import ClipCutter
from datamodules.errors import DataError
from datamodules.fake_from_real import FakeFromReal
from datamodules.feature_drift import DriftDraw, FeatureDrift, drift_maps
from datamodules.organ_masks import ORGANS, Band, OrganBands, organ_masks
from datamodules.temporal_forgery import TemporalDropout, TemporalRepeat
from datamodules.video_blending import VideoBlend, blend_organs
from experiments.benchmarks.video_blending import plain_masks
from tests.support.forging import SIZE, forger, moving_face, real_store, turned
from tests.support.stores import FACE_POINTS68

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datamodules.schema import Clip

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "weights" / "golden" / "vb.json").read_text()
)
POINTS = np.array(GOLDEN["input"]["landmarks_68_xy"], np.float64)
WIDTH = GOLDEN["input"]["size"]
#: Nothing but video-level blending.
ALONE: dict[str, Any] = {
    "temporal_dropout": TemporalDropout(weight=0),
    "temporal_repeat": TemporalRepeat(weight=0),
    "cross_blend": CrossBlend(weight=0),
    "self_blend": SelfBlend(weight=0),
    "video_blend": VideoBlend(weight=1),
}


def _golden_image() -> NDArray[np.uint8]:
    """Make the picture by the rule of the golden files."""
    rng = np.random.default_rng(1000)
    coarse = np.kron(rng.standard_normal((3, 8, 8)), np.ones((1, WIDTH // 8, WIDTH // 8)))
    image = np.tanh(coarse + 0.3 * rng.standard_normal((3, WIDTH, WIDTH))).astype(np.float32)
    grey = np.rint((image * 0.5 + 0.5) * 255).astype(np.uint8)
    return np.ascontiguousarray(grey.transpose(1, 2, 0))


def _golden_draw() -> tuple[NDArray[np.float64], DriftDraw]:
    """Draw in the order of the released code; gives the ranges as well."""
    rng = np.random.RandomState(0)
    drift = FeatureDrift()
    limits = (drift.rotation_deg, drift.scaling, drift.shift_px)
    ranges = np.array([rng.uniform(*ends) for ends in limits])
    low = np.array([-ranges[0], 1 - ranges[1], -ranges[2], -ranges[2]])
    high = np.array([ranges[0], 1 + ranges[1], ranges[2], ranges[2]])
    drawn = np.array([rng.uniform(low, high) for _ in ORGANS])[None]
    return ranges, DriftDraw(drawn[..., 0], drawn[..., 1], drawn[..., 2:])


def _whole(points: NDArray[Any], size: int = WIDTH) -> NDArray[np.float32]:
    """Draw the masks of all organs on the whole picture."""
    masks = organ_masks(points, (size, size), OrganBands())
    whole = np.zeros((4, size, size), np.float32)
    whole[(slice(None), *masks.place)] = masks.values
    return whole


@pytest.mark.parametrize("number", range(4))
def test_masks_are_the_golden_ones(number: int) -> None:
    golden = GOLDEN["organs_in_call_order"][number]["mask"]
    mask = _whole(POINTS)[number]
    assert mask.sum(dtype=np.float64) == pytest.approx(golden["sum"], rel=1e-5)
    assert (mask > 0).sum() == golden["nonzero_pixels"]
    assert (mask == 1).sum() == golden["full_pixels"]
    found = np.argwhere(mask > 0)
    bounds = np.stack([found.min(axis=0), found.max(axis=0)], axis=1).ravel().tolist()
    assert bounds == golden["bounding_rows_cols_of_nonzero"]
    np.testing.assert_allclose(mask.sum(axis=1)[::16], golden["row_sums_every_16"], atol=1e-4)


def test_draws_and_matrices_are_the_golden_ones() -> None:
    ranges, drawn = _golden_draw()
    maps = drift_maps(POINTS[None], drawn)[0]
    for matrix, golden in zip(maps, GOLDEN["organs_in_call_order"], strict=True):
        wanted = golden["ranges_rotation_scaling_translation"]
        np.testing.assert_allclose(ranges, wanted, rtol=1e-10)
        perturbed = np.column_stack([POINTS[[30, 36, 45]], np.ones(3)]) @ matrix.T
        np.testing.assert_allclose(perturbed, golden["perturbed_30_36_45"], atol=1e-6)
        # The released code maps the perturbed points back, in float32.
        back = cv2.invertAffineTransform(matrix)
        np.testing.assert_allclose(back, golden["affine_perturbed_to_original"], atol=5e-5)


def test_the_result_is_the_golden_one_to_a_grey_level() -> None:
    image, masks, (_, drawn) = _golden_image(), _whole(POINTS), _golden_draw()
    assert image.mean() == pytest.approx(GOLDEN["image_mean"], abs=1e-4)
    maps = drift_maps(POINTS[None], drawn)[0]
    organs = []
    for mask, matrix, golden in zip(masks, maps, GOLDEN["organs_in_call_order"], strict=True):
        copy = cv2.warpAffine(image, cv2.invertAffineTransform(matrix), (WIDTH, WIDTH))
        organ = image + mask[..., None] * (copy.astype(np.float64) - image)
        assert organ.mean() == pytest.approx(golden["blended"]["mean"], abs=1e-4)
        change = np.abs(organ - image).mean()
        assert change == pytest.approx(golden["blended"]["mean_abs_change"], abs=1e-4)
        organs.append(organ)
    # As released: the mean of four pictures, cut off.
    released = (0.25 * np.sum(organs, axis=0)).astype(np.uint8).astype(int)
    result = GOLDEN["result"]
    assert released.mean() == pytest.approx(result["mean"], abs=1e-3)
    assert (released != image).any(axis=2).sum() == result["changed_pixels"]
    for place, colour in result["pixel_rgb_at_yx"].items():
        y, x = map(int, place.split(","))
        assert np.abs(released[y, x] - colour).max() <= 1
    ours = image.copy()
    blend_organs(ours, organ_masks(POINTS, (WIDTH, WIDTH), OrganBands()), maps, 0.25)
    apart = ours.astype(int) - released
    assert np.abs(apart).max() <= 1
    # Rounded and not cut off: not darker than the real clip that it is made of.
    assert np.abs(np.mean(ours - 0.25 * np.sum(organs, axis=0))) < 2e-3


@pytest.mark.parametrize("size", [32, 96, 224, 317])
def test_masks_are_those_of_distances_of_every_pixel(size: int) -> None:
    rng = np.random.default_rng(size)
    points = POINTS * size / WIDTH + rng.normal(0, size / 100, (68, 2))
    wanted = plain_masks(points, size)
    found = _whole(points, size)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("shift", [(-90, 0), (0, 130), (-300, 20), (40, -999)])
def test_faces_may_reach_beyond_the_picture(shift: tuple[int, int]) -> None:
    moved = POINTS + shift
    whole = _whole(moved)
    padded = _whole(POINTS)
    for mask, unmoved in zip(whole, padded, strict=True):
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
        wanted = cv2.warpAffine(unmoved, matrix, (WIDTH, WIDTH))
        np.testing.assert_allclose(mask, wanted, atol=1e-4)
    frame = np.random.default_rng(0).integers(0, 256, (WIDTH, WIDTH, 3), np.uint8)
    before = frame.copy()
    maps = drift_maps(moved[None], _golden_draw()[1])[0]
    blend_organs(frame, organ_masks(moved, (WIDTH, WIDTH), OrganBands()), maps, 0.25)
    np.testing.assert_array_equal(frame[whole.max(axis=0) == 0], before[whole.max(axis=0) == 0])


def test_organs_lie_where_they_belong() -> None:
    masks = _whole(POINTS)
    for name, mask, inside in zip(ORGANS, masks, (37, 30, 62, 19), strict=True):
        x, y = POINTS[inside].astype(int)
        assert mask[y, x] > 0.3, name
    # Nobody's cheek, chin or forehead.
    for x, y in ((50, 140), (174, 140), (112, 192), (112, 40)):
        assert masks[:, y, x].max() == 0
    assert masks.sum(axis=0).max() <= 1.0001


def _forge(clip: Clip, options: VideoBlend, root: Path, seed: int = 0) -> Any:
    footage = forger(root).footage
    place, _ = footage.draw(0, 6, np.random.default_rng(0))
    real = replace(footage.cutter.align(place.track, place.positions), clip=clip)
    return options.forge(real, place, footage, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_store(tmp_path_factory.mktemp("store"))


def _still(num_frames: int) -> Clip:
    """Make a clip whose frames tell their number and their colours: red, green and blue differ."""
    clip = moving_face([turned(0, 0, 0)] * num_frames)
    frames = clip.frames // 8
    frames += (np.arange(num_frames, dtype=np.uint8) * 10)[:, None, None, None]
    frames += np.array([0, 30, 60], np.uint8)
    return replace(clip, frames=frames)


def test_frames_keep_their_order_and_colours(root: Path) -> None:
    """With 8 frames the released data set sorts them as text, and swaps red and blue."""
    clip = _still(12)
    forged = _forge(clip, VideoBlend(), root)
    apart = np.abs(forged.frames.astype(int) - clip.frames).mean(axis=(1, 2))
    assert apart.max() < 2
    for t in range(12):
        others = np.abs(forged.frames[t].astype(int) - clip.frames).mean(axis=(1, 2, 3))
        assert others.argmin() == t


def test_every_frame_of_a_fake_is_blended_and_no_frame_of_a_real_clip(root: Path) -> None:
    clip = _still(8)
    before = clip.frames.copy()
    forged = _forge(clip, VideoBlend(), root)
    np.testing.assert_array_equal(clip.frames, before)
    changed = (forged.frames != clip.frames).any(axis=3)
    assert changed.any(axis=(1, 2)).all()
    assert not changed[forged.mask == 0].any()
    assert forged.mask.shape == (8, 128, 128)
    assert forged.mask.dtype == np.float32
    assert 0.9 < forged.mask.max() <= 1


def test_opacity_is_the_share_of_the_copies(root: Path) -> None:
    clip = _still(4)
    quarter, whole = (
        _forge(clip, VideoBlend(opacity=opacity), root).frames.astype(int) - clip.frames
        for opacity in (0.25, 1.0)
    )
    np.testing.assert_allclose(quarter, whole / 4, atol=0.7)
    assert np.abs(whole).max() > 4


def test_independent_drift_has_the_ranges_of_the_released_code() -> None:
    drawn = FeatureDrift().draw(20000, WIDTH, np.random.default_rng(0))
    # Evenly in a range that is drawn evenly: E x^2 = E R^2 / 3.
    for values, (low, high) in (
        (drawn.angle_deg, (1, 5)),
        (drawn.scale - 1, (0.01, 0.05)),
        (drawn.shift_px, (0.5, 2.5)),
    ):
        square = (low**2 + low * high + high**2) / 9
        assert (values**2).mean() == pytest.approx(square, rel=0.02)
        assert 0.95 * high < np.abs(values).max() <= high
    # New in each frame, of one range for all organs.
    angle = drawn.angle_deg
    assert abs(np.corrcoef(angle[1:].ravel(), angle[:-1].ravel())[0, 1]) < 0.02
    together = np.corrcoef(np.abs(angle[:, 0]), np.abs(angle[:, 1]))[0, 1]
    assert together == pytest.approx(0.279, abs=0.03)


def test_shifts_grow_with_the_picture() -> None:
    small, large = (FeatureDrift().draw(50, width, np.random.default_rng(0)) for width in (56, 224))
    np.testing.assert_allclose(4 * small.shift_px, large.shift_px)
    np.testing.assert_array_equal(small.angle_deg, large.angle_deg)


@pytest.mark.parametrize("length", [2.0, 8.0])
def test_correlated_drift_wanders_and_fills_its_range(length: float) -> None:
    drift = FeatureDrift(
        kind="correlated", correlation_frames=length, rotation_deg=(4, 4), scaling=(0.02, 0.02)
    )
    drawn = drift.draw(40000, WIDTH, np.random.default_rng(1))
    for values, size in ((drawn.angle_deg, 4.0), (drawn.scale - 1, 0.02)):
        assert np.abs(values).max() <= size
        assert (values**2).mean() == pytest.approx(size**2 / 3, rel=0.05)
        lag = round(length)
        found = np.corrcoef(values[lag:].ravel(), values[:-lag].ravel())[0, 1]
        assert found == pytest.approx(np.exp(-1), abs=0.04)
    # Organs wander by themselves.
    assert abs(np.corrcoef(drawn.angle_deg.T)[0, 1]) < 0.1


def test_ranges_of_correlated_drift_are_those_of_the_clip() -> None:
    drift = FeatureDrift(kind="correlated", correlation_frames=1.0)
    rng = np.random.default_rng(0)
    most = [np.abs(drift.draw(400, WIDTH, rng).angle_deg).max() for _ in range(20)]
    assert min(most) < 2
    assert max(most) > 4


def test_a_failure_names_the_video_and_shows_no_other(root: Path) -> None:
    """The released data set gives its first item instead."""
    maker = forger(root, **ALONE)

    class _Broken:
        weight = 1.0

        def offsets(self, num_frames: int, longest_run: int, rng: Any) -> NDArray[np.int64]:
            return np.arange(num_frames)

        def forge(self, *_: Any) -> None:
            raise ZeroDivisionError("by zero")

    maker.forgeries["video_blend"] = _Broken()  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match=r"train01, frame \d+ on: video_blend failed: by zero"):
        maker.make(1, np.random.default_rng(0))


def test_landmarks_that_are_missing_are_told(root: Path) -> None:
    clip = _still(6)
    clip.points68[3, 50] = np.nan
    with pytest.raises(DataError, match=r"train00: landmarks of .* are no finite numbers"):
        _forge(clip, VideoBlend(), root)


def test_a_face_out_of_the_picture_is_no_fake(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    align = ClipCutter.align

    def outside(*arguments: Any) -> Any:
        real = align(*arguments)
        return replace(real, clip=replace(real.clip, points68=real.clip.points68 + 5 * SIZE))

    monkeypatch.setattr(ClipCutter, "align", outside)
    with pytest.raises(DataError, match=r"train02: no fake can be made of it, for its landmarks"):
        forger(root, **ALONE).make(2, np.random.default_rng(0))


def test_it_is_off_by_default_and_can_be_all_there_is(root: Path) -> None:
    rng = np.random.default_rng(0)
    assert "video_blend" not in {forger(root).make(0, rng).kind for _ in range(60)}
    assert {forger(root, **ALONE).make(0, rng).kind for _ in range(10)} == {"video_blend"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda: VideoBlend(opacity=0), r"video_blend.opacity is 0; it must lie in 0.01 to 1"),
        (lambda: FeatureDrift(rotation_deg=(5, 1)), r"drift.rotation_deg is \(5, 1\)"),
        (lambda: FeatureDrift(kind="smooth"), "drift.kind is 'smooth'; choose one of independent"),  # type: ignore[arg-type]
        (lambda: FeatureDrift(correlation_frames=0), "drift.correlation_frames is 0"),
        (lambda: Band(thickness=0.5), "organs.thickness is 0.5; it must lie in 0 to 0.25"),
    ],
)
def test_impossible_options_are_named(options: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        options()


def test_the_command_line_builds_it() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--made", type=FakeFromReal)
    block = """{video_blend: {weight: 2, opacity: 0.3, drift: {kind: correlated},
      organs: {mouth: {thickness: 0.02, fall: 0.05}}}}"""
    found = parser.instantiate(parser.parse_args([f"--made={block}"])).made
    assert found.video_blend == VideoBlend(
        weight=2,
        opacity=0.3,
        drift=FeatureDrift(kind="correlated"),
        organs=OrganBands(mouth=Band(thickness=0.02, fall=0.05)),
    )


def test_the_faces_of_the_stores_have_organs() -> None:
    masks = _whole(FACE_POINTS68, 64)
    assert all(mask.max() > 0.9 for mask in masks)
