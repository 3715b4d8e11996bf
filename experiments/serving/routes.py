"""The server's paths."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi import Path as PathPart
from fastapi.responses import FileResponse, JSONResponse, Response

from experiments.serving.access import Maker, Reader, client_of, engine_of, full
from experiments.serving.errors import STATUS_OF
from experiments.serving.fetch import check_url
from experiments.serving.jobs import FINAL, Job, QueueFullError, new_job_id
from experiments.serving.schemas import (
    VIDEO_BODY,
    Alive,
    Health,
    JobView,
    Mistake,
    Problem,
    Progress,
    Report,
)
from experiments.serving.uploads import Places, RequestError, UploadLimits, receive
from experiments.serving.workers import INPUT, RECEIVING, check_file

if TYPE_CHECKING:
    from experiments.serving.engine import Engine

#: Seconds between looks whether a job is done while a request waits for it. [ours]
_LOOK_S = 0.1
#: Results that have a path of their own.
NAMED = {
    "report": "report.json",
    "video": "annotated.mp4",
    "timeline": "timeline.png",
    "segments": "segments.csv",
    "subtitles": "segments.vtt",
    "moments": "moments.png",
}
_TYPES = {
    ".json": "application/json",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".csv": "text/csv; charset=utf-8",
    ".vtt": "text/vtt; charset=utf-8",
}


_Answers = dict[int | str, dict[str, Any]]


def _problems(*statuses: int) -> _Answers:
    return {s: {"model": Problem, "description": _SAID[s]} for s in statuses}


_SAID = {
    400: "the body is malformed",
    401: "a key is missing or is none",
    403: "the request comes from a page of another site",
    404: "there is no such job, or it is another key's",
    408: "the upload takes too long",
    409: "the job has no such result (yet)",
    410: "the results are gone",
    413: "the video is too large",
    415: "the body is neither JSON nor multipart",
    416: "no such range of bytes",
    421: "the server is not known under that name",
    422: "the URL or the video is refused; the code says why",
    429: "too many requests, or the queue is full; see Retry-After",
    500: "the server failed",
    503: "not loaded, shutting down or out of disk; see Retry-After",
}
_PLAIN: _Answers = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
_TAKING = _problems(400, 401, 403, 408, 413, 415, 421, 422, 429, 500, 503)
_READING = _problems(401, 404, 421, 429, 503)
JobId = Annotated[str, PathPart(pattern=r"^([a-z0-9]{1,16}-)?[0-9a-f]{32}$")]
Annotate = Annotated[bool, Query(description="whether to make the annotated video")]
Explain = Annotated[bool, Query(description="whether to map what raised the scores; takes long")]

router = APIRouter()


@router.head("/livez", include_in_schema=False)  # which some monitors ask with
@router.get("/livez", tags=["state"])
async def livez() -> Alive:
    """Tell that the process answers."""
    return Alive()


@router.head("/healthcheck", include_in_schema=False)
@router.get("/healthcheck", tags=["state"], responses={503: {"model": Health}})
async def healthcheck(request: Request) -> Health:
    """Tell whether videos are taken: the model is loaded, and the server is not shutting down."""
    healthy = engine_of(request).healthy
    if not healthy:
        return JSONResponse({"healthy": False}, 503)  # type: ignore[return-value]
    return Health(healthy=True)


@router.get(
    "/metrics",
    tags=["state"],
    response_class=Response,
    responses=_PLAIN | _problems(401, 429, 503),
)
def metrics(request: Request, _: Reader) -> Response:
    """Give counts and times to Prometheus."""
    text = engine_of(request).metrics.text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post(
    "/predict",
    tags=["videos"],
    response_model=Report,
    openapi_extra={"requestBody": VIDEO_BODY},
    responses={202: {"model": JobView, "description": "not done in time: the job that goes on"}}
    | _TAKING
    | _problems(409, 410),
)
async def predict(
    request: Request, who: Maker, annotated: Annotate = False, explained: Explain = False
) -> Response:
    """Score a video and wait for its report.

    What is not done within the server's waiting time (`wait_s`) is answered with 202 and the job,
    which goes on. Who goes away while waiting cancels it.
    """
    engine = engine_of(request)
    job = await _wait(
        request, await _submit(request, who, annotated=annotated, explained=explained)
    )
    if job.state not in FINAL:
        return _accepted(engine, job)
    answer = _file(engine, job, NAMED["report"])
    answer.headers["Content-Location"] = f"/jobs/{job.id}"
    return answer


async def _wait(request: Request, job: Job) -> Job:
    """Wait for a job's end, at most for the server's waiting time."""
    engine = engine_of(request)
    deadline = time.monotonic() + engine.settings.wait_s
    while job.state not in FINAL and time.monotonic() < deadline:
        if engine.draining and job.state == "queued":
            break  # it is for another replica, or another life
        if await request.is_disconnected():
            await asyncio.to_thread(engine.workers.cancel, job.id)
            raise RequestError(409, "cancelled", "the client went away")
        await asyncio.sleep(_LOOK_S)
        seen = await asyncio.to_thread(engine.store.get, job.id)
        job = seen or job
    return job


@router.post(
    "/jobs",
    status_code=202,
    tags=["jobs"],
    response_model=JobView,
    openapi_extra={"requestBody": VIDEO_BODY},
    responses=_TAKING,
)
async def make_job(
    request: Request, who: Maker, annotated: Annotate = True, explained: Explain = False
) -> Response:
    """Queue a video; the answer says where to look for its report."""
    return _accepted(
        engine_of(request), await _submit(request, who, annotated=annotated, explained=explained)
    )


@router.get("/jobs/{job_id}", tags=["jobs"], responses=_READING | _problems(422))
def show_job(request: Request, job_id: JobId, who: Reader) -> JobView:
    """Tell how far a job is."""
    engine = engine_of(request)
    return view(engine, _own(engine, job_id, who))


@router.delete("/jobs/{job_id}", tags=["jobs"], responses=_READING | _problems(403, 422))
def cancel_job(request: Request, job_id: JobId, who: Reader) -> JobView:
    """Cancel a job, or remove the results of one that is done. Twice is as once."""
    engine = engine_of(request)
    _own(engine, job_id, who)
    return view(engine, engine.workers.cancel(job_id) or _own(engine, job_id, who))


def _result_path(name: str, media_type: str) -> None:
    """Give a result of a job its path."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {"content": {media_type: schema}}
    answers: _Answers = {206: {"description": "the range of bytes asked for"}}
    answers[200] = {"model": Report} if name == "report" else content

    def result(request: Request, job_id: JobId, who: Reader) -> FileResponse:
        engine = engine_of(request)
        return _file(engine, _own(engine, job_id, who), NAMED[name])

    router.add_api_route(
        f"/jobs/{{job_id}}/{name}",
        result,
        methods=["GET"],
        tags=["results"],
        summary=f"Give the {name} of a job",
        operation_id=f"job_{name}",
        response_class=FileResponse,
        responses=answers | _READING | _problems(*STATUSES),
    )


