"""Files that are not what they should be: each has a message, and harms nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Generator
from importlib import resources
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.checkpoint.sqlite.aio import AsyncSqliteSaver
from clew.errors import CorruptRecordError, SchemaVersionError, StorageError, StorageTimeoutError
from clew.ids import id_text
from clew.storage.memory import MemoryTables
from clew.storage.migrate import migrations, named_queries
from tests.storage.kit import Run, history, load


def filled(path: Path, threads: int = 3) -> str:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        for number in range(threads):
            run = Run(saver, f"t{number}")
            for turn in range(3):
                run.state.setdefault("log", []).append(f"turn {turn} " + "x" * 100)
                run.commit()
    return str(path)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear database, " * 200)

    with pytest.raises(StorageError, match=r"'.*letter.txt' is not a SQLite database") as caught:
        Run(SqliteSaver(str(path)), "t")

    assert caught.value.hint == "name another file, or one that does not exist"
    assert path.read_text().startswith("Dear database")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"database '.*no such folder/x.db' cannot be opened"):
        Run(SqliteSaver(str(tmp_path / "no such folder" / "x.db")), "t")


def test_a_read_only_database_can_be_read_and_says_so_when_written(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    saver = SqliteSaver(f"file:{path}?mode=ro")
    run = Run(saver, "t0")
    assert len(run.state["log"]) == 3

    with pytest.raises(StorageError, match=r"database '.*threads.db.*' is read-only"):
        run.commit()

    saver.close()


def test_a_database_of_a_newer_clew_is_refused_untouched(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    connection = sqlite3.connect(path)
    connection.execute("insert into clew_migration values (99, '0099_the_future')")
    connection.commit()
    connection.close()

    with pytest.raises(SchemaVersionError, match=r"has schema version 99, and this clew knows \d+") as caught:
        load(SqliteSaver(path), "t0")

    assert caught.value.hint == "upgrade clew: pip install --upgrade clew"


def test_a_database_that_lost_its_tables_says_what_to_call(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    saver = SqliteSaver(path)
    load(saver, "t0")
    connection = sqlite3.connect(path)
    connection.execute("drop table clew_step")
    connection.close()

    with pytest.raises(SchemaVersionError, match="lost clew's tables: no such table"):
        load(saver, "t0", at="x")

    saver.close()


def test_one_flipped_bit_harms_one_thread_and_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    connection = sqlite3.connect(path)
    line, body = connection.execute(
        "select step.rowid, body from clew_step as step join clew_head as head using (line)"
        " where thread = 't1' and step.seq = 2"
    ).fetchone()
    flipped = bytes([*body[:40], body[40] ^ 4, *body[41:]])
    connection.execute("update clew_step set body = ? where rowid = ?", (flipped, line))
    connection.commit()
    connection.close()

    with SqliteSaver.from_conn_string(path) as saver:
        with pytest.raises(CorruptRecordError, match=r"checkpoint \S+ of thread 't1' cannot be read: .*checksum"):
            load(saver, "t1")
        with pytest.raises(CorruptRecordError, match="checksum"):
            history(saver, "t1")
        assert [len(history(saver, thread)) for thread in ("t0", "t2")] == [3, 3]
        problems = saver.verify().problems
        assert {problem.thread_id for problem in problems} == {"t1"}
        assert "checksum" in problems[0].message
        assert load(saver, "t1", at=min(step for step in ids(path, "t1"))) is not None


def ids(path: str, thread: str) -> list[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "select checkpoint_id from clew_step join clew_head using (line) where thread = ?", (thread,)
    ).fetchall()
    connection.close()
    return [id_text(row[0]) for row in rows]


def test_any_flipped_bit_of_a_record_gives_a_typed_error(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db", threads=1)
    connection = sqlite3.connect(path)
    ((body,),) = connection.execute("select body from clew_step where seq = 3").fetchall()
    rnd = random.Random(1)
    for bit in rnd.sample(range(len(body) * 8), 60):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        connection.execute("update clew_step set body = ? where seq = 3", (bytes(flipped),))
        connection.commit()
        with SqliteSaver.from_conn_string(path) as saver:
            with pytest.raises((CorruptRecordError, SchemaVersionError), match="of thread 't0' cannot be read"):
                load(saver, "t0")
            assert len(saver.verify().problems) == 1
    connection.close()


def test_a_file_damaged_anywhere_gives_typed_errors(tmp_path: Path) -> None:
    path = Path(filled(tmp_path / "threads.db"))
    good = path.read_bytes()
    rnd = random.Random(2)
    outcomes = set[str]()
    for _ in range(80):
        damaged = bytearray(good)
        at = rnd.randrange(len(good))
        damaged[at : at + 8] = rnd.randbytes(8)
        path.write_bytes(damaged)
        saver = SqliteSaver(str(path))
        try:
            saver.verify()
            for thread in ("t0", "t1", "t2"):
                load(saver, thread)
            outcomes.add("fine")
        except StorageError as error:
            outcomes.add(type(error).__name__)
        finally:
            saver.close()

    assert "CorruptRecordError" in outcomes
    assert "fine" in outcomes


def test_a_missing_row_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    connection = sqlite3.connect(path)
    connection.execute(
        "delete from clew_step where seq = 2 and line = (select line from clew_head where thread = 't1')"
    )
    connection.commit()
    connection.close()

    with SqliteSaver.from_conn_string(path) as saver:
        with pytest.raises(CorruptRecordError, match=r"thread 't1' misses stored steps between 1 and 3"):
            load(saver, "t1")
        messages = [problem.message for problem in saver.verify("t1").problems]
        assert messages == ["the steps between 1 and 3 are missing"]
        assert saver.verify("t2").is_intact


class PageLimit:
    """A disk that is full: SQLite may not make the file larger."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "threads.db")

    def limit(self, saver: SqliteSaver, kilobytes: int) -> None:
        saver.tables._writing().execute(f"pragma max_page_count = {kilobytes // 4}")

    def close(self) -> None:
        pass


