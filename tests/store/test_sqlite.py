"""What only the SQLite store does: files, connections, processes, exact types, errors."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from clew.errors import CorruptRecordError, SchemaVersionError, SerializationError, StorageError
from clew.store.base import GetOp, PutOp, SearchOp
from clew.store.base.batch import AsyncBatchedBaseStore
from clew.store.memory import InMemoryStore
from clew.store.sqlite import AsyncSqliteStore, SqliteStore, _sql
from clew.store.sqlite.aio import AsyncSqliteStore as FromAio
from clew.store.sqlite.base import SqliteStore as FromBase

from .faces import Clock

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@pytest.fixture
def raw(path: str) -> Iterator[sqlite3.Connection]:
    """A plain connection to the same file, made after the store's tables."""
    with SqliteStore.from_conn_string(path) as store:
        store.setup()
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def test_items_are_there_when_the_file_is_opened_again(path: str) -> None:
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "k", {"n": 1})

    with SqliteStore.from_conn_string(path) as store:
        item = store.get(("a",), "k")

    assert item is not None
    assert item.value == {"n": 1}


def test_values_keep_their_exact_types(path: str) -> None:
    value = {
        "tuple": (1, "a"),
        "set": {1, 2},
        "bytes": b"\x00\xff",
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "span": timedelta(days=1),
        "id": UUID(int=7),
        "price": Decimal("1.10"),
        "big": 2**80,
        "text": "\x00\ud800",
        "keys": {1: "int", (2, 3): "tuple"},
    }
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "k", value)
        item = store.get(("a",), "k")

    assert item is not None
    assert item.value == value
    assert type(item.value["tuple"]) is tuple


class Unknown:
    pass


def test_value_of_an_unknown_type_is_refused_and_what_was_there_stays(path: str) -> None:
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "k", {"n": 1})
        with pytest.raises(SerializationError, match="Unknown") as info:
            store.batch([PutOp(("a",), "other", {"n": 2}), PutOp(("a",), "k", {"parts": [1, Unknown()]})])
        kept = store.search(("a",))

    assert info.value.path == "['parts'][1]" or "parts" in info.value.path
    assert "in item 'k' of namespace ('a',)" in info.value.__notes__
    assert [(item.key, item.value) for item in kept] == [("k", {"n": 1})]


def test_memory_store_takes_any_object_where_sqlite_takes_known_types() -> None:
    thing = Unknown()
    store = InMemoryStore()
    store.put(("a",), "k", {"thing": thing})

    item = store.get(("a",), "k")

    assert item is not None
    assert item.value["thing"] is thing


def test_search_order_is_last_updated_first_in_sqlite_and_first_put_first_in_memory(path: str, clock: Clock) -> None:
    memory = InMemoryStore(clock=clock)
    with SqliteStore.from_conn_string(path, clock=clock) as sqlite:
        for key in ("one", "two", "three", "one"):
            for store in (memory, sqlite):
                store.put(("a",), key, {})
            clock.advance(minutes=1)

        assert [item.key for item in sqlite.search(("a",))] == ["one", "three", "two"]
        assert [item.key for item in memory.search(("a",))] == ["one", "two", "three"]


def test_searches_and_listings_read_ranges_of_an_index(raw: sqlite3.Connection) -> None:
    parameters = dict.fromkeys(["low", "high", "alive", "updated_at", "id", "limit", "offset", "size"], 0)

    plans = {
        name: " | ".join(row[3] for row in raw.execute(f"explain query plan {sql}", parameters))
        for name, sql in {"recent": _sql.RECENT, "namespaces": _sql.NAMESPACES, "vectors": _sql.VECTORS}.items()
    }

    assert "SEARCH store_item USING COVERING INDEX store_item_recent (ns>? AND ns<?)" in plans["recent"]
    assert "SEARCH store_item USING COVERING INDEX" in plans["namespaces"]
    assert "SCAN store_item" not in "".join(plans.values())
    assert "SEARCH vector USING INDEX store_vector_item (item=?)" in plans["vectors"]


def test_get_and_put_are_one_statement_each(path: str) -> None:
    statements: list[str] = []
    connection = sqlite3.connect(path, isolation_level=None)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    store = SqliteStore(other)
    store.setup()
    other.set_trace_callback(statements.append)
    store.put(("a",), "k", {"n": 1})
    store.get(("a",), "k")
    other.close()
    connection.close()

    assert [statement.split()[0] for statement in statements] == ["insert", "select"]


