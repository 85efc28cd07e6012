"""A server that refuses: what passes is tried again within bounds, and what stays is said, typed and with a remedy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import SchemaVersionError, StorageError, StorageTimeoutError, StorageUnavailableError
from tests.postgres_faults.graphs import chain, on, values
from tests.proxy import Proxy

Tenants = Callable[[], str]


@pytest.fixture
def admin(shared: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shared, autocommit=True) as connection:
        yield connection


def opened(shared: str, tenant: str, **settings: Any) -> PostgresSaver:
    return PostgresSaver(make_conninfo(shared, application_name=tenant), tenant=tenant, **settings)


def end_connections(admin: psycopg.Connection[Any], name: str) -> int:
    ended = admin.execute(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = %s", [name]
    ).fetchone()
    assert ended is not None
    return ended[0]


def test_terminated_backends_are_replaced(shared: str, admin: psycopg.Connection[Any], tenant: Tenants) -> None:
    with opened(shared, tenant(), max_size=3) as saver:
        ended: list[int] = []
        graph = chain(saver, meets=lambda number: ended.append(end_connections(admin, saver.tenant)))
        for _ in range(3):
            graph.invoke({"xs": [0]}, on("t"))

        assert values(graph, "t") == [0, 1, 2] * 3
        assert sum(ended) >= 3
        assert saver.verify().is_intact
        assert saver._link._pool.get_stats()["pool_size"] <= 3


def test_thread_that_somebody_else_holds_does_not_hold_up_others(
    shared: str, admin: psycopg.Connection[Any], tenant: Tenants
) -> None:
    with opened(shared, tenant()) as saver:
        graph = chain(saver)
        names = [f"t{number}" for number in range(6)]
        for name in names:
            graph.invoke({"xs": [0]}, on(name))
        with psycopg.connect(shared) as holder:
            holder.execute("select 1 from clew_head where tenant = %s and thread = 't0' for update", [saver.tenant])
            held = threading.Thread(target=graph.invoke, args=({"xs": [0]}, on("t0")))
            held.start()
            for name in names[1:]:
                graph.invoke({"xs": [0]}, on(name))
            assert held.is_alive()
        held.join(20)

        assert not held.is_alive()
        assert [values(graph, name) for name in names] == [[0, 1, 2, 0, 1, 2]] * 6


HOLDER = """
import sys, psycopg
connection = psycopg.connect(sys.argv[1])
connection.execute("select 1 from clew_head where tenant = %s and thread = 't' for update", [sys.argv[2]])
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("is_async", [False, True])
def test_stopped_process_that_holds_a_row_is_waited_for_no_longer_than_said(
    shared: str, tenant: Tenants, is_async: bool, runner: Any
) -> None:
    with opened(shared, tenant(), lock_wait=0.5) as saver:
        graph = chain(saver)

        def invoke(thread: str) -> None:
            if is_async:
                runner.run(graph.ainvoke({"xs": [0]}, on(thread)))
            else:
                graph.invoke({"xs": [0]}, on(thread))

        invoke("t")
        command = [sys.executable, "-c", HOLDER, shared, saver.tenant]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            os.kill(holder.pid, signal.SIGSTOP)
            with pytest.raises(StorageTimeoutError, match="kept a row locked") as caught:
                invoke("t")
            invoke("other")
            holder.kill()
        invoke("t")

        assert "pg_stat_activity" in str(caught.value.hint)
        assert values(graph, "t") == [0, 1, 2, 0, 1, 2]
        assert values(graph, "other") == [0, 1, 2]


