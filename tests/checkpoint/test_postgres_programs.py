"""Programs written for LangGraph's classes on PostgreSQL, after their imports were changed."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.errors import SchemaVersionError, StorageError
from clew.graph import START, StateGraph
from clew.store.postgres import AsyncPostgresStore, PostgresStore

SETTINGS: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}


class State(TypedDict):
    seen: Annotated[list[int], operator.add]


def counts(**parts: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("count", lambda state: {"seen": [len(state["seen"])]})
    builder.add_edge(START, "count")
    return builder.compile(**parts)


def turn(saver: Any, thread: str) -> list[int]:
    return counts(checkpointer=saver).invoke({"seen": [5]}, {"configurable": {"thread_id": thread}})["seen"]


async def aturn(saver: Any, thread: str) -> list[int]:
    done = await counts(checkpointer=saver).ainvoke({"seen": [5]}, {"configurable": {"thread_id": thread}})
    return done["seen"]


def test_a_saver_in_a_with_block_on_a_connection_and_on_a_pool(database: str) -> None:
    for pipeline in (False, True):
        with PostgresSaver.from_conn_string(database, pipeline=pipeline) as saver:
            saver.setup()
            assert turn(saver, f"string {pipeline}") == [5, 1]
    with psycopg.Connection.connect(database, **SETTINGS) as connection:
        saver = PostgresSaver(connection, None, JsonPlusSerializer())
        saver.setup()
        assert turn(saver, "connection") == [5, 1]
    with ConnectionPool(database, max_size=20, kwargs=SETTINGS) as pool:
        saver = PostgresSaver(pool)
        saver.setup()
        assert turn(saver, "pool") == [5, 1]


def test_an_async_saver_in_a_with_block_on_a_connection_and_on_a_pool(database: str) -> None:
    async def program() -> None:
        for pipeline in (False, True):
            async with AsyncPostgresSaver.from_conn_string(database, pipeline=pipeline, serde=None) as saver:
                await saver.setup()
                assert await aturn(saver, f"string {pipeline}") == [5, 1]
        async with await psycopg.AsyncConnection.connect(database, **SETTINGS) as connection:
            saver = AsyncPostgresSaver(connection)
            await saver.setup()
            assert await aturn(saver, "connection") == [5, 1]
        async with AsyncConnectionPool(database, max_size=20, kwargs=SETTINGS) as pool:
            saver = AsyncPostgresSaver(pool)
            await saver.setup()
            assert await aturn(saver, "pool") == [5, 1]
            async with pool.connection() as connection:
                assert await aturn(AsyncPostgresSaver(connection), "of a pool") == [5, 1]

    asyncio.run(program())


def test_stores_beside_a_saver(database: str) -> None:
    with PostgresStore.from_conn_string(database, pipeline=True, pool_config={"min_size": 1, "max_size": 3}) as store:
        store.setup()
        store.put(("users", "ann"), "food", {"likes": "figs"})

    async def program() -> None:
        async with (
            AsyncPostgresStore.from_conn_string(database) as store,
            AsyncPostgresSaver.from_conn_string(database) as saver,
        ):
            await store.setup()
            await saver.setup()
            config = {"configurable": {"thread_id": "ann"}}
            graph = counts(checkpointer=saver, store=store)
            await graph.ainvoke({"seen": []}, config)
            assert [item.value for item in await store.asearch(("users",))] == [{"likes": "figs"}]
            assert len([state async for state in graph.aget_state_history(config)]) == 3

    asyncio.run(program())


def test_a_pipeline_of_the_callers_is_refused_by_what_cannot_use_it(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        makers: list[Callable[[Any], Any]] = [
            lambda pipe: PostgresSaver(connection, pipe),
            lambda pipe: AsyncPostgresSaver(connection, pipe=pipe),
            lambda pipe: PostgresStore(connection, pipe=pipe),
        ]
        with connection.pipeline() as pipe:
            for make in makers:
                with pytest.raises(StorageError, match="cannot work inside a pipeline") as refused:
                    make(pipe)
                assert refused.value.hint == "leave `pipe` out: statements that can travel together do"
            with pytest.raises(StorageError, match="inside a pipeline"):
                turn(PostgresSaver(connection), "one")
            with pytest.raises(StorageError, match="inside a pipeline"):
                PostgresStore(connection).setup()

        assert turn(PostgresSaver(connection), "one") == [5, 1]


def test_what_is_no_option_is_refused_by_name(database: str) -> None:
    wrong: dict[str, Any] = {"pool_size": 3}
    with pytest.raises(TypeError, match="'pool_size'"), PostgresSaver.from_conn_string(database, **wrong):
        pass
    with pytest.raises(TypeError, match="'pool_size'"), PostgresStore.from_conn_string(database, **wrong):
        pass
    given: Any = {"deserializer": bytes.decode}
    with pytest.raises(StorageError, match="not JSON"), PostgresStore.from_conn_string(database, **given):
        pass


def test_what_cannot_be_connected_to_is_refused_when_it_is_given(database: str) -> None:
    async def program() -> None:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            with pytest.raises(StorageError, match="an AsyncConnection belongs to one event loop") as refused:
                PostgresSaver(connection)
            assert refused.value.hint is not None
            assert refused.value.hint.startswith("use AsyncPostgresSaver")
        async with AsyncConnectionPool(database, open=False) as pool:
            with pytest.raises(StorageError, match="an AsyncConnectionPool belongs to one event loop"):
                PostgresSaver(pool)

    asyncio.run(program())
    with pytest.raises(StorageError, match="the connection string cannot be read"):
        PostgresSaver("postgresql://[bad")
    with pytest.raises(TypeError, match="neither a connection string"):
        PostgresSaver(None)


def test_a_search_path_that_leads_to_no_schema_is_said(database: str) -> None:
    nowhere = psycopg.conninfo.make_conninfo(database, options="-csearch_path=nowhere")
    with (
        PostgresSaver.from_conn_string(nowhere) as saver,
        pytest.raises(SchemaVersionError, match="there is no schema for the tables of clew") as refused,
    ):
        saver.setup()
    assert refused.value.hint is not None
    assert "schema=" in refused.value.hint


def test_a_schema_that_is_no_name_is_refused_before_anything_is_opened(database: str) -> None:
    before = threading.enumerate()

    for schema in ("", "a b", 'a"b', "a.b", "x" * 64, "é"):
        with pytest.raises(ValueError, match="not a name of letters") as refused:
            PostgresSaver(database, schema=schema)
        assert threading.enumerate() == before, refused  # which keeps alive what was made until then