def test_one_object_serves_sync_callers_threads_and_event_loops(path: str) -> None:
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "sync", {"n": 0})

        async def scenario() -> None:
            await asyncio.gather(*(store.aput(("a",), f"async {n}", {"n": n}) for n in range(20)))
            assert await store.aget(("a",), "sync") is not None

        asyncio.run(scenario())
        asyncio.run(scenario())
        threads = [threading.Thread(target=store.put, args=(("a",), f"thread {n}", {})) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(store.search(("a",), limit=100)) == 26


def test_async_store_serves_sync_callers_and_batches_what_is_started_together(path: str) -> None:
    async def scenario() -> None:
        async with AsyncSqliteStore.from_conn_string(path) as store:
            assert isinstance(store, AsyncBatchedBaseStore)
            await store.setup()
            statements: list[str] = []
            store.conn.set_trace_callback(statements.append)  # type: ignore[attr-defined]
            await asyncio.gather(*(store.aput(("a",), str(n), {"n": n}) for n in range(5)))
            assert [statement.split()[0] for statement in statements] == ["begin", *["insert"] * 5, "commit"]
            store.put(("a",), "sync", {})
            assert store.get(("a",), "4") is not None

    asyncio.run(scenario())


def test_async_operations_do_not_block_the_event_loop(path: str) -> None:
    async def scenario() -> None:
        async with AsyncSqliteStore.from_conn_string(path) as store:
            await store.setup()
            blocker = sqlite3.connect(path, isolation_level=None)
            blocker.execute("begin immediate")
            put = asyncio.create_task(store.aput(("a",), "k", {}))
            for _ in range(100):  # the loop turns while the put waits for the lock
                await asyncio.sleep(0)
            assert not put.done()
            blocker.execute("commit")
            await put
            blocker.close()

    asyncio.run(scenario())


def test_cancelled_async_call_leaves_the_store_usable(path: str) -> None:
    async def scenario() -> None:
        async with AsyncSqliteStore.from_conn_string(path) as store:
            await store.setup()
            blocker = sqlite3.connect(path, isolation_level=None)
            blocker.execute("begin immediate")
            put = asyncio.create_task(store.aput(("a",), "cancelled", {}))
            for _ in range(10):
                await asyncio.sleep(0)
            put.cancel()
            await asyncio.wait([put])
            blocker.execute("commit")
            blocker.close()
            await store.aput(("a",), "k", {})
            assert await store.aget(("a",), "k") is not None

    asyncio.run(scenario())


def test_connection_bound_to_its_thread_serves_async_calls_and_other_threads(path: str) -> None:
    connection = sqlite3.connect(path)
    store = SqliteStore(connection)
    store.put(("a",), "k", {"n": 1})

    item = asyncio.run(store.aget(("a",), "k"))
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(store.get(("a",), "k")))
    thread.start()
    thread.join()
    store.close()

    assert seen == [item]
    assert item is not None
    connection.execute("select 1")  # it stays open, as its owner closes it
    connection.close()


def test_memory_connection_bound_to_its_thread_serves_that_thread_and_says_so_in_others() -> None:
    connection = sqlite3.connect(":memory:")
    store = SqliteStore(connection)
    store.put(("a",), "k", {"n": 1})
    assert asyncio.run(store.aget(("a",), "k")) == store.get(("a",), "k")
    errors: list[StorageError] = []

    def use() -> None:
        with pytest.raises(StorageError) as info:
            store.get(("a",), "k")
        errors.append(info.value)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    connection.close()

    assert str(errors[0]) == "the connection to database ':memory:' may only be used on the thread that opened it"
    assert errors[0].hint == "open it with check_same_thread=False, or use from_conn_string"


def test_connection_with_implicit_transactions_commits_every_put(path: str) -> None:
    connection = sqlite3.connect(path, check_same_thread=False)
    store = SqliteStore(connection)
    store.put(("a",), "k", {"n": 1})
    store.batch([PutOp(("a",), "l", {}), GetOp(("a",), "k")])

    assert not connection.in_transaction
    connection.close()
    with SqliteStore.from_conn_string(path) as again:
        assert len(again.search(("a",))) == 2


def test_reading_takes_no_lock_whatever_the_connection(path: str, raw: sqlite3.Connection) -> None:
    connection = sqlite3.connect(path, check_same_thread=False)
    store = SqliteStore(connection, busy_timeout=0)
    store.setup()
    raw.execute("begin immediate")

    assert store.get(("a",), "k") is None
    assert store.search(("a",)) == []
    assert store.list_namespaces() == []
    connection.close()


def test_connection_inside_a_transaction_of_its_owner_is_refused(path: str) -> None:
    connection = sqlite3.connect(path, check_same_thread=False)
    store = SqliteStore(connection)
    store.setup()
    connection.execute("create table mine (n)")
    connection.execute("insert into mine values (1)")

    with pytest.raises(StorageError, match="has a transaction open") as info:
        store.put(("a",), "k", {})
    assert info.value.hint == "commit it first, or give clew a connection of its own"
    connection.rollback()
    store.put(("a",), "k", {})
    connection.close()


