"""From landmarks to aligned clips: one similarity transform a clip, one warp a frame.

The steps 5 and 7 of FTCN's official inference code (Zheng et al., ICCV 2021; the helpers are the
same in AltFreezing). There, every crop of a clip is pasted onto a black canvas and the canvas is
warped; here the shift of the paste is put into the matrix and the crop is warped at once, which
gives the same picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

#: Where eyes, nose and mouth corners (x, y) lie in a picture of 256 pixels before the border is
#: cut off (FTCN, official table).
_TARGET_256 = np.array(
    [
        [85.82991, 85.7792],
        [169.0532, 84.3381],
        [127.574, 137.0006],
        [90.6964, 174.7014],
        [167.3069, 173.3733],
    ]
)

#: 224 / 256: the table is for 256 pixels, the official pictures have 224 (FTCN).
_SHRINK = 0.875
_OFFICIAL_SIZE = 224

#: A face smaller than this share of its picture is no face but points that coincide [ours].
_LEAST_SCALE = 1e-4


def big_box(
    box: Sequence[float] | NDArray[Any], height: int, width: int
) -> tuple[int, int, int, int]:
    """Grow a face box to twice its width and height, inside the frame (FTCN, official step 5).

    Args:
        box: Detector box x0 y0 x1 y1 in pixels.
        height: Of the frame in pixels.
        width: Of the frame in pixels.

    Returns:
        x0 y0 x1 y1 in whole pixels; the corner x1 y1 is the last pixel that a comparison with
        `height` - 1 and `width` - 1 allows, and is left out of the crop, as officially.

    Raises:
        DataError: Nothing of the box lies in the frame.
    """
    x0, y0, x1, y1 = (float(v) for v in np.round(np.asarray(box, np.float64)))
    grow_x, grow_y = 0.5 * (x1 - x0), 0.5 * (y1 - y0)
    left, right = np.clip([x0 - grow_x, x1 + grow_x], 0, width - 1)
    top, bottom = np.clip([y0 - grow_y, y1 + grow_y], 0, height - 1)
    left, top, right, bottom = (round(float(v)) for v in (left, top, right, bottom))
    if right <= left or bottom <= top:
        raise DataError(
            f"a face box {[round(float(v), 1) for v in box]} holds nothing of a frame of "
            f"{width}x{height} pixels"
        )
    return left, top, right, bottom


def target_points(image_size: int) -> NDArray[np.float64]:
    """Tell where the five points of a face shall lie.

    Args:
        image_size: Height and width of the aligned picture in pixels.

    Returns:
        Eyes, nose, mouth corners (x, y), shape (5, 2), float64; FTCN's table at 224, and in
        proportion at other sizes.
    """
    return np.asarray(_TARGET_256 * (_SHRINK * image_size / _OFFICIAL_SIZE), np.float64)


def similarity_transform(
    source: NDArray[np.floating[Any]], target: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Fit rotation, uniform scale and shift by least squares; never a mirror image.

    As in FTCN's official fit, the squares are of distances in the source: the way back from
    `target` to `source` is fitted, and then inverted. The official code also tries a mirrored
    fit, compares it wrongly and so mirrors faces in profile; where it does not, both agree.

    Args:
        source: Points (x, y), shape (N, 2).
        target: Where they shall go, shape (N, 2).

    Returns:
        Shape (2, 3), float64, such that `target` is about M[:, :2] @ source + M[:, 2].

    Raises:
        DataError: The points of `source` coincide, or are not finite.
    """
    source = np.asarray(source, np.float64)
    target = np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"want two arrays of shape (N, 2), got {source.shape}, {target.shape}")
    if not np.isfinite(source).all():
        raise DataError("landmarks are not finite numbers; find them again")
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    u, v = (source - centre).T
    x, y = (target - goal).T
    # of the way back: target to source
    a = float((x * u + y * v).sum())
    b = float((x * v - y * u).sum())
    spread = float((x * x + y * y).sum())
    square = a * a + b * b
    if square <= (spread * _LEAST_SCALE) ** 2:
        raise DataError("landmarks coincide, so that no alignment can be fitted; find them again")
    turn = np.array([[a, b], [-b, a]]) * (spread / square)
    return np.column_stack([turn, goal - turn @ centre])


def clip_transform(points5: NDArray[np.floating[Any]], image_size: int) -> NDArray[np.float64]:
    """Fit the one transform of a clip to the five points of all its frames (FTCN step 7).

    Args:
        points5: Eyes, nose, mouth corners (x, y) in source pixels, shape (T, 5, 2).
        image_size: Height and width of the aligned picture in pixels.

    Returns:
        Maps source pixels to the aligned picture, shape (2, 3), float64.

    Raises:
        DataError: The points coincide, or are not finite.
    """
    goals = np.tile(target_points(image_size), (len(points5), 1))
    return similarity_transform(np.asarray(points5, np.float64).reshape(-1, 2), goals)


