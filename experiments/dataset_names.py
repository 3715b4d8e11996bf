"""One name for a data set, however its files, `make data` and papers spell it."""

from __future__ import annotations

#: Spellings without capitals and signs -> that of `make data`.
_SAME = {
    "faceforensics": "ffpp",
    "deepfakedetection": "dfd",
    "deeperforensics10": "deeperforensics",
}


def plain(name: str) -> str:
    """Spell a data set without capitals and signs.

    Args:
        name: As a manifest, a protocol or a paper has it: `Celeb-DF-v2`, `celeb_df_v2`.

    Returns:
        Equal for all spellings of one data set.
    """
    text = "".join(char for char in name.casefold() if char.isalnum())
    return _SAME.get(text, text)
