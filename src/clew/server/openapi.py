"""What the OpenAPI description says of errors: their one shape, for every route; of streams; and of authentication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI

_ERROR = {
    "title": "Error",
    "description": "Why a request was not answered as asked.",
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {"title": "Detail", "type": "string", "description": "What was wrong, in words."},
        "hint": {"title": "Hint", "type": "string", "description": "What to do about it, where that is known."},
        "error": {"title": "Error", "type": "string", "description": "The kind of an internal error."},
        "request_id": {"title": "Request Id", "type": "string", "description": "By which the log names the request."},
    },
}
_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_EVENTS = {"text/event-stream": {"schema": {"type": "string", "description": "Server-sent events."}}}
_CONFLICTS = {  # requests that may be refused for what is there already
    "POST /assistants", "POST /threads", "POST /threads/{thread_id}/state", "POST /threads/{thread_id}/runs",
    "POST /threads/{thread_id}/runs/stream", "POST /threads/{thread_id}/runs/wait",
    "DELETE /threads/{thread_id}/runs/{run_id}",
}  # fmt: skip
_NOT_OURS = ("HTTPValidationError", "ValidationError")


@dataclass(frozen=True, slots=True)
class Security:
    """What a description says of authentication, in OpenAPI's words: `schemes` by name, which of them all routes need,
    and which of them routes need that differ, by path and method."""

    schemes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    needed: list[dict[str, list[str]]] | None = None
    paths: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


def describe_security(app: FastAPI, security: Security) -> None:
    """Have the application's description say how who asks is known."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        described = plain()
        described.setdefault("components", {}).setdefault("securitySchemes", {}).update(security.schemes)
        if security.needed is not None:
            described["security"] = security.needed
        for path, methods in security.paths.items():
            for method, needed in methods.items():
                operation = described["paths"].get(path, {}).get(method.lower())
                if operation is not None:
                    operation["security"] = needed
        return described

    app.openapi = openapi


def describe_errors(app: FastAPI) -> None:
    """Have the application's description say how its errors look, and which answers are streams."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_errors(plain())
        return app.openapi_schema

    app.openapi = openapi


def _with_errors(description: dict[str, Any]) -> dict[str, Any]:
    for path, operations in cast("dict[str, dict[str, Any]]", description["paths"]).items():
        for method, operation in operations.items():
            responses = operation["responses"]
            if path.endswith(("/stream", "/stream/events")) and "200" in responses:
                responses["200"]["content"] = _EVENTS
            if "{" in path:
                responses["404"] = {
                    "description": "There is no such thing, or it is somebody else's",
                    "content": _CONTENT,
                }
            if f"{method.upper()} {path}" in _CONFLICTS:
                responses["409"] = {"description": "What is there already is in the way", "content": _CONTENT}
            if "422" in responses:
                responses["422"] = {"description": "A value cannot be honoured", "content": _CONTENT}
            responses["default"] = {"description": "Any other error", "content": _CONTENT}
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    for name in _NOT_OURS:
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    return description
