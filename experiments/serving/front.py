"""The page at `/`: its files, the limits that it tells, and the script that draws its chart."""

from __future__ import annotations

import gzip
from functools import lru_cache
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from experiments.serving.access import engine_of

if TYPE_CHECKING:
    from fastapi import FastAPI

_PAGE = Path(__file__).with_name("page")
#: Seconds that a browser keeps the chart's script before it asks whether there is another. [ours]
_KEPT_S = 7 * 86_400

router = APIRouter()


class Limits(BaseModel):
    """What the server takes."""

    needs_key: bool = Field(description="whether requests need an API key")
    max_upload_bytes: int
    max_duration_s: float
    max_frames: int
    max_side: int = Field(description="largest side of a picture in pixels")
    kept_s: float = Field(description="seconds that results are kept")
    explains: bool = Field(description="whether heat maps can be made; true while a model loads")


@router.get("/limits", tags=["state"])
async def limits(request: Request) -> Limits:
    """Tell what a video may be, before it is sent."""
    engine = engine_of(request)
    settings = engine.settings
    return Limits(
        needs_key=settings.with_keys,
        max_upload_bytes=settings.max_upload_bytes,
        max_duration_s=settings.max_duration_s,
        max_frames=settings.max_frames,
        max_side=settings.max_side,
        kept_s=settings.ttl_s,
        explains=engine.explains,
    )


@router.get("/static/plotly.min.js", include_in_schema=False)
def chart_script(request: Request) -> Response:
    """Give plotly.js, which the page draws its chart with, from the installed package."""
    tag = f'"plotly-{metadata.version("plotly")}"'
    headers = {
        "Cache-Control": f"public, max-age={_KEPT_S}",
        "ETag": tag,
        "Vary": "Accept-Encoding",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    script = _packed_script()
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        script = gzip.decompress(script)
    return Response(script, media_type="text/javascript; charset=utf-8", headers=headers)


def add_page(app: FastAPI) -> None:
    """Serve the page and what it needs; comes last, since it answers to all other paths."""
    app.include_router(router)
    app.mount("/", StaticFiles(directory=_PAGE, html=True), name="page")


@lru_cache(maxsize=1)
def _packed_script() -> bytes:
    """Compress once what every browser takes compressed: 5 MB become 1.5."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(script, 6)
