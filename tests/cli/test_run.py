"""`clew run`, `clew resume` and `clew fork`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clew import __version__
from clew.checkpoint.sqlite import SqliteSaver
from tests.cli.conftest import Clew

ADA = '{"lines": ["Ada"]}'
SLOW = """
import threading
from typing import TypedDict

from clew.graph import START, StateGraph

graph = StateGraph(TypedDict("State", {"done": int}, total=False))
graph.add_node("first", lambda state: {"done": 1})
graph.add_node("second", lambda state: threading.Event().wait())
graph.add_edge(START, "first")
graph.add_edge("first", "second")
"""


@pytest.mark.parametrize("graph", ["builder", "compiled", "factory"])
def test_run_streams_what_each_node_wrote(clew: Clew, app: str, graph: str) -> None:
    result = clew("run", f"{app}:{graph}", "--thread", "t", "--input", ADA)

    assert result.out == '✓ talk {"lines": ["Hello, Ada."]}\nfinished   thread t\n'
    assert result.err == ""
    assert result.status == 0


def test_graph_in_a_file_is_found_by_its_path(clew: Clew, app: str) -> None:
    result = clew("run", f"./{app}.py:builder", "--thread", "t", "--input", ADA)

    assert result.status == 0


def test_second_run_goes_on_from_the_first(clew: Clew, app: str) -> None:
    clew("run", f"{app}:builder", "--thread", "t", "--input", ADA)
    clew("run", f"{app}:builder", "--thread", "t", "--input", '{"lines": ["Bob"]}')

    state = json.loads(clew("state", "--thread", "t", "--json").out)
    assert state["values"]["lines"] == ["Ada", "Hello, Ada.", "Bob", "Hello, Bob."]


def test_database_is_where_the_option_says(clew: Clew, app: str, tmp_path: Path) -> None:
    clew("run", f"{app}:builder", "--thread", "t", "--input", ADA, "--db", f"sqlite:///{tmp_path}/there.db")

    assert (tmp_path / "there.db").exists()
    assert not (tmp_path / "clew.db").exists()


def test_question_is_shown_and_answered(clew: Clew, app: str) -> None:
    asked = clew("run", f"{app}:question", "--thread", "t", "--input", ADA)
    answered = clew("resume", f"{app}:question", "--thread", "t", "--answer", "tea")

    assert asked.out.startswith('? "tea or coffee?"  id ')
    assert "waiting    thread t" in asked.out
    assert answered.out == '✓ talk {"lines": ["answered tea"]}\nfinished   thread t\n'


def test_questions_are_answered_by_their_ids(clew: Clew, app: str) -> None:
    clew("run", f"{app}:question", "--thread", "t", "--input", ADA)
    state = json.loads(clew("state", f"{app}:question", "--thread", "t", "--json").out)
    answers = json.dumps({question["id"]: "coffee" for question in state["questions"]})

    result = clew("resume", f"{app}:question", "--thread", "t", "--answers", answers)

    assert '"answered coffee"' in result.out


def test_fork_starts_a_branch_and_resume_follows_it(clew: Clew, app: str) -> None:
    clew("run", f"{app}:builder", "--thread", "t", "--input", ADA)
    first = json.loads(clew("history", "--thread", "t", "--json").out)[-1]

    forked = clew("fork", f"{app}:builder", "--thread", "t", "--checkpoint", first["checkpoint"])
    resumed = clew("resume", f"{app}:builder", "--thread", "t")
    tree = clew("history", "--thread", "t").out

    assert forked.status == 0
    assert "Hello, Ada." in resumed.out
    assert "├─●" in tree or "├─◉" in tree


def test_fork_can_write_other_values(clew: Clew, app: str) -> None:
    clew("run", f"{app}:builder", "--thread", "t", "--input", ADA)
    newest = json.loads(clew("history", "--thread", "t", "--json").out)[0]

    clew(
        *("fork", f"{app}:builder", "--thread", "t", "--checkpoint", newest["checkpoint"]),
        *("--values", '{"lines": ["Eve"]}', "--as-node", "talk"),
    )

    state = json.loads(clew("state", "--thread", "t", "--json").out)
    assert state["values"]["lines"] == ["Ada", "Hello, Ada.", "Eve"]
    assert state["source"] == "update"


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("nowhere", "error: 'nowhere' is not MODULE:NAME", "hint: for example: my_app.graphs:chat"),
        ("no_such:graph", "error: there is no module 'no_such' in the working folder", "hint: give a dotted module"),
        ("no_such.py:graph", "error: there is no file 'no_such.py'", ""),
        ("{app}:missing", "error: module '{app}' has no 'missing'", "hint: graphs in it: builder, compiled, broken"),
        ("{app}:number", "error: '{app}:number' is 'int', which is not a graph", "hint: name a StateGraph"),
    ],
)
def test_run_refuses_what_is_not_a_graph(clew: Clew, app: str, target: str, message: str, hint: str) -> None:
    result = clew("run", target.format(app=app), "--thread", "t", "--input", ADA)

    assert result.status == 1
    assert result.err.startswith(message.format(app=app))
    assert hint in result.err


def test_run_refuses_input_that_is_not_json(clew: Clew, app: str) -> None:
    result = clew("run", f"{app}:builder", "--thread", "t", "--input", "{lines: 1}")

    assert result.status == 1
    assert result.err.startswith("error: --input is not JSON: ")


def test_run_refuses_a_database_in_a_folder_that_is_not_there(clew: Clew, app: str) -> None:
    result = clew("run", f"{app}:builder", "--thread", "t", "--input", ADA, "--db", "none/clew.db")

    assert result.status == 1
    assert result.err == "error: there is no folder 'none' for the database 'clew.db'\n"


def test_run_refuses_a_url_that_nothing_serves(clew: Clew, app: str) -> None:
    result = clew("run", f"{app}:builder", "--thread", "t", "--input", ADA, "--db", "mysql://host/name")

    assert result.status == 1
    assert result.err.startswith("error: no storage serves 'mysql' URLs\nhint: give a path, sqlite:///PATH")


def test_failing_node_is_named_and_the_thread_can_go_on(clew: Clew, app: str, tmp_path: Path) -> None:
    result = clew("run", f"{app}:broken", "--thread", "t", "--input", ADA)
    resumed = clew("resume", f"{app}:builder", "--thread", "t")

    assert result.status == 1
    assert result.err.startswith("error: ValueError: the kettle is empty\n")
    line = (tmp_path / f"{app}.py").read_text().splitlines().index('    raise ValueError("the kettle is empty")') + 1
    assert result.err.endswith(f"at {tmp_path / app}.py:{line}\n")
    assert "'talk'" in result.err
    assert "Hello, Ada." in resumed.out


def test_wrong_usage_ends_with_status_2(clew: Clew, app: str) -> None:
    result = clew("run", f"{app}:builder")

    assert result.status == 2
    assert "--thread" in result.err


def test_resume_refuses_a_missing_database(clew: Clew, app: str) -> None:
    result = clew("resume", f"{app}:builder", "--thread", "t")

    assert result.status == 1
    assert result.err == "error: there is no database at 'clew.db'\nhint: say where it is with --db PATH\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--thread", "other"), "error: there is no thread 'other'\n"),
        (("--thread", "t"), "error: thread 't' has finished, nothing waits\n"),
        (("--thread", "t", "--answer", "a", "--answers", "{}"), "error: --answer and --answers exclude each other\n"),
        (("--thread", "t", "--answers", "[1]"), "error: --answers is not a JSON object of answers by question id\n"),
    ],
)
def test_resume_refuses_when_nothing_waits(clew: Clew, app: str, arguments: tuple[str, ...], message: str) -> None:
    clew("run", f"{app}:builder", "--thread", "t", "--input", ADA)

    result = clew("resume", f"{app}:builder", *arguments)

    assert result.status == 1
    assert result.err.startswith(message)


def test_resume_refuses_an_answer_that_nobody_asked_for(clew: Clew, app: str) -> None:
    clew("run", f"{app}:broken", "--thread", "t", "--input", ADA)

    result = clew("resume", f"{app}:builder", "--thread", "t", "--answer", "tea")

    assert result.status == 1
    assert result.err.startswith("error: thread 't' waits for no answer\n")


def test_fork_refuses_a_checkpoint_that_is_not_there(clew: Clew, app: str) -> None:
    clew("run", f"{app}:builder", "--thread", "t", "--input", ADA)

    missing = "1f000000-0000-6000-8000-000000000000"
    result = clew("fork", f"{app}:builder", "--thread", "t", "--checkpoint", missing)

    assert result.status == 1
    assert missing in result.err


def test_ctrl_c_says_how_to_go_on_and_nothing_finished_is_lost(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    # A test that runs in the background has inherited that Ctrl-C is ignored.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from clew.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "run", "slow.py:graph", "--thread", "t", "--input", "{}"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == '✓ first {"done": 1}\n'
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=60)
        finally:
            running.kill()

    go_on = "clew resume slow.py:graph --thread t --db ./clew.db"
    assert running.returncode == 130
    assert err == f"stopped    thread t; `{go_on}` goes on after its last finished step\n"
    with SqliteSaver.from_conn_string(str(tmp_path / "clew.db")) as saver:
        found = saver.get_tuple({"configurable": {"thread_id": "t"}})
    assert found is not None
    assert found.checkpoint["channel_values"]["done"] == 1


def test_version_is_shown(clew: Clew) -> None:
    result = clew("--version")

    assert result.status == 0
    assert result.out == f"clew {__version__}\n"
