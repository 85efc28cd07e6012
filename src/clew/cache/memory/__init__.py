"""A cache in this process's memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from clew.cache.base import BaseCache, Entry, FullKey, Namespace, ValueT
from clew.checkpoint.serde.base import SerializerProtocol

__all__ = ("InMemoryCache",)


class InMemoryCache(BaseCache[ValueT]):
    """A cache that lives as long as the object; `clock` gives seconds. Thread-safe."""

    def __init__(self, *, serde: SerializerProtocol | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(serde=serde)
        self._clock = clock
        self._entries: dict[Namespace, dict[str, tuple[Entry, float | None]]] = {}
        self._lock = threading.Lock()

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """See `BaseCache.get`."""
        found: dict[FullKey, ValueT] = {}
        now = self._clock()
        for namespace, key in keys:
            with self._lock:
                entry = self._alive(namespace, key, now)
            if entry is not None:
                self._load(entry, found, (namespace, key))
        return found

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """See `BaseCache.aget`."""
        return self.get(keys)

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """See `BaseCache.set`."""
        now = self._clock()
        saved = [
            (key, (self._save(value, key), None if ttl is None else now + ttl)) for key, (value, ttl) in pairs.items()
        ]
        with self._lock:
            for (namespace, key), entry in saved:
                self._entries.setdefault(namespace, {})[key] = entry

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """See `BaseCache.aset`."""
        self.set(pairs)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See `BaseCache.clear`."""
        with self._lock:
            for namespace in list(self._entries) if namespaces is None else namespaces:
                self._entries.pop(namespace, None)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See `BaseCache.aclear`."""
        self.clear(namespaces)

    def _alive(self, namespace: Namespace, key: str, now: float) -> Entry | None:
        entries = self._entries.get(namespace, {})
        entry, expires_at = entries.get(key, (None, None))
        if expires_at is not None and expires_at <= now:
            del entries[key]
            return None
        return entry
