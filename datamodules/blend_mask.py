"""Soft masks of faces, of one shape in all frames of a clip.

A mask is the convex hull of a frame's landmarks, bent, shrunk and blurred in the face's own
coordinates (origin amid the landmarks, x along the eyes). How is drawn once for a clip, so that
the mask follows the face and does nothing else: its edge does not flicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datamodules.faces.landmarks import points81
from datamodules.limits import check_limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from datamodules.schema import Clip

#: Side in pixels from which on a mask is drawn at half of the size or less: its edge is soft
#: anyway, and blurring takes a fifth of the time. [ours]
_DRAWN_SIZE = 112
#: Waves around the mask: from an oval to a clover of five leaves. [ours]
_WAVES = np.arange(2, 6)
#: Directions in which the end of another face is looked for. [ours]
_RAYS = 72
#: Where a Gaussian is cut off, in standard deviations: half a grey level of 100 lies beyond. [ours]
_TAIL = 2.5
#: A blur of less than this many pixels is none.
_LEAST_BLUR_PX = 0.2
#: Bits of a pixel's fraction in the coordinates that OpenCV draws by.
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, kw_only=True)
class MaskShape:
    """How masks of blended faces vary between clips. All numbers are ours.

    The unit of length is the radius of the face, the root mean square distance of its 68
    landmarks from their mean: about 54 pixels of 224.

    Attributes:
        forehead_prob: Probability that the forehead belongs to the mask, where the face backend
            found one.
        stretch: Largest change of width and height, and largest shear, in shares.
        shift: Largest shift along x and y, in radii.
        elastic: Largest swing of the outline inwards and outwards, in shares of the distance from
            the centre.
        erosion: Least and largest width that is taken off all around, in radii.
        feather: Least and largest standard deviation of the Gaussian blur, in radii.
    """

    forehead_prob: float = 0.5
    stretch: float = 0.08
    shift: float = 0.05
    elastic: float = 0.08
    erosion: tuple[float, float] = (0.0, 0.2)
    feather: tuple[float, float] = (0.03, 0.15)

    def __post_init__(self) -> None:
        limits = {"stretch": (0.0, 0.5), "elastic": (0.0, 0.5), "erosion": (0.0, 0.9)}
        check_limits(self, "fake_from_real.mask", limits)

    def draw(self, rng: np.random.Generator) -> MaskDraw:
        """Choose the one shape of a clip.

        Args:
            rng: Source of the draws.
        """
        swings = rng.uniform(-1, 1, (2, len(_WAVES)))
        swings *= self.elastic / max(1.0, float(np.hypot(*swings).sum()))
        return MaskDraw(
            forehead=bool(rng.random() < self.forehead_prob),
            linear=np.eye(2) + rng.uniform(-self.stretch, self.stretch, (2, 2)),
            shift=rng.uniform(-self.shift, self.shift, 2),
            swings=swings,
            erosion=float(rng.uniform(*self.erosion)),
            feather=float(rng.uniform(*self.feather)),
        )


class MaskDraw(NamedTuple):
    """The shape of a clip's mask in face coordinates, in radii of the face.

    Attributes:
        forehead: Whether the forehead belongs to it.
        linear: Stretch and shear, shape (2, 2).
        shift: Along x and y, shape (2,).
        swings: Cosine and sine parts of the waves around it, shape (2, len(_WAVES)).
        erosion: Width taken off.
        feather: Standard deviation of the blur.
    """

    forehead: bool
    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    swings: NDArray[np.float64]
    erosion: float
    feather: float


class ClipMask(NamedTuple):
    """Masks of a clip's frames.

    Attributes:
        values: Shape (T, H, W), float32 in 0..1.
        corners: Left and top, in each frame, of a part of the picture that follows the face and
            holds all that is not zero, shape (T, 2), int64.
        size: Height and width of these parts in pixels.
    """

    values: NDArray[np.float32]
    corners: NDArray[np.int64]
    size: tuple[int, int]

    def parts(self, pictures: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Give each frame's part of pictures of shape (T, H, W, ...); they are no copies."""
        height, width = self.size
        for picture, (left, top) in zip(pictures, self.corners.tolist(), strict=True):
            yield picture[top : top + height, left : left + width]


