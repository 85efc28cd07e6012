"""What only the PostgreSQL store has to do: connections, transactions, tenants, setup, round trips."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import (
    CorruptRecordError,
    InvalidTenantError,
    SchemaVersionError,
    StorageError,
    StorageUnavailableError,
)
from clew.store._values import Values
from clew.store.base import GetOp, InvalidOpError, ListNamespacesOp, PutOp, SearchOp
from clew.store.postgres import AsyncPostgresStore, PoolConfig, PostgresStore
from tests.proxy import Proxy


@pytest.fixture
def raw(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@contextmanager
def opened(database: str, **options: Any) -> Iterator[PostgresStore]:
    with PostgresStore.from_conn_string(database, **options) as store:
        yield store


def test_items_are_there_when_the_database_is_opened_again(database: str) -> None:
    with opened(database) as store:
        store.put(("a",), "k", {"n": 1})
        before = store.get(("a",), "k")
    with opened(database) as store:
        assert store.get(("a",), "k") == before


def test_values_keep_their_exact_types(database: str) -> None:
    value = {
        "tuple": (1, 2),
        "set": {1},
        "bytes": b"\x00\xff",
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "decimal": Decimal("1.10"),
        "id": UUID(int=7),
        "float": 1.0,
        "large": 10**30,
        "text": "\x00\ud800",
        1: "number",
    }
    with opened(database) as store:
        store.put(("a",), "k", value)  # pyright: ignore[reportArgumentType]
        item = store.get(("a",), "k")

    assert item is not None
    assert item.value == value
    assert [type(part) for part in item.value.values()] == [type(part) for part in value.values()]


def test_times_are_the_databases_and_no_clock_of_this_machine(
    database: str, raw: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    with opened(database, ttl={"omit_expired": True}) as store:
        store.put(("a",), "k", {}, ttl=5)
        item = store.get(("a",), "k")
        [(now,)] = raw.execute("select now()").fetchall()
        assert item is not None
        assert abs((now - item.updated_at).total_seconds()) < 60

        raw.execute("update clew_store_item set expires_at = now() - interval '1 second'")
        assert store.get(("a",), "k") is None
        assert store.sweep_ttl() == 1


def test_time_to_live_may_be_longer_than_the_servers_calendar(database: str) -> None:
    with opened(database) as store:
        store.put(("a",), "k", {}, ttl=1e300)

        assert store.get(("a",), "k") is not None
        assert store.sweep_ttl() == 0


# Round trips


@pytest.fixture
def counted(database: str) -> Iterator[tuple[PostgresStore, Proxy]]:
    """A store that is ready, behind a proxy that counts."""
    with Proxy.to(database) as proxy, opened(proxy.conninfo(database), max_size=1) as store:
        store.setup()
        store.batch([PutOp(("a",), str(n), {"n": n, "s": str(n)}) for n in range(60)])
        proxy.reset()
        yield store, proxy


BATCHES: list[list[Any]] = [
    [GetOp(("a",), "1")],
    [GetOp(("a",), str(n)) for n in range(50)],
    [PutOp(("a",), "1", {"n": 1})],
    [PutOp(("a",), str(n), {"n": 1}) for n in range(50)],
    [PutOp(("a",), str(n), {"n": 1} if n % 2 else None) for n in range(50)],
    [GetOp(("a",), "1"), PutOp(("a",), "1", {"n": 2}), PutOp(("b",), "1", None)],
    [SearchOp(("a",))],
    [SearchOp(("a",), {"n": {"$gte": 7}, "s": {"$in": ["8", "9"]}}, limit=1)],
    [SearchOp(("a",)), SearchOp(("b",)), GetOp(("a",), "1"), ListNamespacesOp()],
]


def test_batch_is_one_round_trip(counted: tuple[PostgresStore, Proxy]) -> None:
    store, proxy = counted
    for ops in BATCHES * 2:
        proxy.reset()
        store.batch(ops)

        assert (ops, proxy.round_trips) == (ops, 1)


def test_reading_what_has_a_time_to_live_takes_a_second_round_trip(counted: tuple[PostgresStore, Proxy]) -> None:
    store, proxy = counted
    store.put(("a",), "1", {}, ttl=5)
    proxy.reset()
    store.get(("a",), "1")

    assert proxy.round_trips == 2


def test_async_operations_that_start_together_are_one_round_trip(database: str) -> None:
    async def scenario(conninfo: str, proxy: Proxy) -> None:
        async with AsyncPostgresStore.from_conn_string(conninfo, max_size=2) as store:
            await store.setup()
            proxy.reset()
            await asyncio.gather(*(store.aput(("a",), str(n), {"n": n}) for n in range(20)))
            assert proxy.round_trips == 1
            items = await asyncio.gather(*(store.aget(("a",), str(n)) for n in range(20)))
            assert proxy.round_trips == 2
            assert [item.value["n"] for item in items if item] == list(range(20))

    with Proxy.to(database) as proxy:
        asyncio.run(scenario(proxy.conninfo(database), proxy))


def test_server_sends_only_values_that_a_filter_accepts(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []
    with opened(database) as store:
        store.batch([PutOp(("a",), str(n), {"n": n, "meta": {"kind": "abc"[n % 3]}}) for n in range(300)])
        load = Values.load
        monkeypatch.setattr(Values, "load", lambda self, *stored: loaded.append(stored) or load(self, *stored))
        for filter in ({"n": 7}, {"n": {"$gt": 290}, "meta.kind": "a"}, {"meta": {"kind": {"$in": ["b"]}}}):
            loaded.clear()
            found = store.search(("a",), filter=filter, limit=5)
            assert len(loaded) == len(found) >= 1


def test_filter_that_the_server_cannot_judge_is_evaluated_page_by_page_in_one_snapshot(database: str) -> None:
    with opened(database) as store:
        store.batch([PutOp(("a",), f"{n:04}", {"n": n, "at": (n,)}) for n in range(1000)])

        found = store.search(("a",), filter={"at": {"$eq": (3,)}}, limit=5)
        assert [item.key for item in found] == ["0003"]
        assert len(store.search(("a",), filter={"$not": {"n": {"$lt": 10}}}, limit=2000)) == 990
        results = store.batch([SearchOp(("a",), {"$not": {"n": {"$gt": 3}}}), PutOp(("a",), "0001", None)])
        assert {item.key for item in results[0]} == {"0000", "0001", "0002", "0003"}  # type: ignore[union-attr]
        assert store.get(("a",), "0001") is None


# Connections


def test_connection_of_any_kind_serves_and_is_left_as_it_was(database: str) -> None:
    for autocommit in (True, False):
        with psycopg.connect(
            database, autocommit=autocommit, row_factory=dict_row, cursor_factory=psycopg.ClientCursor
        ) as connection:
            store = PostgresStore(connection, prepare=False)
            store.put(("a",), "k", {"autocommit": autocommit})
            with opened(database) as other:
                item = other.get(("a",), "k")
            assert item is not None
            assert item.value == {"autocommit": autocommit}
            assert connection.autocommit is autocommit
            assert connection.execute("select 1 as one").fetchone() == {"one": 1}
            [row] = connection.execute("select count(*) from pg_prepared_statements").fetchall()
            assert row == {"count": 0}
            store.close()
            assert not connection.closed


def test_store_takes_part_in_a_transaction_of_the_connections_owner(database: str) -> None:
    with psycopg.connect(database) as connection:
        store = PostgresStore(connection)
        with connection.transaction(force_rollback=True):
            store.setup()
            store.put(("a",), "undone", {})
            assert store.get(("a",), "undone") is not None
            with pytest.raises(InvalidOpError):
                store.put(("a",), "k", {}, ttl=-1)
    with opened(database) as store:
        assert store.search(()) == []


def test_failure_inside_a_transaction_undoes_the_stores_work_only(database: str, raw: psycopg.Connection[Any]) -> None:
    with opened(database) as other:
        other.setup()
    raw.execute("alter table clew_store_item add check (length(key) < 5)")
    with psycopg.connect(database) as connection, connection.transaction():
        store = PostgresStore(connection)
        store.put(("a",), "kept", {})
        with pytest.raises(StorageError, match="violates check constraint"):
            store.batch([PutOp(("a",), "fine", {}), PutOp(("b",), "too long", {})])
        store.put(("a",), "too", {})
    with opened(database) as other:
        assert {item.key for item in other.search(())} == {"kept", "too"}


def test_pool_of_the_caller_serves_and_stays_open(database: str) -> None:
    with ConnectionPool(database, min_size=1, max_size=2, kwargs={"row_factory": dict_row}) as pool:
        store = PostgresStore(pool)
        store.put(("a",), "k", {"n": 1})
        store.close()
        assert not pool.closed
        assert PostgresStore(pool).get(("a",), "k") is not None


def test_statements_are_prepared_unless_told_otherwise(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for prepare, expected in ((False, 0), (True, 1)):
            PostgresStore(connection, prepare=prepare).get(("a",), "k")
            [(count,)] = connection.execute(
                "select count(*) from pg_prepared_statements where name like 'clew%' and statement like '%$4%'"
            ).fetchall()
            assert count >= expected
            assert bool(count) is prepare


def test_pool_settings_can_be_given_both_ways(database: str) -> None:
    config = PoolConfig(min_size=1, max_size=3, kwargs={"application_name": "mine"})
    with opened(database, pool_config=config, max_size=2) as store:
        assert store.conn.max_size == 2
        with store.conn.connection() as connection:
            assert connection.execute("show application_name").fetchone() == ("mine",)


def test_one_object_serves_sync_callers_threads_and_event_loops(database: str) -> None:
    async def use(store: Any, name: str) -> None:
        await asyncio.gather(*(store.aput(("loop", name), str(n), {"n": n}) for n in range(10)))
        assert store.get(("loop", name), "3").value == {"n": 3}  # a sync call in a running loop
        await asyncio.gather(*(store.aget(("loop", name), str(n)) for n in range(10)))

    with opened(database, max_size=1) as store:
        asyncio.run(use(store, "one"))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda n: asyncio.run(use(store, str(n))), range(4)))
        assert len(store.list_namespaces()) == 5


def test_async_store_of_a_connection_string_serves_every_loop_and_sync_callers(database: str) -> None:
    async def scenario() -> None:
        async with AsyncPostgresStore.from_conn_string(database, max_size=2) as store:
            await store.aput(("a",), "k", {"n": 1})
            assert store.get(("a",), "k") is not None
            other = await asyncio.to_thread(lambda: asyncio.run(store.aget(("a",), "k")))
            assert other is not None

    asyncio.run(scenario())


def test_sync_calls_in_a_loop_do_not_wait_for_it(database: str) -> None:
    """Neither while async calls hold all connections, nor on the store's only one."""

    async def scenario(store: Any) -> None:
        running = [asyncio.create_task(store.aput(("a",), str(n), {"n": n})) for n in range(20)]
        await asyncio.sleep(0)
        store.put(("a",), "sync", {})
        await asyncio.gather(*running)
        assert len(store.search(("a",), limit=50)) == 21

    with opened(database, max_size=1) as store:
        asyncio.run(asyncio.wait_for(scenario(store), 30))
    with psycopg.connect(database) as connection:
        store = PostgresStore(connection)
        asyncio.run(asyncio.wait_for(scenario(store), 30))
        store.close()


