"""What a reader must know of maps, in plain words; part of every report that has some."""

from __future__ import annotations

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
