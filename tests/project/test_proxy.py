"""The fault proxy in front of a real server: what it counts, and that it breaks where it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.proxy import Proxy

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    with psycopg.connect(database) as connection:
        connection.execute("create table log (number int)")
    with Proxy.to(database) as opened:
        yield opened


def connect(proxy: Proxy, database: str, **options: Any) -> Connection:
    return psycopg.connect(proxy.conninfo(database), **options)


def rows(database: str) -> list[int]:
    with psycopg.connect(database) as connection:
        return [number for (number,) in connection.execute("select number from log order by number")]


def test_round_trips_are_counted_and_statements_named(proxy: Proxy, database: str) -> None:
    with connect(proxy, database, autocommit=True) as connection:
        proxy.reset()
        connection.execute("insert into log values (1)")
        connection.execute("insert into log values (%s)", [2], prepare=True)
        connection.execute("insert into log values (%s)", [3], prepare=True)

    assert rows(database) == [1, 2, 3]
    assert proxy.statements == ["insert into log values (1)", *["insert into log values ($1)"] * 2]
    # A new prepared statement is one round trip more.
    assert (proxy.round_trips, proxy.connections) == (4, 0)
    assert proxy.messages["query"] == 1
    assert proxy.messages["execute"] == 2


def test_pipeline_is_one_round_trip(proxy: Proxy, database: str) -> None:
    with connect(proxy, database, autocommit=True) as connection:
        proxy.reset()
        with connection.pipeline():
            for number in range(5):
                connection.execute("insert into log values (%s)", [number])

        assert proxy.round_trips == 1
        assert proxy.messages["execute"] == 5


@pytest.mark.parametrize("watch", [True, False])
def test_latency_is_added_in_both_directions(proxy: Proxy, database: str, watch: bool) -> None:
    with connect(proxy, database) as connection:
        proxy.watch, proxy.latency = watch, 0.02
        start = time.monotonic()
        connection.execute("select 1")

        assert time.monotonic() - start >= 0.04


@pytest.mark.parametrize(("action", "expected"), [("cut_before", []), ("cut_after", [1])])
def test_cut_at_a_commit_is_before_or_after_it(proxy: Proxy, database: str, action: Any, expected: list[int]) -> None:
    with connect(proxy, database) as connection:
        connection.execute("insert into log values (1)")
        broken = proxy.break_at(action, "query commit")
        with pytest.raises(psycopg.OperationalError) as caught:
            connection.commit()

    assert broken.fired.is_set()
    assert caught.value.sqlstate is None
    assert rows(database) == expected


@pytest.mark.parametrize(("action", "expected"), [("cut_before", []), ("cut_after", [1])])
def test_cut_at_a_prepared_statement_in_a_pipeline(
    proxy: Proxy, database: str, action: Any, expected: list[int]
) -> None:
    insert = "insert into log values (%s)"
    with connect(proxy, database, autocommit=True) as connection:
        connection.execute("select %s::int", [0], prepare=True)
        proxy.break_at(action, "execute insert into log")
        with pytest.raises(psycopg.OperationalError), connection.pipeline():
            connection.execute(insert, [1], prepare=True)

    assert rows(database) == expected


def test_connection_is_cut_within_a_message(proxy: Proxy, database: str) -> None:
    with connect(proxy, database) as connection:
        proxy.cut_after_bytes(3, "server")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with connect(proxy, database) as connection:
        proxy.cut_after_bytes(20, "client")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("insert into log values (1)")

    assert rows(database) == []


def test_dropped_reply_and_half_close_leave_the_work_done(proxy: Proxy, database: str) -> None:
    silent = proxy.break_at("drop_reply", "values .1")
    connection = connect(proxy, database, autocommit=True)
    asking = threading.Thread(target=fails, args=(connection, "insert into log values (1)"))
    asking.start()
    assert silent.fired.wait(10)
    assert rows(database) == [1]
    assert asking.is_alive()
    proxy.cut()
    asking.join(10)
    proxy.break_at("half_close", "values .2")
    with connect(proxy, database, autocommit=True) as connection:
        fails(connection, "insert into log values (2)")

    assert not asking.is_alive()
    assert rows(database) == [1, 2]


def fails(connection: Connection, query: str) -> None:
    with pytest.raises(psycopg.OperationalError), connection:
        connection.execute(query.encode())


def test_stalled_message_waits_for_resume(proxy: Proxy, database: str) -> None:
    stalled = proxy.break_at("stall", "query insert")
    connection = connect(proxy, database, autocommit=True)
    asking = threading.Thread(target=connection.execute, args=("insert into log values (1)",))
    asking.start()
    assert stalled.fired.wait(10)
    assert rows(database) == []
    proxy.resume()
    asking.join(10)
    connection.close()

    assert rows(database) == [1]


def test_refusing_server_and_failover(proxy: Proxy, database: str) -> None:
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        connect(proxy, database)
    proxy.accept()
    working, proxy.target = proxy.target, ("127.0.0.1", 1)
    with pytest.raises(psycopg.OperationalError):
        connect(proxy, database)
    proxy.target = working
    with connect(proxy, database) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_client_sees_the_servers_last_words(proxy: Proxy, database: str) -> None:
    proxy.latency = 0.005
    with connect(proxy, database, autocommit=True) as connection:
        with psycopg.connect(database) as other:
            other.execute("select pg_terminate_backend(%s)", [connection.info.backend_pid])
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("select 1")
