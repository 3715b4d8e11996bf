"""`report.json`: what is written about a scored video."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.atomic import write_text_atomically
from experiments.predicting.limits import decision, limits, overall_decision
from experiments.predicting.report import time_ranges
from experiments.predicting.threshold import threshold_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from experiments.predicting.report import FaceTimes, ModelReport, VideoReport
    from experiments.predicting.scores import TrackScore

#: Raised when a reader of an older report could misunderstand a newer one.
SCHEMA_VERSION = 3

#: Levels of the report that get lines of their own; a clip and a column of frames are one line.
_DEPTH = 6


def report_content(report: VideoReport, maps: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give a report as plain values, as `report.json` has them.

    Args:
        report: The scored video.
        maps: What was mapped, see `maps_content`; None where no maps were asked for.

    Returns:
        JSON values; `report_schema` describes them.
    """
    several = len(report.models) > 1
    return {
        "schema_version": SCHEMA_VERSION,
        "status": report.status,
        "reason": report.reason or None,
        "video_score": _rounded(report.score),
        "calibrated_probability": _rounded(report.calibrated),
        "decision": _rounded_all(overall_decision(report)),
        "threshold": _rounded_all(threshold_of(report)._asdict()),
        "average_of": [model.spec.name for model in report.models] if several else None,
        "limits": limits(report),
        "maps": maps,
        "video": _rounded_all(asdict(report.video)),
        "models": [_model(model) for model in report.models],
        "code": report.models[0].spec.facts.code,
        "settings": report.settings,
        "persons": [_person(report, number) for number in report.persons],
        "dropped": [asdict(frames) for frames in report.dropped],
        "tracks": [_track(report, face) for face in report.faces],
    }


def maps_content(limits: Sequence[str], listed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give what a report says of maps; the curves of clips stay in `moments.json`.

    Args:
        limits: What maps cannot tell.
        listed: The moments, as `moments.json` has them.
    """
    moments = [{key: m[key] for key in m if key != "curve"} for m in listed]
    return {"limits": list(limits), "moments": moments}


def report_schema() -> dict[str, Any]:
    """Give the JSON Schema of `report.json`, by which anybody may check one."""
    text = (Path(__file__).parent / "report.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def write_report(path: Path, report: VideoReport, maps: dict[str, Any] | None = None) -> None:
    """Write `report.json`.

    Args:
        path: The file to write.
        report: The scored video.
        maps: As `report_content` takes it.

    Raises:
        OSError: If the disk refuses the bytes.
    """
    write_text_atomically(path, _json(report_content(report, maps), _DEPTH) + "\n")


def _model(model: ModelReport) -> dict[str, Any]:
    spec, facts = model.spec, model.spec.facts
    return {
        "name": spec.name,
        "method": spec.method,
        "source": facts.source,
        "checkpoint": facts.checkpoint,
        "checkpoint_sha256": facts.checkpoint_sha256,
        "trained_on": facts.trained_on,
        "num_frames": spec.num_frames,
        "image_size": spec.image_size,
        "settings": model.settings,
        "video_score": _rounded(model.score),
        "calibrated_probability": _rounded(model.calibrated),
        "decision": _rounded_all(decision(model)),
    }


def _person(report: VideoReport, number: int) -> dict[str, Any]:
    faces = [face for face in report.faces if face.person == number]
    return {
        "person": number,
        "tracks": [face.track for face in faces],
        "time_ranges_s": _rounded_all(
            [span for face in faces for span in time_ranges(report, face)]
        ),
        "score": _rounded(report.person_score(number)),
        "models": [
            {"name": model.spec.name, "score": _rounded(report.person_score(number, [model]))}
            for model in report.models
        ],
    }


def _track(report: VideoReport, face: FaceTimes) -> dict[str, Any]:
    return {
        "track": face.track,
        "person": face.person,
        "rank": face.rank,
        "score": _rounded(report.track_score(face.track)),
        "frame_range": [int(face.frame_index[0]), int(face.frame_index[-1])],
        "time_ranges_s": _rounded_all(time_ranges(report, face)),
        # Columns, not rows: hours of video stay readable and small.
        "frames": {
            "frame": face.frame_index.tolist(),
            "time_s": _column(face.time_s),
            "box": [[round(value, 1) for value in row] for row in face.box.tolist()],
            "score": _column(report.frame_score(face.track)),
        },
        "models": [
            _scores(model.spec.name, model.tracks[face.track], len(report.models) > 1)
            for model in report.models
        ],
    }


def _scores(name: str, track: TrackScore, own_frames: bool) -> dict[str, Any]:
    """Give the scores of a track by one model; its frames' stand in the track where it is alone."""
    return {
        "name": name,
        "score": _rounded(track.score),
        "clips": [_rounded_all(asdict(clip)) for clip in track.clips],
        **({"frame_score": _column(track.frame_score)} if own_frames else {}),
    }


def _column(values: NDArray[Any]) -> list[Any]:
    return [_rounded(value) for value in values.tolist()]


def _rounded_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded_all(item) for item in value]
    return _rounded(value)


def _rounded(value: Any) -> Any:
    """Keep six digits of a number; what is no number becomes null, which is what JSON has."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None


def _json(value: Any, depth: int, indent: str = "") -> str:
    """Encode with lines of their own for the outer levels only."""
    if depth == 0 or not value or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_json(v, depth - 1, inner)}" for k, v in value.items()]
    elif not isinstance(value[0], dict | str):
        # a column, or a range
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    else:
        items = [_json(item, depth - 1, inner) for item in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    lines = f",\n{inner}".join(items)
    return f"{start}\n{inner}{lines}\n{indent}{end}"