def face_masks(
    clip: Clip,
    draw: MaskDraw,
    bounds: Sequence[NDArray[np.float32]] = (),
    other_face: NDArray[np.float32] | None = None,
) -> ClipMask:
    """Draw the masks of a clip.

    Args:
        clip: Its landmarks count, and the size of its pictures.
        draw: The shape.
        bounds: Convex outlines that each mask has to stay in with its soft edge, in pixels of the
            pictures, each of shape (T, K, 2).
        other_face: Landmarks (x, y) of a face that is to be laid into the clip, in pixels of the
            pictures, shape (T, K, 2): the mask ends where that face does, in face coordinates and
            in any of the frames, for behind it is another background.
    """
    size = clip.frames.shape[1]
    reduced = size // max(1, size // _DRAWN_SIZE)
    scale = reduced / size
    pose = _pose(clip)
    outlines = _outlines(clip, draw, pose)
    blur = draw.feather * pose.radius
    margin = _TAIL * blur if blur > _LEAST_BLUR_PX else 0.0
    inside: list[NDArray[Any]] = [
        _shrunk(bound, margin) for bound in bounds if not _holds_picture(bound, size)
    ]
    if other_face is not None:
        inside.append(_common_outline(other_face, pose))
    values = np.zeros((len(outlines), size, size), np.float32)
    for t, outline in enumerate(outlines):
        drawn = _filled(outline, scale, reduced)
        for bound in inside:
            drawn = np.minimum(drawn, _filled(bound[t], scale, reduced))
        _soften(drawn, blur * scale, values[t])
    # Drawing, rounding the blur's width and enlarging spread it by a pixel of the drawing each.
    return ClipMask(values, *_parts_around(outlines, margin + 3 / scale + 1, size))


def contains(outline: NDArray[np.float32], points: NDArray[Any]) -> bool:
    """Tell whether all points of all frames lie in a convex outline.

    Args:
        outline: Corners in turn, shape (T, K, 2).
        points: (x, y), shape (T, N, 2).
    """
    edges = np.roll(outline, -1, axis=1) - outline
    to_points = points[:, None] - outline[:, :, None]
    turns = edges[:, :, None, 0] * to_points[..., 1] - edges[:, :, None, 1] * to_points[..., 0]
    return bool((turns >= 0).all() or (turns <= 0).all())


class _Pose(NamedTuple):
    """Where face coordinates lie: centre (T, 2), axes (T, 2, 2) as rows, radius in pixels."""

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    radius: float

    def enter(self, points: NDArray[Any], t: int) -> NDArray[np.float64]:
        """Take points of frame t to face coordinates."""
        return np.asarray((points - self.centre[t]) @ self.axes[t].T / self.radius)

    def leave(self, points: NDArray[np.float64], t: int) -> NDArray[np.float64]:
        """Take face coordinates to points of frame t."""
        return np.asarray(points @ self.axes[t] * self.radius + self.centre[t])


def _pose(clip: Clip) -> _Pose:
    points = clip.points68.astype(np.float64)
    centre = points.mean(axis=1)
    radius = float(np.sqrt(((points - centre[:, None]) ** 2).sum(axis=2).mean()))
    eyes = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
    angle = np.arctan2(eyes[:, 1], eyes[:, 0])
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    axes = np.stack([along, along[:, ::-1] * (-1, 1)], axis=1)
    return _Pose(centre, axes, max(radius, 1e-6))


def _outlines(clip: Clip, draw: MaskDraw, pose: _Pose) -> list[NDArray[np.float64]]:
    """Bend the hulls of all frames."""
    # Estimated foreheads are left out: they are a guess, and may lie in the hair.
    with_forehead = draw.forehead and clip.forehead is not None
    points = points81(clip.points68, clip.forehead) if with_forehead else clip.points68
    hulls = map(_hull, points)
    return [pose.leave(_bent(pose.enter(hull, t), draw), t) for t, hull in enumerate(hulls)]


