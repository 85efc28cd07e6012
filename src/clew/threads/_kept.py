"""What a database's kind of JSON can hold of what users put beside their threads and runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from clew.errors import InvalidQueryError

DEPTH_MAX = 100  # of lists and dicts in one another


def kept(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as JSON keeps it; raises `InvalidQueryError` for what JSON, or a database's kind of it, cannot
    hold."""
    try:
        text = json.dumps(dict(metadata), allow_nan=False)
        held = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except (TypeError, ValueError) as error:
        raise InvalidQueryError(f"metadata is not JSON: {error}") from None
    if "\\u0000" in text or "\\ud" in text or text.count("{") + text.count("[") > DEPTH_MAX:
        _look_at_all(held)
    return held


def is_unkept(text: str) -> bool:
    """Whether a text is one that databases cannot store."""
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def _look_at_all(metadata: Mapping[str, Any]) -> None:
    """Raise for a text that cannot be stored, and for too many levels."""
    level: list[Any] = [metadata]
    for _ in range(DEPTH_MAX + 1):
        if any(isinstance(value, str) and is_unkept(value) for value in level):
            raise InvalidQueryError("metadata holds a NUL character or a lone surrogate, which databases cannot store")
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise _too_deep()


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [part for pair in cast("dict[str, Any]", value).items() for part in pair]
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _too_deep() -> InvalidQueryError:
    return InvalidQueryError(f"metadata nests more than {DEPTH_MAX} lists and dicts")
