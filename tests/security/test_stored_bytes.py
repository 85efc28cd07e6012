"""Bytes from a database never import or call anything: they are a value, or a typed error that names the thread.

GHSA-wwqv-p2pp-99h5, GHSA-g48c-2wqr-h844, GHSA-mhr3-j7m5-c7c9 and what can be sent along with them; see also
tests/serde/test_security.py, which tries the codec alone.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import psycopg
import pytest
from psycopg import sql

from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import SerializationError, StorageError
from clew.serde.compress import pack
from clew.storage.bound import bind
from clew.storage.log import StepRow
from clew.storage.query import Query, Steps
from clew.store.sqlite import SqliteStore
from tests.both import on
from tests.security.hostile import CALL, CANARY, RECORDS, VALUES
from tests.storage.kit import TASK, Run, history, load, write


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing that a test reads has been called or imported when it ends."""
    canary = tmp_path / "canary"
    monkeypatch.setenv(CANARY, str(canary))
    yield
    assert not canary.exists()
    assert "antigravity" not in sys.modules


def readings(saver: Any, thread: str = "t") -> list[Any]:
    """Every way to read the newest checkpoint of a thread."""
    return [
        lambda: load(saver, thread),
        lambda: history(saver, thread),
        lambda: saver.get_tuple(on(thread)),
        lambda: list(saver.list(on(thread))),
    ]


def refused(reads: list[Any], name: str) -> None:
    for number, read in enumerate(reads):
        try:
            found = read()
        except StorageError:
            continue
        raise AssertionError(f"{name}: reading {number} gave {found!r}")


def test_hostile_value_in_a_state_is_refused_when_it_is_read(saver: Any) -> None:
    Run(saver, "good").commit([], claim=True)
    for name, value in VALUES.items():
        run = Run(saver, "t")
        run.state = {"value": [value]}
        run.commit(claim=True)

        refused(readings(saver), name)
        saver.copy_thread("t", "copy")  # maintenance carries it, and looks at nothing
        saver.prune(["t"])
        refused(readings(saver), name)
        refused(readings(saver, "copy"), name)
        for thread in ("t", "copy"):
            saver.delete_thread(thread)
            assert load(saver, thread) is None
    assert load(saver, "good") is not None, "only its thread is affected"


def test_hostile_value_in_a_write_or_in_metadata_is_refused_when_it_is_read(saver: Any) -> None:
    for name, value in VALUES.items():
        run = Run(saver, name)
        run.commit([], claim=True)
        run.save(write(value))
        other = Run(saver, f"metadata of {name}")
        other.commit([], claim=True, note=value)

        refused(readings(saver, name), name)
        refused(readings(saver, f"metadata of {name}"), name)


def test_hostile_value_in_a_store_is_refused_and_other_items_are_read(store: Any) -> None:
    store.put(("good",), "k", {"n": 1})
    for name, value in VALUES.items():
        store.put(("bad",), "k", {"value": value}, index=False)

        refused([lambda: store.get(("bad",), "k"), lambda: store.search(("bad",)), lambda: store.search(())], name)
        assert store.get(("good",), "k").value == {"n": 1}
        store.delete(("bad",), "k")
        assert store.get(("bad",), "k") is None


def test_hostile_value_in_a_cache_counts_as_not_cached(cache: Any) -> None:
    for name, value in VALUES.items():
        key, good = (("ns",), name), (("ns",), "good")
        cache.set({key: ([("channel", value)], None), good: (1, None)})

        assert cache.get([key, good]) == {good: 1}


# Whole records


def changed(saver: Any, steps: Any) -> None:
    """Do what somebody with the database's password could do: queries of their own."""
    saver.run(saver._op("t", steps, kind="put"))


def line_of(saver: Any) -> Steps[int]:
    rows = yield Query("head_list", (saver.tenant, "t"))
    return rows[0][0]


def replace_step(saver: Any, record: bytes) -> None:
    """Give the newest step another body, bound to its row where it is long enough to be."""

    def steps() -> Steps[None]:
        line = yield from line_of(saver)
        row = StepRow(*(yield Query("step_chain", (saver.tenant, line, 0, 2, 2)))[0])
        row = row._replace(key_seq=row.seq, body=record)
        body = bind(row).body if len(record) > 9 else record
        yield Query("step_rewrite", (row.seq, body, saver.tenant, line, row.branch, row.seq))

    changed(saver, steps)


