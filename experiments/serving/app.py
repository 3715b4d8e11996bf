"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from experiments.serving.access import Rates
from experiments.serving.addresses import FetchError
from experiments.serving.errors import STATUS_OF
from experiments.serving.front import add_page
from experiments.serving.front import router as page_router
from experiments.serving.gate import Gate
from experiments.serving.logs import log
from experiments.serving.routes import router
from experiments.serving.schemas import PredictRequest
from experiments.serving.uploads import Places, RequestError

if TYPE_CHECKING:
    from starlette.requests import Request

    from experiments.serving.engine import Engine

_ABOUT = (
    "Scores faces in videos: real or forged. A score is evidence, not proof; every report says "
    'what it cannot tell. Errors are {"error": {"code", "message"}}.'
)


def create_app(engine: Engine) -> FastAPI:
    """Make the application.

    Args:
        engine: What it serves; loaded when the application starts, ended when it ends.

    Raises:
        UsageError: A rate is none.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.uploads = Places(engine.settings.uploads)
        engine.start()
        try:
            yield
        finally:
            # who drained has waited for the jobs already, or was told not to
            patience_s = 0.0 if engine.draining else engine.settings.drain_s
            await asyncio.to_thread(engine.stop, patience_s)

    # no pages of documentation: theirs come from other servers
    app = FastAPI(
        title="face-forgery-suite",
        version="1",
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.engine = engine
    app.state.rates = Rates(engine.settings)
    app.include_router(router)
    _handle_errors(app)
    add_page(app)
    _describe(app, engine.settings.with_keys)
    settings = engine.settings
    app.add_middleware(
        Gate,
        metrics=engine.metrics,
        hosts=settings.allowed_hosts,
        on_loopback=settings.on_loopback,
    )
    return app


def _describe(app: FastAPI, with_keys: bool) -> None:
    """Complete the OpenAPI: bodies that are read as they come, and keys only if they are needed."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schemas = schema["components"]["schemas"]
            schemas["PredictRequest"] = PredictRequest.model_json_schema()
            if not with_keys:
                del schema["components"]["securitySchemes"]
                for operation in (o for path in schema["paths"].values() for o in path.values()):
                    operation.pop("security", None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _handle_errors(app: FastAPI) -> None:
    """Give every error the one form."""

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return _problem(error.status, error.code, str(error), error.headers)

    @app.exception_handler(FetchError)
    async def refused_url(_: Request, error: FetchError) -> JSONResponse:
        return _problem(STATUS_OF.get(error.code, 422), error.code, str(error))

    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(OSError)
    async def full(_: Request, error: Exception) -> JSONResponse:
        log("the disk takes nothing", error=type(error).__name__)
        headers = {"Retry-After": "10"}
        return _problem(503, "disk", "the server's disk is full or fails; try again", headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _problem(422, "invalid", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        headers, methods = dict(error.headers or {}), _methods(request)
        # The page is asked for every path that no route takes with this method.
        if error.status_code == 405 or (methods and request.method not in methods):
            headers["Allow"] = ", ".join(methods or ("GET", "HEAD"))
            return _problem(405, "http", HTTPStatus.METHOD_NOT_ALLOWED.phrase, headers)
        return _problem(error.status_code, "http", str(error.detail), headers)


def _methods(request: Request) -> list[str]:
    """List all methods of a path; the framework would name those of the first of its routes."""
    found: set[str] = set()
    for route in (*request.app.routes, *router.routes, *page_router.routes):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


def _problem(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)
