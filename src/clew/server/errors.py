"""Errors as answers: `{"detail": ...}` and a status, for what clew raises and what requests get wrong."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from clew.errors import (
    CheckpointNotFoundError,
    ClewError,
    EmptyInputError,
    InvalidQueryError,
    InvalidThreadIdError,
    RunNotFoundError,
    StorageTimeoutError,
    StorageUnavailableError,
    ThreadBusyError,
    ThreadConflictError,
    ThreadExistsError,
    ThreadNotFoundError,
    UpdateError,
)
from clew.store.base import InvalidNamespaceError, InvalidOpError, TTLNotSupportedError

log = logging.getLogger("clew.server")

_STATUS: tuple[tuple[type[Exception], int], ...] = (  # the first that fits
    (ThreadNotFoundError, 404),
    (CheckpointNotFoundError, 404),
    (RunNotFoundError, 404),
    (ThreadExistsError, 409),
    (ThreadBusyError, 409),
    (ThreadConflictError, 409),
    (InvalidQueryError, 422),
    (InvalidThreadIdError, 422),
    (InvalidNamespaceError, 422),
    (InvalidOpError, 422),
    (TTLNotSupportedError, 422),
    (UpdateError, 400),
    (EmptyInputError, 400),
    (StorageUnavailableError, 503),
    (StorageTimeoutError, 503),
)


class ApiError(ClewError):
    """A request cannot be answered as asked; `status` is the HTTP status of the answer."""

    def __init__(self, status: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


def not_found(what: str, id: object) -> ApiError:
    """The answer for what does not exist, or is somebody else's."""
    return ApiError(404, f"there is no {what} {id!r}")


def install(app: FastAPI) -> None:
    """Have `app` answer with these."""
    app.add_exception_handler(ClewError, _said)
    for error, _ in _STATUS:
        if not issubclass(error, ClewError):
            app.add_exception_handler(error, _said)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


def status_of(error: Exception) -> int:
    """The HTTP status that an error is answered with."""
    if isinstance(error, ApiError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def unforeseen(scope: Scope, error: Exception, request_id: str) -> Response:
    """The answer to a request that failed for a reason of the service's own, which is logged and not shown."""
    log.error("%s %s failed (request %s)", scope["method"], scope["path"], request_id, exc_info=error)
    return _answer(500, "internal error", {"error": type(error).__name__, "request_id": request_id})


async def answer_to(request: Request, error: Exception) -> Response:
    """The answer to a request that failed before it came to a route."""
    return await (_http if isinstance(error, HTTPException) else _said)(request, error)


async def _said(request: Request, error: Exception) -> Response:
    status = status_of(error)
    if status == 500:
        raise error  # it is answered as what no route foresaw
    hint = getattr(error, "hint", None)
    return _answer(status, str(error), {"hint": hint} if hint else {})


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return _answer(422, "; ".join(said))


def _answer(status: int, detail: str, more: dict[str, Any] | None = None) -> Response:
    readable = detail.encode("utf-8", "replace").decode()  # what a request got wrong may be what no answer can hold
    return JSONResponse({"detail": readable, **(more or {})}, status)
