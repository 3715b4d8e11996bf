"""The labels of DeepfakeBench and DF40: real or fake, by which method, and who is seen."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from datamodules.datasets.naming import people_of, plain_name

#: Label key -> method, as the suite's other readers name it; None for real videos. From the
#: `label_dict` of DeepfakeBench's configurations.
LABELS: dict[str, str | None] = {
    "FF-real": None,
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "FF-SH": "FaceShifter",
    "DFD_real": None,
    "DFD_fake": "DeepFakeDetection",
    "CelebDFv1_real": None,
    "CelebDFv1_fake": "Celeb-synthesis",
    "CelebDFv2_real": None,
    "CelebDFv2_fake": "Celeb-synthesis",
    "DFDCP_Real": None,
    "DFDCP_FakeA": "method_A",
    "DFDCP_FakeB": "method_B",
    "DFDC_Real": None,
    "DFDC_Fake": "DFDC",
    "DF_real": None,
    "DF_fake": "end_to_end",
    "UADFV_Real": None,
    "UADFV_Fake": "FakeApp",
    "roop_Real": None,
    "roop_Fake": "roop",
}
#: Methods of DF40 that make or edit single pictures.
STILL_METHODS = (
    *("VQGAN", "StyleGAN2", "StyleGAN3", "StyleGANXL", "sd2.1", "ddim", "rddm", "PixArt"),
    *("DiT", "SiT", "MidJourney", "whichfaceisreal", "whichisreal"),
    *("stargan", "starganv2", "styleclip", "e4e", "CollabDiff"),
)
#: All methods of DF40, as its folders, files and labels spell them.
DF40_METHODS = (
    *("fsgan", "faceswap", "simswap", "inswap", "blendface", "uniface", "mobileswap", "e4s"),
    *("facedancer", "deepfacelab", "fomm", "facevid2vid", "wav2lip", "MRAA", "one_shot_free"),
    *("pirender", "tpsm", "lia", "danet", "sadtalker", "mcnet", "heygen", "hyperreenact"),
    *STILL_METHODS,
)
#: Labels of DF40 that hold several methods; which one a video is of, its path tells.
JOINT = ("FSAll", "FRAll", "EFSAll", "DF40_train", "DF40")
_KNOWN = {name.casefold() for name in (*DF40_METHODS, *JOINT)}
#: Sources of DF40's videos, as its folders name them.
SOURCES = ("ff", "cdf", "real", "fake")
_ENDING = re.compile(r"(.*?)[_-]*(real|fake)", re.IGNORECASE)
#: Beginning of a data set's name -> what other readers put before the people seen in it.
_FAMILIES = {
    "FaceForensics++": "ffpp",
    "FF-": "ffpp",
    "FaceShifter": "ffpp",
    "DeepFakeDetection": "dfd",
    "Celeb-DF": "celeb_df",
    "DeeperForensics": "deeperforensics",
}
_DEEPER = re.compile(r"(\d{3})_([MW]\d+)")


def label_of(key: str) -> tuple[int, str | None] | None:
    """Read what a label key says.

    Args:
        key: As it stands in a JSON file.

    Returns:
        (0, None) for real, (1, method) for fake; the method is the beginning of the key where it
        has none of its own. None if the key does not say.
    """
    if key in LABELS:
        return int(LABELS[key] is not None), LABELS[key]
    ending = _ENDING.fullmatch(key)
    if ending is None:
        return None
    return (0, None) if ending[2].lower() == "real" else (1, ending[1] or "fake")


def is_known_label(key: str) -> bool:
    """Tell whether a label key is one of those that the two benchmarks are known to use."""
    ending = _ENDING.fullmatch(key)
    return key in LABELS or (ending is not None and ending[1].casefold() in _KNOWN)


def method_of(method: str | None, folder: PurePosixPath) -> str | None:
    """Tell the method of one video of a label that holds several.

    Args:
        method: What the label says.
        folder: Of the frames: `.../<method>/{ff,cdf}/frames/<video>`.

    Returns:
        The method by its folder where the label is a joint one and the folder tells.
    """
    if method not in JOINT:
        return method
    known = {name.casefold() for name in DF40_METHODS}
    return next((part for part in folder.parts if part.casefold() in known), method)


def family_of(dataset: str, folder: PurePosixPath) -> str:
    """Tell where the people of a video come from, so that they count once over several sets.

    Args:
        dataset: Name of the data set or subset.
        folder: Of the frames.

    Returns:
        What stands before people: `ffpp`, `celeb_df`, ...; the data set where it has its own.
    """
    if "actors" in folder.parts or "DeepFakeDetection" in folder.parts:
        return "dfd"
    for name in (dataset, *folder.parts):
        family = next((f for start, f in _FAMILIES.items() if name.startswith(start)), "")
        if family:
            return family
    source = {"ff": "ffpp", "cdf": "celeb_df"}
    by_part = next((source[part] for part in folder.parts if part in source), "")
    return by_part or source.get(dataset.rpartition("_")[2], dataset)


def groups_of(family: str, video: str) -> tuple[str, ...]:
    """Name the people of a video; where its name tells nobody, its own footage.

    Args:
        family: As `family_of` gives it.
        video: Name of the video.

    Returns:
        Its groups.
    """
    actor = _DEEPER.fullmatch(video)
    if actor:
        return (f"ffpp/{actor[1]}", f"deeperforensics/{actor[2]}")
    return tuple(f"{family}/{name}" for name in people_of(PurePosixPath(video))) or (
        footage_of(family, video),
    )


def footage_of(family: str, video: str) -> str:
    """Name the footage of a video: that of the genuine video which a fake was made of.

    Args:
        family: As `family_of` gives it.
        video: Name of the video.

    Returns:
        The same for a fake and its genuine video, where names tell.
    """
    people = people_of(PurePosixPath(video))
    if len(people) == 2:
        # id0_id16_0007 was id0_0007; 000_003 was 000; 01_02__walk__AB12 was 01__walk
        rest = video[len("_".join(people)) :]
        video = people[0] + (rest.rpartition("__")[0] or rest)
    return f"{family}/{plain_name(PurePosixPath(re.sub('_fake$', '', video)))}"