def replace_pending(saver: Any, record: bytes) -> None:
    def steps() -> Steps[None]:
        line = yield from line_of(saver)
        rows = yield Query("pending_read", (saver.tenant, line, 0, 2))
        yield Query("pending_put", (saver.tenant, line, 0, 2, rows[0][0], rows[0][1], record))

    changed(saver, steps)


def replace_spill(saver: Any, record: bytes) -> None:
    def steps() -> Steps[None]:
        hashes = yield Query("spill_list", (saver.tenant, "t"))
        for (hash,) in hashes:
            yield Query("spill_drop", (saver.tenant, "t", hash))
            yield Query("spill_add", (saver.tenant, "t", hash, record))

    changed(saver, steps)


@pytest.mark.parametrize("replace", [replace_step, replace_pending, replace_spill])
def test_hostile_record_is_refused_when_it_is_read(saver: Any, replace: Any) -> None:
    Run(saver, "good").commit([], claim=True)
    for name, record in RECORDS.items():
        run = Run(saver, "t")
        run.commit([], claim=True)
        run.state = {"large": "x" * 100_000}
        run.commit()
        run.save(write(1, TASK))
        replace(saver, record)
        saver.heads.drop(saver.tenant, "t")

        refused(readings(saver), name)
        assert saver.verify("t").problems
        saver.delete_thread("t")
        assert load(saver, "t") is None
    assert load(saver, "good") is not None


def replace_item(store: Any, record: bytes, tmp_path: Path) -> None:
    """Give the item below ("bad",) another value, by SQL."""
    if isinstance(store, SqliteStore):
        with sqlite3.connect(tmp_path / "store.db") as connection:
            connection.execute("update store_item set value = ? where id = (select min(id) from store_item)", (record,))
        connection.close()
        return
    with psycopg.connect(store.conn.conninfo) as postgres:
        postgres.execute(sql.SQL("set search_path to {}").format(sql.Identifier(f"security_{os.getpid()}")))
        postgres.execute("update clew_store_item set value = %s where ns < %s", [record, b"c"])


def test_hostile_record_of_a_store_is_refused_when_it_is_read(store: Any, tmp_path: Path) -> None:
    store.put(("bad",), "k", {"n": 1})
    store.put(("good",), "k", {"n": 1})
    for name, record in RECORDS.items():
        replace_item(store, record, tmp_path)

        refused([lambda: store.get(("bad",), "k"), lambda: store.search(("bad",))], name)
        assert store.get(("good",), "k").value == {"n": 1}


def test_record_that_looks_like_a_call_is_a_dict(store: Any, saver: Any, tmp_path: Path) -> None:
    """GHSA-wwqv-p2pp-99h5: bytes tagged as JSON were revived as objects."""
    store.put(("bad",), "k", {"n": 1})
    replace_item(store, pack(ormsgpack.packb(CALL)), tmp_path)
    run = Run(saver, "t")
    run.state = {"call": CALL, "calls": [CALL]}
    run.commit(claim=True)
    run.save(write(CALL))

    assert store.get(("bad",), "k").value == CALL
    for values in (found.values for found in history(saver, "t")):
        assert values == {"call": CALL, "calls": [CALL]}
    assert [task.writes for task in load(saver, "t").pending] == [[("messages", CALL)]]


@pytest.mark.parametrize("tag", ["pickle", "json", "msgpack", "null", "bytes", "no such"])
def test_tag_of_another_serializer_in_a_cache_counts_as_not_cached(cache: Any, tag: str) -> None:
    """The peer's cache read an entry tagged "pickle" with pickle."""

    class Tagging:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def dumps_typed(self, value: Any) -> tuple[str, bytes]:
            return tag, RECORDS["bare pickle"]

        def loads_typed(self, data: Any) -> Any:
            return self.inner.loads_typed(data)

    cache.serde = Tagging(cache.serde)
    cache.set({(("ns",), "k"): (1, None)})

    found = cache.get([(("ns",), "k")])
    assert found == {(("ns",), "k"): {"null": None, "bytes": RECORDS["bare pickle"]}.get(tag)} or found == {}
    assert not found or tag in ("null", "bytes")


def test_an_unknown_class_is_refused_when_it_is_written_whatever_the_saver_was_told(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="neither a clew"):
        SqliteSaver(str(tmp_path / "x.db"), serde=object())  # type: ignore[arg-type] - on purpose
    with pytest.raises(SerializationError):
        Run(SqliteSaver(":memory:"), "t").cursor.save_writes([write(object())])
