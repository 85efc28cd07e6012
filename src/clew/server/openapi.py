"""What the OpenAPI description says of errors: their one shape, for every route."""

from __future__ import annotations

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
_NOT_OURS = ("HTTPValidationError", "ValidationError")


def describe_errors(app: FastAPI) -> None:
    """Have the application's description say how its errors look."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_errors(plain())
        return app.openapi_schema

    app.openapi = openapi


def _with_errors(description: dict[str, Any]) -> dict[str, Any]:
    for path in cast("dict[str, dict[str, Any]]", description["paths"]).values():
        for operation in path.values():
            responses = operation["responses"]
            if "422" in responses:
                responses["422"] = {"description": "A value cannot be honoured", "content": _CONTENT}
            responses["default"] = {"description": "Any other error", "content": _CONTENT}
    schemas = description.setdefault("components", {}).setdefault("schemas", {})
    for name in _NOT_OURS:
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    return description