def crop_matrices(matrix: NDArray[np.floating[Any]], origins: NDArray[Any]) -> NDArray[np.float64]:
    """Take the place of each crop into a transform of source pixels.

    Args:
        matrix: Maps source pixels to the aligned picture, shape (2, 3), or (T, 2, 3) with one
            for each crop.
        origins: Left and top of each crop in source pixels, shape (T, 2).

    Returns:
        Map the pixels of each crop to the aligned picture, shape (T, 2, 3), float64.
    """
    origins = np.asarray(origins, np.float64)
    matrices = np.array(np.broadcast_to(matrix, (len(origins), 2, 3)), np.float64)
    matrices[:, :, 2] += (matrices[:, :, :2] @ origins[:, :, None])[..., 0]
    return matrices


def warp_crops(
    crops: Iterable[NDArray[np.uint8]],
    crop_boxes: NDArray[Any],
    matrix: NDArray[np.floating[Any]],
    image_size: int,
) -> NDArray[np.uint8]:
    """Warp the crops of a clip to aligned pictures, black where there was no crop.

    Args:
        crops: One RGB picture for each of T frames, each (h, w, 3), uint8.
        crop_boxes: x0 y0 x1 y1 of the crops in source pixels, shape (T, 4).
        matrix: Maps source pixels to the aligned picture, shape (2, 3) or (T, 2, 3); may hold a
            mirror image.
        image_size: Height and width of the aligned picture in pixels.

    Returns:
        Shape (T, image_size, image_size, 3), uint8, bilinear.
    """
    matrices = crop_matrices(matrix, np.asarray(crop_boxes)[:, :2])
    return warp_bands(((crop, 0) for crop in crops), matrices, image_size)


def needed_rows(
    matrices: NDArray[np.floating[Any]], image_size: int | tuple[int, int]
) -> list[tuple[int, int]]:
    """Tell which rows of the crops an aligned clip is made of.

    Args:
        matrices: Map the pixels of each crop to the aligned picture, shape (T, 2, 3).
        image_size: Height and width of the aligned picture in pixels, one number if both agree.

    Returns:
        Of each crop the first row and the row after the last one, with those that bilinear
        interpolation touches; they may lie outside the crop.
    """
    height, width = _height_and_width(image_size)
    right, low = width - 1, height - 1
    corners = np.array([[0, 0], [right, 0], [0, low], [right, low]], np.float64)
    back = np.linalg.inv(np.asarray(matrices, np.float64)[:, :, :2])
    heights = ((corners - np.asarray(matrices)[:, None, :, 2]) @ back.transpose(0, 2, 1))[..., 1]
    # One row more on either side than interpolation needs, for the rounding of the warp.
    first = np.floor(heights.min(axis=1)).astype(int) - 1
    end = np.ceil(heights.max(axis=1)).astype(int) + 2
    return [(int(top), int(bottom)) for top, bottom in zip(first, end, strict=True)]


def warp_bands(
    bands: Iterable[tuple[NDArray[np.uint8], int]],
    matrices: NDArray[np.floating[Any]],
    image_size: int | tuple[int, int],
) -> NDArray[np.uint8]:
    """Warp bands of crops to aligned pictures, black where there is nothing.

    Args:
        bands: For each of T frames some rows of its crop, RGB, (h, w, 3), uint8, and the row of
            the crop that the first one is.
        matrices: Map the pixels of each crop to the aligned picture, shape (T, 2, 3).
        image_size: Height and width of the aligned picture in pixels, one number if both agree.

    Returns:
        Shape (T, height, width, 3), uint8, bilinear.
    """
    import cv2

    height, width = _height_and_width(image_size)
    frames = np.empty((len(matrices), height, width, 3), np.uint8)
    for (band, top), matrix, frame in zip(bands, matrices, frames, strict=True):
        to_picture = np.array(matrix, np.float64)
        to_picture[:, 2] += to_picture[:, 1] * top
        cv2.warpAffine(
            np.ascontiguousarray(band),
            to_picture,
            (width, height),
            dst=frame,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
    return frames


def transform_points(
    points: NDArray[np.floating[Any]], matrix: NDArray[np.floating[Any]]
) -> NDArray[np.float32]:
    """Move points along with the picture.

    Args:
        points: (x, y), shape (..., 2); (T, K, 2) where each frame has its matrix.
        matrix: Shape (2, 3) or (T, 2, 3).

    Returns:
        Shape (..., 2), float32.
    """
    matrix = np.asarray(matrix, np.float64)
    shift = matrix[:, None, :, 2] if matrix.ndim == 3 else matrix[:, 2]
    moved = np.asarray(points, np.float64) @ matrix[..., :2].swapaxes(-1, -2) + shift
    return np.asarray(moved, np.float32)


def _height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else image_size