def test_statement_timeout_is_tried_twice_and_then_said(shared: str, tenant: Tenants) -> None:
    with opened(shared, tenant()) as saver:
        chain(saver).invoke({"xs": [0]}, on("t"))
    limited = make_conninfo(shared, options="-c statement_timeout=50")
    with PostgresSaver.from_conn_string(limited, tenant=saver.tenant, lock_wait=5) as slow:
        slow.tables._always = {"lock_timeout": "5s"}  # so that the other one comes first
        with psycopg.connect(shared) as holder:
            holder.execute("select 1 from clew_head where tenant = %s for update", [slow.tenant])
            with pytest.raises(StorageTimeoutError, match="cancelled a statement") as caught:
                chain(slow).invoke({"xs": [0]}, on("t"))
        assert "statement_timeout" in str(caught.value.hint)

        chain(slow).invoke({"xs": [0]}, on("t"))
        assert values(chain(slow), "t") == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "setting", ["idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
)
def test_sessions_that_the_server_ends_are_replaced(
    shared: str, admin: psycopg.Connection[Any], tenant: Tenants, setting: str
) -> None:
    limited = make_conninfo(shared, options=f"-c {setting}=60")
    with opened(limited, tenant(), max_size=1, min_size=1) as saver:
        if setting == "idle_in_transaction_session_timeout":
            saver.tables._always = {setting: "60ms"}
        graph = chain(saver)
        graph.invoke({"xs": [0]}, on("t"))
        backends = "select count(*) from pg_stat_activity where application_name = %s"
        if setting == "idle_session_timeout":
            wait_for(lambda: admin.execute(backends, [saver.tenant]).fetchone() == (0,))
            graph.invoke({"xs": [0]}, on("t"))
        else:
            slow_copies(saver)
        assert saver.verify().is_intact


def slow_copies(saver: PostgresSaver) -> None:
    """A transaction whose client takes longer between two statements than the server allows, once."""
    original, slept = saver.tables.texts.call, threading.Event()

    def call(name: str, params: tuple[Any, ...], **options: Any) -> Any:
        if name == "step_copy" and not slept.is_set():
            slept.set()
            time.sleep(0.3)
        return original(name, params, **options)

    saver.tables.texts.call = call  # type: ignore[method-assign]
    saver.copy_thread("t", "copied")
    assert slept.is_set()
    assert [one.thread_id for one in saver.threads()].count("copied") == 1


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_pool_that_stays_exhausted_is_a_typed_error_within_the_bound(shared: str, tenant: Tenants) -> None:
    with ConnectionPool(shared, min_size=1, max_size=1, open=True) as pool:
        saver = PostgresSaver(pool, tenant=tenant(), pool_timeout=0.1, retry_for=0.3)
        chain(saver).invoke({"xs": [0]}, on("t"))
        with pool.connection(), pytest.raises(StorageTimeoutError, match="became free") as caught:
            chain(saver).invoke({"xs": [0]}, on("t"))
        assert "max_size" in str(caught.value.hint)

        chain(saver).invoke({"xs": [0]}, on("t"))
        assert values(chain(saver), "t") == [0, 1, 2, 0, 1, 2]


def test_too_many_connections_are_waited_out_and_then_said(
    shared: str, admin: psycopg.Connection[Any], tenant: Tenants
) -> None:
    role = f"few_{os.getpid()}"
    admin.execute(f"create role {role} login connection limit 1")
    admin.execute(f"grant all on all tables in schema public to {role}")
    try:
        limited = make_conninfo(shared, user=role)
        with (
            psycopg.connect(limited),
            opened(limited, tenant(), retry_for=0.3, pool_timeout=0.3) as saver,
            pytest.raises(StorageUnavailableError, match="too many connections"),
        ):
            chain(saver).invoke({"xs": [0]}, on("t"))
        with opened(limited, tenant()) as saver:
            chain(saver).invoke({"xs": [0]}, on("t"))
            assert values(chain(saver), "t") == [0, 1, 2]
    finally:
        admin.execute(f"drop owned by {role}")
        admin.execute(f"drop role {role}")


@pytest.mark.parametrize(("part", "value"), [("dbname", "no_such_database"), ("user", "nobody_at_all")])
def test_what_will_never_be_let_in_is_said_at_once(shared: str, part: str, value: str) -> None:
    began = time.monotonic()
    with (
        PostgresSaver.from_conn_string(make_conninfo(shared, **{part: value})) as saver,
        pytest.raises(StorageError, match=value) as caught,
    ):
        saver.setup()
    assert time.monotonic() - began < 10  # where a database that is gone is tried for 30 seconds

    assert not isinstance(caught.value, StorageUnavailableError)
    assert "user, password and database name" in str(caught.value.hint)


