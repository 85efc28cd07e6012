"""Databases that are not what they should be, met while a graph runs: a typed error, and the thread as it was."""

from __future__ import annotations

import operator
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import CorruptRecordError, SchemaVersionError, StorageError
from clew.graph import START, StateGraph
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[Any], operator.add]


def chain(saver: Any, grow: int = 0) -> Any:
    """Three nodes in a row; the middle one adds `grow` bytes that do not compress."""
    builder = StateGraph(Log).add_sequence(
        [
            ("first", lambda state: {"log": ["first"]}),
            ("second", lambda state: {"log": [os.urandom(grow) if grow else "second"]}),
            ("third", lambda state: {"log": ["third"]}),
        ]
    )
    return builder.add_edge(START, "first").compile(checkpointer=saver)


def filled(drive: Drive, path: Path, *threads: str) -> str:
    """A database with a run of each thread."""
    with SqliteSaver.from_conn_string(str(path)) as saver:
        for thread in threads or ("t",):
            drive.invoke(chain(saver), {"log": ["in"]}, on(thread))
    return str(path)


def changed(path: str, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_file_that_is_no_database(drive: Drive, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear database, " * 300)

    with (
        SqliteSaver.from_conn_string(str(path)) as saver,
        pytest.raises(StorageError, match=r"letter\.txt' is not a SQLite database"),
    ):
        drive.invoke(chain(saver), {"log": ["in"]}, on())

    assert path.read_text() == "Dear database, " * 300


def test_folder_that_does_not_exist(drive: Drive, tmp_path: Path) -> None:
    with (
        SqliteSaver.from_conn_string(str(tmp_path / "nowhere" / "threads.db")) as saver,
        pytest.raises(StorageError, match=r"nowhere/threads\.db' cannot be opened"),
    ):
        drive.invoke(chain(saver), {"log": ["in"]}, on())


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_read_only_database_can_be_read_but_not_run_on(drive: Drive, tmp_path: Path, durability: str) -> None:
    path = filled(drive, tmp_path / "threads.db")

    with SqliteSaver.from_conn_string(f"file:{path}?mode=ro") as saver:
        graph = chain(saver)
        before = drive.get_state_history(graph, on())
        with pytest.raises(StorageError, match="is read-only"):
            drive.invoke(graph, {"log": ["more"]}, on(), durability=durability)
        with pytest.raises(StorageError, match="is read-only"):
            drive.update_state(graph, on(), {"log": ["more"]})

        assert drive.get_state_history(graph, on()) == before
        assert len(before) == 5


def test_database_of_a_newer_clew(drive: Drive, tmp_path: Path) -> None:
    path = filled(drive, tmp_path / "threads.db")
    changed(path, "insert into clew_migration values (99, '0099_the_future')")

    with SqliteSaver.from_conn_string(path) as saver:
        for call in (
            lambda: drive.invoke(chain(saver), {"log": ["more"]}, on()),
            lambda: drive.get_state(chain(saver), on()),
        ):
            with pytest.raises(SchemaVersionError, match="has schema version 99") as caught:
                call()
            assert "upgrade clew" in str(caught.value.hint)

    changed(path, "delete from clew_migration where rowid = (select max(rowid) from clew_migration)")
    with SqliteSaver.from_conn_string(path) as saver:
        assert drive.get_state(chain(saver), on()).values["log"] == ["in", "first", "second", "third"]


def test_one_flipped_bit_stops_that_thread_alone(drive: Drive, tmp_path: Path) -> None:
    path = filled(drive, tmp_path / "threads.db", "good", "bad")
    connection = sqlite3.connect(path)
    row, body = connection.execute(
        "select step.rowid, body from clew_step as step join clew_head as head using (line)"
        " where thread = 'bad' order by step.seq desc"
    ).fetchone()
    connection.close()
    changed(path, "update clew_step set body = ? where rowid = ?", bytes([*body[:-3], body[-3] ^ 4, *body[-2:]]), row)

    with SqliteSaver.from_conn_string(path) as saver:
        graph = chain(saver)
        for call in (
            lambda: drive.invoke(graph, {"log": ["more"]}, on("bad")),
            lambda: drive.get_state(graph, on("bad")),
            lambda: drive.update_state(graph, on("bad"), {"log": ["more"]}, as_node="third"),
        ):
            with pytest.raises(CorruptRecordError, match="thread 'bad'"):
                call()

        assert drive.invoke(graph, {"log": ["more"]}, on("good"))["log"][-3:] == ["first", "second", "third"]


class PageLimit:
    """A database that may not grow."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "threads.db")

    def fill(self, saver: SqliteSaver) -> None:
        self._limit(saver, 40)

    def make_room(self, saver: SqliteSaver) -> None:
        self._limit(saver, 100_000)

    def _limit(self, saver: SqliteSaver, pages: int) -> None:
        saver.tables._writing().execute(f"pragma max_page_count = {pages}")

    def close(self) -> None:
        pass


class SmallDisk:
    """A file system of its own, with little room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "disk"
        self.folder.mkdir()
        self.path = str(self.folder / "threads.db")
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(self.folder)], check=True, capture_output=True
        )

    def fill(self, saver: SqliteSaver) -> None:
        pass

    def make_room(self, saver: SqliteSaver) -> None:
        subprocess.run(["mount", "-o", "remount,size=16m", str(self.folder)], check=True, capture_output=True)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Any]:
    """A full disk, or where mounting one is not allowed, a database that may not grow."""
    try:
        disk: Any = SmallDisk(tmp_path)
    except (OSError, subprocess.CalledProcessError):
        disk = PageLimit(tmp_path)
    yield disk
    disk.close()


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
def test_full_disk_fails_the_run_and_the_thread_goes_on_when_there_is_room(
    drive: Drive, full: Any, durability: str
) -> None:
    with SqliteSaver.from_conn_string(full.path) as saver:
        drive.invoke(chain(saver), {"log": ["in"]}, on())
        full.fill(saver)
        big = chain(saver, grow=1_000_000)
        with pytest.raises(StorageError, match="the disk is full") as caught:
            drive.invoke(big, {"log": ["more"]}, on(), durability=durability)
        assert "make room" in str(caught.value.hint)

        state = drive.get_state(big, on())
        assert state.values["log"][:4] == ["in", "first", "second", "third"]
        assert all(isinstance(line, str) for line in state.values["log"])

        full.make_room(saver)
        done = drive.invoke(big, None, on(), durability=durability) if state.next else state.values
        assert [line if isinstance(line, str) else len(line) for line in done["log"]] == [
            *("in", "first", "second", "third"),
            *("more", "first", 1_000_000, "third"),
        ]
        assert saver.verify().problems == []