def _common_outline(points: NDArray[np.float32], pose: _Pose) -> NDArray[np.float64]:
    """Outline what lies in the hulls of all frames, in face coordinates, for each frame."""
    angles = np.linspace(-np.pi, np.pi, _RAYS, endpoint=False)
    nearest = np.full(_RAYS, np.inf)
    for t, frame in enumerate(points):
        x, y = pose.enter(_hull(frame), t).T
        around = np.arctan2(y, x)
        nearest = np.minimum(nearest, np.interp(angles, around, np.hypot(x, y), period=2 * np.pi))
    rays = nearest[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.stack([pose.leave(rays, t) for t in range(len(points))])


def _hull(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Find the convex hull, with points on its edges so that they can bend too."""
    import cv2

    # Mirrored landmarks lie in memory in another order, which OpenCV does not take.
    return _dense(cv2.convexHull(np.ascontiguousarray(points))[:, 0])


def _dense(hull: NDArray[Any]) -> NDArray[np.float64]:
    """Put three points on every edge."""
    share = np.arange(4)[:, None] / 4
    following = np.roll(hull, -1, axis=0)
    return np.asarray((hull[:, None] * (1 - share) + following[:, None] * share).reshape(-1, 2))


def _bent(points: NDArray[np.float64], draw: MaskDraw) -> NDArray[np.float64]:
    """Deform an outline in face coordinates."""
    points = points @ draw.linear.T + draw.shift
    far = np.maximum(np.hypot(*points.T), 1e-6)
    waves = np.arctan2(points[:, 1], points[:, 0])[:, None] * _WAVES
    swing = np.cos(waves) @ draw.swings[0] + np.sin(waves) @ draw.swings[1]
    factor = np.maximum(1 + swing - draw.erosion / far, 0)
    return np.asarray(points * factor[:, None])


def _filled(outline: NDArray[Any], scale: float, size: int) -> NDArray[np.uint8]:
    """Fill an outline; pixels are at their centres, as in any resizing."""
    import cv2

    drawn = np.zeros((size, size), np.uint8)
    corners = ((outline + 0.5) * scale - 0.5) * 2**_SUBPIXEL_BITS
    fixed = np.rint(corners).astype(np.int32)
    cv2.fillPoly(drawn, [fixed], (255,), lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return drawn


def _soften(drawn: NDArray[np.uint8], blur_px: float, place: NDArray[np.float32]) -> None:
    """Blur a drawing and bring it to the size of its place."""
    import cv2

    soft = drawn.astype(np.float32) / 255
    if blur_px > _LEAST_BLUR_PX:
        width = 2 * int(np.ceil(_TAIL * blur_px)) + 1
        soft = np.asarray(cv2.GaussianBlur(soft, (width, width), blur_px), np.float32)
    cv2.resize(soft, place.shape[::-1], dst=place, interpolation=cv2.INTER_LINEAR)
    # Sums of weights are off 1 by a rounding, and a loss may refuse what is beyond it.
    np.minimum(place, 1, out=place)


def _shrunk(bound: NDArray[np.float32], margin: float) -> NDArray[np.float32]:
    """Move the sides of an outline inwards by about a margin."""
    centre = bound.mean(axis=1, keepdims=True)
    away = bound - centre
    following = np.roll(away, -1, axis=1)
    lengths = np.hypot(*np.moveaxis(following - away, 2, 0))
    areas = np.abs(away[..., 0] * following[..., 1] - away[..., 1] * following[..., 0])
    heights = (areas / np.maximum(lengths, 1e-6)).min(axis=1)[:, None, None]
    return np.asarray(centre + away * np.maximum(0, 1 - margin / np.maximum(heights, 1e-6)))


def _holds_picture(bound: NDArray[np.float32], size: int) -> bool:
    last = size - 1.0
    corners = np.array([[0, 0], [last, 0], [last, last], [0, last]])
    return contains(bound, np.broadcast_to(corners, (len(bound), 4, 2)))


def _parts_around(
    outlines: Sequence[NDArray[np.float64]], margin: float, size: int
) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Lay a rectangle around each outline, of one size for all; returns corners, and that size."""
    low = np.array([outline.min(axis=0) for outline in outlines]) - margin
    high = np.array([outline.max(axis=0) for outline in outlines]) + margin
    low = np.clip(np.floor(low), 0, size).astype(np.int64)
    high = np.clip(np.ceil(high) + 1, 0, size).astype(np.int64)
    width, height = np.maximum((high - low).max(axis=0), 1).tolist()
    return np.minimum(low, (size - width, size - height)), (height, width)
