"""How one type is written and read: the codes that appear in stored bytes, and the pair of functions behind each.

Invariant: a code, once released, keeps its meaning for ever; new codes are added, none is reused. Nothing here
imports a class by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Pack: TypeAlias = Callable[[Any], bytes]

NAMED: Final = 1
PAIRS: Final = 2
TEXT: Final = 3
INTEGER: Final = 4
BYTEARRAY: Final = 5
MEMORYVIEW: Final = 6
TUPLE: Final = 7
SET: Final = 8
FROZENSET: Final = 9
COMPLEX: Final = 10
RANGE: Final = 11
SLICE: Final = 12
SINGLETON: Final = 13
DEFAULTDICT: Final = 14
COUNTER: Final = 15
ORDERED_DICT: Final = 16
DEQUE: Final = 17
DATETIME: Final = 18
DATE: Final = 19
TIME: Final = 20
TIMEDELTA: Final = 21
TIMEZONE: Final = 22
ZONEINFO: Final = 23
UUID: Final = 24
DECIMAL: Final = 25
FRACTION: Final = 26
PATH: Final = 27
PATTERN: Final = 28
IP: Final = 29
EXCEPTION: Final = 30
STORED_ERROR: Final = 31
ARRAY: Final = 32
SCALAR: Final = 33
SECRET: Final = 34
URL: Final = 35
LANGCHAIN_FIRST: Final = 64
LANGCHAIN_LAST: Final = 127


@dataclass(frozen=True, slots=True)
class Rule:
    """How values of one type are stored under `code`.

    `reduce(value, pack)` gives the value's content in types that can be stored again; `pack` stores one part to
    bytes, for rules that must order or probe parts. `restore(content)` is its inverse and runs no user code except
    what the user registered.
    """

    code: int
    reduce: Callable[[Any, Pack], Any]
    restore: Callable[[Any], Any]


class Refused(Exception):  # noqa: N818 - internal: becomes a SerializationError or CorruptRecordError at the door
    """A value or bytes that the codec will not take; the public error is made where the whole value is known."""

    def __init__(self, reason: str, *, hint: str | None = None, is_corrupt: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.is_corrupt = is_corrupt


class TooDeep(Refused):
    """A value or bytes nested deeper than the codec's bound."""


def type_name(cls: type) -> str:
    """The dotted name of `cls` for messages."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
