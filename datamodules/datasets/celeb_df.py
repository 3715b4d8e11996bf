"""Celeb-DF v1, v2 and Celeb-DF++, as their authors distribute them.

    <root>/Celeb-real/id0_0000.mp4                              genuine, 59 celebrities
    <root>/YouTube-real/00000.mp4                               genuine, one person each
    <root>/Celeb-synthesis/id0_id16_0000.mp4                    forged (v1, v2)
    <root>/Celeb-synthesis/FaceSwap/SimSwap/id0_id16_0000.mp4   forged (++)
    <root>/List_of_testing_videos.txt                           official test part

Celeb-DF++ has a folder for each method in each of FaceSwap, FaceReenact and TalkingFace. Videos
may also lie in a folder videos/ inside each of these. A forged video idA_idB_n shows the genuine
video idA_n with the face of B; it belongs to both people. In the list, 1 means genuine and 0
forged; what it does not name is the training part.

The test part shows nearly all of the celebrities of the training part. It is always taken as it
is. By default the training part keeps nobody who is in it, which leaves the YouTube videos and
little else: what is needed for tests across data sets. --keep-apart footage leaves out of the
training part the videos of tested footage only; --keep-apart video leaves out nothing, as
published work on Celeb-DF does. The groups of the manifest then name footage, or videos.

Li et al., CVPR 2020, https://arxiv.org/abs/1909.12962; Li et al., 2025,
https://arxiv.org/abs/2507.18015.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from datamodules.datasets.adapter import (
    Videos,
    absent,
    finish,
    missing,
    read_lines,
    strange,
    videos_below,
)
from datamodules.datasets.records import SourceVideo
from datamodules.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot

TEST_LIST = "List_of_testing_videos.txt"
_CELEB_REAL, _YOUTUBE_REAL, _SYNTHESIS = "Celeb-real", "YouTube-real", "Celeb-synthesis"
#: Person, the other person of a swap, number of the footage, and what drives a talking face.
_FAKE = re.compile(r"(id\d+)_(?:(id\d+)_)?(\d{4})(?:_.*)?")
_REAL = re.compile(r"(id\d+)_\d{4}|\d{5}")
#: Celebrities have short numbers; longer ones name speakers of VoxCeleb, whose voice alone is used.
_CELEBRITY = re.compile(r"(?<![a-z\d])id\d{1,2}(?!\d)")
#: Other spellings of folders in circulation.
_SPELLINGS = {"Youtube-real": _YOUTUBE_REAL, "Celeb-DF-v2": "Celeb-DF"}


def read_celeb_df_v1(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read Celeb-DF v1; see `layouts.Reader`."""
    return _read(root, options, "celeb_df_v1", depth=2)


def read_celeb_df_v2(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read Celeb-DF v2; see `layouts.Reader`."""
    return _read(root, options, "celeb_df_v2", depth=2)


def read_celeb_df_pp(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read Celeb-DF++; see `layouts.Reader`."""
    return _read(root, options, "celeb_df_pp", depth=4)


def _read(root: DataRoot, options: LayoutOptions, dataset: str, depth: int) -> SourceFolder:
    """Read one of the releases; `depth` is the number of parts of a forged video's path."""
    tops = (_CELEB_REAL, _YOUTUBE_REAL, "Youtube-real", _SYNTHESIS)
    paths = {_key(path): path for top in tops for path in videos_below(root, top)}
    reals = {key: path for key, path in paths.items() if _is_real(key)}
    fakes = {key: path for key, path in paths.items() if _is_fake(key, depth)}
    if not reals or not fakes:
        inner = "/<scenario>/<method>" if depth > 2 else ""
        lacking = (_SYNTHESIS, f"{inner}/id0_id16_0000.mp4") if reals else (_CELEB_REAL, "/*.mp4")
        raise missing(root, *lacking, "see --layouts for the folders that belong there")
    notes = strange(str(path) for key, path in paths.items() if key not in reals.keys() | fakes)
    split_of: dict[str, str] = {}
    if options.needs_split:
        listed = _test_list(root)
        notes += absent(listed, paths, TEST_LIST)
        split_of = dict.fromkeys(paths, "train") | dict.fromkeys(listed, "test")
    videos = [_real(key, path, split_of.get(key, "")) for key, path in reals.items()]
    videos += [_fake(key, path, split_of.get(key, ""), reals) for key, path in fakes.items()]
    return finish(root, options, dataset, Videos(videos, notes), has_val=False)


def _key(path: PurePosixPath) -> str:
    """Name a video as the test list does, whatever folders and spelling were used."""
    folders = [_SPELLINGS.get(part, part) for part in path.parts[:-1] if part != "videos"]
    return "/".join([*folders, path.stem])


def _is_real(key: str) -> bool:
    top, _, name = key.partition("/")
    return top in (_CELEB_REAL, _YOUTUBE_REAL) and _REAL.fullmatch(name) is not None


def _is_fake(key: str, depth: int) -> bool:
    parts = key.split("/")
    named = _FAKE.fullmatch(parts[-1]) is not None
    return parts[0] == _SYNTHESIS and len(parts) == depth and named


def _real(key: str, path: PurePosixPath, split: str) -> SourceVideo:
    """Describe a genuine video."""
    match = _REAL.fullmatch(path.stem)
    person = (match[1] if match else None) or f"youtube-{path.stem}"
    return SourceVideo(
        path=path,
        label=0,
        method=None,
        name=path.stem,
        compression="",
        groups=(f"celeb_df/{person}",),
        split=split,
        footage=f"celeb_df/{path.stem}",
    )


def _fake(
    key: str, path: PurePosixPath, split: str, reals: Mapping[str, PurePosixPath]
) -> SourceVideo:
    """Describe a forged video."""
    match = _FAKE.fullmatch(path.stem)
    person, _, number = match.groups() if match else ("", None, "")
    footage = f"{person}_{number}"
    others = [name for name in _CELEBRITY.findall(path.stem) if name != person]
    return SourceVideo(
        path=path,
        label=1,
        method=key.split("/")[-2],
        name=path.stem,
        compression="",
        groups=tuple(f"celeb_df/{name}" for name in dict.fromkeys([person, *others])),
        split=split,
        paired_real=str(reals.get(f"{_CELEB_REAL}/{footage}", "")),
        footage=f"celeb_df/{footage}",
    )


def _test_list(root: DataRoot) -> list[str]:
    """Read the official test list: the names of its videos."""
    if root.size(TEST_LIST) < 0:
        raise missing(
            root, TEST_LIST, "", "it comes with the data set; or give --all-test, or --split CSV"
        )
    names = []
    for where, line in read_lines(root, TEST_LIST):
        label, _, text = line.replace("\\", "/").partition(" ")
        name = _key(PurePosixPath(text.strip()))
        if label not in ("0", "1") or (label == "1") == name.startswith(_SYNTHESIS):
            raise DataError(
                f"{where}: {line!r} is not '1 <genuine video>' or '0 {_SYNTHESIS}/<video>'; "
                "fetch the list of this release again"
            )
        names.append(name)
    return names
