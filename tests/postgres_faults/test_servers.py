"""Servers that crash, restart and are replaced in the middle of a run, on every kind of connection."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.postgres.aio import AsyncPostgresSaver
from clew.errors import StorageError, StorageUnavailableError
from tests.postgres import Server
from tests.postgres_faults.graphs import chain, on, values

KINDS = ["own pool", "pool", "loop's pool", "connection", "loop's connection"]


@contextlib.asynccontextmanager
async def saver_on(kind: str, conninfo: str) -> AsyncIterator[PostgresSaver]:
    match kind:
        case "own pool":
            async with AsyncPostgresSaver.from_conn_string(conninfo) as saver:
                yield saver
        case "pool":
            with ConnectionPool(conninfo, min_size=1, open=True) as pool:
                yield PostgresSaver(pool)
        case "loop's pool":
            async with AsyncConnectionPool(conninfo, min_size=1, open=False) as pool:
                yield AsyncPostgresSaver(pool)
        case "connection":
            with psycopg.connect(conninfo) as connection:
                yield PostgresSaver(connection)
        case _:
            async with await psycopg.AsyncConnection.connect(conninfo) as connection:
                yield AsyncPostgresSaver(connection)


async def invoke(graph: Any, value: Any, *, blocks: bool, durability: Any) -> None:
    if blocks:
        await asyncio.to_thread(graph.invoke, value, on("t"), durability=durability)
    else:
        await graph.ainvoke(value, on("t"), durability=durability)


async def crashed_in_the_middle(server: Server, kind: str, durability: str, *, blocks: bool, by_kill: bool) -> None:
    """The server dies while the second node of four works, and is back half a second later."""
    is_down = threading.Event()
    back: list[threading.Timer] = []

    def crash(number: int) -> None:
        if number == 2 and not is_down.is_set():
            is_down.set()
            server.kill() if by_kill else server.stop("immediate")
            back.append(threading.Timer(0.3, server.start))
            back[0].start()

    ran: list[int] = []

    def meets(number: int) -> None:
        ran.append(number)
        crash(number)

    single = kind.endswith("connection")
    async with saver_on(kind, server.conninfo()) as saver:
        graph = chain(saver, meets=meets, length=4)
        if single:
            with pytest.raises(StorageError) as caught:
                await invoke(graph, {"xs": [0]}, blocks=blocks, durability=durability)
            assert caught.value.hint
        else:
            await invoke(graph, {"xs": [0]}, blocks=blocks, durability=durability)
    back[0].join()
    with PostgresSaver.from_conn_string(server.conninfo()) as saver:
        graph = chain(saver, meets=meets, length=4)
        if single and graph.get_state(on("t")).next:
            graph.invoke(None, on("t"))
        elif single:  # with "exit" nothing but the input may be there, or not even that
            graph.invoke({"xs": [0]}, on("t"))
        assert values(graph, "t") == [0, 1, 2, 3, 4]
        assert saver.verify().is_intact
        if durability != "exit":
            assert max(ran.count(number) for number in range(1, 5)) <= (2 if single else 1)
        saver.delete_thread("t")


@pytest.mark.parametrize(("kind", "blocks"), [("own pool", True), ("loop's pool", False)])
def test_server_that_crashes_in_the_middle_of_a_run(own_server: Server, kind: str, blocks: bool) -> None:
    asyncio.run(crashed_in_the_middle(own_server, kind, "sync", blocks=blocks, by_kill=not blocks))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_server_that_crashes_in_the_middle_of_any_run(own_server: Server, kind: str) -> None:
    for durability in ("sync", "async", "exit"):
        for blocks in (True, False):
            if not (blocks and kind.startswith("loop")):
                for by_kill in (True, False):
                    asyncio.run(crashed_in_the_middle(own_server, kind, durability, blocks=blocks, by_kill=by_kill))


def test_server_that_was_restarted_while_nobody_looked(own_server: Server) -> None:
    with PostgresSaver.from_conn_string(own_server.conninfo()) as saver:
        graph = chain(saver)
        for _ in range(2):
            graph.invoke({"xs": [0]}, on("t"))
            own_server.stop()
            own_server.start()

        assert values(graph, "t") == [0, 1, 2, 0, 1, 2]
        assert saver.verify().is_intact


def test_wrong_password_is_said_at_once_unless_the_right_one_was_known_before(own_server: Server) -> None:
    with psycopg.connect(own_server.conninfo(), autocommit=True) as admin:
        admin.execute("create role safe login superuser password 'right'")
        (own_server.data / "pg_hba.conf").write_text("host all safe all scram-sha-256\nhost all all all trust\n")
        admin.execute("select pg_reload_conf()")
        began = time.monotonic()
        with (
            PostgresSaver.from_conn_string(own_server.conninfo(password="wrong") + " user=safe") as saver,
            pytest.raises(StorageError, match="password authentication failed") as caught,
        ):
            chain(saver).invoke({"xs": [0]}, on("t"))
        assert time.monotonic() - began < 10  # where a database that is gone is tried for 30 seconds
        assert not isinstance(caught.value, StorageUnavailableError)
        assert "wrong" not in str(caught.value)
        with PostgresSaver.from_conn_string(own_server.conninfo(password="right") + " user=safe") as saver:
            graph = chain(saver)
            graph.invoke({"xs": [0]}, on("t"))
            admin.execute("alter role safe password 'changed'")
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'safe'")
            threading.Timer(0.5, own_password_again, [own_server]).start()
            graph.invoke({"xs": [0]}, on("t"))
            assert values(graph, "t") == [0, 1, 2, 0, 1, 2]


def own_password_again(server: Server) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as admin:
        admin.execute("alter role safe password 'right'")


def test_promoted_standby_has_all_that_was_acknowledged(own_server: Server) -> None:
    with tempfile.TemporaryDirectory(prefix="clew-pg-") as home:
        standby = own_server.standby(Path(home))
        own_server.configure(synchronous_standby_names="*")
        own_server.stop()
        own_server.start()
        standby.start()
        both = f"host=127.0.0.1,127.0.0.1 port={own_server.port},{standby.port} user=postgres dbname=postgres"
        try:
            with PostgresSaver.from_conn_string(f"{both} target_session_attrs=read-write") as saver:
                acknowledged: list[int] = []

                def fail(number: int) -> None:
                    if len(acknowledged) == 3 and number == 2 and own_server.is_running():
                        own_server.kill()
                        threading.Timer(0.5, standby.promote).start()

                graph = chain(saver, meets=fail)
                for turn in range(6):
                    graph.invoke({"xs": [0]}, on("t"), durability="sync")
                    acknowledged.append(turn)

                assert values(graph, "t") == [0, 1, 2] * 6
                assert saver.verify().is_intact
        finally:
            standby.stop("immediate")


def test_primary_that_becomes_a_standby_is_left(own_server: Server) -> None:
    """A switch-over: connections that are open to the server that only takes reads now are of no use."""
    with tempfile.TemporaryDirectory(prefix="clew-pg-") as home:
        standby = own_server.standby(Path(home))
        standby.start()
        both = f"host=127.0.0.1,127.0.0.1 port={own_server.port},{standby.port} user=postgres dbname=postgres"
        try:
            with PostgresSaver.from_conn_string(f"{both} target_session_attrs=read-write") as saver:
                graph = chain(saver)
                graph.invoke({"xs": [0]}, on("t"))
                wait_until_same(own_server, standby)
                with psycopg.connect(own_server.conninfo(), autocommit=True) as admin:
                    admin.execute("alter system set default_transaction_read_only = on")
                    admin.execute("select pg_reload_conf()")
                standby.promote()
                graph.invoke({"xs": [0]}, on("t"))

                assert values(graph, "t") == [0, 1, 2, 0, 1, 2]
                assert saver.verify().is_intact
        finally:
            standby.stop("immediate")


def wait_until_same(primary: Server, standby: Server) -> None:
    with psycopg.connect(primary.conninfo()) as one, psycopg.connect(standby.conninfo(), autocommit=True) as other:
        at = one.execute("select pg_current_wal_lsn()").fetchone()
        assert at is not None
        for _ in range(2000):
            behind = other.execute("select pg_wal_lsn_diff(%s, pg_last_wal_replay_lsn())", at).fetchone()
            assert behind is not None
            if behind[0] <= 0:
                return
            other.execute("select pg_sleep(0.01)")
        raise AssertionError("the standby never caught up")
