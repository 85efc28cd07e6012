"""The PostgreSQL store when connections, statements or servers fail: done again as a whole, or a typed error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from clew.errors import StorageError, StorageTimeoutError, StorageUnavailableError
from clew.store.base import GetOp, PutOp, SearchOp
from clew.store.postgres import AsyncPostgresStore, PostgresStore
from tests.postgres import Server
from tests.proxy import Proxy


@pytest.fixture
def raw(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


TERMINATE = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""


def test_terminated_connections_are_replaced(database: str, raw: psycopg.Connection[Any]) -> None:
    with PostgresStore.from_conn_string(database, min_size=3, max_size=3) as store:
        store.put(("a",), "k", {"n": 1})
        for _ in range(3):
            raw.execute(TERMINATE)
            item = store.get(("a",), "k")
            assert item is not None
            store.batch([GetOp(("a",), "k"), PutOp(("a",), "k", {"n": 2})])


def test_terminated_connections_of_a_loop_are_replaced(database: str, raw: psycopg.Connection[Any]) -> None:
    async def scenario() -> None:
        async with AsyncConnectionPool(database, min_size=2, max_size=2, open=False) as pool:
            store = AsyncPostgresStore(pool)
            await store.aput(("a",), "k", {"n": 1})
            raw.execute(TERMINATE)
            assert await store.aget(("a",), "k") is not None

    asyncio.run(scenario())


def test_only_connection_that_is_terminated_is_a_typed_error(database: str, raw: psycopg.Connection[Any]) -> None:
    with psycopg.connect(database) as connection:
        store = PostgresStore(connection)
        store.put(("a",), "k", {})
        raw.execute(TERMINATE)

        with pytest.raises(StorageUnavailableError) as info:
            store.get(("a",), "k")
        assert info.value.hint is not None
        with pytest.raises(StorageUnavailableError, match="the store was given is closed"):
            store.get(("a",), "k")


@pytest.mark.parametrize("action", ["cut_before", "cut_after", "half_close"])
@pytest.mark.parametrize("pattern", ["insert into", "^sync"])
def test_put_whose_connection_is_cut_is_done_once_it_returns(database: str, action: Any, pattern: str) -> None:
    with Proxy.to(database) as proxy, PostgresStore.from_conn_string(proxy.conninfo(database), max_size=2) as store:
        store.put(("a",), "k", {"n": 1})
        broken = proxy.break_at(action, pattern)
        store.put(("a",), "k", {"n": 2})

        assert broken.fired.is_set()
        item = store.get(("a",), "k")
        assert item is not None
        assert item.value == {"n": 2}


def test_transaction_that_is_cut_in_the_middle_is_run_again_as_a_whole(database: str) -> None:
    ops = [SearchOp(("a",), {"$not": {"n": 2}}), PutOp(("a",), "k", {"n": 2}), PutOp(("a",), "l", {"n": 3})]
    with Proxy.to(database) as proxy, PostgresStore.from_conn_string(proxy.conninfo(database), max_size=2) as store:
        store.put(("a",), "k", {"n": 1})
        broken = proxy.break_at("cut_after", "insert into")
        [found, _, _] = store.batch(ops)

        assert broken.fired.is_set()
        # The first attempt was committed, and nobody has seen its answer: the second one finds what it has written.
        assert [item.key for item in found] == ["l"]  # type: ignore[union-attr]
        assert len(store.search(("a",))) == 2


def test_server_that_cannot_be_reached_is_a_typed_error_after_a_bounded_time(database: str) -> None:
    with Proxy.to(database) as proxy:
        with PostgresStore.from_conn_string(proxy.conninfo(database), timeout=1.0) as store:
            store.put(("a",), "k", {})
            proxy.refuse()
            proxy.cut()
            with pytest.raises(StorageUnavailableError, match="cannot be reached") as info:
                store.get(("a",), "k")
            assert isinstance(info.value.__cause__, psycopg.Error)
            assert info.value.hint == "run it again when the database is back"
            proxy.accept()
        proxy.refuse()
        with (
            pytest.raises(StorageError),
            PostgresStore.from_conn_string(proxy.conninfo(database), timeout=0.5),
        ):
            pass


def test_server_that_crashes_and_comes_back_keeps_what_was_put(own_server: Server) -> None:
    with PostgresStore.from_conn_string(own_server.conninfo(), timeout=30.0) as store:
        for n in range(3):
            store.put(("a",), str(n), {"n": n})
        own_server.stop("immediate")
        started = threading.Thread(target=own_server.start)
        started.start()
        assert [item.key for item in store.search(("a",))] == ["2", "1", "0"]
        started.join()
        store.put(("a",), "after", {})


def test_read_only_server_is_a_typed_error(database: str, raw: psycopg.Connection[Any]) -> None:
    with PostgresStore.from_conn_string(database, timeout=0.5, max_size=1) as store:
        store.put(("a",), "k", {})
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("set default_transaction_read_only = on")
            mine = PostgresStore(connection)
            mine._database._patience = 0.3
            assert mine.get(("a",), "k") is not None
            with pytest.raises(StorageUnavailableError, match="read-only"):
                mine.put(("a",), "k", {"n": 2})


FAILS_FIRST = """
    create sequence failures;
    create function fail() returns trigger language plpgsql as $$
        begin
            if nextval('failures') <= %s then raise exception 'once' using errcode = '%s'; end if;
            return new;
        end
    $$;
    create trigger fails before insert or update on clew_store_item for each row execute function fail();
