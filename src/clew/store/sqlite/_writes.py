"""The writes of a batch: encoded before the database is touched, then run on an open connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clew.errors import SerializationError
from clew.store._connection import Connection
from clew.store._rows import encode_key
from clew.store._values import Values
from clew.store.base._index import Vectors
from clew.store.base._namespace import encode_namespace
from clew.store.base._plan import Put
from clew.store.sqlite import _sql


@dataclass(frozen=True, slots=True)
class Write:
    """One item to write, or to delete if `fields` is None; `vectors` are those of its texts."""

    ns: bytes
    key: bytes
    fields: tuple[Any, ...] | None
    vectors: tuple[bytes, ...]

    @property
    def is_one_statement(self) -> bool:
        """Whether running it takes a single statement, which needs no transaction around it."""
        return not self.vectors

    def run(self, connection: Connection) -> None:
        """Do it."""
        if self.fields is None:
            connection.execute(_sql.DELETE, (self.ns, self.key))
            return
        if not self.vectors:
            connection.execute(_sql.PUT, (self.ns, self.key, *self.fields))
            return
        # The trigger has removed the vectors of the value before, and all rows are fetched to end the statement.
        [(item,)] = connection.execute(_sql.PUT_WITH_VECTORS, (self.ns, self.key, *self.fields)).fetchall()
        for vector in self.vectors:
            connection.execute(_sql.PUT_VECTOR, (item, vector))


def encode_put(put: Put, now: float, vectors: Vectors, values: Values) -> Write:
    """Encode a put made at `now`.

    Raises:
        SerializationError: The value has a part of a type that cannot be stored.
    """
    op = put.op
    ns, key = encode_namespace(op.namespace), encode_key(op.key)
    if op.value is None:
        return Write(ns, key, None, ())
    try:
        value = values.save(ns, key, dict(op.value))
    except SerializationError as error:
        error.add_note(f"in item {op.key!r} of namespace {op.namespace!r}")
        raise
    expires_at = None if op.ttl is None else now + op.ttl * 60
    return Write(
        ns, key, (value, now, now, op.ttl, expires_at), tuple(vectors.documents[text] for _, text in put.texts)
    )


def refresh(connection: Connection, places: Iterable[tuple[bytes, bytes]], now: float) -> None:
    """Start the time to live of the items at `places` anew."""
    for ns, key in places:
        connection.execute(_sql.REFRESH, (now, ns, key))
