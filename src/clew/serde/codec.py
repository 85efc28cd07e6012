"""The one codec: values to bytes and back, exactly, and closed to types it was not told about.

Plain data goes through the native MessagePack encoder at its speed. Any other type becomes an extension: a code from
`rules` and a payload that is encoded the same way, one level down. Bytes never import, name or call anything that
this process has not listed beforehand.

Invariants: `decode(encode(value))` equals `value` in type and content; `encode(decode(data)) == data` for data this
codec wrote; whatever the bytes, decoding gives a value or a typed error, with memory and stack bounded by their size.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, NoReturn, cast

import ormsgpack

from clew import errors
from clew.serde import own, rules
from clew.serde._depth import FREE_LEVELS, MAX_LEVELS, is_narrow
from clew.serde._explain import locate
from clew.serde._plain import BIN8, BIN16, BIN32, OPTIONS, dict_from_pairs, holds_buffer, rewrite
from clew.serde.opaque import Opaque
from clew.serde.registry import Shape, TypeRegistry, default_registry
from clew.serde.rules import Refused, Rule, TooDeep, type_name

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


_thrown = _Thrown()


class Codec:
    """Encodes and decodes values; knows plain data, the standard types and the classes in `types`.

    Without `types` it knows what was registered process-wide (`clew.serde.register`). Safe to share between threads.
    """

    __slots__ = ("_level", "_opaque_level", "_readers", "_writers", "types")

    def __init__(self, types: TypeRegistry | None = None) -> None:
        self.types: Final = default_registry if types is None else types
        self._writers: dict[type, Rule] = {}
        self._readers: dict[int, Rule] = {
            rules.NAMED: Rule(rules.NAMED, _never_reduced, self._restore_named),
            rules.PAIRS: Rule(rules.PAIRS, _never_reduced, dict_from_pairs),
            rules.TEXT: Rule(rules.TEXT, _never_reduced, _text_from_bytes),
        }
        self._level = _Level(self, 0, is_opaque=False)
        self._opaque_level = _Level(self, 0, is_opaque=True)

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
            packed = [_packb(value, hook, OPTIONS) for value in values]
        except TypeError:
            packed = None
            error = _thrown.take()
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

    def writer(self, cls: type) -> Rule:
        """The rule that stores values of exactly `cls`; `Refused` if there is none."""
        rule = self._writers.get(cls)
        if rule is None:
            rule = self._find_writer(cls)
            self._writers[cls] = rule
        return rule

    def reader(self, code: int) -> Rule:
        """The rule that restores payloads of `code`; `Refused` if there is none."""
        rule = self._readers.get(code)
        if rule is None:
            rule = self._find_reader(code)
            self._readers[code] = rule
        return rule

    def _find_writer(self, cls: type) -> Rule:
        from clew.serde import exceptions, standard  # late: they import a dozen modules, needed once a value has them

        rule = standard.writers(self.types).get(cls) or exceptions.closed_writer(cls)
        if rule is not None:
            return rule
        shape = own.types().shape_of(cls) if cls.__module__.startswith("clew.") else None
        shape = shape or self.types.shape_of(cls)
        if shape is not None:
            return shape.rule
        rule = exceptions.open_writer(cls) or _foreign_writer(cls)
        if rule is None:
            raise Refused(f"a value of type {type_name(cls)!r} cannot be stored", hint=_remedy(cls))
        return rule

    def _find_reader(self, code: int) -> Rule:
        from clew.serde import exceptions, standard  # late: they import a dozen modules, needed once bytes have them

        rule = standard.readers(self.types).get(code) or exceptions.readers().get(code) or _foreign_reader(code)
        if rule is None:
            raise Refused(
                f"stored bytes hold a value of unknown type code {code}",
                hint="they were written by a newer clew, or are not clew's",
            )
        return rule

    def _restore_named(self, content: Any) -> Any:
        name = content[0]
        shape = None
        if type(name) is str:
            shape = (own.types() if name.startswith(own.PREFIX) else self.types).shape_named(name)
        if shape is None:
            short = str(name).rpartition(":")[2]
            raise Refused(
                f"stored bytes hold a value of type {name!r}, which is not known here",
                hint=f"make it known with clew.serde.register({short}), or name it in the graph's schema",
            )
        return shape.rule.restore(content)

    def _raise_unstorable(self, value: Any, refused: Refused | RecursionError) -> NoReturn:
        if isinstance(refused, RecursionError):
            raise errors.SerializationError("a value is nested too deeply, or contains itself") from refused
        path = "" if isinstance(refused, TooDeep) else locate(value, self)
        where = f" (at {path})" if path else ""
        raise errors.SerializationError(refused.reason + where, hint=refused.hint, path=path) from refused.__cause__


class _Level:
    """One depth of extension payloads: encodes and decodes them, handing payloads inside them to the next level."""

    __slots__ = ("_codec", "_is_opaque", "_next", "_number", "_readers", "_writers", "read", "write")

    def __init__(self, codec: Codec, number: int, *, is_opaque: bool) -> None:
        self._codec = codec
        self._number = number
        self._is_opaque = is_opaque
        self._next: _Level | None = None
        self._writers = codec._writers  # pyright: ignore[reportPrivateUsage] - one class in two parts
        self._readers = codec._readers  # pyright: ignore[reportPrivateUsage]
        self.write: Final[Callable[[Any], Any]] = self._write
        self.read: Final[Callable[[int, bytes], Any]] = self._read_opaque if is_opaque else self._read

    @property
    def next(self) -> _Level:
        if self._next is None:
            if self._number >= MAX_LEVELS:
                raise TooDeep(f"a value nests more than {MAX_LEVELS} objects or tuples, or contains itself")
            self._next = _Level(self._codec, self._number + 1, is_opaque=self._is_opaque)
        return self._next

    def pack(self, value: Any) -> bytes:
        try:
            data = _packb(value, self.write, OPTIONS)
        except TypeError:
            data = None
        if data is None:
            error = _thrown.take()
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
            error = _thrown.take() or Refused(f"stored bytes cannot be parsed: {native}", is_corrupt=True)
        else:
            if type(mark) is bytes and mark == _MARK:
                return value
            error = Refused("stored bytes cannot be parsed: bytes are left over after the value", is_corrupt=True)
        raise error

    def _write(self, value: Any) -> Any:
        try:
            return self._extension(value, self._pack_below)
        except BaseException as error:
            _thrown.error = error
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
            rule = self._codec.writer(cls)
        return ormsgpack.Ext(rule.code, pack(rule.reduce(value, pack)))

    def _read(self, code: int, payload: bytes) -> Any:
        try:
            return self._restored(code, payload)
        except BaseException as error:
            _thrown.error = error
            raise

    def _read_opaque(self, code: int, payload: bytes) -> Any:
        try:
            return self._restored(code, payload)
        except Refused:
            return Opaque(code, _described(code, payload), payload)
        except BaseException as error:
            _thrown.error = error
            raise

    def _restored(self, code: int, payload: bytes) -> Any:
        rule = self._readers.get(code) or self._codec.reader(code)
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


def _remedy(cls: type) -> str | None:
    """What to do about an unknown class: register it, with functions if its content is hidden, or do without it."""
    try:
        _ = Shape(cls, cls.__name__).rule
    except Refused as refused:
        if cls.__module__.partition(".")[0] in sys.stdlib_module_names:
            return "keep it out of the state: store what it is made from, and make it again where it is needed"
        return refused.hint
    return f"make it known with clew.serde.register({cls.__name__}), or name it in the graph's schema"


def _raise_unreadable(refused: Refused | RecursionError) -> NoReturn:
    if isinstance(refused, RecursionError):
        raise errors.SerializationError("stored bytes nest too deeply to be read here") from refused
    if refused.is_corrupt:
        raise errors.CorruptRecordError(refused.reason, hint=refused.hint) from refused.__cause__
    raise errors.SerializationError(refused.reason, hint=refused.hint) from refused.__cause__


def _described(code: int, payload: bytes) -> str:
    """The type name in a named payload, or the code, for messages; read without decoding what follows it."""
    if code == rules.NAMED and len(payload) > 2 and 0x91 <= payload[0] <= 0x9F:
        start, length = (3, payload[2]) if payload[1] == 0xD9 else (2, payload[1] & 0x1F)
        if payload[1] == 0xD9 or 0xA0 <= payload[1] < 0xC0:
            return payload[start : start + length].decode("utf-8", "replace")
    return f"code {code}"


def _foreign_writer(cls: type) -> Rule | None:
    """The rule for a class of an optional library; the library is loaded already, since a value of it exists."""
    match cls.__module__.partition(".")[0]:
        case "numpy":
            from clew.serde import arrays  # late: optional dependency

            return arrays.writer(cls)
        case "pydantic" | "pydantic_core":
            from clew.serde import models  # late: optional dependency

            return models.value_writers().get(cls)
        case "langchain_core":
            from clew.serde import langchain  # late: optional dependency

            return langchain.writers().get(cls)
        case _:
            return None


def _foreign_reader(code: int) -> Rule | None:
    """The rule for a code that belongs to an optional library; imports that one library."""
    if code in (rules.ARRAY, rules.SCALAR):
        from clew.serde import arrays  # late: optional dependency

        return arrays.reader(code)
    if code in (rules.SECRET, rules.URL):
        from clew.serde import models  # late: optional dependency

        return models.value_readers()[code]
    if rules.LANGCHAIN_FIRST <= code <= rules.LANGCHAIN_LAST:
        from clew.serde import langchain  # late: optional dependency

        return langchain.readers().get(code)
    return None


def _never_reduced(value: Any, pack: rules.Pack) -> NoReturn:
    raise AssertionError("this code is written by the codec itself")


def _text_from_bytes(content: Any) -> str:
    return bytes.decode(content, "utf-8", "surrogatepass")


@cache
def default_codec() -> Codec:
    """The process-wide codec, which knows the standard types and what was registered with `clew.serde.register`."""
    return Codec()
