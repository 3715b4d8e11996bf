"""UADFV, as it is distributed.

    <root>/real/0000.mp4             genuine, 49 videos
    <root>/fake/0000_fake.mp4        forged (FakeApp), of the genuine video 0000

There is no official split; it is made here by pairs, as nobody is named. DeepfakeBench tests on
all of it: --all-test.

Yang, Li and Lyu, ICASSP 2019, https://arxiv.org/abs/1811.00661.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from datamodules.datasets.adapter import Videos, finish, missing, videos_below
from datamodules.datasets.records import SourceVideo

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from datamodules.datasets.adapter import LayoutOptions
    from datamodules.datasets.records import SourceFolder
    from datamodules.storage.root import DataRoot


def read_uadfv(root: DataRoot, options: LayoutOptions) -> SourceFolder:
    """Read UADFV; see `layouts.Reader`."""
    paths = videos_below(root, "real") + videos_below(root, "fake")
    reals = {path.stem: str(path) for path in paths if path.parts[0] == "real"}
    fakes = [path for path in paths if path.parts[0] == "fake"]
    if not reals or not fakes:
        lacking = ("fake", "/0000_fake.mp4") if reals else ("real", "/0000.mp4")
        raise missing(root, *lacking, "give the folder that holds real/ and fake/")
    alone = sum(_footage(path) not in reals for path in fakes)
    notes = [f"{alone} forged video(s) come without their genuine one"] if alone else []
    return finish(root, options, "uadfv", Videos([_video(path, reals) for path in paths], notes))


def _footage(path: PurePosixPath) -> str:
    return path.stem.removesuffix("_fake")


def _video(path: PurePosixPath, reals: dict[str, str]) -> SourceVideo:
    """Describe one video."""
    is_fake = path.parts[0] == "fake"
    footage = _footage(path)
    return SourceVideo(
        path=path,
        label=int(is_fake),
        method="FakeApp" if is_fake else None,
        name=path.stem,
        compression="",
        groups=(f"uadfv/{footage}",),
        paired_real=reals.get(footage, "") if is_fake else "",
    )