def test_server_that_is_not_there_is_tried_for_as_long_as_said(shared: str, tenant: Tenants) -> None:
    with Proxy.to(shared) as proxy:
        proxy.refuse()
        with (
            PostgresSaver.from_conn_string(proxy.conninfo(shared), retry_for=0.3, pool_timeout=0.3) as saver,
            pytest.raises(StorageUnavailableError, match="cannot be reached") as caught,
        ):
            chain(saver).invoke({"xs": [0]}, on("t"))
    assert caught.value.hint == "run it again when the database is back"


@pytest.mark.parametrize("what", ["discard all", "deallocate all"])
def test_statements_that_somebody_has_deallocated_are_prepared_anew(shared: str, tenant: Tenants, what: str) -> None:
    with psycopg.connect(shared, autocommit=True) as connection:
        saver = PostgresSaver(connection, tenant=tenant())
        graph = chain(saver)
        for _ in range(3):
            graph.invoke({"xs": [0]}, on("t"))
            connection.execute(what)

        assert values(graph, "t") == [0, 1, 2] * 3
        assert saver.verify().is_intact


def test_tables_altered_under_prepared_statements(
    database: str,
) -> None:
    with PostgresSaver.from_conn_string(database, max_size=1) as saver, psycopg.connect(database) as other:
        graph = chain(saver)
        graph.invoke({"xs": [0]}, on("t"))
        for change in ("add column more text", "drop column more", "alter column since type numeric"):
            other.execute(f"alter table clew_head {change}")
            other.commit()
            if "numeric" not in change:
                graph.invoke({"xs": [0]}, on("t"))
        other.execute("alter table clew_head alter column since type bigint")
        other.commit()
        graph.invoke({"xs": [0]}, on("t"))

        assert values(graph, "t") == [0, 1, 2] * 4
        assert saver.verify().is_intact


def test_tables_that_are_gone_are_a_typed_error_with_the_remedy(database: str) -> None:
    with PostgresSaver.from_conn_string(database) as saver, psycopg.connect(database, autocommit=True) as other:
        chain(saver).invoke({"xs": [0]}, on("t"))
        other.execute("drop schema public cascade")
        other.execute("create schema public")
        with pytest.raises(SchemaVersionError, match="tables of clew are not in") as caught:
            chain(saver).invoke({"xs": [0]}, on("t"))
        assert "setup()" in str(caught.value.hint)
        saver.setup()
        chain(saver).invoke({"xs": [0]}, on("t"))
        assert values(chain(saver), "t") == [0, 1, 2]


def test_database_that_only_takes_reads_is_said_with_the_remedy(shared: str, tenant: Tenants) -> None:
    with opened(shared, tenant()) as saver:
        chain(saver).invoke({"xs": [0]}, on("t"))
    reading = make_conninfo(shared, options="-c default_transaction_read_only=on")
    with PostgresSaver.from_conn_string(reading, tenant=saver.tenant, retry_for=0.2) as standby:
        assert values(chain(standby), "t") == [0, 1, 2]
        with pytest.raises(StorageUnavailableError, match="only takes reads") as caught:
            chain(standby).invoke({"xs": [0]}, on("t"))
    assert "target_session_attrs=read-write" in str(caught.value.hint)


@pytest.mark.parametrize("code", ["53100", "22001", "XX000", "42883", "58030", "54000", "P0001"])
def test_every_refusal_that_stays_is_typed_and_has_a_hint(database: str, code: str) -> None:
    with PostgresSaver.from_conn_string(database) as saver, psycopg.connect(database, autocommit=True) as other:
        saver.setup()
        other.execute(f"""create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no' using errcode = '{code}'; end $$""")
        other.execute("create trigger refuse before insert on clew_step for each row execute function refuse()")
        with pytest.raises(StorageError, match="refused: no") as caught:
            chain(saver).invoke({"xs": [0]}, on("t"))
        assert caught.value.hint
        assert isinstance(caught.value.__cause__, psycopg.Error)
        other.execute("drop trigger refuse on clew_step")
        chain(saver).invoke({"xs": [0]}, on("t"))
        assert values(chain(saver), "t") == [0, 1, 2]
