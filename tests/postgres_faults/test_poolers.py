"""Behind a proxy that shares server connections between clients, as PgBouncer in transaction mode does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import StorageUnavailableError
from tests.postgres_faults.graphs import chain, on, values
from tests.postgres_faults.pooler import Pooler
from tests.postgres_faults.scenarios import BY_NAME, OPERATIONS, Blocking, Operation, traces
from tests.postgres_faults.test_serialization import Injector, told

Tenants = Callable[[], str]


@pytest.fixture
def pooler(shared: str) -> Iterator[Pooler]:
    with Pooler(shared, size=3) as opened:
        yield opened


def settings(shared: str, pooler: Pooler) -> list[tuple[Any, ...]]:
    """What the sessions that clients share have been left with."""
    found = []
    with psycopg.connect(pooler.conninfo(shared), autocommit=True, prepare_threshold=None) as connection:
        for _ in range(6):
            row = connection.execute(
                """select current_setting('lock_timeout'), current_setting('synchronous_commit'),
                    current_setting('idle_in_transaction_session_timeout'), count(*) from pg_prepared_statements"""
            ).fetchone()
            assert row is not None
            found.append(row)
    return found


def test_no_state_of_a_session_is_used_or_left(shared: str, pooler: Pooler, tenant: Tenants) -> None:
    before = settings(shared, pooler)
    with PostgresSaver.from_conn_string(
        pooler.conninfo(shared), prepare=False, commit="fast", tenant=tenant()
    ) as saver:
        graph = chain(saver)
        threads = [threading.Thread(target=graph.invoke, args=({"xs": [0]}, on(f"t{n}"))) for n in range(6)]

        async def run() -> None:
            await asyncio.gather(*(graph.ainvoke({"xs": [0]}, on(f"a{n}")) for n in range(6)))

        for thread in threads:
            thread.start()
        asyncio.run(run())
        for thread in threads:
            thread.join(60)
        saver.copy_thread("t0", "copied")
        saver.prune(["t0"], keep_last=2)

        assert [values(graph, one.thread_id) for one in saver.threads()] == [[0, 1, 2]] * 13
        assert saver.verify().is_intact
    assert settings(shared, pooler) == before
    assert before[0][3] == 0


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_operation_does_the_same_behind_a_pooler(
    shared: str, pooler: Pooler, tenant: Tenants, operation: Operation
) -> None:
    with PostgresSaver.from_conn_string(shared, tenant=tenant()) as direct:
        operation.prepare(Blocking(direct))()
    with PostgresSaver.from_conn_string(pooler.conninfo(shared), prepare=False, tenant=tenant()) as saver:
        operation.prepare(Blocking(saver))()
        assert saver.verify("t").is_intact

    assert traces(shared, saver.tenant) == traces(shared, direct.tenant)


def test_locks_are_waited_for_no_longer_than_said_behind_a_pooler(shared: str, pooler: Pooler, tenant: Tenants) -> None:
    with PostgresSaver.from_conn_string(pooler.conninfo(shared), prepare=False, tenant=tenant()) as saver:
        graph = chain(saver)
        for name in ("held", "free"):
            graph.invoke({"xs": [0]}, on(name))
        with psycopg.connect(shared) as holder:
            holder.execute("select 1 from clew_head where tenant = %s and thread = 'held' for update", [saver.tenant])
            waiting = threading.Thread(target=graph.invoke, args=({"xs": [0]}, on("held")))
            waiting.start()
            graph.invoke({"xs": [0]}, on("free"))
            assert waiting.is_alive()
        waiting.join(20)
        assert values(graph, "held") == values(graph, "free") == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("code", ["26000", "42P05"])
def test_prepared_statements_that_keep_getting_lost_are_said_with_the_remedy(
    shared: str, tenant: Tenants, code: str
) -> None:
    with PostgresSaver.from_conn_string(shared, tenant=tenant()) as saver:
        with pytest.raises(StorageUnavailableError, match="losing prepared statements") as caught:
            told(Blocking(saver), BY_NAME["append"], Injector(at=0, times=10**6, code=code))
        assert "prepare=False" in str(caught.value.hint)
        assert saver.verify().is_intact


def test_prepared_statements_behind_a_pooler_damage_nothing(shared: str, pooler: Pooler, tenant: Tenants) -> None:
    """It is slower, or it ends in the error that says what to do; what was acknowledged is there."""
    with PostgresSaver.from_conn_string(pooler.conninfo(shared), tenant=tenant()) as saver:
        graph, done = chain(saver), 0
        for _ in range(12):
            try:
                graph.invoke({"xs": [0]}, on("t"), durability="sync")
            except StorageUnavailableError as error:
                hint = str(error.hint)
                break
            done += 1
        else:
            hint = "prepare=False was not needed"
    with PostgresSaver.from_conn_string(shared, tenant=saver.tenant) as direct:
        assert "prepare=False" in hint
        assert direct.verify().is_intact
        stored = direct.threads()
        assert len(stored) == 1 or done == 0
        if stored:
            assert values(chain(direct), "t")[: 3 * done] == [0, 1, 2] * done
