"""Lists of many threads: each order has an index, and the shortcuts of filters find what reading all finds."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.storage import thread_lists
from clew.storage.migrate import migrations, named_queries
from clew.storage.thread_lists import contains
from clew.threads import EVERYONE, Thread, Threads

KINDS = {  # an order, and the index that gives it
    "recent": "",
    "oldest": "",
    "recent_before": "",
    "recent_of_status": "_status",
    "oldest_of_status": "_status",
    "recent_of_status_before": "_status",
    "created_at_down": "_created",
    "created_at_up": "_created",
    "updated_at_down": "_updated",
    "updated_at_up": "_updated",
    "thread_id_down": "_id",
    "thread_id_up": "_id",
    "status_down": "_status",
    "status_up": "_status",
}
MANY = """
insert into clew_thread (tenant, thread, user_id, status, archived, created_at, updated_at, active_at, metadata)
select 't', 'thread ' || n, 'user ' || n % 20, (array['idle', 'busy', 'error'])[n % 3 + 1], n % 2, n, n, n,
       jsonb_build_object('a', n)
  from generate_series(1, 4000) as n
"""
LISTS = [f"thread_{form}_{whose}" for form in ("page", "window") for whose in ("mine", "everyones")]


@pytest.fixture(scope="module")
def sqlite_plan(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """How SQLite would run a query."""
    path = tmp_path_factory.mktemp("plans") / "threads.db"
    with SqliteSaver.from_conn_string(str(path), synchronous="NORMAL") as saver:
        saver.setup()

    def plan(name: str) -> str:
        sql = named_queries("sqlite")[name]
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(f"explain query plan {sql}", [None] * (11 if "before" in name else 9))
            return "\n".join(row[3] for row in rows)

    return plan


@pytest.fixture(scope="module")
def postgres_plan(server: str) -> Callable[[str], str]:
    """How PostgreSQL would run a query for any values, if it had many rows to go through."""
    with PostgresSaver.from_conn_string(server, schema="clew_plans") as saver:
        saver.setup()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("set search_path = clew_plans")
        connection.execute(MANY)
        connection.execute("vacuum analyze clew_thread")

    def plan(name: str) -> str:
        sql = named_queries("postgres")[name]
        nulls = ", ".join(["null"] * (11 if "before" in name else 9))
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("set search_path = clew_plans")
            for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
                connection.execute(f"set {setting} = off".encode())
            connection.execute("set plan_cache_mode = force_generic_plan")
            connection.execute(f"prepare asked as {sql}".encode())
            rows = connection.execute(f"explain (costs off) execute asked({nulls})".encode())
            return "\n".join(str(row[0]) for row in rows)

    return plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LISTS)
def test_each_order_is_an_index_on_sqlite(sqlite_plan: Callable[[str], str], name: str, kind: str) -> None:
    plan = sqlite_plan(f"{name}_{kind}")

    index = f"clew_thread_{'mine' if 'mine' in name else 'everyone'}{KINDS[kind]}"
    assert f"INDEX {index} (" in plan
    if "page" in name:
        assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LISTS)
def test_each_order_is_an_index_on_postgres(postgres_plan: Callable[[str], str], name: str, kind: str) -> None:
    plan = postgres_plan(f"{name}_{kind}")

    index = f"clew_thread_{'mine' if 'mine' in name else 'everyone'}{KINDS[kind]}"
    assert f" using {index} " in plan
    assert "Sort" not in plan


@pytest.mark.usefixtures("postgres_plan")
def test_few_of_many_are_looked_up_by_what_they_hold(server: str) -> None:
    labelled = named_queries("postgres")["thread_labelled"]
    for number, value in ((1, "'t'"), (2, "'{\"a\": 1}'"), (3, "9")):
        labelled = labelled.replace(f"${number}", value)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("set search_path = clew_plans")
        rows = connection.execute(f"explain (costs off) {labelled}".encode())
        plan = "\n".join(str(row[0]) for row in rows)

    assert "clew_thread_metadata" in plan


@pytest.mark.parametrize("name", ["thread_labelled", "thread_titled_mine", "thread_titled_everyones"])
def test_shortcuts_read_indexes_alone_on_sqlite(tmp_path: Path, name: str) -> None:
    path = tmp_path / "threads.db"
    with SqliteSaver.from_conn_string(str(path), synchronous="NORMAL") as saver:
        saver.setup()
    with closing(sqlite3.connect(path)) as connection:
        parameters = ("t", "{}", 9) if name == "thread_labelled" else ("t", "ada", "rome", 9)
        plan = [row[3] for row in connection.execute(f"explain query plan {named_queries('sqlite')[name]}", parameters)]

    assert any("COVERING INDEX clew_thread_title" in line or "PRIMARY KEY" in line for line in plan)
    assert not any("SCAN clew_thread" in line for line in plan)


FILTERS: list[dict[str, Any]] = [
    {},
    {"archived": True},
    {"archived": None},
    {"status": "busy"},
    {"status": "idle", "sort_by": "status"},
    {"status": "error", "archived": None, "sort_by": "created_at"},
    {"text": "rome"},
    {"text": "Straße 7"},
    {"text": "nowhere"},
    {"text": "plan", "status": "busy"},
    {"metadata": {"kind": "a"}},
    {"metadata": {"number": 17}},
    {"metadata": {"number": 17.0}},
    {"metadata": {"flag": True}},
    {"metadata": {"flag": 1}},
    {"metadata": {"none": None}},
    {"metadata": {"kind": "a", "flag": True}, "archived": None},
    {"metadata": {"place": {"city": "Rome"}}},
    {"metadata": {"tags": ["x", "y"]}, "status": "idle"},
    {"metadata": {"nobody": "has"}},
    {"metadata": {"ümläut": "é"}, "text": "trip"},
    {"metadata": {}},
]
SORTS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")


def test_shortcuts_find_what_reading_all_finds(own_saver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WINDOW", 6), ("FEW", 8), ("PAGE", 5), ("LATER_PAGE", 7)):
        monkeypatch.setattr(thread_lists, name, value)
    chance = random.Random(11)
    threads = Threads(own_saver)
    known = [filled(threads.of(chance.choice(("ada", "bob"))), number, chance) for number in range(48)]
    for gone in known[::11]:
        threads.of(EVERYONE).delete(gone.id)
    listed = {thread.id: thread for thread in everything(threads)}

    for user in ("ada", EVERYONE):
        mine = threads.of(user)
        own = [thread for thread in listed.values() if user is EVERYONE or thread.user_id == user]
        for filters in FILTERS:
            wanted = [thread for thread in own if fits(thread, **filters)]
            assert mine.count(**filters_of(filters)) == len(wanted), filters
            sort_by = filters.get("sort_by") or chance.choice(SORTS)
            for is_descending in (True, False):
                ordered = in_order(wanted, sort_by, is_descending)
                order = {**filters, "sort_by": sort_by, "is_descending": is_descending}
                assert [thread.id for thread in mine.search(**order, limit=100)] == ordered, order
                assert [thread.id for thread in mine.search(**order, limit=3, offset=2)] == ordered[2:5], order
            if filters.get("archived", False) is not None and "sort_by" not in filters:
                assert paged(mine, filters) == in_order(wanted, "state_updated_at", True), filters


def filled(threads: Threads, number: int, chance: random.Random) -> Thread:
    title = (
        f"Trip {number} to {chance.choice(('Rome', 'Oslo', 'Straße ' + str(number % 9)))}, plan {'x' * (number * 9)}"
    )
    metadata: dict[str, Any] = {"kind": chance.choice("ab"), "number": chance.choice((17, 17.0, 18)), "none": None}
    metadata |= {"flag": chance.choice((True, False, 1)), "place": {"city": chance.choice(("Rome", "Oslo")), "no": 1}}
    metadata |= {
        "tags": chance.choice((["x", "y"], ["x"], "x")),
        "ümläut": chance.choice(("é", "e")),
        "long": "y" * 900,
    }
    made = threads.create(f"t{number:02}", title=title[:500], metadata=metadata)
    changes: dict[str, Any] = {"status": chance.choice(("idle", "idle", "busy", "error", "interrupted"))}
    if chance.random() < 0.4:
        changes["metadata"] = {"kind": "c", "long": "z" * 900, "none": "some"}
    if chance.random() < 0.3:
        changes["archived"] = True
    return threads.update(made.id, **changes)


def everything(threads: Threads) -> list[Thread]:
    all = threads.of(EVERYONE)
    return [*all.list(limit=1000).threads, *all.list(limit=1000, archived=True).threads]


def fits(thread: Thread, archived: bool | None = False, status: str | None = None, text: str | None = None,
         metadata: dict[str, Any] | None = None, sort_by: str | None = None) -> bool:  # fmt: skip
    return (
        archived in (None, thread.archived)
        and status in (None, thread.status)
        and (text is None or text.casefold() in (thread.title or "").casefold())
        and contains(dict(thread.metadata), metadata or {})
    )


def filters_of(order: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in order.items() if name != "sort_by"}


def in_order(threads: list[Thread], sort_by: str, is_descending: bool) -> list[str]:
    def key(thread: Thread) -> tuple[Any, ...]:
        active_at = thread.last_message_at or thread.created_at
        named = {"thread_id": thread.id, "state_updated_at": active_at, "status": (thread.status, active_at)}
        return (named[sort_by] if sort_by in named else getattr(thread, sort_by), thread.id)

    return [thread.id for thread in sorted(threads, key=key, reverse=is_descending)]


def paged(threads: Threads, filters: dict[str, Any]) -> list[str]:
    """What `list` gives, page by page."""
    found: list[str] = []
    after = None
    while True:
        page = threads.list(**filters, limit=4, after=after)
        found += [thread.id for thread in page.threads]
        after = page.next
        if after is None:
            return found


def test_threads_of_before_there_were_labels_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_lists, "WINDOW", 1)
    path = tmp_path / "threads.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table clew_migration (number integer primary key, name text not null)")
        for migration in migrations("sqlite"):
            if migration.name < "0007":
                for statement in migration.statements:
                    connection.execute(statement)
                connection.execute("insert into clew_migration values (?, ?)", (migration.number, migration.name))
        for number in range(3):
            fixed = ("", f"t{number}", "ada", "idle", 0, number, number, number, f'{{"n": {number}, "é": "ü"}}')
            connection.execute(
                "insert into clew_thread (tenant, thread, user_id, status, archived, created_at, updated_at, active_at,"
                " metadata) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                fixed,
            )
        connection.commit()

    with SqliteSaver.from_conn_string(str(path), synchronous="NORMAL") as saver:
        mine = Threads(saver).of("ada")

        assert [thread.id for thread in mine.search(metadata={"n": 1})] == ["t1"]
        assert mine.count(metadata={"é": "ü"}) == 3


def test_the_longest_titles_and_names_fit(own_saver: Any) -> None:
    mine = Threads(own_saver).of("ß" * 255)

    made = mine.create("ﬁ" * 120, title="\U0001f600" * 499 + "ΐ", metadata={"k" * 300: "v" * 3000})

    assert [thread.id for thread in mine.list(text="\u0390").threads] == [made.id]
    assert [thread.id for thread in mine.search(metadata={"k" * 300: "v" * 3000})] == [made.id]
