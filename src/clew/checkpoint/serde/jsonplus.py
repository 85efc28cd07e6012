"""`JsonPlusSerializer`, the field's name for the default serializer, over clew's codec.

The name is historical: there is one binary format, no JSON mode, no pickle, and no class is ever imported because
stored bytes name it. Types unknown to clew are given as `allowed_msgpack_modules`, or with `clew.serde.register`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from clew.checkpoint.serde.base import SerializerProtocol
from clew.errors import SerializationError
from clew.serde import Codec, default_registry

__all__ = ("JsonPlusSerializer",)

_FOREIGN_TYPES: Final = {
    "json": "JSON with constructors",
    "pickle": "pickle",
}


class JsonPlusSerializer(SerializerProtocol):
    """Serializes every type `clew.serde.Codec` knows, and the classes in `allowed_msgpack_modules`.

    A class is given itself, or as `(module, name)` of a class that is already imported. `pickle_fallback=True` and
    `allowed_msgpack_modules=True` are refused with a ValueError: they would let stored bytes run code.
    `allowed_json_modules` is accepted and has no effect, since JSON is never read.
    """

    def __init__(
        self,
        *,
        pickle_fallback: bool = False,
        allowed_json_modules: object = None,
        allowed_msgpack_modules: Iterable[type | tuple[str, ...]] | bool | None = None,
    ) -> None:
        if pickle_fallback:
            raise ValueError(
                "pickle_fallback=True is refused: loading pickled bytes runs whatever code they name; "
                "register the class with clew.serde.register(...) instead"
            )
        if allowed_msgpack_modules is True:
            raise ValueError(
                "allowed_msgpack_modules=True is refused: it would let stored bytes import and call anything; "
                "list the classes, or register them with clew.serde.register(...)"
            )
        self.pickle_fallback: Final = False
        self._types = frozenset(map(_resolved, allowed_msgpack_modules or ()))
        self._codec = Codec(default_registry.extended(self._types))

    @property
    def codec(self) -> Codec:
        """What encodes and decodes; savers given this serializer use it."""
        return self._codec

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[type | tuple[str, ...]]) -> JsonPlusSerializer:
        """A serializer that also knows the classes in `extra_allowlist`; this one if there are none to add."""
        types = self._types.union(map(_resolved, extra_allowlist))
        return self if types == self._types else JsonPlusSerializer(allowed_msgpack_modules=types)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """`("null", b"")`, `("bytes", obj)`, `("bytearray", obj)` or `("msgpack", ...)`.

        Raises `SerializationError`, with the path inside `obj`, for a type that is not known.
        """
        if obj is None:
            return "null", b""
        if type(obj) is bytes:
            return "bytes", obj
        if type(obj) is bytearray:
            return "bytearray", bytes(obj)
        return "msgpack", self._codec.encode(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value whose type tag and bytes are `data`.

        Raises `SerializationError` for a type that is not known and for a tag of another serializer, and
        `CorruptRecordError` for bytes that cannot be parsed.
        """
        tag, payload = data
        match tag:
            case "null":
                return None
            case "bytes":
                return bytes(payload)
            case "bytearray":
                return bytearray(payload)
            case "msgpack":
                return self._codec.decode(payload)
            case _:
                raise SerializationError(
                    f"stored bytes of type {_FOREIGN_TYPES.get(tag, tag)!r} cannot be read",
                    hint="they were written by another serializer; read them with that one and store them again",
                )


def _resolved(item: type | tuple[str, ...]) -> type:
    """The class `item` is or names. Imports nothing: a class that could be in use is imported already."""
    if isinstance(item, type):
        return item
    *modules, name = item
    found: Any = sys.modules.get(".".join(modules))
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ValueError(
            f"allowed_msgpack_modules names {'.'.join(item)!r}, which is not an imported class; import it first"
        )
    return found
