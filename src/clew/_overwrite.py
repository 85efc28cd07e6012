"""Recognising a write that replaces a reducer channel's value instead of being reduced into it.

It lives below `clew.types` (which re-exports `Overwrite`) because channels need it and must not import the types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

__all__ = ("MAYBE_OVERWRITE", "Overwrite", "overwrite_of")

_TAG: Final = "__overwrite__"


@dataclass(slots=True)
class Overwrite:
    """A write that bypasses the channel's reducer: `value` becomes the channel's value as it is.

    At most one per channel and superstep, else `InvalidUpdateError`; the other writes of that superstep to the
    channel are dropped. `type` keeps the meaning when the object travels as JSON.
    """

    value: Any
    type: Literal["__overwrite__"] = _TAG


MAYBE_OVERWRITE: Final = (Overwrite, dict)
"""The types of which an overwrite can be; anything else needs no call to `overwrite_of`."""


def overwrite_of(update: object) -> tuple[bool, Any]:
    """Whether `update` is an overwrite, and the value it carries (None if it is not).

    Three forms count: `Overwrite(value)`, `{"__overwrite__": value}`, and `{"type": "__overwrite__", "value": value}`,
    which is what an `Overwrite` becomes when it passes through JSON.
    """
    if isinstance(update, Overwrite):
        return True, update.value
    if isinstance(update, dict):
        mapping = cast("dict[object, Any]", update)
        if len(mapping) == 1 and _TAG in mapping:
            return True, mapping[_TAG]
        if mapping.get("type") == _TAG and "value" in mapping:
            return True, mapping["value"]
    return False, None
