"""The tables of the store: what is there, and what is still to be made.

Every step is numbered and recorded in `clew_store_schema` with its phase. An older clew works on a database with newer
steps of the phase "pre", which only add; a newer one of "post" it refuses. Invariants: tables are changed under one
lock in one transaction, so any number of processes may call `setup` at once; where nothing is to be done, nothing is
asked for that a role without rights on the schema could not do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from clew.errors import SchemaVersionError, StorageError
from clew.storage.postgres.wire import Call
from clew.store.base import StoreConfigError
from clew.store.postgres import _sql
from clew.store.postgres._config import VectorIndex
from clew.store.postgres._script import Flush, Script
from clew.store.postgres._sql import Statements
from clew.store.postgres._vector_sql import VectorStatements

_KNOWN: Final[Mapping[str, int]] = {"item": 1, "vector": 1}  # parts of the schema, and their last steps
_LOCK_KEY: Final = int.from_bytes(hashlib.blake2b(b"clew store", digest_size=8).digest(), signed=True)
_WITH_SCANS: Final = (0, 8)  # pgvector's version
_WITH_HALVES: Final = (0, 7)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a store needs of the database; `schema` is the bare name."""

    statements: Statements
    schema: str | None
    index: VectorIndex | None
    row_security: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is."""

    versions: Mapping[str, int]
    has_schema: bool
    has_json: bool
    """Whether the server's encoding can hold every text, so that it may see fields."""
    has_row_security: bool
    has_vectors: bool
    has_index: bool
    extension: str | None
    """The quoted schema of pgvector."""
    extension_version: tuple[int, ...]
    can_have_extension: bool


def read_facts(wanted: Wanted) -> Script[Facts]:
    """What there is in the database.

    Raises:
        SchemaVersionError: A newer clew has changed the tables in a way that this one does not know.
    """
    text = wanted.statements.text
    index = f"{wanted.statements.schema}{wanted.index.name if wanted.index else 'clew_store_none'}"
    names = (text("{versions}"), text("{item}"), text("{vector}"), index, wanted.schema)
    [
        [(has_versions, has_json, has_rls, has_vectors, has_index, version, extension, available, has_schema)]
    ] = yield Flush([Call(_sql.FACTS, names)], is_last=False)
    answers = yield Flush([Call(text(_sql.VERSIONS))] if has_versions else [])
    versions: dict[str, int] = {}
    for part, number, phase in (row for rows in answers for row in rows):
        if number > _KNOWN.get(part, 0) and phase == "post":
            raise SchemaVersionError(
                f"the store's tables have version {number} of {part!r}, and this clew knows {_KNOWN.get(part, 0)}",
                hint="upgrade clew, or use another schema",
            )
        versions[part] = max(number, versions.get(part, 0))
    return Facts(
        versions, has_schema, has_json, has_rls, has_vectors, has_index, extension, _numbers(version), available
    )


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in (version or "").split(".") if part.isdigit())


def lacks_extension(facts: Facts, wanted: Wanted) -> bool:
    """Whether pgvector is still to be made.

    Raises:
        StoreConfigError: The server does not have it, or too old a one.
    """
    if wanted.index is None:
        return False
    if facts.extension is None:
        if not facts.can_have_extension:
            raise StoreConfigError(
                "the server does not have the extension pgvector, which the store's index needs",
                hint="install pgvector on the server, or make the store without an index",
            )
        return True
    if wanted.index.vector_type == "halfvec" and facts.extension_version < _WITH_HALVES:
        raise StoreConfigError(
            "this server's pgvector has no halfvec", hint="upgrade pgvector to 0.7, or use the vector_type 'vector'"
        )
    return False


def setting_up(wanted: Wanted) -> Generator[Callable[[], Script[Any]], Any, Facts]:
    """The scripts that bring the tables up to date, each of which is run and whose result is sent back.

    Raises:
        SchemaVersionError: A newer clew has changed the tables in a way that this one does not know.
        StoreConfigError: The index needs pgvector, and the server does not have it or does not let this role.
    """
    facts: Facts = yield lambda: read_facts(wanted)
    if lacks_extension(facts, wanted):
        try:
            yield make_extension
        except StorageError as error:
            if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise
            raise StoreConfigError(
                f"the store's index needs the extension pgvector, which this role may not make: {error.__cause__}",
                hint="let a superuser run: create extension vector",
            ) from error
        facts = yield lambda: read_facts(wanted)
        lacks_extension(facts, wanted)
    if _missing(facts, wanted):
        yield lambda: make_tables(wanted)
        facts = yield lambda: read_facts(wanted)
    return facts


def make_extension() -> Script[None]:
    """Make pgvector."""
    calls = [Call(_sql.LOCK, (_LOCK_KEY,)), Call("create extension if not exists vector")]
    yield Flush(calls[:1], is_last=False)
    yield Flush(calls[1:])


def make_tables(wanted: Wanted) -> Script[None]:
    """Do what is to be done, once others have done theirs."""
    text = wanted.statements.text
    yield Flush([Call(_sql.LOCK, (_LOCK_KEY,))], is_last=False)
    facts = yield from _within(read_facts(wanted))
    opening: list[Call] = []
    if wanted.schema is not None and not facts.has_schema:
        opening.append(Call(f"create schema {wanted.statements.schema.removesuffix('.')}"))
    opening.append(Call(text(_sql.SCHEMA_TABLE)))
    yield Flush([*opening, *_missing(facts, wanted)])


def _within(script: Script[Facts]) -> Script[Facts]:
    """The same, as a part of a transaction that goes on."""
    rows = yield next(script)._replace(is_last=False)
    while True:
        try:
            flush = script.send(rows)
        except StopIteration as stop:
            return stop.value
        rows = yield flush._replace(is_last=False)


def _missing(facts: Facts, wanted: Wanted) -> list[Call]:
    text, calls = wanted.statements.text, list[Call]()
    if "item" not in facts.versions:
        calls += [*map(Call, map(text, _sql.ITEM_TABLE)), _recorded(wanted, "item")]
    vectors = vector_statements(facts, wanted)
    if vectors is not None and "vector" not in facts.versions:
        half = "halfvec" if facts.extension_version >= _WITH_HALVES else "vector"
        for sql in _sql.VECTOR_TABLE:
            typed = sql.replace("{half_type}", f"{{extension}}.{half}").replace("{extension}", vectors.extension)
            calls.append(Call(text(typed)))
        calls.append(_recorded(wanted, "vector"))
    if vectors is not None and vectors.index.kind != "flat" and not facts.has_index:
        calls.append(Call(vectors.create_index))
    secures = wanted.row_security or facts.has_row_security
    if secures and not facts.has_row_security:
        calls += _secured(text("{item}"))
    if secures and (vectors is not None or facts.has_vectors):
        if not (facts.has_row_security and facts.has_vectors):
            calls += _secured(text("{vector}"))
    return calls


def _secured(table: str) -> list[Call]:
    return [Call(sql.replace("{table}", table)) for sql in _sql.ROW_SECURITY]


def _recorded(wanted: Wanted, part: str) -> Call:
    return Call(wanted.statements.text(_sql.RECORD), (part, 1, "post"))


def vector_statements(facts: Facts, wanted: Wanted) -> VectorStatements | None:
    """The statements of the index, where there is to be one."""
    if wanted.index is None or facts.extension is None:
        return None
    scans_on = facts.extension_version >= _WITH_SCANS
    return VectorStatements(wanted.statements, wanted.index, facts.extension, scans_on)
