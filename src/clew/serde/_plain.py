"""The values MessagePack can hold, and how those it cannot are rewritten.

The native encoder is fast but has blind spots: it refuses dicts whose keys are not all exact `str` and strings with
lone surrogates, and it writes `bytearray` and `memoryview` as if they were `bytes`. `rewrite` is the slow, exact walk
for values in which one of these was met. Invariant: for a value the native encoder takes exactly, both ways give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import ormsgpack

from clew.serde import rules
from clew.serde.rules import Pack, TooDeep

OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
)
MAX_NESTING: Final = 255  # containers in one native call; the encoder's own limit
# Markers of byte strings (0xC4, 0xC5, 0xC6). They are searched for in the encoded bytes, at about 12 ns each, because
# looking for a bytearray in the value itself would cost more than encoding it. Accented Latin text holds these bytes
# too; then the value is looked at.
BIN8: Final = 0xC4
BIN16: Final = 0xC5
BIN32: Final = 0xC6


def holds_buffer(value: object) -> bool:
    """Whether a bytearray or memoryview is in `value`, looking through plain lists and dicts only."""
    kind = type(value)
    if kind is dict:
        return any(map(holds_buffer, cast("dict[object, object]", value).values()))
    if kind is list:
        return any(map(holds_buffer, cast("list[object]", value)))
    return kind is bytearray or kind is memoryview


def rewrite(value: Any, pack: Pack, extend: Callable[[Any], object], depth: int = 0) -> Any:
    """`value` in types and shapes the native encoder takes exactly; extension payloads are packed by `pack`.

    `extend(value)` gives the extension for any type that is not plain.
    """
    kind = type(cast("object", value))
    if depth >= MAX_NESTING and (kind is list or kind is dict):
        raise TooDeep(f"a value nests more than {MAX_NESTING} lists and dicts, or contains itself")
    if kind is str:
        return value if is_unicode(value) else ormsgpack.Ext(rules.TEXT, pack(value.encode("utf-8", "surrogatepass")))
    if kind is list:
        return [rewrite(item, pack, extend, depth + 1) for item in value]
    if kind is dict:
        if all(type(key) is str and is_unicode(key) for key in value):
            return {key: rewrite(item, pack, extend, depth + 1) for key, item in value.items()}
        return ormsgpack.Ext(rules.PAIRS, pack([part for pair in value.items() for part in pair]))
    if kind is int and -(2**63) <= value < 2**64:
        return value
    if value is None or kind is bool or kind is float or kind is bytes or kind is ormsgpack.Fragment:
        return value
    return extend(value)


def is_unicode(text: str) -> bool:
    """Whether `text` is valid Unicode, that is, has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def dict_from_pairs(flat: list[Any]) -> dict[Any, Any]:
    """The dict whose keys and values alternate in `flat`."""
    if len(flat) % 2:
        raise ValueError("a dict has a key without a value")
    return dict(zip(flat[::2], flat[1::2], strict=True))
