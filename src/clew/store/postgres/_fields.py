"""What the server can see of a value: its plain fields as JSON, beside the value itself.

The server only narrows a search with it; what it lets through is checked on the exact value. So it may show less than
there is, but never something else. Invariant: whatever is left out or cannot be shown exactly is `[]`, which stands for
"anything"; no list is ever shown, so nothing else is `[]`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast

_LONGEST: Final = 200  # characters of a text or of a field's name
_MOST_FIELDS: Final = 64
_DEEPEST: Final = 4
_MOST_BITS: Final = 512  # of a whole number
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
ANYTHING: Final[list[Any]] = []


def visible_fields(value: Mapping[str, Any]) -> bytes:
    """The fields of `value` that the server may see, as ASCII JSON; nothing if it cannot see any."""
    shown = _shown(value, _DEEPEST)
    return b"" if shown is ANYTHING else json.dumps(shown, separators=(",", ":")).encode("ascii")


def shown_scalar(value: object) -> Any:
    """A text, a number, a boolean or None as it is shown; `ANYTHING` for what is not shown.

    A float that is a whole number is shown as one, all of its digits exact: so numbers are equal, or in order, on the
    server if and only if they are in Python.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return value if is_plain_text(cast("str", value)) else ANYTHING
    if kind is int:
        return value if cast("int", value).bit_length() <= _MOST_BITS else ANYTHING
    if kind is float and math.isfinite(number := cast("float", value)):
        return shown_scalar(int(number)) if number.is_integer() else number
    return ANYTHING


def is_plain_text(text: str) -> bool:
    """Whether JSON on the server can hold the text as it is, and it is short enough to be shown."""
    return len(text) <= _LONGEST and "\x00" not in text and (text.isascii() or _SURROGATE.search(text) is None)


def _shown(value: object, depth: int) -> Any:
    if not isinstance(value, dict):
        return shown_scalar(value)
    fields = cast("dict[Any, Any]", value)
    if not depth or len(fields) > _MOST_FIELDS:
        return ANYTHING
    if not all(type(name) is str for name in fields):
        return ANYTHING  # a name of another type may equal a text
    return {name: _shown(member, depth - 1) for name, member in fields.items() if is_plain_text(name)}
