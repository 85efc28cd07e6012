"""The one codec: values to bytes and back, exactly, and closed to types it was not told about.

Plain data goes through the native MessagePack encoder at its speed. Any other type becomes an extension: a code from
`rules` and a payload that is encoded the same way, one level down. Bytes never import, name or call anything that
this process has not listed beforehand.

Invariants: `decode(encode(value))` equals `value` in type and content; `encode(decode(data)) == data` for data this
codec wrote; whatever the bytes, decoding gives a value or a typed error, with memory and stack bounded by their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn

import ormsgpack

from clew import errors
from clew.serde._explain import locate
from clew.serde._level import Level, thrown
from clew.serde._plain import BIN8, BIN16, BIN32, OPTIONS, holds_buffer
from clew.serde._rulebook import RuleBook
from clew.serde.registry import TypeRegistry, default_registry
from clew.serde.rules import Refused, TooDeep


class Codec:
    """Encodes and decodes values; knows plain data, the standard types and the classes in `types`.

    Without `types` it knows what was registered process-wide (`clew.serde.register`). Safe to share between threads.
    """

    __slots__ = ("_level", "_opaque_level", "_rules")

    def __init__(self, types: TypeRegistry | None = None) -> None:
        self._rules = RuleBook(default_registry if types is None else types)
        self._level = Level(self._rules, 0, is_opaque=False)
        self._opaque_level = Level(self._rules, 0, is_opaque=True)

    @property
    def types(self) -> TypeRegistry:
        """The known classes, besides the standard ones."""
        return self._rules.types

    def encode(self, value: Any) -> bytes:
        """The bytes of `value`.

        Raises `SerializationError`, with the path inside the value, if a part of it has a type this codec does not
        know or is nested too deeply.
        """
        try:
            return self._level.pack(value)
        except (Refused, RecursionError) as error:
            refused = error
        self._raise_unstorable(value, refused)

    def encode_items(self, values: Sequence[Any]) -> list[bytes]:
        """The bytes of each of `values`, in order; the same as `encode` of each, at the speed of one native loop."""
        level = self._level
        hook = level.write
        try:
            packed = [ormsgpack.packb(value, hook, OPTIONS) for value in values]
        except TypeError:
            packed = None
            error = thrown.take()
            if error is not None and not isinstance(error, Exception):
                raise error from None  # such as KeyboardInterrupt
        try:
            if packed is None:
                return [level.pack(value) for value in values]
            # What `pack` asks of each: this loop is the hot path of a growing list of messages.
            for index in [i for i, data in enumerate(packed) if BIN8 in data or BIN16 in data or BIN32 in data]:
                if holds_buffer(values[index]):
                    packed[index] = level.pack_exactly(values[index])
            return packed
        except (Refused, RecursionError) as error:
            refused = error
        self._raise_unstorable(list(values), refused)

    def decode(self, data: bytes | bytearray | memoryview, *, opaque: bool = False) -> Any:
        """The value whose bytes are `data`.

        Raises `CorruptRecordError` for bytes that are not one whole value, and `SerializationError` for a type that
        is not known here. With `opaque=True` a value of an unknown type, or one that cannot be restored, is given as
        `Opaque`, which encodes to the same bytes again.
        """
        try:
            return (self._opaque_level if opaque else self._level).unpack(data)
        except (Refused, RecursionError) as error:
            refused = error
        _raise_unreadable(refused)

    def decode_items(self, items: Sequence[bytes], *, opaque: bool = False) -> list[Any]:
        """The value of each of `items`, in order; the same as `decode` of each."""
        unpack = (self._opaque_level if opaque else self._level).unpack
        try:
            return [unpack(data) for data in items]
        except (Refused, RecursionError) as error:
            refused = error
        _raise_unreadable(refused)

    def accepts(self, value: Any) -> bool:
        """Whether `value` can be stored."""
        try:
            self._level.pack(value)
        except (Refused, RecursionError):
            return False
        return True

    def _raise_unstorable(self, value: Any, refused: Refused | RecursionError) -> NoReturn:
        if isinstance(refused, RecursionError):
            raise errors.SerializationError("a value is nested too deeply, or contains itself") from refused
        path = "" if isinstance(refused, TooDeep) else locate(value, self.accepts, self._rules)
        where = f" (at {path})" if path else ""
        raise errors.SerializationError(refused.reason + where, hint=refused.hint, path=path) from refused.__cause__


def _raise_unreadable(refused: Refused | RecursionError) -> NoReturn:
    if isinstance(refused, RecursionError):
        raise errors.SerializationError("stored bytes nest too deeply to be read here") from refused
    if refused.is_corrupt:
        raise errors.CorruptRecordError(refused.reason, hint=refused.hint) from refused.__cause__
    raise errors.SerializationError(refused.reason, hint=refused.hint) from refused.__cause__


@cache
def default_codec() -> Codec:
    """The process-wide codec, which knows the standard types and what was registered with `clew.serde.register`."""
    return Codec()
