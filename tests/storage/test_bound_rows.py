"""A bit that flips beside a stored body, in a column or an index, is as noticed as one that flips within it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import CorruptRecordError
from tests.storage.kit import Run, history, load


def damaged(path: Path, statement: str) -> SqliteSaver:
    """Two threads of six steps, the first one's last a fork of its second; then `statement` is run on the file."""
    with SqliteSaver.from_conn_string(str(path)) as saver:
        for thread in ("a", "b"):
            run = Run(saver, thread)
            ids: list[str] = []
            for turn in range(5):
                run.state["count"] = turn
                if turn == 0:
                    run.state["only once"] = "x" * 3000
                ids.append(run.commit(["count", "only once"] if turn == 0 else ["count"]))
            run = Run(saver, thread, at=ids[1])
            run.state["count"] = "forked"
            run.commit(claim=True)
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()
    return SqliteSaver(str(path))


@pytest.mark.parametrize(
    "change",
    [
        "created_at = created_at + 1",
        "created_at = -created_at * 1000",
        "checkpoint_id = x'1f000000000060008000000000000003'",
        "root_branch = 1, root_seq = 1",
        "run_id = x'01'",
        "key_seq = seq",
        "key_seq = 'text'",
        "body = cast('text' as text)",
        "body = x''",
    ],
)
def test_a_step_with_another_column_is_refused(tmp_path: Path, change: str) -> None:
    with damaged(
        tmp_path / "x.db", f"update clew_step set {change} where line = 1 and branch = 0 and seq = 3"
    ) as saver:
        with pytest.raises(
            CorruptRecordError, match=r"thread 'a' (cannot be read: a stored record|lists checkpoints whose)"
        ):
            history(saver, "a")

        assert not saver.verify("a").is_intact
        assert saver.verify("b").is_intact
        assert len(history(saver, "b")) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("branch = 0, seq = 4", "the head of thread 'a' does not point at its newest checkpoint"),
        ("key_seq = 0", "thread 'a' misses stored steps between 0 and 1"),
        ("seq = 'text'", "the head of thread 'a' does not point at its newest checkpoint"),
    ],
)
def test_a_head_that_points_elsewhere_is_refused(tmp_path: Path, change: str, message: str) -> None:
    with damaged(tmp_path / "x.db", f"update clew_head set {change} where line = 1") as saver:
        with pytest.raises(CorruptRecordError, match=message):
            load(saver, "a")

        intact = load(saver, "b")
        assert intact is not None
        assert intact.values["count"] == "forked"


def test_a_chain_that_does_not_begin_with_a_full_value_is_refused(tmp_path: Path) -> None:
    fork_gone = "delete from clew_step where line = 1 and branch = 1"
    with damaged(tmp_path / "x.db", fork_gone):
        pass
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("update clew_head set branch = 0, seq = 5, key_seq = 3 where line = 1")
    connection.close()

    with (
        SqliteSaver.from_conn_string(str(tmp_path / "x.db")) as saver,
        pytest.raises(
            CorruptRecordError, match="thread 'a' misses the full value that stored steps from 3 on build on"
        ),
    ):
        load(saver, "a")


def test_bytes_that_became_text_are_damage(tmp_path: Path) -> None:
    change = "update clew_step set checkpoint_id = cast(checkpoint_id as text) where line = 1 and seq = 3"
    with damaged(tmp_path / "x.db", change) as saver, pytest.raises(CorruptRecordError, match=r"'.*x\.db' is damaged"):
        history(saver, "a")


def test_a_checkpoint_put_again_after_its_run_was_deleted_is_the_newest(tmp_path: Path) -> None:
    with SqliteSaver.from_conn_string(str(tmp_path / "x.db")) as saver:
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        first: Any = {"v": 2, "id": "1ef00000-0000-6000-8000-000000000001", "ts": "", "channel_values": {"n": 1}}
        second = first | {"id": "1ef00000-0000-6000-8000-000000000002", "channel_values": {"n": 2}}
        common = {"channel_versions": {"n": 1}, "versions_seen": {}, "updated_channels": None}
        run = "0f0e0d0c-0b0a-4908-8706-050403020100"
        at = saver.put(config, first | common, {"source": "loop"}, {"n": 1})
        saver.put(at, second | common, {"source": "loop", "run_id": run}, {"n": 2})
        saver.delete_for_runs([run])

        saver.put(at, second | common, {"source": "loop", "run_id": run}, {"n": 2})

        newest = saver.get_tuple(config)
        assert newest is not None
        assert newest.checkpoint["channel_values"] == {"n": 2}
