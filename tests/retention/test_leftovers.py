"""What is deleted leaves nothing behind, and the space comes back."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.checkpoint.base import Checkpoint
from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.ids import checkpoint_id, id_bytes
from clew.retention import Retention
from clew.storage import records
from tests.retention.kit import ask, fill, lengths, lines, pending, spill_sizes, stored, threads
from tests.storage.kit import Run, history, load, write


def everything(saver: Any) -> Any:
    """Every row of every table, whatever tables there are."""
    if isinstance(saver, InMemorySaver):
        tables = vars(saver._tables)
        return {name: sorted(map(repr, found.items())) for name, found in tables.items() if type(found) is dict}
    if isinstance(saver, SqliteSaver):
        with closing(sqlite3.connect(saver.tables.path)) as connection:
            names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
            names.remove("sqlite_sequence")  # the last number given out, which is never given again
            return {name: sorted(map(repr, connection.execute(f'select * from "{name}"'))) for name in names}
    with psycopg.connect(saver.conn) as connection:
        tables = "select table_name from information_schema.columns where column_name = 'tenant'"
        names = [name for (name,) in connection.execute(tables)]
        assert len(names) >= 5
        return {
            name: sorted(map(repr, connection.execute(f'select * from "{name}" where tenant = %s', [saver.tenant])))
            for name in names
        }


def busy_thread(saver: Any, thread: str) -> None:
    """A thread with something in every table: steps, a fork, namespaces, large leaves, writes that wait."""
    run = fill(saver, thread, 5, size=500)
    forked = Run(saver, thread, at=history(saver, thread)[2].checkpoint_id)
    forked.state["log"].append("y" * 500)
    forked.commit(claim=True)
    for ns in ("memory", "node:1"):
        child = fill(saver, thread, 2, ns, session=forked.session, size=500)
        saver.run(child.cursor.save_writes([write(os.urandom(600))]))
    saver.run(forked.cursor.save_writes([write(os.urandom(600))]))
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": checkpoint_id()}}
    saver.put_writes(config, [("a", 1)], checkpoint_id())
    assert run.session.error is None


@pytest.fixture(autouse=True)
def _small_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SPILL_FROM", 300)


@pytest.mark.parametrize("how", ["delete_thread", "prune", "retain", "retain in batches"])
def test_a_deleted_thread_leaves_no_row_in_any_table(saver: Any, how: str) -> None:
    busy_thread(saver, "stays")
    before = everything(saver)
    busy_thread(saver, "goes")
    assert all(len(rows) for rows in (stored(saver), spill_sizes(saver, "goes"), pending(saver, "goes")))
    assert everything(saver) != before

    match how:
        case "delete_thread":
            saver.delete_thread("goes")
        case "prune":
            saver.prune(["goes"], strategy="delete")
        case _:
            batch = 500 if how == "retain" else 2
            saver.retain(Retention(delete_if=lambda usage: usage.thread_id == "goes"), batch=batch)

    if isinstance(saver, InMemorySaver):
        saver._tables._spill = {key: table for key, table in saver._tables._spill.items() if table}
    assert everything(saver) == before


def test_large_leaves_that_nothing_refers_to_go_even_from_a_long_thread(saver: Any) -> None:
    run = Run(saver, "t")
    for turn in range(30):
        run.state |= {"turn": turn, "document": bytes([turn // 10]) * 400}
        run.commit()
    saver.run(run.cursor.save_writes([write(bytes([0]) * 400)]))
    assert len(spill_sizes(saver, "t")) == 3

    told = saver.retain(Retention(keep_last=2), batch=4, dry_run=True)
    report = saver.retain(Retention(keep_last=2), batch=4)

    assert len(spill_sizes(saver, "t")) == 2, "the newest state's, and that of the write that waits"
    assert report.bytes == told.bytes
    assert load(saver, "t").pending[0].writes == [("messages", bytes([0]) * 400)]
    assert saver.verify().problems == []


def test_a_checkpoint_that_is_replaced_while_a_thread_is_looked_through_keeps_its_leaves(saver: Any) -> None:
    def put(id: str, parent: str | None, document: Any) -> None:
        config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        if parent is not None:
            config["configurable"]["checkpoint_id"] = parent
        saver.put(
            config,
            Checkpoint(
                v=4,
                id=id,
                ts="2026-01-02T03:04:05+00:00",
                channel_values={"document": document},
                channel_versions={"document": id},
                versions_seen={},
                updated_channels=None,
            ),
            {"source": "loop", "step": 1},
            {"document": id},
        )

    ids: list[str] = []
    garbage = "z" * 400
    for number in range(12):
        ids.append(checkpoint_id(ids[-1] if ids else None))
        put(ids[-1], ids[-2] if number else None, garbage if number == 0 else f"{number}" * 400)

    work = saver._retention(Retention(keep_last=8), batch=2).work()
    op = next(work)
    seen = 0
    while True:
        given = saver.run(op)
        try:
            op = work.send(given)
        except StopIteration:
            break
        if op.kind == "prune":
            seen += 1
            if seen == 2:  # the thread was looked through: now an old checkpoint gets the value that is to go
                put(ids[8], ids[7], garbage)

    assert seen == 2
    assert len(lengths(saver, "t")) == 1
    values = [
        found.checkpoint["channel_values"]["document"] for found in saver.list({"configurable": {"thread_id": "t"}})
    ]
    assert values[3] == garbage
    assert saver.verify().problems == []


def test_writes_that_wait_for_nothing_go(saver: Any) -> None:
    fill(saver, "t", 4)
    old = history(saver, "t")[2].checkpoint_id
    abandoned = Run(saver, "t", at=old)  # reserves a branch, saves a write there, and is never seen again
    saver.run(abandoned.cursor.save_writes([write("abandoned")]))
    before = checkpoint_id()
    saver.put_writes(
        {"configurable": {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "0" * 8 + before[8:]}},
        [("a", "of a checkpoint that never came")],
        checkpoint_id(),
    )
    other = Run(saver, "t", at=old)
    saver.run(other.cursor.save_writes([write("reserved by a run that is under way")]))
    assert sorted(row[1] for row in pending(saver, "t")) == [0, 0, 0]

    saver.retain(Retention(keep_last=2))

    assert len(pending(saver, "t")) == 1
    other.state["log"].append("the run goes on")
    other.commit()
    assert pending(saver, "t") == []
    assert [found.values["log"][-1] for found in history(saver, "t")] == ["the run goes on", "t 3 ", "t 2 "]
    assert saver.verify().problems == []


def test_forks_of_nothing_are_forgotten_and_those_that_lead_somewhere_stay(saver: Any) -> None:
    fill(saver, "t", 3)
    first = history(saver, "t")[1].checkpoint_id
    for at in (first, None, first):  # a fork, a fork of that one, and one beside them that is the newest
        at = at or history(saver, "t")[1].checkpoint_id
        run = Run(saver, "t", at=at)
        for turn in range(3):
            run.state["log"].append("forked")
            run.commit(claim=turn == 0)
    line = lines(saver, "t")[""]
    assert sorted(ask(saver, "fork_list", saver.tenant, line)) == [(1, 0, 2), (2, 1, 2), (3, 0, 2)]

    saver.retain(Retention(keep_last=5))
    left = {row[0] for row in ask(saver, "step_rows", saver.tenant, line)}
    assert (left, len(ask(saver, "fork_list", saver.tenant, line))) == ({2, 3}, 3), "branch 2 descends from branch 1"
    saver.retain(Retention(keep_last=3))
    assert ask(saver, "fork_list", saver.tenant, line) == [(3, 0, 2)]
    assert saver.verify().problems == []


def test_a_run_on_a_checkpoint_that_goes_meanwhile_goes_on(saver: Any) -> None:
    fill(saver, "t", 5)
    run = Run(saver, "t", at=history(saver, "t")[3].checkpoint_id)
    saver.retain(Retention(keep_last=1))
    run.state["log"].append("from afar")
    run.commit(claim=True)
    saver.retain(Retention(keep_last=1))
    run.state["log"].append("and on")
    run.commit()

    assert [found.values["log"][1:] for found in history(saver, "t")] == [
        ["t 1 ", "from afar", "and on"],
        ["t 1 ", "from afar"],
    ]
    assert saver.verify().problems == []


def test_an_emptied_namespace_goes_when_it_is_old(saver: Any) -> None:
    run = fill(saver, "t", 3)
    child = Run(saver, "t", "memory", session=run.session, run_id="00000000-0000-4000-8000-000000000001")
    child.state["a"] = 1
    child.commit()
    saver.delete_for_runs(["00000000-0000-4000-8000-000000000001"])
    assert lengths(saver, "t") == {"": 3, "memory": 0}

    saver.retain(Retention(keep_last=1))
    assert lengths(saver, "t") == {"": 1, "memory": 0}, "a run may stand on it"
    saver.retain(Retention(older_than=datetime.now(UTC) + timedelta(minutes=1)))
    assert lengths(saver, "t") == {"": 1}


def test_space_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    with SqliteSaver.from_conn_string(str(path), synchronous="NORMAL") as saver:
        for thread in ("a", "b"):
            run = Run(saver, thread)
            for _ in range(60):
                run.state["text"] = os.urandom(60_000).hex()
                run.commit()
        large = size(path)
        assert large > 120 * 60_000
        saver.retain(Retention(keep_last=6), batch=20)
        pruned = size(path)
        assert pruned < large / 8
        saver.delete_thread("a")
        deleted = size(path)
        assert deleted < pruned * 0.67  # an empty database has its tables and indexes, too
        assert load(saver, "b").values == run.state
        assert threads(saver) == ["b"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma freelist_count").fetchone()[0] < 64


def size(path: Path) -> int:
    """What the database takes on disk, its write-ahead log included."""
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.name.startswith(path.name))


def test_a_reader_in_the_way_delays_only_the_space(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    with SqliteSaver.from_conn_string(path, synchronous="NORMAL") as saver, closing(sqlite3.connect(path)) as reader:
        run = Run(saver, "t")
        for _ in range(40):
            run.state["text"] = os.urandom(60_000)
            run.commit()
        reader.execute("begin")
        reader.execute("select count(*) from clew_step").fetchone()
        saver.prune(["t"])  # a reader keeps the log from being cut short, and nobody waits for it
        assert id_bytes(load(saver, "t").checkpoint_id)
        reader.rollback()
        saver.retain(Retention(delete_if=lambda usage: True))
        assert size(Path(path)) < 300_000


def test_a_namespace_that_is_run_on_meanwhile_keeps_its_leaves(saver: Any) -> None:
    run = Run(saver, "t")
    run.commit([])
    child = Run(saver, "t", "node:1", session=run.session)
    child.state["document"] = "d" * 400
    child.commit()
    for _ in range(4):
        run.commit([])
    work = saver._retention(Retention(keep_last=2)).work()
    op = next(work)
    while op.kind != "prune":
        op = work.send(saver.run(op))
    child.state["more"] = True
    child.commit()

    with contextlib.suppress(StopIteration):
        while True:
            op = work.send(saver.run(op))

    assert lengths(saver, "t") == {"": 2, "node:1": 2}
    assert load(saver, "t", "node:1").values == {"document": "d" * 400, "more": True}
    assert len(spill_sizes(saver, "t")) == 1
    assert saver.verify().problems == []