@pytest.mark.parametrize("pooled", [False, True])
def test_store_on_connections_of_a_loop_serves_that_loop_and_says_so_elsewhere(database: str, pooled: bool) -> None:
    async def scenario() -> AsyncPostgresStore:
        if pooled:
            conn: Any = AsyncConnectionPool(database, min_size=1, max_size=2, open=False)
            await conn.open()
        else:
            conn = await psycopg.AsyncConnection.connect(database)
        async with conn:
            store = AsyncPostgresStore(conn)
            await store.setup()
            await asyncio.gather(*(store.aput(("a",), str(n), {"n": n}) for n in range(5)))
            with pytest.raises(StorageError, match="would wait for its event loop") as info:
                store.get(("a",), "1")
            assert info.value.hint is not None
            assert "ConnectionPool" in info.value.hint
            item = await asyncio.to_thread(store.get, ("a",), "1")
            assert item is not None
            assert await store.sweep_ttl() == 0
            with pytest.raises(StorageError, match="belong to another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(store.aget(("a",), "1")))
            await store.aclose()
            return store

    store = asyncio.run(scenario())
    with pytest.raises(StorageError, match="would wait for its event loop"):
        store.get(("a",), "1")


def test_cancelled_call_leaves_the_connection_of_a_loop_usable(database: str) -> None:
    async def scenario() -> None:
        connection = await psycopg.AsyncConnection.connect(database)
        async with connection:
            store = AsyncPostgresStore(connection)
            await store.setup()
            task = asyncio.create_task(store.abatch([PutOp(("a",), "k", {"n": 1})]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await store.aput(("a",), "other", {})
            assert not connection.closed

    asyncio.run(scenario())


def test_stores_a_saver_and_the_owner_share_one_connection(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        saver = PostgresSaver(connection)
        stores = [PostgresStore(connection), PostgresStore(connection, schema="other")]
        failures: list[BaseException] = []

        def use(work: Callable[[int], object]) -> None:
            try:
                for n in range(30):
                    work(n)
            except BaseException as error:  # shown below
                failures.append(error)

        works: list[Callable[[int], object]] = [
            lambda n: stores[0].put(("a",), str(n), {"n": n}),
            lambda n: stores[1].batch([PutOp(("a",), str(n), {}), SearchOp(("a",), {"$not": {"n": n}})]),
            lambda n: saver.get_tuple({"configurable": {"thread_id": str(n)}}),
            lambda n: connection.execute("select %s", [n]).fetchall(),
        ]
        threads = [threading.Thread(target=use, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        assert len(stores[0].search((), limit=100)) == 30


def test_connections_of_a_loop_are_refused_by_the_sync_store(database: str) -> None:
    async def scenario() -> None:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            with pytest.raises(StorageError, match="an AsyncConnection belongs to one event loop") as info:
                PostgresStore(connection)  # pyright: ignore[reportArgumentType]
            assert info.value.hint is not None
            assert "AsyncPostgresStore" in info.value.hint

    asyncio.run(scenario())
    with pytest.raises(StorageError, match="a store cannot be made on a str"):
        PostgresStore(database)  # pyright: ignore[reportArgumentType]


# Schemas and setup


@pytest.mark.parametrize("schema", ["mine", 'a "b" %s; drop', "$1", "é"])
def test_tables_are_in_the_schema_that_was_named(database: str, raw: psycopg.Connection[Any], schema: str) -> None:
    with opened(database, schema=schema) as store:
        store.put(("a",), "k", {})
        assert store.list_namespaces() == [("a",)]
    with opened(database) as other:
        assert other.search(()) == []

    tables = raw.execute(
        "select schemaname from pg_tables where tablename = 'clew_store_item' order by schemaname"
    ).fetchall()
    assert sorted(tables) == sorted([("public",), (schema,)])


@pytest.mark.parametrize("schema", ["", "a\x00b", "x" * 64, "\ud800"])
def test_schema_that_cannot_be_a_name_is_refused(database: str, schema: str) -> None:
    with pytest.raises(StorageError, match="cannot be a name"), opened(database, schema=schema):
        pass


def test_setup_can_be_raced_and_repeated(database: str, raw: psycopg.Connection[Any]) -> None:
    barrier = threading.Barrier(20)

    def race(_: int) -> None:
        with psycopg.connect(database) as connection:
            store = PostgresStore(connection, schema="raced")
            barrier.wait()
            store.setup()
            store.setup()

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(race, range(20)))

    assert raw.execute("select part, version, phase from raced.clew_store_schema").fetchall() == [("item", 1, "post")]


def test_database_of_a_newer_clew_is_refused_only_after_the_second_half(
    database: str, raw: psycopg.Connection[Any]
) -> None:
    with opened(database) as store:
        store.put(("a",), "k", {})
    raw.execute("insert into clew_store_schema (part, version, phase) values ('item', 2, 'pre')")
    with opened(database) as store:
        assert store.get(("a",), "k") is not None
    raw.execute("insert into clew_store_schema (part, version, phase) values ('item', 3, 'post')")
    with opened(database) as store, pytest.raises(SchemaVersionError) as info:
        store.get(("a",), "k")

    assert str(info.value) == "the store's tables have version 3 of 'item', and this clew knows 1"
    assert info.value.hint == "upgrade clew, or use another schema"


def test_role_that_may_not_make_tables_is_told_and_one_that_finds_them_needs_no_more(
    database: str, raw: psycopg.Connection[Any], role: str
) -> None:
    as_role = make_conninfo(database, user=role)
    with opened(as_role, schema="mine") as store, pytest.raises(StorageError, match="permission denied"):
        store.get(("a",), "k")
    with opened(database, schema="mine") as store:
        store.setup()
    raw.execute(f'grant usage on schema mine to "{role}"')
    raw.execute(f'grant select, insert, update, delete on all tables in schema mine to "{role}"')
    with opened(as_role, schema="mine") as store:
        store.setup()
        store.put(("a",), "k", {}, ttl=1)
        assert store.get(("a",), "k") is not None
        assert store.sweep_ttl() == 0


@pytest.fixture
def role(raw: psycopg.Connection[Any], database: str) -> Iterator[str]:
    """A role that owns nothing."""
    name = "app_of_" + str(psycopg.conninfo.conninfo_to_dict(database)["dbname"])
    raw.execute(f'create role "{name}" login')
    yield name
    raw.execute(f'drop owned by "{name}"')
    raw.execute(f'drop role "{name}"')


# Tenants


def test_tenants_see_only_their_own(database: str) -> None:
    with opened(database) as store:
        names = ["", "acme", "acme-corp", "ACME", "é", "e\u0301", "x' or true --", "%"]
        for n, name in enumerate(names):
            tenant = store.with_tenant(name)
            tenant.put(("a", name or "none"), "k", {"n": n}, ttl=1)
        for n, name in enumerate(names):
            tenant = store.with_tenant(name)
            assert [item.value["n"] for item in tenant.search(())] == [n]
            assert tenant.list_namespaces() == [("a", name or "none")]
            assert tenant.search((), filter={"n": (n + 1) % len(names)}) == []
            assert tenant.get(("a", "acme"), "k") is None or name == "acme"
        store.with_tenant("acme").delete(("a", "none"), "k")
        assert store.get(("a", "none"), "k") is not None
        assert store.tenant == ""


def test_clone_for_a_tenant_needs_no_closing_and_closes_nothing(database: str) -> None:
    with opened(database, tenant="one") as store:
        clone = store.with_tenant("two")
        clone.put(("a",), "k", {})
        clone.close()

        assert store.get(("a",), "k") is None
        assert clone.get(("a",), "k") is not None


def test_async_clones_do_not_travel_together(database: str) -> None:
    async def scenario() -> None:
        async with AsyncPostgresStore.from_conn_string(database, max_size=2) as store:
            clones = [store.with_tenant(str(n)) for n in range(5)]
            await asyncio.gather(*(clone.aput(("a",), "k", {"n": n}) for n, clone in enumerate(clones)))
            items = await asyncio.gather(*(clone.aget(("a",), "k") for clone in clones))
            assert [item.value["n"] for item in items if item] == [0, 1, 2, 3, 4]

    asyncio.run(scenario())


@pytest.mark.parametrize("tenant", ["a\x00b", "\ud800", 7, None])
def test_tenant_that_is_no_text_is_refused(database: str, tenant: Any) -> None:
    with opened(database) as store, pytest.raises(InvalidTenantError):
        store.with_tenant(tenant)


def test_server_itself_keeps_tenants_apart_where_it_is_told_to(
    database: str, raw: psycopg.Connection[Any], role: str
) -> None:
    with opened(database, row_security=True) as owner:
        owner.setup()
    raw.execute(f'grant select, insert, update, delete on all tables in schema public to "{role}"')
    with ConnectionPool(make_conninfo(database, user=role), min_size=1, max_size=1) as pool:
        store = PostgresStore(pool)  # finds out by itself
        one, two = store.with_tenant("one"), store.with_tenant("two")
        for n in range(3):
            one.put(("a",), "k", {"of": "one", "n": n}, ttl=5)
            two.put(("a",), "k", {"of": "two", "n": n})
            two.batch([GetOp(("a",), "k"), SearchOp(("a",)), PutOp(("b",), "k", {})])
            assert [item.value["of"] for item in one.search(())] == ["one"]
            assert [item.value.get("of") for item in two.search(("a",))] == ["two"]
        with pool.connection() as connection:  # the very connection that has served them
            assert connection.execute("select count(*) from clew_store_item").fetchone() == (0,)
            connection.execute("select set_config('clew.tenant', 'one', true)")
            assert connection.execute("select tenant from clew_store_item").fetchall() == [("one",)]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("update clew_store_item set tenant = 'two'")
        assert one.sweep_ttl() == 0
        store.close()


# Times to live, and several that sweep


def test_several_replicas_sweep_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.store.postgres._engine.SWEEP_ROWS", 20)
    with opened(database) as store:
        store.batch([PutOp(("a",), str(n), {}, ttl=0) for n in range(300)])
        store.put(("a",), "kept", {})
        with ThreadPoolExecutor(4) as threads:
            counts = list(threads.map(lambda _: store.sweep_ttl(), range(4)))

        assert sum(counts) == 300 - len(store.search((), limit=1000)) + 1
        assert store.sweep_ttl() == 300 - sum(counts)
        assert [item.key for item in store.search(())] == ["kept"]


def test_sweep_and_refresh_pass_over_what_is_being_written(database: str, raw: psycopg.Connection[Any]) -> None:
    with opened(database) as store:
        store.batch([PutOp(("a",), "locked", {}, ttl=0), PutOp(("a",), "free", {}, ttl=0)])
        with raw.transaction():
            raw.execute("select from clew_store_item where key = 'locked' for update")
            assert store.get(("a",), "locked") is not None
            assert store.get(("a",), "free", refresh_ttl=False) is not None
            assert store.sweep_ttl() == 1
        assert store.sweep_ttl() == 1


# Damage


def test_damaged_value_is_a_typed_error_that_names_the_item(database: str, raw: psycopg.Connection[Any]) -> None:
    with opened(database) as store:
        store.put(("a",), "bad", {"n": 1})
        store.put(("a",), "good", {"n": 2})
        raw.execute("update clew_store_item set value = set_byte(value, 12, get_byte(value, 12) # 1) where key = 'bad'")

        with pytest.raises(CorruptRecordError) as info:
            store.get(("a",), "bad")
        assert info.value.__notes__ == ["in item 'bad' of namespace ('a',)"]
        with pytest.raises(CorruptRecordError):
            store.search(("a",), filter={"n": {"$not": {"$eq": 7}}})
        assert store.get(("a",), "good") is not None


def test_item_whose_place_is_too_long_for_an_index_is_refused(database: str) -> None:
    with opened(database) as store:
        long, short = random.randbytes(3000).hex(), random.randbytes(1000).hex()
        store.put(("a",), short, {"n": 1})
        assert store.get(("a",), short) is not None
        with pytest.raises(InvalidOpError, match="a namespace and its key are too long for an index") as info:
            store.put(("a",), long, {})
        assert info.value.hint == "use a shorter key, such as a hash of it"
        assert store.get(("a",), long) is None
        store.delete(("a",), long)


def test_tables_that_are_gone_are_a_typed_error(database: str, raw: psycopg.Connection[Any]) -> None:
    with opened(database) as store:
        store.put(("a",), "k", {})
        raw.execute("drop table clew_store_item")

        with pytest.raises(SchemaVersionError, match="the tables of clew are not in database"):
            store.get(("a",), "k")


def test_store_that_was_closed_says_so(database: str) -> None:
    with opened(database) as store:
        store.put(("a",), "k", {})
    with pytest.raises(StorageError, match="is closed") as info:
        store.get(("a",), "k")
    assert info.value.hint == "use the store inside its `with` block"

    connection = psycopg.connect(database)
    store = PostgresStore(connection)
    connection.close()
    with pytest.raises(StorageUnavailableError, match="that the store was given is closed"):
        store.get(("a",), "k")


def test_connection_string_that_cannot_be_read_is_a_typed_error() -> None:
    with (
        pytest.raises(StorageError, match="the connection string cannot be read"),
        PostgresStore.from_conn_string("host=a nonsense"),
    ):
        pass
