"""Making and upgrading the tables: raced, interrupted, inside somebody's transaction, and beside other versions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clew.checkpoint.postgres import PostgresSaver
from clew.errors import SchemaVersionError, StorageError
from clew.storage.migrate import Migration, migrations
from clew.storage.postgres import schema
from tests.postgres import Server
from tests.postgres_faults.graphs import chain, on, values

KNOWN = migrations("postgres")
NEXT = KNOWN[-1].number + 1
TABLES = {*schema.TABLES, "clew_migration"}
MORE = Migration(
    NEXT, f"{NEXT:04}_more.pre", ("alter table clew_head add column more text", "create table clew_more ()")
)
LESS = Migration(NEXT + 1, f"{NEXT + 1:04}_less.post", ("alter table clew_head drop column more",))
CATALOG = (
    """select table_name, column_name, ordinal_position, data_type, is_nullable, column_default, collation_name
         from information_schema.columns where table_schema = current_schema() order by 1, 3""",
    "select tablename, indexname, indexdef from pg_indexes where schemaname = current_schema() order by 1, 2",
    """select relname, conname, pg_get_constraintdef(pg_constraint.oid) from pg_constraint
         join pg_class on pg_class.oid = conrelid where relnamespace = current_schema()::regnamespace order by 1, 2""",
    """select relname, attname, attstorage, reloptions from pg_attribute join pg_class on pg_class.oid = attrelid
        where relnamespace = current_schema()::regnamespace and attnum > 0 and relkind = 'r' order by 1, 2""",
)


def catalog(database: str) -> list[list[Any]]:
    with psycopg.connect(database) as connection:
        return [connection.execute(query).fetchall() for query in CATALOG]


def tables(database: str) -> set[str]:
    with psycopg.connect(database) as connection:
        return {name for (name,) in connection.execute("select tablename from pg_tables where tablename ~ '^clew_'")}


def applied(database: str) -> list[int]:
    with psycopg.connect(database) as connection:
        return [number for (number,) in connection.execute("select number from clew_migration order by number")]


def migrate(database: str, known: Sequence[Migration], *, post: bool = False) -> None:
    with PostgresSaver.from_conn_string(database, max_size=1) as saver:
        saver._run(schema.set_up(saver.tables.texts, "here", known=known, post=post))


def at_once(count: int, work: Callable[[], object]) -> list[BaseException]:
    """Run `work` on that many threads at the same moment; what they raised."""
    barrier, raised = threading.Barrier(count), list[BaseException]()

    def body() -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    return raised


def test_twenty_threads_set_up_at_once(database: str) -> None:
    def work() -> None:
        with PostgresSaver.from_conn_string(database, max_size=1) as saver:
            saver.setup()

    assert at_once(20, work) == []
    assert applied(database) == [each.number for each in KNOWN]


SET_UP = """
import sys
from clew.checkpoint.postgres import PostgresSaver
print("ready", flush=True)
sys.stdin.readline()
with PostgresSaver.from_conn_string(sys.argv[1]) as saver:
    saver.setup()
"""


def test_several_processes_set_up_at_once(database: str) -> None:
    command = [sys.executable, "-c", SET_UP, database]
    racing = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for one in racing:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in racing:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    codes = []
    for one in racing:
        with one:
            codes.append(one.wait(60))

    assert codes == [0] * 4
    assert applied(database) == [each.number for each in KNOWN]


def test_first_uses_race_without_setup(database: str) -> None:
    def work() -> None:
        with PostgresSaver.from_conn_string(database, max_size=1) as saver:
            chain(saver).invoke({"xs": [0]}, on(threading.current_thread().name))

    assert at_once(6, work) == []
    with PostgresSaver.from_conn_string(database) as saver:
        assert len(saver.threads()) == 6


def test_set_up_twice_changes_nothing(database: str) -> None:
    with PostgresSaver.from_conn_string(database) as saver:
        saver.setup()
        before = catalog(database)
        saver.setup()
        saver.setup(post=True)
    assert catalog(database) == before


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_set_up_is_part_of_the_transaction_that_is_open(database: str, ends: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("create table clew_users_own (number int)")
        saver = PostgresSaver(connection)
        saver.setup()
        assert tables(database) == set()
        getattr(connection, ends)()

        assert tables(database) == ({*TABLES, "clew_users_own"} if ends == "commit" else set())
        chain(saver).invoke({"xs": [0]}, on("t"))
        assert values(chain(saver), "t") == [0, 1, 2]


def test_set_up_that_fails_inside_a_transaction_is_a_typed_error(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("create table clew_head (mine int)")
        with pytest.raises(StorageError, match="refused: relation") as caught:
            PostgresSaver(connection).setup()
    assert caught.value.hint


def test_schema_is_the_sum_of_its_migrations(database: str) -> None:
    with PostgresSaver.from_conn_string(database) as saver:
        saver.setup()
    fresh = catalog(database)
    with psycopg.connect(database, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"drop table {table}")  # type: ignore[arg-type]
    for count in range(1, len(KNOWN) + 1):
        migrate(database, KNOWN[:count], post=True)

    assert catalog(database) == fresh


def test_older_clew_works_on_a_database_with_a_newer_migration_that_only_adds(database: str) -> None:
    with PostgresSaver.from_conn_string(database) as running:
        chain(running).invoke({"xs": [0]}, on("t"))
        migrate(database, [*KNOWN, MORE])
        chain(running).invoke({"xs": [0]}, on("t"))
    with PostgresSaver.from_conn_string(database) as later:
        later.setup()
        chain(later).invoke({"xs": [0]}, on("t"))
        assert values(chain(later), "t") == [0, 1, 2] * 3
    assert applied(database) == [*(each.number for each in KNOWN), NEXT]


@pytest.mark.parametrize("name", ["less.post", "whatever"])
def test_newer_migration_that_is_not_known_to_only_add_is_refused(database: str, name: str) -> None:
    unknown = Migration(NEXT, f"{NEXT:04}_{name}", ("create table clew_more ()",))
    migrate(database, [*KNOWN, unknown], post=True)
    with PostgresSaver.from_conn_string(database) as saver:
        for call in (saver.setup, lambda: chain(saver).invoke({"xs": [0]}, on("t"))):
            with pytest.raises(SchemaVersionError, match=f"schema version {NEXT}") as caught:
                call()
            assert "upgrade clew" in str(caught.value.hint)


def test_what_takes_away_waits_until_it_is_asked_for(database: str) -> None:
    migrate(database, KNOWN)
    migrate(database, [*KNOWN, MORE, LESS])
    assert applied(database)[-1] == NEXT
    migrate(database, [*KNOWN, MORE, LESS], post=True)
    assert applied(database)[-1] == NEXT + 1


UPGRADE = """
import sys
from clew.checkpoint.postgres import PostgresSaver
from clew.storage.migrate import Migration, migrations
from clew.storage.postgres import schema
known = migrations("postgres")
statements = ("alter table clew_head add column more text", "create table clew_more ()")
number = known[-1].number + 1
more = Migration(number, f"{number:04}_more.pre", statements)
known = [*known, more] if sys.argv[2] == "upgrade" else known
with PostgresSaver.from_conn_string(sys.argv[1]) as saver:
    saver._run(schema.set_up(saver.tables.texts, "here", known=known))
