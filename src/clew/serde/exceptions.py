"""Exceptions as records of what happened.

Builtin and clew's own exceptions come back as themselves, with their arguments and attributes. Any other becomes a
`StoredError` with the original class's name, unless the class is registered. Tracebacks and causes are not stored,
and an argument that cannot be stored becomes its `repr`, so recording a failure never fails.
"""

from __future__ import annotations

import builtins
from functools import cache
from typing import Any, Final, cast

from ormsgpack import Fragment

from clew.serde import rules
from clew.serde.rules import Pack, Refused, Rule, type_name

_OURS: Final = "clew.errors"
_MAX_REPR: Final = 1000


class StoredError(Exception):
    """An exception of a class that is not known here, as it was stored.

    `type_name` is the original class's dotted name, `message` its text; `args` are the original arguments, those that
    could not be stored as their `repr`.
    """

    def __init__(self, type_name: str, message: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(*args)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name

    def __repr__(self) -> str:
        """As the original's would be."""
        shown = self.args or ((self.message,) if self.message else ())
        return f"{self.type_name.rpartition('.')[2]}({', '.join(map(repr, shown))})"


def closed_writer(cls: type) -> Rule | None:
    """The rule for an exception class that comes back as itself, or None if `cls` is not one."""
    return readers()[rules.EXCEPTION] if issubclass(cls, BaseException) and _closed_name(cls) else None


def open_writer(cls: type) -> Rule | None:
    """The rule for any other exception class, whose instances become records; None if `cls` is not one."""
    return readers()[rules.STORED_ERROR] if issubclass(cls, BaseException) else None


@cache
def readers() -> dict[int, Rule]:
    """The rule for each code of an exception."""
    return {
        rules.EXCEPTION: Rule(rules.EXCEPTION, _known_content, _known),
        rules.STORED_ERROR: Rule(rules.STORED_ERROR, _foreign_content, _foreign),
    }


def _closed_name(cls: type) -> str | None:
    """The name of `cls` in the closed table of exceptions, or None."""
    name = cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}:{cls.__qualname__}"
    return name if _closed_table().get(name) is cls else None


@cache
def _closed_table() -> dict[str, type[BaseException]]:
    from clew import errors  # late: errors may be importing this package

    names = vars(builtins)
    table = {name: item for name, item in names.items() if isinstance(item, type) and issubclass(item, BaseException)}
    for item in vars(errors).values():
        if isinstance(item, type) and issubclass(item, BaseException) and item.__module__ == _OURS:
            table[f"{_OURS}:{item.__qualname__}"] = item
    return {name: item for name, item in table.items() if item.__name__ == name.rpartition(":")[2]}


def _known_content(value: BaseException, pack: Pack) -> Any:
    cls = type(value)
    args, state = _parts(value)
    return [_closed_name(cls), [_storable(item, pack) for item in args], _storable_state(state, pack)]


def _known(content: Any) -> BaseException:
    name, args, state = content
    cls = _closed_table().get(name)
    if cls is None:
        raise Refused(f"stored bytes hold an exception of type {name!r}, which is not known here")
    if cls.__module__ == _OURS:
        error: Any = cls.__new__(cls, *args)  # without __init__, whose parameters differ from class to class
        error.args = tuple(args)
    else:
        error = cls(*args)
    if state:
        BaseException.__setstate__(error, state)
    return error


def _foreign_content(value: BaseException, pack: Pack) -> Any:
    if isinstance(value, StoredError):
        name, message = value.type_name, value.message
    else:
        name, message = type_name(type(value)), _text(value)
    notes = [str(note) for note in getattr(value, "__notes__", ())]
    return [name, message, [_storable(item, pack) for item in value.args], notes]


def _foreign(content: Any) -> StoredError:
    name, message, args, notes = content
    error = StoredError(name, message, tuple(args))
    for note in notes:
        error.add_note(note)
    return error


def _parts(value: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The constructor's arguments and the attributes, as the exception itself reports them for copying."""
    if type(value).__module__ == _OURS:
        return value.args, dict(value.__dict__)
    reduced: Any = value.__reduce__()
    return reduced[1], dict(reduced[2]) if len(reduced) > 2 and reduced[2] else {}


def _storable(item: Any, pack: Pack) -> Any:
    try:
        return Fragment(pack(item))
    except Refused:
        return _short_repr(item)


def _storable_state(state: dict[str, Any], pack: Pack) -> Any:
    return {name: _storable(item, pack) for name, item in state.items()}


def _short_repr(item: Any) -> str:
    try:
        return repr(item)[:_MAX_REPR]
    except Exception:  # a user's __repr__ may fail; the record must not
        return f"<{type_name(type(cast('object', item)))}>"


def _text(value: BaseException) -> str:
    try:
        return str(value)
    except Exception:  # likewise __str__
        return _short_repr(value)
