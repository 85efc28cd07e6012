"""Who may call a saver, from where, and what is left when a caller goes away."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.errors import StorageError
from tests.postgres_faults.graphs import chain, on, values
from tests.proxy import Proxy

Tenants = Callable[[], str]


def test_closed_saver_is_a_typed_error(shared: str, tenant: Tenants) -> None:
    with PostgresSaver.from_conn_string(shared, tenant=tenant()) as saver:
        graph = chain(saver)
        graph.invoke({"xs": [0]}, on("t"))
    for call in (
        lambda: graph.invoke({"xs": [0]}, on("t")),
        lambda: graph.get_state(on("t")),
        lambda: asyncio.run(graph.ainvoke({"xs": [0]}, on("t"))),
        saver.setup,
        saver.threads,
    ):
        with pytest.raises(StorageError, match="is closed") as caught:
            call()
        assert caught.value.hint == "open a new one"
    saver.close()


def test_closed_pool_is_a_typed_error_at_once(shared: str, tenant: Tenants) -> None:
    with ConnectionPool(shared, min_size=1, open=True) as pool:
        saver = PostgresSaver(pool, tenant=tenant())
        chain(saver).invoke({"xs": [0]}, on("t"))
    with pytest.raises(StorageError, match=r"pool of connections .* is closed") as caught:
        chain(saver).invoke({"xs": [0]}, on("t"))
    assert caught.value.hint


def test_use_after_a_fork_is_a_typed_error_and_leaves_the_parent_alone(shared: str, tenant: Tenants) -> None:
    with PostgresSaver.from_conn_string(shared, tenant=tenant()) as saver:
        graph = chain(saver)
        graph.invoke({"xs": [0]}, on("t"))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                saver.threads()
            except StorageError as error:
                code = 0 if "after the fork" in str(error.hint) else 2
            finally:
                saver.close()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        graph.invoke({"xs": [0]}, on("t"))

        assert values(graph, "t") == [0, 1, 2, 0, 1, 2]
        assert saver._link._pool.get_stats().get("returns_bad", 0) == 0


@pytest.mark.parametrize("is_own", [True, False])
def test_pool_of_one_connection_serves_blocking_and_async_callers_together(
    shared: str, tenant: Tenants, is_own: bool
) -> None:
    with ConnectionPool(shared, min_size=1, max_size=1, open=True) as pool:
        saver = PostgresSaver(shared if is_own else pool, max_size=1, tenant=tenant())
        graph = chain(saver)
        threads = [
            threading.Thread(target=graph.invoke, args=({"xs": [0]}, on(f"blocking-{number}"))) for number in range(8)
        ]

        async def run() -> None:
            await asyncio.gather(*(graph.ainvoke({"xs": [0]}, on(f"async-{number}")) for number in range(8)))

        for thread in threads:
            thread.start()
        asyncio.run(run())
        for thread in threads:
            thread.join(60)
        found = [values(graph, one.thread_id) for one in saver.threads()]
        saver.close()

    assert found == [[0, 1, 2]] * 16


@pytest.mark.parametrize("is_own", [True, False])
def test_blocking_call_inside_a_loop_gets_through_while_the_loops_writes_hold_the_pool(
    shared: str, tenant: Tenants, is_own: bool
) -> None:
    with Proxy.to(shared) as proxy, ConnectionPool(proxy.conninfo(shared), min_size=1, max_size=1, open=True) as pool:
        saver = PostgresSaver(proxy.conninfo(shared) if is_own else pool, max_size=1, tenant=tenant())
        graph = chain(saver)

        async def run() -> list[int]:
            await graph.ainvoke({"xs": [0]}, on("t"))
            proxy.latency = 0.05
            writing = asyncio.create_task(graph.ainvoke({"xs": [0]}, on("other")))
            while not any(saver._link.lent.values()):
                await asyncio.sleep(0)
            found = values(graph, "t")  # the loop stands still, and its connection is under way
            await writing
            return found

        assert asyncio.run(asyncio.wait_for(run(), 30)) == [0, 1, 2]
        assert values(graph, "other") == [0, 1, 2]
        saver.close()
        assert is_own or pool.get_stats()["pool_size"] == 1


def test_blocking_call_inside_a_loop_that_uses_the_only_connection_is_refused_at_once(
    shared: str, tenant: Tenants
) -> None:
    with Proxy.to(shared) as proxy, psycopg.connect(proxy.conninfo(shared)) as connection:
        saver = PostgresSaver(connection, tenant=tenant())
        graph = chain(saver)

        async def run() -> None:
            await graph.ainvoke({"xs": [0]}, on("t"))
            proxy.latency = 0.05
            writing = asyncio.create_task(graph.ainvoke({"xs": [0]}, on("other")))
            while not any(saver._link.lent.values()):
                await asyncio.sleep(0)
            with pytest.raises(StorageError, match="inside an event loop") as caught:
                graph.get_state(on("t"))
            assert "async method" in str(caught.value.hint)
            await writing

        asyncio.run(run())
        assert values(graph, "other") == [0, 1, 2]


def test_one_saver_serves_several_loops_and_threads_at_once(shared: str, tenant: Tenants) -> None:
    with PostgresSaver.from_conn_string(shared, tenant=tenant(), max_size=4) as saver:
        graph = chain(saver)

        async def many(name: str) -> None:
            for turn in range(3):
                await asyncio.gather(*(graph.ainvoke({"xs": [turn]}, on(f"{name}-{n}")) for n in range(4)))

        def blocking(name: str) -> None:
            for turn in range(3):
                graph.invoke({"xs": [turn]}, on(name))

        threads = [threading.Thread(target=asyncio.run, args=(many(f"loop-{n}"),)) for n in range(3)]
        threads += [threading.Thread(target=blocking, args=(f"thread-{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)

        assert [values(graph, one.thread_id) for one in saver.threads()] == [[0, 1, 2, 1, 1, 2, 2, 1, 2]] * 15
        assert saver.verify().is_intact
        stats = saver._link._pool.get_stats()
        assert stats["pool_size"] <= 4
        assert stats["pool_available"] == stats["pool_size"]


@pytest.mark.parametrize("kind", ["own pool", "loop's pool", "loop's connection"])
def test_cancelled_run_leaves_connections_as_they_were(shared: str, tenant: Tenants, kind: str) -> None:
    """Cancelled at every moment of a short run and of a read, the next one finds everything in order."""

    async def run() -> tuple[list[int], Any]:
        with Proxy.to(shared) as proxy:
            proxy.latency = 0.002
            place = proxy.conninfo(shared)
            conn: Any = place
            if kind == "loop's pool":
                conn = AsyncConnectionPool(place, min_size=1, max_size=1, open=False)
                await conn.open(wait=True)
            elif kind == "loop's connection":
                conn = await psycopg.AsyncConnection.connect(place, autocommit=True)
            saver = AsyncPostgresSaver(conn, tenant=tenant(), max_size=1)
            graph = chain(saver)
            await graph.ainvoke({"xs": [0]}, on("t"))

            async def listed() -> None:
                [one async for one in graph.aget_state_history(on("t"))]

            for pause in range(24):
                task = asyncio.create_task(listed() if pause % 3 == 0 else graph.ainvoke({"xs": [9]}, on(f"{pause}")))
                await asyncio.sleep(pause * 0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await graph.ainvoke({"xs": [0]}, on("t"))
            found = (await graph.aget_state(on("t"))).values["xs"]
            await saver.aclose()
            if kind == "own pool":
                return found, saver._link._pool.get_stats()
            if kind == "loop's pool":
                stats = conn.get_stats()
            else:
                stats = {"returns_bad": int(conn.closed)}
            await conn.close()
            return found, stats

    found, stats = asyncio.run(run())

    assert found == [0, 1, 2, 0, 1, 2]
    assert stats.get("returns_bad", 0) == 0
    with PostgresSaver.from_conn_string(shared) as saver:
        assert saver.verify().is_intact


def test_connections_of_one_loop_refuse_others_with_the_remedy(shared: str, tenant: Tenants) -> None:
    async def run() -> None:
        async with AsyncConnectionPool(shared, min_size=1, max_size=2, open=False) as pool:
            saver = AsyncPostgresSaver(pool, tenant=tenant())
            graph = chain(saver)
            await graph.ainvoke({"xs": [0]}, on("t"))
            with pytest.raises(StorageError, match="blocking call") as caught:
                graph.invoke({"xs": [0]}, on("t"))
            assert "from_conn_string" in str(caught.value.hint)

            def elsewhere() -> None:
                with pytest.raises(StorageError, match="another event loop"):
                    asyncio.run(graph.ainvoke({"xs": [0]}, on("t")))

            await asyncio.to_thread(elsewhere)
            assert len(await saver.athreads()) == 1

    asyncio.run(run())


def test_open_transaction_of_somebody_else_is_left_alone(shared: str, tenant: Tenants) -> None:
    with psycopg.connect(shared) as connection:
        saver = PostgresSaver(connection, tenant=tenant())
        chain(saver).invoke({"xs": [0]}, on("t"))
        connection.execute("create table clew_somebody (number int)")
        with pytest.raises(StorageError, match="transaction open") as caught:
            chain(saver).invoke({"xs": [0]}, on("t"))
        assert "commit it" in str(caught.value.hint)
        connection.rollback()
        chain(saver).invoke({"xs": [0]}, on("t"))
        assert values(chain(saver), "t") == [0, 1, 2, 0, 1, 2]


def test_first_blocking_use_of_an_async_saver_sets_the_database_up(database: str) -> None:
    saver = AsyncPostgresSaver(database)
    chain(saver).invoke({"xs": [0]}, on("t"))

    assert values(chain(saver), "t") == [0, 1, 2]
    saver.close()