def test_memory_database_and_uri_can_be_opened() -> None:
    with SqliteStore.from_conn_string(":memory:") as store:
        store.put(("a",), "k", {})
        assert asyncio.run(store.aget(("a",), "k")) is not None
    with SqliteStore.from_conn_string("file:shared?mode=memory") as store:
        store.put(("a",), "k", {})
        assert store.get(("a",), "k") is not None


def test_closed_store_says_so(path: str) -> None:
    with SqliteStore.from_conn_string(path) as store:
        store.setup()

    with pytest.raises(StorageError, match="is closed") as info:
        store.get(("a",), "k")
    assert info.value.hint == "use it inside its `with` block"


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_synchronous_is_set_on_the_connection(path: str, synchronous: Any, level: int) -> None:
    connection = sqlite3.connect(path, check_same_thread=False)
    SqliteStore(connection, synchronous=synchronous).setup()

    assert connection.execute("pragma synchronous").fetchone() == (level,)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()


def test_unknown_synchronous_is_refused() -> None:
    opening = SqliteStore.from_conn_string(":memory:", synchronous="OFF")  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="synchronous is 'OFF', not 'FULL' or 'NORMAL'"):
        opening.__enter__()


def test_setup_can_be_called_again_and_by_two_stores_at_once(path: str) -> None:
    stores = [SqliteStore(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) for _ in range(4)]
    threads = [threading.Thread(target=store.setup) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[0].setup()
    stores[1].put(("a",), "k", {})

    assert stores[2].get(("a",), "k") is not None
    for store in stores:
        store.conn.close()


def test_file_may_hold_other_tables(path: str) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("create table head (n)")
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "k", {})
    names = {name for (name,) in other.execute("select name from sqlite_master where type in ('table', 'trigger')")}
    other.close()

    assert {name for name in names if not name.startswith(("store_", "sqlite_"))} == {"head"}


def test_file_of_a_newer_clew_is_refused(path: str, raw: sqlite3.Connection) -> None:
    raw.execute("insert into store_schema values (99)")

    with SqliteStore.from_conn_string(path) as store, pytest.raises(SchemaVersionError) as info:
        store.get(("a",), "k")

    assert str(info.value) == f"database {path!r} has schema version 99, and this clew knows 1"
    assert info.value.hint == "upgrade clew, or use another file"


def test_damaged_value_is_a_typed_error_and_the_others_can_be_read(path: str, raw: sqlite3.Connection) -> None:
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "bad", {"n": 1})
        store.put(("a",), "good", {"n": 2})
        [(value,)] = raw.execute("select value from store_item where key = cast('bad' as blob)")
        for position in range(len(value)):
            flipped = value[:position] + bytes([value[position] ^ 0x10]) + value[position + 1 :]
            raw.execute("update store_item set value = ? where key = cast('bad' as blob)", (flipped,))
            with pytest.raises((CorruptRecordError, SchemaVersionError)) as info:
                store.get(("a",), "bad")
            assert info.value.__notes__[-1] == "in item 'bad' of namespace ('a',)"
        raw.execute("update store_item set value = x'01' where key = cast('bad' as blob)")
        with pytest.raises(CorruptRecordError, match="is shorter than its header"):
            store.get(("a",), "bad")

        assert store.get(("a",), "good") is not None


def test_file_that_is_not_a_database_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is no database at all " * 100)

    is_refused = pytest.raises(StorageError, match=r"notes.txt' is not a SQLite database")
    with SqliteStore.from_conn_string(str(path)) as store, is_refused as info:
        store.get(("a",), "k")

    assert info.value.hint == "name another file, or one that does not exist"
    assert path.read_text().startswith("this is no database")


def test_missing_folder_is_a_typed_error(tmp_path: Path) -> None:
    opening = SqliteStore.from_conn_string(str(tmp_path / "none" / "store.db"))

    with pytest.raises(StorageError, match="cannot be opened") as info:
        opening.__enter__()
    assert info.value.hint == "does its folder exist, and may this user write there?"


def test_read_only_file_can_be_read_and_says_so_when_written(path: str) -> None:
    with SqliteStore.from_conn_string(path) as store:
        store.put(("a",), "k", {"n": 1})
    with SqliteStore.from_conn_string(f"file:{path}?mode=ro") as store:
        assert store.get(("a",), "k") is not None
        with pytest.raises(StorageError, match="is read-only") as info:
            store.put(("a",), "k", {"n": 2})
    assert info.value.hint == "give this process write access to the file and its folder"


