"""The value that a reducer channel starts from, before anything is written."""

from __future__ import annotations

import collections.abc as abstract
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin

from clew._missing import MISSING

__all__ = ("concrete_type", "initial_value")

_CONCRETE: dict[Any, type] = {
    abstract.Sequence: list,
    abstract.MutableSequence: list,
    abstract.Collection: list,
    abstract.Iterable: list,
    abstract.Set: set,
    abstract.MutableSet: set,
    abstract.Mapping: dict,
    abstract.MutableMapping: dict,
}


def concrete_type(typ: Any) -> Any:
    """The class behind an annotation: without Annotated, Required, type arguments and abstractness."""
    while (origin := get_origin(typ)) is not None:
        typ = get_args(typ)[0] if origin in (Annotated, Required, NotRequired) else origin
    return _CONCRETE.get(typ, typ)


def initial_value(typ: Any) -> Any:
    """A fresh `typ()`, or `MISSING` for a type that cannot be made without arguments."""
    try:
        return concrete_type(typ)()
    except Exception:  # a user's class may raise anything; such a channel simply starts empty
        return MISSING