#: With which a job's failure is told when its result is asked for.
STATUSES = sorted({*STATUS_OF.values(), 416} - {401, 404, 421, 429, 503})
for _name, _file_name in NAMED.items():
    _result_path(_name, _TYPES[Path(_file_name).suffix].partition(";")[0])


@router.get(
    "/jobs/{job_id}/files/{name:path}",
    tags=["results"],
    response_class=FileResponse,
    responses=_READING | _problems(*STATUSES),
)
def job_file(request: Request, job_id: JobId, name: str, who: Reader) -> FileResponse:
    """Give any result of a job by its name among its links."""
    engine = engine_of(request)
    return _file(engine, _own(engine, job_id, who), name)


def view(engine: Engine, job: Job) -> JobView:
    """Show a job to its owner."""
    path = f"/jobs/{job.id}"
    named = {file: name for name, file in NAMED.items()}
    links = {"self": path} | {
        named.get(f, f): f"{path}/{named[f]}" if f in named else f"{path}/files/{f}"
        for f in job.files
    }
    running = job.state == "running"
    return JobView(
        id=job.id,
        state=job.state,
        created_at=_moment(job.created),
        started_at=_moment(job.started) if job.started else None,
        finished_at=_moment(job.finished) if job.finished else None,
        expires_at=_moment(job.expires) if job.expires else None,
        position=engine.store.position(job) if job.state == "queued" else None,
        progress=Progress(phase=job.phase, done=job.done, total=job.total) if running else None,
        error=Mistake(code=job.error_code, message=job.error or "") if job.error_code else None,
        links=links,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _accepted(engine: Engine, job: Job) -> JSONResponse:
    content = view(engine, job).model_dump(mode="json")
    return JSONResponse(content, 202, {"Location": f"/jobs/{job.id}"})


def _own(engine: Engine, job_id: str, who: str) -> Job:
    if not engine.loaded:
        raise RequestError(503, "not_ready", "the server is still loading", {"Retry-After": "10"})
    job = engine.store.get(job_id)
    if job is None or job.owner != who:
        raise RequestError(404, "no_job", "there is no such job, or it is forgotten")
    return job


def _file(engine: Engine, job: Job, name: str) -> FileResponse:
    """Give a result, or say why there is none."""
    if job.state in ("failed", "cancelled"):
        code = job.error_code or "cancelled"
        raise RequestError(STATUS_OF.get(code, 500), code, job.error or "the job was cancelled")
    if job.state == "expired":
        raise RequestError(410, "expired", "the results are gone; send the video again")
    if job.state != "done":
        raise RequestError(409, "not_done", "the job is not done", {"Retry-After": "2"})
    path = check_file(engine.workers.folder(job.id), job.files, name)
    if path is None:
        raise RequestError(404, "no_result", "the job has no result of this name")
    return FileResponse(path, media_type=_TYPES.get(path.suffix, "application/octet-stream"))


async def _submit(request: Request, who: str, **options: bool) -> Job:
    engine = engine_of(request)
    settings, workers = engine.settings, engine.workers
    if options["explained"] and not engine.explains:
        said = f"the network of {', '.join(engine.models)} has no heat maps; say explained=false"
        raise RequestError(422, "no_maps", said)
    job_id = new_job_id(settings.machine)
    limits = UploadLimits(settings.max_upload_bytes, settings.upload_s)
    places: Places = request.app.state.uploads
    with places.hold(who), _receiving(workers.folder(job_id)) as folder:
        url = await receive(request, folder / INPUT, limits, engine.metrics.received.inc)
        if url is not None:
            check_url(url, settings.fetch_limits)
        try:
            chosen = engine.options | options
            client = client_of(request, who)
            job = await asyncio.to_thread(
                engine.store.submit, job_id, who, time.time(), chosen, url, client=client
            )
        except QueueFullError as error:
            raise full(engine, error) from None
    workers.wake()
    return job


@contextmanager
def _receiving(folder: Path) -> Iterator[Path]:
    """Give an upload its folder; it goes again unless the block ends well."""
    folder.mkdir(parents=True, mode=0o700)
    mark = folder / RECEIVING
    try:
        mark.touch()
        yield folder
        mark.unlink()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
