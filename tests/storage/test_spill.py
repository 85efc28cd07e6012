"""Large leaves are kept once per thread, and go when nothing refers to them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import CorruptRecordError
from clew.protocols import TaskWrites
from clew.storage.records import SPILL_FROM
from tests.storage.kit import TASK, Run, history, load, write


def spilled(saver: Any) -> int:
    """How many leaves are spilled in all."""
    if isinstance(saver, PostgresSaver):
        with psycopg.connect(saver.conn) as connection:
            return (connection.execute("select count(*) from clew_spill").fetchone() or (0,))[0]
    if hasattr(saver, "tables"):
        return saver.tables._writing().execute("select count(*) from clew_spill").fetchone()[0]
    return sum(map(len, saver._tables._spill.values()))


DOCUMENT = os.urandom(3 * SPILL_FROM)


def test_a_large_leaf_is_kept_once_however_often_it_is_stored(saver: Any) -> None:
    run = Run(saver, "t")
    run.state |= {"__start__": {"document": DOCUMENT}, "document": DOCUMENT, "list": [DOCUMENT, "x"]}
    run.commit(claim=True)
    run.state["list"].append("y")
    tasks = [TaskWrites(TASK, [("document", DOCUMENT), ("list", [DOCUMENT]), ("files", {"a": DOCUMENT})])]
    saver.run(run.cursor.save_writes(tasks))
    pending = load(saver, "t")
    run.commit(writes=tasks)
    child = Run(saver, "t", "child", session=run.session)
    child.state["document"] = DOCUMENT
    child.commit()

    assert spilled(saver) == 1
    assert pending is not None
    assert pending.pending[0].writes == tasks[0].writes
    newest, oldest = history(saver, "t")
    assert newest.values == run.state
    assert oldest.values["list"] == [DOCUMENT, "x"]
    assert oldest.pending[0].writes == tasks[0].writes
    assert load(saver, "t", "child").values == {"document": DOCUMENT}
    assert saver.verify("t").problems == []


def test_a_small_change_of_a_large_leaf_costs_little(saver: Any) -> None:
    run = Run(saver, "t")
    run.state["document"] = DOCUMENT
    run.commit()
    for turn in range(5):
        run.state["document"] += bytes([turn])
        run.commit()

    assert spilled(saver) == 1
    assert [len(saved.values["document"]) - len(DOCUMENT) for saved in history(saver, "t")] == [5, 4, 3, 2, 1, 0]


def test_a_thread_does_not_share_what_it_spilled(saver: Any) -> None:
    for thread in ("a", "b"):
        run = Run(saver, thread)
        run.state["document"] = DOCUMENT
        run.commit()

    assert spilled(saver) == 2
    saver.delete_thread("a")
    assert spilled(saver) == 1
    assert load(saver, "b").values == {"document": DOCUMENT}


def test_pruning_sweeps_leaves_that_nothing_refers_to(saver: Any) -> None:
    run = Run(saver, "t")
    documents = [os.urandom(SPILL_FROM) for _ in range(4)]
    for document in documents:
        run.state["document"] = document
        run.commit()
    saver.run(run.cursor.save_writes([write(documents[0])]))
    saver.copy_thread("t", "copy")

    saver.prune(["t"])

    assert spilled(saver) == 2 + 4, "the newest value's, the pending write's, and the copy's own"
    found = load(saver, "t")
    assert found is not None
    assert found.values == {"document": documents[-1]}
    assert found.pending[0].writes == [("messages", documents[0])]
    assert [saved.values["document"] for saved in history(saver, "copy")] == documents[::-1]


@pytest.mark.parametrize(
    "damage", ["delete from clew_spill", "update clew_spill set body = cast(substr(body, 1, 5000) as blob)"]
)
def test_a_damaged_leaf_is_found_and_names_the_thread(tmp_path: Path, damage: str) -> None:
    path = str(tmp_path / "threads.db")
    with SqliteSaver.from_conn_string(path) as saver:
        run = Run(saver, "t")
        run.state["document"] = DOCUMENT
        run.commit()
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()

    with SqliteSaver.from_conn_string(path) as saver:
        with pytest.raises(CorruptRecordError, match=r"checkpoint \S+ of thread 't' cannot be read"):
            load(saver, "t")
        assert len(saver.verify("t").problems) == 1
