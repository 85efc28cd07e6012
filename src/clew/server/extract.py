"""Paths into a thread, so that a list needs no request for each: `values.messages[-1].content`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from clew.server.errors import ApiError

_PART = re.compile(r"\.?([^.\[\]]+)|\[(-?\d{1,9})\]")
PATHS_MAX = 10


def parsed(path: str) -> list[str | int]:
    """The keys and indexes of a path; raises `ApiError` 422 for what is none."""
    parts: list[str | int] = []
    at = 0
    while at < len(path):
        found = _PART.match(path, at)
        if found is None:
            raise ApiError(422, f"{path!r} is not a path such as 'values.messages[-1].content'")
        parts.append(found[1] if found[2] is None else int(found[2]))
        at = found.end()
    if not parts:
        raise ApiError(422, "a path to extract is empty")
    return parts


def extracted(said: Any, parts: list[str | int]) -> Any:
    """What is at a path in JSON data; None if nothing is."""
    for part in parts:
        if isinstance(said, dict) and isinstance(part, str):
            said = cast("Mapping[str, Any]", said).get(part)
        elif isinstance(said, list) and isinstance(part, int):
            held = cast("list[Any]", said)
            said = held[part] if -len(held) <= part < len(held) else None
        else:
            return None
    return said