"""


@pytest.mark.parametrize("at", [1, 2])
def test_kill_between_the_statements_of_an_upgrade_leaves_old_and_new_code_working(database: str, at: int) -> None:
    with PostgresSaver.from_conn_string(database) as saver:
        graph = chain(saver)
        graph.invoke({"xs": [0]}, on("t"))
        command = [sys.executable, "-c", UPGRADE, database, "upgrade"]
        environment = {**os.environ, "CLEW_FAILPOINTS": f"migration.statement=kill@{at}"}

        assert subprocess.run(command, env=environment).returncode == -9
        assert applied(database) == [each.number for each in KNOWN]
        graph.invoke({"xs": [0]}, on("t"))
        assert subprocess.run(command).returncode == 0
        assert applied(database)[-1] == NEXT
        graph.invoke({"xs": [0]}, on("t"))
        assert values(graph, "t") == [0, 1, 2] * 3


def test_kill_in_the_first_set_up_leaves_nothing_and_the_next_one_finishes(database: str) -> None:
    for at in (1, 4, sum(len(each.statements) for each in KNOWN)):
        environment = {**os.environ, "CLEW_FAILPOINTS": f"migration.statement=kill@{at}"}
        command = [sys.executable, "-c", UPGRADE, database, "plain"]
        assert subprocess.run(command, env=environment).returncode == -9
        assert tables(database) == set()
    with PostgresSaver.from_conn_string(database) as saver:
        chain(saver).invoke({"xs": [0]}, on("t"))
    assert tables(database) == TABLES


def test_role_that_may_not_create_tables_is_told_so(database: str) -> None:
    role = f"poor_{os.getpid()}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"create role {role} login")
        try:
            with PostgresSaver.from_conn_string(make_conninfo(database, user=role)) as saver:
                for call in (saver.setup, lambda: chain(saver).invoke({"xs": [0]}, on("t"))):
                    with pytest.raises(StorageError, match="permission denied for schema public") as caught:
                        call()
                    assert "grant the role rights" in str(caught.value.hint)
        finally:
            admin.execute(f"drop role {role}")


@pytest.mark.parametrize("name", ["agents", "Agents", "_a1"])
def test_schema_is_made_and_holds_everything(database: str, name: str) -> None:
    with PostgresSaver.from_conn_string(database, schema=name) as saver:
        chain(saver).invoke({"xs": [0]}, on("t"))
        saver.prune(["t"], keep_last=1)
        assert values(chain(saver), "t") == [0, 1, 2]
    with psycopg.connect(database) as connection:
        found = connection.execute("select distinct schemaname from pg_tables where tablename ~ '^clew_'").fetchall()
    assert found == [(name,)]


@pytest.mark.parametrize("name", ["", "a b", 'a"; drop table clew_head; --', "1a", "x" * 64, "é", "a.b", "a\n"])
def test_odd_names_of_schemas_are_refused(database: str, name: str) -> None:
    with pytest.raises(ValueError, match="schema is"):
        PostgresSaver(database, schema=name)


def test_tables_of_a_saver_that_commits_fast_outlive_a_crash_of_the_server(own_server: Server) -> None:
    own_server.configure(wal_writer_delay="10s")  # nothing but a durable commit writes its log for a while
    own_server.stop()
    own_server.start()
    with PostgresSaver.from_conn_string(own_server.conninfo(), commit="fast") as saver:
        saver.setup()
        own_server.kill()
        own_server.start()
        chain(saver).invoke({"xs": [0]}, on("t"))

        assert values(chain(saver), "t") == [0, 1, 2]
