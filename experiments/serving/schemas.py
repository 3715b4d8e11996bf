"""What the server takes and gives, as its OpenAPI names it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from experiments.serving.jobs import State


class Health(BaseModel):
    """Whether the server does its work."""

    healthy: bool


class Alive(BaseModel):
    """Whether the process answers."""

    alive: Literal[True] = True


class Mistake(BaseModel):
    """What went wrong."""

    code: str = Field(description="for programs")
    message: str = Field(description="one line for people")


class Problem(BaseModel):
    """Every answer that is no success."""

    error: Mistake


class PredictRequest(BaseModel):
    """A video that the server fetches."""

    model_config = ConfigDict(extra="forbid")

    file_path: str = Field(
        min_length=1,
        max_length=2048,
        description="URL of the video, https unless the operator allows more",
        examples=["https://example.com/video.mp4"],
    )


class Progress(BaseModel):
    """How far a job is."""

    phase: str = Field(description="what is being done")
    done: int
    total: int = Field(description="0 where it is not known")


class JobView(BaseModel):
    """A job as it stands."""

    id: str
    state: State
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = Field(None, description="when the results go")
    position: int | None = Field(None, description="jobs that wait before it, while it waits")
    progress: Progress | None = Field(None, description="while it runs")
    error: Mistake | None = Field(None, description="why it has no result")
    links: dict[str, str] = Field(description="paths of the job and of its results by name")


class Report(BaseModel):
    """The report of a video, as `python -m experiments.predict` writes it (docs/predict.md)."""

    model_config = ConfigDict(extra="allow")

    schema_version: int
    status: str


#: Body of a request that brings or names a video, for the OpenAPI.
VIDEO_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/PredictRequest"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "the video"}
                },
                "additionalProperties": False,
            }
        },
    },
}
