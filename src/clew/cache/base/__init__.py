"""The interface of a cache.

Invariants: a value is stored as bytes, so what a caller gets is its own; bytes are read by the closed codec, which
never imports anything; and what cannot be read counts as not cached, because a cache may always be empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from clew.checkpoint.serde.base import SerializerProtocol
from clew.errors import StorageError

__all__ = ("BaseCache", "FullKey", "Namespace", "ValueT")

ValueT = TypeVar("ValueT")

Namespace = tuple[str, ...]
"""What belongs together, such as one node of one graph; any strings."""

FullKey = tuple[Namespace, str]
"""Where a value is: its namespace, and its name in there."""

Entry = tuple[str, bytes]
"""A value as stored: the serializer's tag and bytes."""


class BaseCache(ABC, Generic[ValueT]):
    """Values by namespace and key, each with a time to live.

    `serde` turns values into bytes; by default clew's closed codec does. With an `EncryptedSerializer` values are
    encrypted, each for its own place in the cache.
    """

    def __init__(self, *, serde: SerializerProtocol | None = None) -> None:
        self.serde: SerializerProtocol = _default_serde() if serde is None else serde

    def learn(self, types: Iterable[type]) -> None:
        """Make classes storable here, such as those that a graph's annotations name.

        With a serializer of the caller's own this does nothing: it knows what it knows.
        """
        extend = getattr(self.serde, "with_msgpack_allowlist", None)
        if extend is not None:
            self.serde = extend(types)

    @abstractmethod
    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """The values that are cached and have not expired, by key; the others are left out."""

    @abstractmethod
    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """As `get`, without blocking the event loop."""

    @abstractmethod
    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Store values, each with the seconds it lives (None: forever), replacing what is there.

        Raises:
            SerializationError: A value has a part of a type that is not known; nothing is stored.
        """

    @abstractmethod
    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """As `set`, without blocking the event loop."""

    @abstractmethod
    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Forget everything in exactly these namespaces; everything at all if none are given."""

    @abstractmethod
    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """As `clear`, without blocking the event loop."""

    def _save(self, value: ValueT, key: FullKey) -> Entry:
        return self._serde_of(key).dumps_typed(value)

    def _load(self, entry: Entry, into: dict[FullKey, ValueT], key: FullKey) -> None:
        """Add the value to `into`, unless its bytes are damaged or hold a type that is not known."""
        try:
            into[key] = cast("ValueT", self._serde_of(key).loads_typed(entry))
        except StorageError:
            return  # as good as not cached: the work is done again and stored anew

    def _serde_of(self, key: FullKey) -> SerializerProtocol:
        """The serializer for one entry: what is encrypted is so for its place, and can be read nowhere else."""
        bound_to = getattr(self.serde, "bound_to", None)
        if bound_to is None:
            return self.serde
        labels, name = key
        return bound_to("cache", *(part.encode("utf-8", "surrogatepass") for part in (*labels, name)))


def _default_serde() -> Any:
    from clew.checkpoint.serde.jsonplus import JsonPlusSerializer  # late: graphs without a cache need no codec

    return JsonPlusSerializer()
