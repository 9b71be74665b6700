"""The application: what is asked under which path."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from recdistill import __version__
from recdistill.serving import answers, metrics
from recdistill.serving.answers import Json, RefusedError
from recdistill.serving.batcher import BusyError
from recdistill.serving.requests import (
    ErrorAnswer,
    ListAnswer,
    RecommendBody,
    ScoreAnswer,
    ScoreBody,
    SimilarBody,
)  # fmt: skip
from recdistill.serving.served import Served
from recdistill.serving.settings import Settings
from recdistill.serving.shelf import Shelf

log = logging.getLogger("recdistill.serving")
PATHS = (
    "/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/recommend", "/v1/similar",
    "/v1/score", "/v1/items", "/v1/history",
)  # fmt: skip
PAGES = Path(__file__).parent / "pages"
SAFE = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store",
}  # fmt: skip
Asked = TypeVar("Asked", bound=BaseModel)
Short = Annotated[str, Query(max_length=512)]
Errors: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": said}
    for status, said in ((404, "no such user, item or model"), (422, "a request that can't be answered"))
}


class Json200(Response):
    """JSON as it is written here: UTF-8, no NaN."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace")


def make_app(shelf: Shelf, settings: Settings, counted: metrics.Metrics) -> FastAPI:
    """The application over a shelf of models.

    Args:
        shelf: of models, that may not be open yet.
        settings: of the service.
        counted: what ``/metrics`` shows.
    """
    app = FastAPI(
        title="RecDistill", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Lists and predictions of exported models.",
    )  # fmt: skip
    _add_errors(app)
    _add_state(app, shelf, counted)
    _add_lookups(app, shelf)

    def body_of(kind: type[BaseModel]) -> dict[str, Any]:
        content = {"application/json": {"schema": kind.model_json_schema()}}
        return {"requestBody": {"required": True, "content": content}}

    @app.post("/v1/recommend", response_model=ListAnswer, responses=Errors, openapi_extra=body_of(RecommendBody))
    async def recommend(request: Request) -> Any:
        """The best items for a user or for a history."""
        return await _answered(
            shelf, request, RecommendBody, lambda served, body: answers.recommend(served, body, settings.fallback)
        )

    @app.post("/v1/similar", response_model=ListAnswer, responses=Errors, openapi_extra=body_of(SimilarBody))
    async def similar(request: Request) -> Any:
        """The items most like one."""
        return await _answered(shelf, request, SimilarBody, answers.similar)

    @app.post("/v1/score", response_model=ScoreAnswer, responses=Errors, openapi_extra=body_of(ScoreBody))
    async def score(request: Request) -> Any:
        """Predictions for rows of a table."""
        return await _answered(shelf, request, ScoreBody, answers.score)

    return app


async def _answered(
    shelf: Shelf, request: Request, kind: type[Asked], make: Callable[[Served, Asked], Awaitable[Json]]
) -> Response:
    body = kind.model_validate_json(await request.body())
    try:
        return Json200(await make(_model(shelf, getattr(body, "model", None)), body))
    except BusyError:
        raise RefusedError(503, "too many requests wait", fix="ask again in a second") from None


def _model(shelf: Shelf, name: str | None) -> Served:
    found = shelf.get(name)
    if found is not None:
        return found
    if not shelf.ready:
        raise RefusedError(503, "the models are not loaded yet", fix="wait for /readyz")
    raise RefusedError(404, f"there is no model {name!a}", where="model",
                       why="the models are: " + ", ".join(served.name for served in shelf.models))  # fmt: skip


def _add_errors(app: FastAPI) -> None:
    """Every error in one shape."""

    @app.exception_handler(RefusedError)
    async def refused(_request: Request, error: RefusedError) -> Response:
        return Json200(error.body, error.status, {"retry-after": "1"} if error.status == 503 else None)

    @app.exception_handler(ValidationError)
    @app.exception_handler(RequestValidationError)
    async def wrong(_request: Request, error: ValidationError | RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part)[:60] for part in first["loc"][:6])
        what = str(first["msg"]).removeprefix("Value error, ")[:300]  # as pydantic begins what our own checks say
        said = {"what": what, "where": where or "body", "fix": "/docs says what is taken"}
        return Json200({"error": said}, 422)

    @app.exception_handler(HTTPException)
    async def other(_request: Request, error: HTTPException) -> Response:
        said = {"what": str(error.detail), "fix": "/docs lists what there is"}
        return Json200({"error": said}, error.status_code, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return Json200({"error": {"what": "the service failed; its log says why"}}, 500)


def _add_state(app: FastAPI, shelf: Shelf, counted: metrics.Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> Any:
        """Whether the process answers."""
        return Json200({"status": "ok"})

    @app.get("/readyz", responses={503: {"model": ErrorAnswer}})
    async def readyz() -> Any:
        """Whether all models are open and warm."""
        if not shelf.ready:
            raise RefusedError(503, "the models are not loaded yet", fix="ask again in a second")
        return Json200({"status": "ready", "models": [served.name for served in shelf.models]})

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Any:
        """Counts and times for Prometheus."""
        return PlainTextResponse(counted.text(), media_type=metrics.TYPE)

    @app.get("/", include_in_schema=False)
    async def page() -> Any:
        return HTMLResponse(_page("try.html"), headers=SAFE)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Any:
        return HTMLResponse(_page("docs.html"), headers=SAFE)


def _add_lookups(app: FastAPI, shelf: Shelf) -> None:
    @app.get("/v1/models")
    async def models() -> Any:
        """What is served, and what each model takes."""
        return Json200({"models": [served.facts for served in shelf.models]})

    @app.get("/v1/items", response_model=ListAnswer, responses=Errors)
    async def items(
        search: Short = "", limit: Annotated[int, Query(ge=1, le=100)] = 20, model: Short | None = None
    ) -> Any:
        """Items by a part of their title or id."""
        served = _model(shelf, model)
        return Json200(await asyncio.to_thread(answers.search, served, search, limit))

    @app.get("/v1/history", response_model=ListAnswer, responses=Errors)
    async def history(user: Short, limit: Annotated[int, Query(ge=1, le=1000)] = 20, model: Short | None = None) -> Any:
        """What a user had, the latest last."""
        return Json200(answers.history(_model(shelf, model), user, limit))


@cache
def _page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")
