"""`clew state`, `clew history`, `clew threads`, `clew doctor`."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Clew

ADA = '{"lines": ["Ada"]}'
COMMANDS = [("state", "--thread", "t"), ("history", "--thread", "t"), ("threads",), ("doctor",)]


@pytest.fixture
def talked(clew: Clew, app: str) -> str:
    """The application's name, after threads "one" and "two" ran."""
    for thread in ("one", "two"):
        assert clew("run", f"{app}:builder", "--thread", thread, "--input", ADA).status == 0
    return app


def test_state_shows_the_stored_values_without_the_graph(clew: Clew, talked: str) -> None:
    result = clew("state", "--thread", "one")

    assert result.out.endswith('lines: ["Ada", "Hello, Ada."]\n')
    assert re.search(r"^step +1$", result.out, re.MULTILINE)


def test_state_with_the_graph_says_what_is_next(clew: Clew, app: str) -> None:
    clew("run", f"{app}:question", "--thread", "t", "--input", ADA)

    result = clew("state", f"{app}:question", "--thread", "t")

    assert re.search(r'^next +\["talk"\]$', result.out, re.MULTILINE)
    assert "tea or coffee?" in result.out


def test_state_of_a_past_checkpoint(clew: Clew, talked: str) -> None:
    before = json.loads(clew("history", "--thread", "one", "--json").out)[1]

    result = clew("state", "--thread", "one", "--checkpoint", before["checkpoint"])

    assert result.out.endswith('lines: ["Ada"]\n')


def test_history_is_a_tree_with_every_checkpoint(clew: Clew, talked: str) -> None:
    listed = json.loads(clew("history", "--thread", "one", "--json").out)
    lines = clew("history", "--thread", "one").out.splitlines()

    assert lines[0] == "one"
    assert [line.split()[0] for line in lines[1:]] == ["●", "●", "◉"]
    for line, one in zip(lines[1:], reversed(listed), strict=True):
        assert one["checkpoint"] in line
    assert [one["step"] for one in listed] == [1, 0, -1]
    assert [one["next"] for one in listed] == [[], ["talk"], ["__start__"]]


def test_threads_are_listed_with_their_steps(clew: Clew, talked: str) -> None:
    listed = json.loads(clew("threads", "--json").out)
    lines = clew("threads").out.splitlines()

    assert sorted((one["thread"], one["steps"]) for one in listed) == [("one", 3), ("two", 3)]
    assert sorted(line.split()[-1] for line in lines) == ["one", "two"]


def test_doctor_finds_nothing_wrong_with_a_good_database(clew: Clew, talked: str) -> None:
    result = clew("doctor")

    assert result.status == 0
    assert result.out.endswith("2 threads, 0 broken\n")


def test_doctor_names_the_thread_with_a_flipped_bit(clew: Clew, talked: str, tmp_path: Path) -> None:
    flip_one_bit(tmp_path / "clew.db", "two")

    result = clew("doctor")

    assert result.status == 1
    assert "✓ one\n" in result.out
    assert "✗ two\n    " in result.out
    assert result.out.endswith("2 threads, 1 broken\n")


def test_doctor_finds_an_id_that_changed_in_its_row_or_in_its_index(clew: Clew, talked: str, tmp_path: Path) -> None:
    path = tmp_path / "clew.db"
    with closing(sqlite3.connect(path)) as connection:
        oldest = connection.execute("select checkpoint_id from clew_step order by checkpoint_id limit 1").fetchone()[0]
    whole = path.read_bytes()
    places = [found.start() for found in re.finditer(re.escape(oldest), whole)]
    assert len(places) == 2

    for place in places:
        damaged = bytearray(whole)
        damaged[place + 15] ^= 1
        path.write_bytes(damaged)
        result = clew("doctor")

        assert result.status == 1
        assert "✗ file: " in result.out
        assert json.loads(clew("doctor", "--json").out)[0]["thread"] is None


@pytest.mark.parametrize("command", ["state", "history"])
def test_unknown_thread_is_an_error(clew: Clew, talked: str, command: str) -> None:
    result = clew(command, "--thread", "other")

    assert result.status == 1
    assert result.err.startswith("error: there is no thread 'other'\n")


def test_unknown_checkpoint_is_an_error(clew: Clew, talked: str) -> None:
    result = clew("state", "--thread", "one", "--checkpoint", "1f000000-0000-6000-8000-000000000000")

    assert result.status == 1
    assert "1f000000-0000-6000-8000-000000000000" in result.err


@pytest.mark.parametrize(
    "command", [("state", "--thread", "t"), ("history", "--thread", "t"), ("threads",), ("doctor",)]
)
def test_missing_database_is_an_error_and_makes_no_file(clew: Clew, app: str, command: tuple[str, ...]) -> None:
    result = clew(*command)

    assert result.status == 1
    assert result.err == "error: there is no database at 'clew.db'\nhint: say where it is with --db PATH\n"
    assert not Path("clew.db").exists()


@pytest.mark.parametrize(
    "command", [("state", "--thread", "t"), ("history", "--thread", "t"), ("threads",), ("doctor",)]
)
def test_file_that_is_no_database_is_an_error(clew: Clew, app: str, command: tuple[str, ...]) -> None:
    Path("clew.db").write_text("this is a shopping list, and a fairly long one at that\n" * 100)

    result = clew(*command)

    assert result.status == 1
    assert result.err.startswith("error: 'clew.db' is not a SQLite database\nhint: ")


def flip_one_bit(path: Path, thread: str) -> None:
    """In the body of the thread's last step."""
    with closing(sqlite3.connect(path)) as connection, connection:
        place, body = connection.execute(
            "select clew_step.rowid, body from clew_step join clew_head using (line) where thread = ? order by 1 desc",
            (thread,),
        ).fetchone()
        flipped = bytes([*body[:-1], body[-1] ^ 1])
        connection.execute("update clew_step set body = ? where rowid = ?", (flipped, place))
