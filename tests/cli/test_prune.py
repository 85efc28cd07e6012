"""`clew prune`, and every command that looks on PostgreSQL."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.threads import EVERYONE, Threads
from tests.cli.conftest import Clew
from tests.retention.kit import fill, lengths, threads


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database in the working folder with threads of 20 and of 3 checkpoints."""
    monkeypatch.chdir(tmp_path)
    with SqliteSaver.from_conn_string("clew.db", synchronous="NORMAL") as saver:
        run = fill(saver, "long", 1)
        for _ in range(19):
            run.state["document"] = os.urandom(20_000)
            run.commit()
        fill(saver, "short", 3)
    return tmp_path / "clew.db"


def left(path: Path) -> dict[str, int]:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        return {thread: lengths(saver, thread)[""] for thread in threads(saver)}


def answer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_dry_run_shows_what_would_go(clew: Clew, filled: Path) -> None:
    result = clew("prune", "--keep-last", "2", "--dry-run")

    assert result.status == 0
    assert re.search(r"^long +checkpoints +18 +[\d.]+ kB$", result.out, re.MULTILINE)
    assert re.search(r"^would drop +19 checkpoints of 2 threads, [\d.]+ kB$", result.out, re.MULTILINE)
    assert left(filled) == {"long": 20, "short": 3}


