"""What the numbers of a report cannot tell, in plain words; and how scores become decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.predicting.report import ModelReport, VideoReport

_LIMITS = (
    "The score pools outputs of one network between 0 (looks real to it) and 1 (looks forged "
    "to it). It is no probability and no verdict, and no evidence on its own.",
    "Only faces that were found and followed were looked at; sound, background, text and frames "
    "without a face were not.",
    "Faces are not recognised: a person is told from others by time and place alone, so the same "
    "person may come back under another number.",
    "Forgeries of kinds the network was not trained on, strong compression, small, dark or turned "
    "faces, filters and re-recording can move the score either way.",
)
_AVERAGE = (
    "The score is the plain mean of the scores of {names}. The mean has no operating point of its "
    "own, so no decision is given for it; those of its members stand beside it."
)
_NO_POINT = (
    "No operating point has been calibrated for {name}, so no decision is given: compare scores "
    "only with scores of the same model on videos of known origin."
)
_POINT = (
    "The decision of {name} is that of a threshold fitted on the {set} set of run {run} "
    "({num_real} real, {num_fake} fake videos, at {criterion}); on videos of other origin its "
    "errors are others."
)
_NO_FACE = "No face was found, so nothing was judged: that says nothing about the video."
_OTHER_BACKEND = (
    "The faces were found by {here}, those that {name} was trained on by {there}: they are aligned "
    "differently, which alone can move the score."
)


def limits(report: VideoReport) -> list[str]:
    """Say in plain words what a report cannot tell.

    Args:
        report: The scored video.

    Returns:
        Sentences for the reader, the most important first.
    """
    first = [note for model in report.models for note in model.spec.facts.notes]
    if report.status == "no_face":
        first.append(_NO_FACE)
    for model in report.models:
        there = model.spec.facts.prepared_by
        if report.faces and there and there != report.face_backend:
            first.append(
                _OTHER_BACKEND.format(here=report.face_backend, there=there, name=model.spec.name)
            )
    told = [_told(model) for model in report.models]
    if len(report.models) > 1:
        told.insert(0, _AVERAGE.format(names=", ".join(m.spec.name for m in report.models)))
    return list(dict.fromkeys([*first, _LIMITS[0], *told, *_LIMITS[1:]]))


def decision(model: ModelReport) -> dict[str, Any]:
    """Turn a model's score into a decision.

    Args:
        model: The model, and its scores.

    Returns:
        The call (`real`, `fake`, or `abstain`), why it abstains, and what the calibrated score was
        held to, None where there is no operating point.
    """
    point, score = model.spec.operating_point, model.score
    if score is None:
        return abstention("no face was found")
    if point is None:
        return abstention("no operating point has been calibrated for this model")
    call = point.call(score)
    return {
        "call": call,
        "reason": "too near to the threshold" if call == "abstain" else None,
        "operating_point": {
            "threshold": point.threshold,
            "abstain_range": [point.abstain_low, point.abstain_high],
            "criterion": point.criterion,
            "calibration": point.calibration,
            "fitted_on": point.fitted_on,
        },
    }


def overall_decision(report: VideoReport) -> dict[str, Any]:
    """Give the decision of the one model; of several there is none that was ever calibrated."""
    if len(report.models) == 1:
        return decision(report.models[0])
    if report.status == "no_face":
        return abstention("no face was found")
    return abstention("an average of models has no operating point")


def abstention(reason: str) -> dict[str, Any]:
    """Make no call.

    Args:
        reason: Why.
    """
    return {"call": "abstain", "reason": reason, "operating_point": None}


def _told(model: ModelReport) -> str:
    point = model.spec.operating_point
    if point is None:
        return _NO_POINT.format(name=model.spec.name)
    return _POINT.format(**point.fitted_on, criterion=point.criterion, name=model.spec.name)
