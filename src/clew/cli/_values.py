"""Values from the command line (JSON, `@file`, `-`), and any state's values as JSON to look at."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from clew.cli._problem import CommandError
from clew.serde import Opaque


def read_json(text: str, option: str) -> Any:
    """The value of `option`: JSON, `@file` that holds JSON, or `-` for JSON on standard input."""
    source, content = option, text
    if text == "-":
        source, content = "standard input", sys.stdin.read()
    elif text.startswith("@"):
        source = text[1:]
        try:
            content = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{option} cannot read {source!r}: {error}") from error
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise CommandError(
            f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            hint='JSON needs double quotes: --input \'{"topic": "threads"}\'',
        ) from error


def read_answer(text: str) -> Any:
    """An answer to a question: JSON where it is that, else the text as it stands (`@file` and `-` as for input)."""
    if text == "-" or text.startswith("@"):
        return read_json(text, "--answer")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def to_json(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON for people: what JSON has no word for is shown by its fields, or by its repr."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent)


def plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return {"base64": base64.b64encode(value).decode()}
        case Mapping():
            items = cast("Mapping[Any, Any]", value)  # user data
            return {str(key): plain(item) for key, item in items.items()}
        case Opaque():
            return repr(value)
        case Sequence() | Set():
            return [plain(item) for item in cast("Sequence[Any] | Set[Any]", value)]  # user data
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case _ if hasattr(value, "model_dump"):
            return plain(
                value.model_dump(exclude_defaults=True) | ({"type": value.type} if hasattr(value, "type") else {})
            )
        case _:
            return repr(value)