"""


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "25P04"])
def test_failure_that_passes_is_not_seen(database: str, raw: psycopg.Connection[Any], state: str) -> None:
    with PostgresStore.from_conn_string(database, max_size=2) as store:
        store.put(("a",), "first", {})
        raw.execute(FAILS_FIRST % (3, state))
        store.put(("a",), "k", {"n": 1})
        raw.execute("alter sequence failures restart")
        store.batch([SearchOp(("a",), {"$not": {"n": 7}}), PutOp(("a",), "l", {}), PutOp(("a",), "m", {})])

        assert {item.key for item in store.search(())} == {"first", "k", "l", "m"}


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40001", StorageUnavailableError),
        ("55P03", StorageTimeoutError),
        ("57014", StorageTimeoutError),
        ("53100", StorageError),
        ("P0001", StorageError),
    ],
)
def test_failure_that_stays_is_a_typed_error(
    database: str, raw: psycopg.Connection[Any], state: str, kind: type[StorageError]
) -> None:
    with PostgresStore.from_conn_string(database, max_size=2, timeout=0.3) as store:
        store.put(("a",), "first", {})
        raw.execute(FAILS_FIRST % (1_000_000, state))

        with pytest.raises(kind) as info:
            store.put(("a",), "k", {"n": 1})
        assert isinstance(info.value.__cause__, psycopg.Error)
        assert [item.key for item in store.search(())] == ["first"]


def test_statement_timeout_of_the_connection_is_a_typed_error(database: str, raw: psycopg.Connection[Any]) -> None:
    with PostgresStore.from_conn_string(database) as store:
        store.put(("a",), "k", {})
    options = {"kwargs": {"options": "-c statement_timeout=100"}}
    with PostgresStore.from_conn_string(database, pool_config=options) as store, raw.transaction():  # pyright: ignore[reportArgumentType]
        raw.execute("select from clew_store_item for update")
        with pytest.raises(StorageTimeoutError, match="cancelled a statement"):
            store.put(("a",), "k", {"n": 1})


def test_batches_that_write_the_same_items_in_any_order_all_succeed(database: str) -> None:
    with PostgresStore.from_conn_string(database, max_size=4) as store:
        store.setup()
        failures: list[BaseException] = []

        def write(turn: int) -> None:
            keys = [str(n) for n in range(20)][:: 1 if turn % 2 else -1]
            try:
                for n in range(10):
                    store.batch([*(PutOp(("a",), key, {"n": n}, None, 5) for key in keys), GetOp(("a",), "3")])
                    store.batch([*(GetOp(("a",), key) for key in keys), SearchOp(("a",))])
                    store.batch([PutOp(("a",), key, None) for key in keys[:3]])
            except BaseException as error:  # shown below
                failures.append(error)

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
