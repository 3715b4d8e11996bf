"""What a reader must know of maps, in plain words; part of every report that has some."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.predicting.scorer import ClipSpec

#: Sentences for the reader, the most important first.
MAP_LIMITS = (
    "A map shows where the network found what raised its score. It does not show what was forged: "
    "a wrong score has a map as well, and it looks as convincing as a right one.",
    "A network can rest its score on something else than a forgery, as compression, blur or light; "
    "a map says where that was, not what it was.",
    "What is unmarked is not shown to be genuine. The network may not have needed it, or may have "
    "seen a forgery of the whole face in one place.",
    "Maps are coarse: their places are cells of about a fourth to a thirty-second of the face's "
    "picture, and what a cell tells may come from its surroundings.",
    "Strength is relative to the strongest place of the same clip, times the clip's score. It is "
    "no probability, and does not compare between methods.",
    "Only a few clips of each video are mapped: those with the highest scores, spread over time.",
)
_OTHER_ENGINE = (
    "Scores of {name} are those of {engine}; its maps come from the same network run by torch in "
    "float32, whose scores may differ a little."
)


_NO_MAPS = "Nothing is mapped of {name}: there is nothing in its network that maps could show."


def map_limits(specs: Sequence[ClipSpec], without: Sequence[ClipSpec] = ()) -> list[str]:
    """Say in plain words what the maps of a report cannot tell.

    Args:
        specs: Of the models that made them.
        without: Of the models that scored and have none.

    Returns:
        Sentences for the reader, the most important first.
    """
    others = [spec for spec in specs if spec.facts.engine != "torch"]
    told = [_OTHER_ENGINE.format(name=s.name, engine=s.facts.engine) for s in others]
    told += [_NO_MAPS.format(name=spec.name) for spec in without]
    return [*MAP_LIMITS, *told]
