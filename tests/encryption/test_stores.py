"""Stores with a key: values are encrypted for their item; filters work, and an index needs the user's word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.errors import CorruptRecordError, EncryptionError, MissingKeyError, PlaintextError, SerializationError
from clew.store.base import InvalidOpError, StoreConfigError
from clew.store.memory import InMemoryStore
from clew.store.postgres import AsyncPostgresStore, PostgresStore
from clew.store.sqlite import AsyncSqliteStore, SqliteStore
from tests.encryption.backends import serde


class MemoryItems:
    """Dicts, shared by every store that is opened."""

    def __init__(self) -> None:
        self._records: Any = {}

    def store(self, **options: Any) -> Any:
        store = InMemoryStore(**options)
        store._records = self._records
        return store

    def values(self) -> list[bytes]:
        return [record.value for records in self._records.values() for record in records.values()]

    def dump(self) -> bytes:
        return b"".join(self.values())

    def swap(self, one: str, other: str) -> None:
        for records in self._records.values():
            records[one].value = records[other].value

    def close(self) -> None:
        pass


class SqliteItems:
    """One file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "items.db"
        self._stores = contextlib.ExitStack()

    def store(self, **options: Any) -> Any:
        return self._stores.enter_context(SqliteStore.from_conn_string(str(self._path), **options))

    def dump(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self._path.parent.glob("items.db*")))

    def swap(self, one: str, other: str) -> None:
        change = "update store_item set value = (select value from store_item where key = ?) where key = ?"
        self.store().conn.execute(change, (other.encode(), one.encode()))

    def close(self) -> None:
        self._stores.close()