def test_it_asks_before_it_drops(clew: Clew, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer("n\n", monkeypatch)
    refused = clew("prune", "--keep-last", "2")
    assert (refused.status, left(filled)) == (1, {"long": 20, "short": 3})
    assert refused.err.endswith("nothing was changed\n")

    answer("", monkeypatch)
    assert (clew("prune", "--keep-last", "2").status, left(filled)) == (1, {"long": 20, "short": 3})

    answer("y\n", monkeypatch)
    agreed = clew("prune", "--keep-last", "2")
    assert (agreed.status, left(filled)) == (0, {"long": 2, "short": 2})
    assert re.search(r"^dropped +19 checkpoints of 2 threads, ", agreed.out, re.MULTILINE)
    sizes = re.search(r"^file +([\d.]+) kB before, ([\d.]+) kB after$", agreed.out, re.MULTILINE)
    assert sizes is not None
    assert float(sizes[1]) - float(sizes[2]) > 200


def test_only_the_threads_that_are_named(clew: Clew, filled: Path) -> None:
    assert clew("prune", "--keep-last", "1", "--thread", "short", "--yes").status == 0
    assert left(filled) == {"long": 20, "short": 1}

    unknown = clew("prune", "--keep-last", "1", "--thread", "nobody", "--yes")
    assert (unknown.status, unknown.err.splitlines()[0]) == (1, "error: there is no thread 'nobody'")


def test_old_checkpoints_and_threads_go(clew: Clew, filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        for table, column in (("clew_head", "updated_at"), ("clew_step", "created_at")):
            connection.execute(
                f"update {table} set {column} = {column} - 86400000000 * 40"
                " where line = (select line from clew_head where thread = 'short')"
            )

    assert clew("prune", "--older-than", "41d", "--delete-threads-older-than", "6w", "--yes").status == 0
    assert left(filled) == {"long": 20, "short": 3}
    result = clew("prune", "--delete-threads-older-than", "39d", "--json", "--yes")

    assert left(filled) == {"long": 20}
    told = json.loads(result.out)
    assert [(one["thread"], one["checkpoints"], one["deleted"]) for one in told["details"]] == [("short", 3, True)]
    assert (told["threads"], told["deleted_threads"], told["checkpoints"], told["dry_run"]) == (1, 1, 3, False)
    assert told["file_before"] >= told["file_after"] > 0


def test_nothing_to_drop_is_said_without_asking(clew: Clew, filled: Path) -> None:
    result = clew("prune", "--older-than", "1w")

    assert (result.status, result.out) == (0, "dropped    nothing of 2 threads\n")


def test_a_thread_that_cannot_be_read_is_named(clew: Clew, filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        place = "(select line from clew_head where thread = 'short')"
        connection.execute(f"update clew_step set body = cast('text' as blob) where line = {place} and seq = 1")

    result = clew("prune", "--keep-last", "1", "--yes")

    assert result.status == 1
    assert "✗ short: checkpoint" in result.out
    assert left(filled) == {"long": 1, "short": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what goes: --keep-last, --older-than"),
        (("--older-than", "30"), "'30' is not a duration such as 90s, 45m, 12h, 30d"),
        (("--older-than", "999999999w"), "is longer than there is time"),
        (("--keep-last", "0"), "--keep-last"),
    ],
)
def test_wrong_usage_is_status_2(
    clew: Clew, filled: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = clew("prune", *arguments)

    assert result.status == 2
    assert message in result.err


def test_commands_work_on_postgresql(clew: Clew, database: str, app: str) -> None:
    url = as_url(database)
    for thread in ("one", "two"):
        given = ("--thread", thread, "--input", '{"lines": ["Ada"]}', "--db", url)
        assert clew("run", f"{app}:builder", *given).status == 0

    assert clew("threads", "--db", url).out.endswith("one\n")
    assert "Hello, Ada." in clew("state", "--thread", "one", "--db", url).out
    assert clew("history", "--thread", "one", "--db", url).out.startswith("one\n")
    assert clew("doctor", "--db", url).out == "✓ two\n✓ one\n2 threads, 0 broken\n"
    result = clew("prune", "--keep-last", "1", "--yes", "--json", "--db", url)
    assert (result.status, json.loads(result.out)["threads"], json.loads(result.out)["file_after"]) == (0, 2, None)
    with PostgresSaver.from_conn_string(url) as saver:
        assert [lengths(saver, thread) for thread in ("one", "two")] == [{"": 1}, {"": 1}]


def as_url(conninfo: str) -> str:
    parts = dict(part.split("=", 1) for part in conninfo.split())
    return f"postgresql://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def test_postgresql_without_its_extra_says_what_to_install(clew: Clew, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ("clew.checkpoint.postgres", "clew.storage.postgres")
    for module in [name for name in sys.modules if name.startswith(own)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    result = clew("threads", "--db", "postgresql://localhost/nothing")

    assert result.status == 1
    assert result.err.splitlines() == [
        "error: a saver on PostgreSQL needs a package that is not installed",
        "hint: install it with: pip install 'clew[postgres]'",
    ]


def test_a_server_that_is_away_or_refuses_is_said_at_once(clew: Clew, database: str) -> None:
    url = as_url(database)
    with socket.socket() as unused:  # bound, and not listening
        unused.bind(("127.0.0.1", 0))
        away = clew("threads", "--db", f"postgresql://postgres@127.0.0.1:{unused.getsockname()[1]}/postgres")
    unknown = clew("threads", "--db", f"{url}_of_nobody")
    unreadable = clew("threads", "--db", "postgresql://[bad")

    assert [result.status for result in (away, unknown, unreadable)] == [1, 1, 1]
    assert "cannot be reached: connection failed" in away.err
    assert "tried for" not in away.err
    assert "does not let this client in" in unknown.err
    assert unknown.err.splitlines()[-1] == "hint: look at the user, password and database name"
    assert "the connection string cannot be read" in unreadable.err


@pytest.mark.parametrize("command", ["threads", "doctor", "state"])
def test_looking_at_a_database_makes_no_tables_there(clew: Clew, database: str, command: str) -> None:
    thread = ("--thread", "one") if command == "state" else ()

    result = clew(command, *thread, "--db", as_url(database))

    assert result.status == 1
    assert "has no tables of clew" in result.err
    with psycopg.connect(database) as connection:
        assert connection.execute("select count(*) from pg_tables where tablename like 'clew%'").fetchone() == (0,)


def test_threads_whose_time_is_over(clew: Clew, filled: Path) -> None:
    with SqliteSaver.from_conn_string(str(filled)) as saver:
        kept = Threads(saver).of(EVERYONE)
        kept.create("long", ttl_minutes=60, ttl_strategy="keep_latest")
        kept.create("short")
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute("update clew_thread set active_at = active_at - 7200000000")
        connection.execute("update clew_head set updated_at = updated_at - 7200000000")
        connection.commit()

    dry = clew("prune", "--expired", "--ttl", "90m", "--dry-run")
    assert re.search(r"^would drop +22 checkpoints of 2 threads and 1 threads, ", dry.out, re.MULTILINE), dry.out
    assert left(filled) == {"long": 20, "short": 3}

    assert clew("prune", "--expired", "--yes").status == 0
    assert left(filled) == {"long": 1, "short": 3}
    assert clew("prune", "--expired", "--ttl", "90m", "--yes").status == 0
    assert left(filled) == {"long": 1}


@pytest.mark.parametrize(
    "arguments", [["--expired", "--keep-last", "1"], ["--expired", "--thread", "long"], ["--ttl", "1d"]]
)
def test_expired_goes_alone(clew: Clew, filled: Path, arguments: list[str]) -> None:
    refused = clew("prune", *arguments)
    assert refused.status == 2
    assert left(filled) == {"long": 20, "short": 3}
