"""The writes of a batch: encoded before the database is touched, a statement for all items of a kind."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clew.errors import SerializationError
from clew.storage.postgres.wire import Call
from clew.store._rows import encode_key
from clew.store._values import Values
from clew.store.base._index import Vectors
from clew.store.base._namespace import encode_namespace
from clew.store.base._plan import Put
from clew.store.postgres._fields import visible_fields
from clew.store.postgres._sql import Statements
from clew.store.postgres._vector_sql import VectorStatements

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Write:
    """One item to write, or to delete if `value` is None; `vectors` are those of its texts, as ASCII, by path."""

    ns: bytes
    key: bytes
    value: bytes | None
    fields: bytes
    version: int
    ttl: float | None
    vectors: Sequence[tuple[bytes, bytes]]


def encode_put(put: Put, vectors: Vectors, values: Values) -> Write:
    """Encode a put.

    Raises:
        SerializationError: The value has a part of a type that cannot be stored.
    """
    op = put.op
    ns, key = encode_namespace(op.namespace), encode_key(op.key)
    if op.value is None:
        return Write(ns, key, None, b"", 0, None, ())
    value = dict(op.value)
    try:
        saved = values.save(ns, key, value)
        fields = visible_fields(value) if values.keys is None else b""
    except SerializationError as error:
        error.add_note(f"in item {op.key!r} of namespace {op.namespace!r}")
        raise
    packed = [(encode_key(path), vector_text(vectors.documents[text]).encode()) for path, text in put.texts]
    return Write(ns, key, saved, fields, _random.getrandbits(62), op.ttl, packed)


def vector_text(packed: bytes) -> str:
    """A packed vector as pgvector reads it."""
    return "[" + ",".join(map("{:.9g}".format, struct.unpack(f"<{len(packed) // 4}f", packed))) + "]"


def write_calls(
    writes: Iterable[Write],
    tenant: str,
    now: float | None,
    statements: Statements,
    vectors: VectorStatements | None,
    *,
    has_vectors: bool,
    has_json: bool,
) -> list[Call]:
    """The statements for all writes. They have one order everywhere, so that two batches rarely wait for each other."""
    ordered = sorted(writes, key=lambda write: (write.ns, write.key))
    puts = [write for write in ordered if write.value is not None]
    deletes = [write for write in ordered if write.value is None]
    calls: list[Call] = []
    if deletes:
        calls.append(Call(statements.delete, (tenant, *_places(deletes))))
    if puts:
        fields = [write.fields if has_json else b"" for write in puts]
        values = [write.value for write in puts]
        numbers = (_literal(write.version for write in puts), _literal(write.ttl for write in puts))
        calls.append(Call(statements.put, (tenant, now, *_places(puts), values, fields, *numbers)))
        if has_vectors:
            calls.append(Call(statements.delete_vectors, (tenant, *_places(puts))))
        if vectors is not None:
            calls += _vector_calls(puts, tenant, vectors)
    return calls


def _vector_calls(puts: list[Write], tenant: str, vectors: VectorStatements) -> list[Call]:
    rows = [(put.ns, put.key, field, put.version, vector) for put in puts for field, vector in put.vectors]
    if not rows:
        return []
    nss, keys, fields, versions, packed = map(list, zip(*rows, strict=True))
    return [Call(vectors.put, (tenant, nss, keys, fields, _literal(versions), packed))]


def refresh_call(places: Iterable[tuple[bytes, bytes]], tenant: str, now: float | None, statements: Statements) -> Call:
    """Starts the time to live of the items at `places` anew."""
    ordered = sorted(places)
    return Call(statements.refresh, (tenant, now, [ns for ns, _ in ordered], [key for _, key in ordered]))


def _places(writes: list[Write]) -> tuple[list[bytes], list[bytes]]:
    return [write.ns for write in writes], [write.key for write in writes]


def _literal(numbers: Iterable[float | None]) -> str:
    """An array of numbers as the server reads it."""
    return "{" + ",".join("NULL" if number is None else repr(number) for number in numbers) + "}"
