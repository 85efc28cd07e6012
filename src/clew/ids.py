"""Ids that users see: checkpoint ids, which sort in the order of their commits, and thread ids.

A checkpoint id is a version 6 UUID: text outside, 16 bytes inside. Both forms sort by time, and a new id is raised
above the one it must follow, so their order is the order of commits even when the wall clock steps back.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from clew.errors import ClewError, InvalidQueryError, InvalidTenantError, InvalidThreadIdError

__all__ = (
    "check_namespace",
    "checkpoint_id",
    "id_bytes",
    "id_micros",
    "id_text",
    "new_checkpoint_id",
    "new_node",
    "tenant_name",
    "thread_id",
    "unsaved_ids",
)

_EPOCH = 0x01B21DD213814000  # 100 ns units between 1582-10-15, where UUID time begins, and 1970
_LAST_TICK = (1 << 60) - 1
_TEXT_MARK = b"\x00"  # what begins the bytes of an id that is not a UUID; sorts before every version 6 UUID of this era
THREAD_ID_MAX = 255
TENANT_MAX = 255
ID_MAX = 255
NAMESPACE_MAX = 4000


def new_checkpoint_id(after: bytes | None = None, node: bytes | None = None) -> bytes:
    """A new id of 16 bytes from the wall clock, above `after` whatever the clock says.

    `node` (from `new_node`) is the half of the id that is not time; by default it is new, too.
    """
    if node is None:
        node = new_node()
    new = _assemble(time.time_ns() // 100 + _EPOCH, node)
    if after is not None and new <= after:
        new = _assemble(min(_ticks(after) + 1, _LAST_TICK), node)
    return new


def new_node() -> bytes:
    """What tells one source of ids from all others: ids of one source differ in their time."""
    return (1 << 63 | int.from_bytes(os.urandom(8)) >> 2).to_bytes(8)


def checkpoint_id(after: str | None = None) -> str:
    """A new checkpoint id as text, above `after` whatever the clock says."""
    return id_text(new_checkpoint_id(None if after is None else id_bytes(after)))


def id_text(id: bytes) -> str:
    """The text of an id that is kept as bytes."""
    if len(id) == 16 and id[0] != 0:
        digits = id.hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return id[1:].decode("utf-8", "surrogatepass")


def id_bytes(text: str) -> bytes:
    """The bytes an id is kept as: 16 for a UUID in its canonical text, else a mark and the text itself.

    Raises `InvalidQueryError` for what is no text, is over 255 characters, or holds a lone surrogate.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a caller's value
        raise InvalidQueryError(f"an id is of type {type(text).__name__!r}, not text")
    if len(text) == 36 and text[8] == text[13] == text[18] == text[23] == "-":
        digits = text.replace("-", "")
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            raw = b""
        if len(raw) == 16 and raw[0] != 0 and raw.hex() == digits:
            return raw
    if len(text) > ID_MAX:
        raise InvalidQueryError(f"an id has {len(text)} characters, over the limit of {ID_MAX}")
    try:
        return _TEXT_MARK + text.encode()
    except UnicodeEncodeError:
        raise InvalidQueryError(f"the id {text!r} holds a lone surrogate") from None


def id_micros(id: bytes) -> int:
    """Microseconds since 1970 that a checkpoint id carries; 0 for an id that is not a version 6 UUID."""
    if len(id) != 16 or id[6] >> 4 != 6:
        return 0
    return (_ticks(id) - _EPOCH) // 10


def new_id() -> str:
    """A new id of a thread or a run: a UUID of version 7, so that ids sort by time."""
    millis, random = time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10))
    value = (millis & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 64 & 0xFFF) << 64 | 2 << 62 | random & (1 << 62) - 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def thread_id(value: Any) -> str:
    """The thread id that `value` stands for.

    An int or a UUID becomes its text; every other text is a thread of its own, `/`, `..` and differing Unicode forms
    included. Raises `InvalidThreadIdError` for what is empty, over 255 characters, or holds NUL or a lone surrogate.
    """
    match value:
        case str():
            text = str.__str__(value)  # plain text of a subclass too
        case bool():
            text = None
        case int():
            text = str(value)
        case _:
            text = str(value) if _is_uuid(value) else None
    if text is None:
        raise InvalidThreadIdError(
            f"thread_id is of type {type(value).__name__!r}, not text", hint="use a str, an int or a UUID"
        )
    if not text:
        raise InvalidThreadIdError("thread_id is empty", hint="give every conversation an id of its own")
    _check_text("thread_id", text, THREAD_ID_MAX, InvalidThreadIdError)
    return text


def tenant_name(value: Any) -> str:
    """The tenant that `value` names; "" is the tenant of those who set none.

    Tenants are compared as they are, differing Unicode forms and case included. Raises `InvalidTenantError` for what is
    no text, over 255 characters, or holds NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise InvalidTenantError(f"tenant is of type {type(value).__name__!r}, not text", hint="use a str")
    text = str.__str__(value)  # plain text of a subclass too
    _check_text("tenant", text, TENANT_MAX, InvalidTenantError)
    return text


def check_namespace(ns: Any) -> None:
    """Raise `InvalidQueryError` unless `ns` is a namespace: text, at most 4000 characters, without NUL or lone
    surrogates."""
    if not isinstance(ns, str):
        raise InvalidQueryError(f"checkpoint_ns is of type {type(ns).__name__!r}, not text")
    _check_text("checkpoint_ns", ns, NAMESPACE_MAX, InvalidQueryError)


def _check_text(what: str, text: str, limit: int, error: type[ClewError]) -> None:
    """Refuse what databases cannot store, or cannot keep in an index."""
    if len(text) > limit:
        raise error(f"{what} has {len(text)} characters, over the limit of {limit}", hint="use a hash of it")
    if "\x00" in text:
        raise error(f"{what} holds a NUL character", hint="remove it: databases cannot store it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise error(
            f"{what} {text!r} holds a lone surrogate", hint="decode the text it came from with the right encoding"
        ) from None


def _is_uuid(value: Any) -> bool:
    module = sys.modules.get("uuid")  # not imported here for start-up time; who has a UUID has imported it
    return module is not None and isinstance(value, module.UUID)


def unsaved_ids() -> Callable[[], str]:
    """A source of ids for one run that nothing saves: unlike any other run's, in order, and cheap."""
    prefix = checkpoint_id()[:24]
    count = itertools.count(1)
    return lambda: f"{prefix}{next(count):012x}"


def _assemble(ticks: int, node: bytes) -> bytes:
    return (ticks >> 12 << 16 | 0x6000 | ticks & 0xFFF).to_bytes(8) + node


def _ticks(id: bytes) -> int:
    return int.from_bytes(id[:6]) << 12 | (int.from_bytes(id[6:8]) & 0xFFF)