class SmallDisk:
    """A disk that is full: a file system of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.path = str(folder / "threads.db")
        self._mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")

    def limit(self, saver: SqliteSaver, kilobytes: int) -> None:
        self._mount("-o", f"remount,size={kilobytes}k")

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def _mount(self, *arguments: str) -> None:
        subprocess.run(["mount", *arguments, str(self.folder)], check=True, capture_output=True)


def small_disks() -> list[type[PageLimit] | type[SmallDisk]]:
    """The ways there are here: a file system of one's own takes privileges."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            if is_root:
                SmallDisk(Path(folder) / "try").close()
        except (OSError, subprocess.CalledProcessError):
            is_root = False
    return [PageLimit, SmallDisk] if is_root else [PageLimit]


@pytest.fixture(params=small_disks())
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    disk = request.param(tmp_path / "disk" if request.param is SmallDisk else tmp_path)
    yield disk
    disk.close()


def fill(run: Run) -> None:
    for turn in range(1000):
        run.state[f"turn {turn}"] = os.urandom(20_000)
        run.commit([f"turn {turn}"])


def test_a_full_disk_stops_the_run_and_the_thread_goes_on_when_there_is_room(small_disk: Any) -> None:
    with SqliteSaver.from_conn_string(small_disk.path) as saver:
        run = Run(saver, "t")
        small_disk.limit(saver, 1024)
        with pytest.raises(StorageError, match="cannot be written: the disk is full") as caught:
            fill(run)
        assert "make room" in str(caught.value.hint)
        head = load(saver, "t")
        assert head is not None
        saved = len(head.values)
        assert saved == len(history(saver, "t")) > 3
        small_disk.limit(saver, 16 * 1024)
        again = Run(saver, "t")
        again.state["more"] = 1
        again.commit(["more"])
        assert len(history(saver, "t")) == saved + 1
        assert saver.verify().problems == []


def test_a_lock_that_another_process_keeps_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    saver = SqliteSaver(path, busy_timeout=0.05)
    run = Run(saver, "t0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")

    with pytest.raises(StorageTimeoutError, match=r"was kept locked by another connection for 0.05 seconds") as caught:
        run.commit()

    assert "database is locked" not in str(caught.value)
    other.execute("rollback")
    other.close()
    Run(saver, "t0").commit()
    saver.close()


