"""One depth of extension payloads: the native calls, and the hooks that hand payloads to the next depth."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, cast

import ormsgpack

from clew.serde import rules
from clew.serde._depth import FREE_LEVELS, MAX_LEVELS, is_narrow
from clew.serde._plain import BIN8, BIN16, BIN32, OPTIONS, holds_buffer, rewrite
from clew.serde._rulebook import RuleBook
from clew.serde.opaque import Opaque
from clew.serde.rules import Refused, TooDeep

_packb = ormsgpack.packb
_unpackb = ormsgpack.unpackb

# The native decoder ignores what follows the first value. So bytes are decoded as the first of two, the second being
# a mark nobody can foresee: if anything is left over, it is found in the mark's place.
_MARK: Final = os.urandom(8)
_BEFORE: Final = b"\x92"
_AFTER: Final = b"\xc4\x08" + _MARK


class _Thrown(threading.local):
    """The exception a hook raised on this thread: the native code replaces it by one that does not say why."""

    error: BaseException | None = None

    def take(self) -> BaseException | None:
        error, self.error = self.error, None
        return error


thrown: Final = _Thrown()


class Level:
    """One depth of extension payloads: encodes and decodes them, handing payloads inside them to the next level."""

    __slots__ = ("_is_opaque", "_next", "_number", "_readers", "_rules", "_writers", "read", "write")

    def __init__(self, rulebook: RuleBook, number: int, *, is_opaque: bool) -> None:
        self._rules = rulebook
        self._number = number
        self._is_opaque = is_opaque
        self._next: Level | None = None
        self._writers = rulebook.writers
        self._readers = rulebook.readers
        self.write: Final[Callable[[Any], Any]] = self._write
        self.read: Final[Callable[[int, bytes], Any]] = self._read_opaque if is_opaque else self._read

    @property
    def next(self) -> Level:
        if self._next is None:
            if self._number >= MAX_LEVELS:
                raise TooDeep(f"a value nests more than {MAX_LEVELS} objects or tuples, or contains itself")
            self._next = Level(self._rules, self._number + 1, is_opaque=self._is_opaque)
        return self._next

    def pack(self, value: Any) -> bytes:
        try:
            data = _packb(value, self.write, OPTIONS)
        except TypeError:
            data = None
        if data is None:
            error = thrown.take()
            if error is not None:
                raise error
            return self.pack_exactly(value)
        if (BIN8 in data or BIN16 in data or BIN32 in data) and holds_buffer(value):
            return self.pack_exactly(value)
        return self._bounded(data)

    def pack_exactly(self, value: Any) -> bytes:
        """Like `pack`, by a walk that sees what the native encoder cannot; slow."""
        plain = rewrite(value, self._pack_below_exactly, lambda part: self._extension(part, self._pack_below_exactly))
        try:
            data = _packb(plain, None, OPTIONS)
        except TypeError as error:
            raise TooDeep("a value is nested too deeply, or contains itself") from error
        return self._bounded(data)

    def unpack(self, data: bytes | bytearray | memoryview) -> Any:
        try:
            value, mark = _unpackb(b"".join((_BEFORE, data, _AFTER)), ext_hook=self.read)
        except ValueError as native:
            error = thrown.take() or Refused(f"stored bytes cannot be parsed: {native}", is_corrupt=True)
        else:
            if type(mark) is bytes and mark == _MARK:
                return value
            error = Refused("stored bytes cannot be parsed: bytes are left over after the value", is_corrupt=True)
        raise error

    def _write(self, value: Any) -> Any:
        try:
            return self._extension(value, self._pack_below)
        except BaseException as error:
            thrown.error = error
            raise

    def _pack_below(self, value: Any) -> bytes:
        return (self._next or self.next).pack(value)

    def _pack_below_exactly(self, value: Any) -> bytes:
        return self.next.pack_exactly(value)

    def _extension(self, value: Any, pack: Callable[[Any], bytes]) -> Any:
        cls = type(cast("object", value))
        rule = self._writers.get(cls)
        if rule is None:
            if cls is Opaque:
                return ormsgpack.Ext(value.code, value.payload)
            rule = self._rules.writer(cls)
        return ormsgpack.Ext(rule.code, pack(rule.reduce(value, pack)))

    def _read(self, code: int, payload: bytes) -> Any:
        try:
            return self._restored(code, payload)
        except BaseException as error:
            thrown.error = error
            raise

    def _read_opaque(self, code: int, payload: bytes) -> Any:
        try:
            return self._restored(code, payload)
        except Refused:
            return Opaque(code, _described(code, payload), payload)
        except BaseException as error:
            thrown.error = error
            raise

    def _restored(self, code: int, payload: bytes) -> Any:
        rule = self._readers.get(code) or self._rules.reader(code)
        if self._number >= FREE_LEVELS and not is_narrow(payload):
            raise TooDeep("stored bytes nest too deeply")
        content = (self._next or self.next).unpack(payload)
        try:
            return rule.restore(content)
        except (Refused, RecursionError):
            raise
        except Exception as error:
            name = _described(code, payload)
            raise Refused(f"a stored value of type {name!r} cannot be restored: {error}") from error

    def _bounded(self, data: bytes) -> bytes:
        """`data`, if the level that will decode it allows its nesting."""
        if self._number > FREE_LEVELS and not is_narrow(data):
            raise TooDeep("a value nests too many lists or dicts below too many objects or tuples")
        return data


def _described(code: int, payload: bytes) -> str:
    """The type name in a named payload, or the code, for messages; read without decoding what follows it."""
    if code == rules.NAMED and len(payload) > 2 and 0x91 <= payload[0] <= 0x9F:
        start, length = (3, payload[2]) if payload[1] == 0xD9 else (2, payload[1] & 0x1F)
        if payload[1] == 0xD9 or 0xA0 <= payload[1] < 0xC0:
            return payload[start : start + length].decode("utf-8", "replace")
    return f"code {code}"
