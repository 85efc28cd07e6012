"""From the path of a `langgraph.json` to its `Config`, or to all that is wrong with it at once."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from clew.errors import ConfigError
from clew.server.config import Config

FILE = "langgraph.json"


def read_config(path: Path) -> Config:
    """What the file says; raises ConfigError with every problem, each with the path of its key."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(str(path), [f"cannot be read: {reason}"], hint=f"say where it is: --config {FILE}") from error
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        said = f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise ConfigError(str(path), [said], hint="JSON has no comments, and no comma after the last item") from error
    except _TwiceError as error:
        raise ConfigError(str(path), [f"{error} is there twice"]) from None
    if not isinstance(data, dict):
        raise ConfigError(
            str(path), ["is not a JSON object"], hint='for example: {"graphs": {"chat": "./chat.py:graph"}}'
        )
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(str(path), [_problem(each, data) for each in error.errors()]) from None


def where(path: Sequence[int | str]) -> str:
    """A key's path as people write it: `http.cors.allow_origins[0]`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


class _TwiceError(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(f"key {key!r}")
        found[key] = value
    return found


def _problem(error: ErrorDetails, data: Any) -> str:
    path = _path(error, data)
    place = where(path) or "the file"
    match error["type"]:
        case "extra_forbidden":
            known = _known(Config, path[:-1])
            close = difflib.get_close_matches(str(path[-1]), known, 1, 0.5)
            meant = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"
            return f"{place}: unknown key; {meant}"
        case "missing":
            return f"{place}: is missing"
        case _:
            return f"{place}: {error['msg']}"


def _path(error: ErrorDetails, data: Any) -> list[int | str]:
    """The keys that lead to what is wrong, without the names of the alternatives that were tried."""
    path: list[int | str] = []
    for part in error["loc"]:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int)):
            data = cast("Any", data)[part]
        elif not (error["type"] == "missing" and part == error["loc"][-1]):
            continue
        path.append(part)
    return path


def _known(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The keys that the section at `path` may have."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = _section(field.annotation) if field is not None else None
        model = inner or model  # a name that is the user's own leads to no other section
    return [field.alias or name for name, field in model.model_fields.items()]


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field of that annotation holds, or a mapping of such."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = typing.get_args(annotation) if not isinstance(annotation, types.GenericAlias) else annotation.__args__
    return next((found for each in inner if (found := _section(each)) is not None), None)