class PostgresItems:
    """One database."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._stores = contextlib.ExitStack()

    def store(self, **options: Any) -> Any:
        return self._stores.enter_context(PostgresStore.from_conn_string(self._conninfo, **options))

    def dump(self) -> bytes:
        copy = "copy clew_store_item to stdout (format binary)"
        with psycopg.connect(self._conninfo) as connection, connection.cursor().copy(copy) as rows:
            return b"".join(map(bytes, rows))

    def swap(self, one: str, other: str) -> None:
        change = "update clew_store_item set value = (select value from clew_store_item where key = %s) where key = %s"
        with psycopg.connect(self._conninfo) as connection:
            connection.execute(change, (other.encode(), one.encode()))

    def close(self) -> None:
        self._stores.close()


Items = MemoryItems | SqliteItems | PostgresItems


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def items(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Items]:
    opened: Items
    match request.param:
        case "memory":
            opened = MemoryItems()
        case "sqlite":
            opened = SqliteItems(tmp_path)
        case _:
            opened = PostgresItems(request.getfixturevalue("database"))
    yield opened
    opened.close()


def embed(texts: list[str]) -> list[list[float]]:
    """Vectors that say how often a text has an "a" and a "b"."""
    return [[float(text.count("a")), float(text.count("b")), 1.0] for text in texts]


INDEX: dict[str, Any] = {"dims": 3, "embed": embed, "fields": ["title"]}


def test_values_cannot_be_read(items: Items) -> None:
    store = items.store(serde=serde())
    store.put(("users",), "ann", {"name": "SECRET-name", "n": 7, "nested": {"SECRET-field": ["SECRET-item"]}})

    assert b"SECRET" not in items.dump()
    found = items.store(serde=serde()).get(("users",), "ann")
    assert found.value == {"name": "SECRET-name", "n": 7, "nested": {"SECRET-field": ["SECRET-item"]}}


def test_without_a_key_the_same_search_finds_them(items: Items) -> None:
    items.store().put(("users",), "ann", {"name": "SECRET-name"})

    stored = repr(items.store()._records) if isinstance(items, MemoryItems) else repr(items.dump())
    assert "SECRET-name" in stored


def test_the_same_value_never_looks_the_same(items: Items) -> None:
    store = items.store(serde=serde())
    store.put(("users",), "a", {"n": "the same"})
    first = items.dump()
    store.put(("users",), "a", {"n": "the same"})

    assert items.dump() != first


FILTERS: list[dict[str, Any]] = [
    {"n": 7},
    {"n": {"$gt": 10, "$lt": 20}},
    {"group": {"$in": ["g1", "g2"]}, "n": {"$ne": 1}},
    {"meta": {"deep": "d3"}},
    {"meta.deep": {"$exists": False}},
    {"$or": [{"n": 3}, {"group": "g0"}]},
    {"missing": None},
    {"tags": ["t", 5]},
]


@pytest.mark.parametrize("filter", FILTERS, ids=str)
def test_a_filter_finds_what_it_finds_without_a_key(
    items: Items, filter: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"clew.store.{module}._reads._LARGEST_PAGE", 16)
        monkeypatch.setattr(f"clew.store.{module}._reads." + ("_FIRST_PAGE" if module == "sqlite" else "_PAGE"), 8)
    encrypted, plain = items.store(serde=serde()), InMemoryStore()
    for number in range(60):
        value = {"n": number, "group": f"g{number % 4}", "tags": ["t", number], "meta": {"deep": f"d{number % 5}"}}
        for store in (encrypted, plain):
            store.put(("all", f"ns{number % 3}"), f"{number:03}", value)
    for window in ({"limit": 100}, {"limit": 5, "offset": 3}):
        whole = {item.key for item in plain.search(("all",), filter=filter, limit=100)}
        found = encrypted.search(("all",), filter=filter, **window)
        assert {item.key for item in found} <= whole
        assert len(found) == min(window["limit"], max(0, len(whole) - window.get("offset", 0)))


def test_a_value_of_another_item_does_not_authenticate(items: Items) -> None:
    store = items.store(serde=serde())
    store.put(("users",), "ann", {"is_admin": False})
    store.put(("users",), "root", {"is_admin": True})

    items.swap("ann", "root")

    reader = items.store(serde=serde())
    with pytest.raises(CorruptRecordError, match="does not authenticate with key 'old'") as error:
        reader.get(("users",), "ann")
    assert "in item 'ann' of namespace ('users',)" in error.value.__notes__
    with pytest.raises(CorruptRecordError):
        reader.search(("users",), filter={"is_admin": True})
    assert reader.get(("users",), "root").value == {"is_admin": True}


def test_a_value_of_another_tenant_does_not_authenticate(database: str) -> None:
    with PostgresStore.from_conn_string(database, serde=serde()) as store:
        store.with_tenant("one").put(("a",), "k", {"n": 1})
        store.with_tenant("two").put(("a",), "k", {"n": 2})
        with psycopg.connect(database) as connection:
            connection.execute(
                "update clew_store_item set value = (select value from clew_store_item where tenant = 'one')"
            )

        assert store.with_tenant("one").get(("a",), "k").value == {"n": 1}
        with pytest.raises(CorruptRecordError):
            store.with_tenant("two").get(("a",), "k")


@pytest.mark.parametrize("items", ["sqlite", "postgres"], indirect=True)
def test_a_value_that_is_not_encrypted_is_refused_unless_migrating(items: Items) -> None:
    items.store().put(("users",), "ann", {"n": 1})

    with pytest.raises(PlaintextError, match="a stored record is not encrypted, and a key is set"):
        items.store(serde=serde()).get(("users",), "ann")
    assert items.store(serde=serde(accept_plaintext=True)).get(("users",), "ann").value == {"n": 1}


def test_an_encrypted_value_needs_its_key(items: Items) -> None:
    items.store(serde=serde("old")).put(("users",), "ann", {"n": 1})

    with pytest.raises(MissingKeyError, match="key 'old', which was not given"):
        items.store(serde=serde("new")).get(("users",), "ann")
    both = items.store(serde=serde("old", "new"))
    assert both.get(("users",), "ann").value == {"n": 1}


@pytest.mark.parametrize("items", ["sqlite", "postgres"], indirect=True)
def test_an_encrypted_value_without_a_key_names_the_key(items: Items) -> None:
    items.store(serde=serde()).put(("users",), "ann", {"n": 1})

    with pytest.raises(MissingKeyError, match="key 'old', and no key was given") as error:
        items.store().search(("users",), filter={"n": 1})
    assert error.value.key_id == "old"


def test_an_index_is_refused(items: Items) -> None:
    with pytest.raises(StoreConfigError, match="the index would keep vectors of 'title', which are not encrypted") as e:
        items.store(serde=serde(), index=INDEX)

    assert "'clear_fields'" in str(e.value.hint)


def test_fields_that_the_user_names_are_indexed(items: Items) -> None:
    store = items.store(serde=serde(), index={**INDEX, "clear_fields": ["title", "summary"]})
    store.put(("docs",), "1", {"title": "aaaa", "text": "SECRET-text"})
    store.put(("docs",), "2", {"title": "bbbb", "text": "SECRET-text"})
    store.put(("docs",), "3", {"title": "", "summary": "aabb"}, index=["summary"])

    assert store.search(("docs",), query="bb")[0].key == "2"
    assert store.search(("docs",), query="a", filter={"text": "SECRET-text"})[0].key == "1"
    assert b"SECRET" not in items.dump()
    with pytest.raises(InvalidOpError, match="the vectors of 'text' of item '4'"):
        store.put(("docs",), "4", {"text": "SECRET-text"}, index=["text"])
    assert store.get(("docs",), "4") is None


def test_a_value_that_cannot_be_serialized_is_refused(items: Items) -> None:
    store = items.store(serde=serde())

    with pytest.raises(SerializationError) as error:
        store.put(("users",), "ann", {"n": object()})
    assert "in item 'ann' of namespace ('users',)" in error.value.__notes__


def test_time_to_live_and_listing_work_as_ever(items: Items) -> None:
    now = [1_000_000.0]
    store = items.store(serde=serde(), ttl={"omit_expired": True}, clock=lambda: now[0])
    store.put(("a", "b"), "short", {"n": 1}, ttl=1)
    store.put(("a", "c"), "long", {"n": 2})
    now[0] += 120

    assert [item.key for item in store.search(("a",))] == ["long"]
    assert store.list_namespaces() == [("a", "c")]
    assert store.sweep_ttl() == 1


def test_after_reencryption_the_old_key_can_go(items: Items, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.store.sqlite._engine._REENCRYPTED_ROWS", 4)
    monkeypatch.setattr("clew.store.postgres._engine.REENCRYPTED_ROWS", 4)
    index = {**INDEX, "clear_fields": ["title"]}
    old = items.store(serde=serde("old"), index=index)
    for number in range(10):
        old.put(("docs", f"{number % 3}"), f"{number}", {"title": "a" * number + "b", "n": number}, ttl=5)
    before = old.search(("docs",), query="b", limit=20)
    both = items.store(serde=serde("old", "new"), index=index)
    both.put(("docs", "0"), "new", {"title": "new"})

    assert both.reencrypt() == 10
    assert both.reencrypt() == 0

    new = items.store(serde=serde("new"), index=index)
    after = [item for item in new.search(("docs",), query="b", limit=20) if item.key != "new"]
    assert [item.dict() for item in after] == [item.dict() for item in before]
    with pytest.raises(MissingKeyError):
        items.store(serde=serde("old")).get(("docs", "0"), "0")


@pytest.mark.parametrize("items", ["sqlite", "postgres"], indirect=True)
def test_a_plain_store_becomes_an_encrypted_one(items: Items) -> None:
    """On PostgreSQL also what the server sees of a value goes."""
    items.store().put(("users",), "ann", {"name": "SECRET-name"})

    assert items.store(serde=serde(accept_plaintext=True)).reencrypt() == 1

    store = items.store(serde=serde())
    assert store.search(("users",), filter={"name": "SECRET-name"})[0].key == "ann"
    if isinstance(items, SqliteItems):
        store.conn.execute("vacuum")
        store.conn.execute("pragma wal_checkpoint(truncate)").fetchall()
    assert b"SECRET" not in items.dump()


def test_a_store_has_to_have_a_key_to_encrypt_with(items: Items) -> None:
    store = items.store()
    store.put(("users",), "ann", {"n": 1})

    with pytest.raises(EncryptionError, match="the store has no key to encrypt with"):
        store.reencrypt()


def test_async_stores_encrypt_too(tmp_path: Path) -> None:
    path = tmp_path / "items.db"

    async def scenario() -> Any:
        async with AsyncSqliteStore.from_conn_string(str(path), serde=serde()) as store:
            await store.aput(("users",), "ann", {"name": "SECRET-name"})
            assert await store.reencrypt() == 0
            return await store.aget(("users",), "ann")

    assert asyncio.run(scenario()).value == {"name": "SECRET-name"}
    assert b"SECRET" not in b"".join(file.read_bytes() for file in tmp_path.glob("items.db*"))


def test_async_stores_on_postgresql_change_their_keys(database: str) -> None:
    async def scenario() -> tuple[int, int]:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            bound = AsyncPostgresStore(connection, serde=serde("old"))
            await bound.aput(("users",), "ann", {"n": 1})
            rekeyed = await AsyncPostgresStore(connection, serde=serde("old", "new")).reencrypt()
            await connection.commit()
        async with AsyncPostgresStore.from_conn_string(database, serde=serde("old", "new")) as store:
            return rekeyed, await store.reencrypt()

    assert asyncio.run(scenario()) == (1, 0)


def test_what_else_is_given_as_a_serializer_is_refused() -> None:
    make: Callable[..., Any] = InMemoryStore
    with pytest.raises(TypeError, match="serde is a int, neither a"):
        make(serde=7)