def test_an_open_connection_to_a_file_opens_the_file(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    connection = sqlite3.connect(path)
    saver = SqliteSaver(connection)

    assert len(history(saver, "t0")) == 3

    saver.close()
    assert connection.execute("select count(*) from clew_head").fetchone() == (3,)
    connection.close()


def test_an_open_connection_to_memory_is_used_itself() -> None:
    connection = sqlite3.connect(":memory:")
    saver = SqliteSaver(connection)
    run = Run(saver, "t")
    run.state["n"] = 1
    run.commit()

    assert connection.execute("select count(*) from clew_step").fetchone() == (1,)
    saver.close()
    assert connection.execute("select 1").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize("name", [":memory:", "", "file::memory:", "file:shared?mode=memory&cache=shared"])
def test_a_database_in_memory_has_many_names(name: str) -> None:
    with SqliteSaver.from_conn_string(name) as saver:
        run = Run(saver, "t")
        run.state["n"] = 1
        run.commit()
        asyncio.run(saver.arun(run.cursor.save_writes([])))
        assert load(saver, "t").values == {"n": 1}  # type: ignore[union-attr] - it was just stored


def test_a_path_may_be_a_path_object(tmp_path: Path) -> None:
    filled(tmp_path / "threads.db")
    saver = SqliteSaver(tmp_path / "threads.db")
    assert len(saver.threads()) == 3
    saver.close()


def test_a_transaction_of_ones_own_is_not_taken_over() -> None:
    connection = sqlite3.connect(":memory:")
    saver = SqliteSaver(connection)
    run = Run(saver, "t")
    connection.execute("create table mine (n)")
    connection.execute("begin")
    connection.execute("insert into mine values (1)")

    with pytest.raises(StorageError, match="has a transaction open that is not the saver's"):
        run.commit([])

    connection.execute("commit")
    assert connection.execute("select n from mine").fetchall() == [(1,)]
    Run(saver, "t").commit([])
    connection.close()


def test_a_connection_bound_to_a_thread_says_so() -> None:
    connection = sqlite3.connect(":memory:")
    saver = SqliteSaver(connection)

    async def elsewhere() -> None:
        await asyncio.to_thread(Run, saver, "t")

    with pytest.raises(StorageError, match="may only be used on the thread that opened it") as caught:
        asyncio.run(elsewhere())

    assert "check_same_thread=False" in str(caught.value.hint)
    connection.close()


def test_an_aiosqlite_connection_lends_its_file(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")

    async def use() -> Any:
        async with aiosqlite.connect(path) as connection:
            saver = AsyncSqliteSaver(connection, synchronous="NORMAL")
            with pytest.raises(StorageError, match="only known after a first async call"):
                load(saver, "t0")
            await saver.setup()
            found = await saver.aget_tuple({"configurable": {"thread_id": "t0"}})
            await saver.aclose()
            return found

    found = asyncio.run(use())
    assert len(found.checkpoint["channel_values"]["log"]) == 3


def test_an_aiosqlite_connection_to_memory_is_refused() -> None:
    async def use() -> None:
        async with aiosqlite.connect(":memory:") as connection:
            await AsyncSqliteSaver(connection).aget_tuple({"configurable": {"thread_id": "t0"}})

    with pytest.raises(StorageError, match="a database in memory cannot be shared with its aiosqlite connection"):
        asyncio.run(use())


def test_pruning_gives_space_back(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    with SqliteSaver.from_conn_string(str(path)) as saver:
        run = Run(saver, "t")
        for _ in range(50):
            run.state["document"] = os.urandom(20_000)
            run.commit()
        large = database_size(path)
        saver.prune(["t"])
        assert database_size(path) < large / 8
        assert load(saver, "t").values == run.state  # type: ignore[union-attr] - the newest stays


def database_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.name.startswith(path.name))


def test_the_schema_equals_the_sum_of_its_migrations(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    by_hand = sqlite3.connect(":memory:")
    for migration in migrations("sqlite"):
        for statement in migration.statements:
            by_hand.execute(statement)

    query = "select name, sql from sqlite_master where name like '%clew%' and name <> 'clew_migration' order by name"
    connection = sqlite3.connect(path)
    assert connection.execute(query).fetchall() == by_hand.execute(query).fetchall()
    assert connection.execute("select * from clew_migration").fetchall() == [
        (migration.number, migration.name) for migration in migrations("sqlite")
    ]
    assert [migration.number for migration in migrations("sqlite")] == list(range(1, len(migrations("sqlite")) + 1))
    connection.close()
    by_hand.close()


def test_every_query_is_answered_by_memory_too_and_by_an_index() -> None:
    connection = sqlite3.connect(":memory:")
    for migration in migrations("sqlite"):
        for statement in migration.statements:
            connection.execute(statement)
    queries = named_queries("sqlite")

    files = [resources.files("clew.storage") / "sql" / f"sqlite_{room}.sql" for room in ("runs", "duties", "crons")]
    service = {
        name for file in files for name in re.findall(r"-- name: (\w+)", file.read_text("utf-8"))
    }  # not in memory
    assert set(queries) - service == set(MemoryTables()._answers), "the service keeps nothing of its own in memory"
    # The last two go through an index of what waits, and of what is running.
    scans = {"run_steps", "thread_list", "thread_names", "run_claim", "run_expired", "run_counts"}
    for name, sql in queries.items():
        plan = [row[3] for row in connection.execute(f"explain query plan {sql}", [None] * parameters(sql)).fetchall()]
        assert name in scans or not [
            step for step in plan if step.startswith("SCAN") and step not in ALLOWED and "VIRTUAL TABLE" not in step
        ], (name, plan)
    connection.close()


ALLOWED = {"SCAN CONSTANT ROW", "SCAN windowed", "SCAN (subquery-1)"}  # of nothing, and of the beginning of an index


def parameters(sql: str) -> int:
    return max(map(int, re.findall(r"\?(\d+)", sql)), default=sql.count("?"))


def test_a_copied_file_is_a_database_of_its_own(tmp_path: Path) -> None:
    path = filled(tmp_path / "threads.db")
    shutil.copy(path, tmp_path / "copy.db")

    with SqliteSaver.from_conn_string(str(tmp_path / "copy.db")) as copied:
        Run(copied, "t0").commit([])
        assert len(history(copied, "t0")) == 4
    with SqliteSaver.from_conn_string(path) as original:
        assert len(history(original, "t0")) == 3


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="synchronous is 'OFF', not 'FULL' or 'NORMAL'"):
        SqliteSaver("x.db", synchronous="OFF")  # type: ignore[arg-type] - the point of the test
    with pytest.raises(TypeError, match=r"serde is a object, neither a clew\.serde\.Codec nor"):
        SqliteSaver("x.db", serde=object())  # type: ignore[arg-type] - the point of the test
