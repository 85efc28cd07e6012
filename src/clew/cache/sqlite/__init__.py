"""A cache in a SQLite file, for several processes and for after a restart.

Invariant: a namespace is stored by the lengths of its labels, so ("a", "bc") and ("ab", "c") never meet, whatever the
labels hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from clew.cache.base import BaseCache, Entry, FullKey, Namespace, ValueT
from clew.checkpoint.serde.base import SerializerProtocol
from clew.errors import StorageError
from clew.serde.compress import pack, unpack
from clew.store._connection import BUSY_TIMEOUT, Connection, connect
from clew.store._sqlite import Database, Schema, Synchronous

if TYPE_CHECKING:
    from clew.serde.keys import KeyRing

__all__ = ("SqliteCache",)

_SCHEMA: Final = Schema(
    begin="create table if not exists cache_schema (version integer not null)",
    version="select max(version) from cache_schema",
    record="insert into cache_schema (version) values (?)",
    steps=(
        (
            """
            create table cache_entry (
                ns          blob not null,
                key         blob not null,
                tag         text not null,
                value       blob not null,
                expires_at  real,
                primary key (ns, key)
            )
            """,
            "create index cache_entry_expiry on cache_entry (expires_at) where expires_at is not null",
        ),
    ),
)

_GET: Final = """
    select tag, value
    from cache_entry
    where ns = ? and key = ? and (expires_at is null or expires_at > ?)
"""
_SET: Final = "insert or replace into cache_entry (ns, key, tag, value, expires_at) values (?, ?, ?, ?, ?)"
_FORGET_EXPIRED: Final = "delete from cache_entry where expires_at <= ?"
_CLEAR: Final = "delete from cache_entry where ns = ?"
_CLEAR_ALL: Final = "delete from cache_entry"


class SqliteCache(BaseCache[ValueT]):
    """A cache in the file at `path` (or ":memory:"), which several threads and processes may use at once.

    The file may be that of a checkpointer or a store; tables' names begin with `cache_`. `clock` gives seconds since
    1970, `busy_timeout` bounds the wait for another process that writes, in seconds. By default the last entries may be
    lost in a power failure (`synchronous="NORMAL"`), which costs a cache nothing but work.
    """

    def __init__(
        self,
        *,
        path: str,
        serde: SerializerProtocol | None = None,
        clock: Callable[[], float] = time.time,
        busy_timeout: float = BUSY_TIMEOUT,
        synchronous: Synchronous = "NORMAL",
    ) -> None:
        super().__init__(serde=serde)
        self._clock = clock
        self._database = Database(
            connect(path), _SCHEMA, busy_timeout=busy_timeout, synchronous=synchronous, is_owned=True
        )

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """See `BaseCache.get`."""
        found: dict[FullKey, ValueT] = {}
        for key, (tag, envelope) in self._rows(keys):
            try:
                entry = tag, unpack(envelope)
            except StorageError:
                continue  # damaged: as good as not cached
            self._load(entry, found, key)
        return found

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """See `BaseCache.aget`."""
        return await self._database.run(self.get, keys)

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """See `BaseCache.set`."""
        self._write(self._rows_to_write(pairs))

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """See `BaseCache.aset`."""
        # Encoded here, not in the database's thread, so that a caller may go on to change the values.
        await self._database.run(self._write, self._rows_to_write(pairs))

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See `BaseCache.clear`."""
        with self._database.write() as connection:
            if namespaces is None:
                connection.execute(_CLEAR_ALL)
            for namespace in namespaces or ():
                connection.execute(_CLEAR, (_encoded(namespace),))

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """See `BaseCache.aclear`."""
        await self._database.run(self.clear, namespaces)

    def close(self) -> None:
        """Close the file; using the cache after that is a StorageError."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, keys: Sequence[FullKey]) -> list[tuple[FullKey, Entry]]:
        if not keys:
            return []
        now = self._clock()
        with self._database.statement(writes=False) if len(keys) == 1 else self._database.read() as connection:
            rows = [((ns, key), _row(connection, ns, self._name(ns, key), now)) for ns, key in keys]
        return [(key, row) for key, row in rows if row is not None]

    def _rows_to_write(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> list[tuple[object, ...]]:
        now = self._clock()
        rows: list[tuple[object, ...]] = []
        for (ns, key), (value, ttl) in pairs.items():
            tag, data = self._save(value, (ns, key))
            rows.append((_encoded(ns), self._name(ns, key), tag, pack(data), None if ttl is None else now + ttl))
        return rows

    def _name(self, ns: Namespace, key: str) -> bytes:
        """A key as it is stored. It is made from a node's input, so where there are encryption keys it is hashed with
        them: who has none can neither compare inputs nor guess them."""
        keys: KeyRing | None = getattr(self.serde, "keys", None)
        return _utf8(key) if keys is None else keys.keyed_hash(("cache", _encoded(ns)), _utf8(key))

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        if not rows:
            return
        with self._database.write() as connection:
            connection.execute(_FORGET_EXPIRED, (self._clock(),))
            for row in rows:
                connection.execute(_SET, row)


def _row(connection: Connection, ns: Namespace, name: bytes, now: float) -> Entry | None:
    return connection.execute(_GET, (_encoded(ns), name, now)).fetchone()


def _encoded(namespace: Namespace) -> bytes:
    labels = [_utf8(label) for label in namespace]
    return b"".join(len(label).to_bytes(4, "big") + label for label in labels)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