def test_full_disk_is_a_typed_error_and_what_was_there_stays(path: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    store = SqliteStore(connection)
    store.put(("a",), "k", {"n": 1})
    pages = connection.execute("pragma page_count").fetchone()[0]
    connection.execute(f"pragma max_page_count = {pages + 2}")
    with pytest.raises(StorageError, match="the disk is full"):
        store.put(("a",), "k", {"data": random.Random(1).randbytes(100_000)})

    item = store.get(("a",), "k")
    assert item is not None
    assert item.value == {"n": 1}
    store.put(("a",), "k", {"n": 2})
    connection.close()


def test_async_connection_is_refused_with_the_remedy(path: str) -> None:
    class AsyncConnection:
        async def close(self) -> None: ...

    with pytest.raises(StorageError, match=r"AsyncConnection is async") as info:
        AsyncSqliteStore(AsyncConnection())  # type: ignore[arg-type]
    assert info.value.hint == "give a sqlite3.Connection, which serves async callers too, or use from_conn_string"


def test_async_caller_may_change_a_value_after_the_batch_began(path: str) -> None:
    async def scenario(store: SqliteStore) -> Any:
        value = {"list": [1]}
        putting = asyncio.ensure_future(store.aput(("a",), "k", value))
        await asyncio.sleep(0)
        value["list"].append(2)
        await putting
        return await store.aget(("a",), "k")

    with SqliteStore.from_conn_string(path) as store:
        assert asyncio.run(scenario(store)).value == {"list": [1]}


def test_async_store_is_its_own_context_manager(path: str) -> None:
    async def scenario() -> None:
        connection = sqlite3.connect(path, check_same_thread=False)
        async with AsyncSqliteStore(connection) as store:
            await store.aput(("a",), "k", {})
        connection.execute("select 1")  # it stays open, as its owner closes it
        connection.close()

    asyncio.run(scenario())


def test_write_waits_for_another_process_for_a_bounded_time(path: str, raw: sqlite3.Connection) -> None:
    raw.execute("begin immediate")
    with SqliteStore.from_conn_string(path, busy_timeout=0.05) as store:
        with pytest.raises(StorageError) as info:
            store.put(("a",), "k", {})
        assert str(info.value) == f"database {path!r} was kept locked by another connection for 0.05 seconds"
        assert info.value.hint
        assert store.get(("a",), "k") is None  # reading needs no lock
        raw.execute("commit")
        store.put(("a",), "k", {})


def test_failed_batch_is_undone_as_a_whole(path: str, raw: sqlite3.Connection) -> None:
    raw.execute(
        "create trigger fail before insert on store_item when new.key = cast('b' as blob) "
        "begin select raise(abort, 'no room for b'); end"
    )
    with SqliteStore.from_conn_string(path) as store:
        with pytest.raises(StorageError, match="no room for b"):
            store.batch([PutOp(("a",), "a", {}), PutOp(("a",), "b", {}), PutOp(("a",), "c", {})])

        assert store.search(("a",)) == []
        store.put(("a",), "c", {})


def test_several_processes_write_one_file(path: str) -> None:
    workers = [
        subprocess.Popen([sys.executable, WORKER, path, name, "40"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in ("one", "two", "three")
    ]
    outputs = [worker.communicate() for worker in workers]

    assert [(worker.returncode, errors) for worker, (_, errors) in zip(workers, outputs, strict=True)] == [(0, b"")] * 3
    with SqliteStore.from_conn_string(path) as store:
        assert len(store.search(("work",), limit=1000)) == 120
        assert store.list_namespaces() == [("shared",), ("work", "one"), ("work", "three"), ("work", "two")]


def test_put_that_returned_survives_the_death_of_its_process(path: str) -> None:
    worker = subprocess.Popen([sys.executable, WORKER, path, "one", "-1"], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    last = [int(worker.stdout.readline()) for _ in range(10)][-1]
    worker.kill()
    worker.wait()
    worker.stdout.close()

    with SqliteStore.from_conn_string(path) as store:
        kept = {item.value["n"] for item in store.search(("work", "one"), limit=10_000)}
    assert set(range(last + 1)) <= kept


def test_reads_of_one_batch_see_one_state(path: str) -> None:
    with SqliteStore.from_conn_string(path) as store, SqliteStore.from_conn_string(path) as writer:
        for n in range(300):
            writer.put(("a",), str(n), {"n": n})

        def accepts_and_writes(self: Any, other: Any) -> bool:
            writer.put(("a",), "new", {"n": -1})
            return True

        probe = type("Probe", (), {"__eq__": accepts_and_writes, "__hash__": None})()
        found, again = store.batch([SearchOp(("a",), {"n": {"$not": {"$eq": probe}}}), SearchOp(("a",), limit=1000)])

    assert found == []
    assert len(again) == 300  # type: ignore[arg-type]


def test_stores_are_exported_from_the_modules_of_their_field() -> None:
    assert (FromAio, FromBase) == (AsyncSqliteStore, SqliteStore)
