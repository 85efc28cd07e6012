"""Several processes on one file, and processes that are killed at the worst moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from tests.storage.kit import Run, history, load

ROOT = Path(__file__).parents[2]


def start(*arguments: str, failpoints: str = "") -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "CLEW_FAILPOINTS": failpoints},
        text=True,
    )


def go_together(children: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Let children that said they are ready start at once; gives what each said after that."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate()[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return said


POINTS = [
    "commit.before=kill@7",
    "commit.statement=kill@7",
    "commit.uncommitted=kill@7",
    "commit.after=kill@7",
    "commit.statement=kill@1",
    "commit.after=kill@1",
    "pending.before=kill@5",
    "pending.statement=kill@5",
    "pending.uncommitted=kill@5",
    "pending.after=kill@5",
]


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
@pytest.mark.parametrize("point", POINTS)
def test_what_was_acknowledged_survives_a_kill_and_the_thread_goes_on(
    tmp_path: Path, point: str, synchronous: str
) -> None:
    path = str(tmp_path / "threads.db")
    child = start("crash", path, synchronous, failpoints=point)
    said = child.communicate()[0].splitlines()
    assert child.returncode == -9
    acknowledged = [int(line.split()[1]) for line in said if line.startswith("committed")]

    with SqliteSaver.from_conn_string(path) as saver:
        head = load(saver, "t")
        turns = [] if head is None else [entry["turn"] for entry in head.values["log"]]
        assert turns == list(range(len(turns))), "a gapless prefix"
        last = max(acknowledged, default=-1)
        assert len(turns) - 1 in (last, last + 1), "what was acknowledged, and at most the one in flight"
        if said and said[-1].startswith("pending"):
            assert head is not None
            if len(turns) - 1 == last:
                assert [task.writes for task in head.pending] == [[("messages", f"pending {last}")]]
        assert saver.verify().problems == []
        run = Run(saver, "t")
        run.state["turn"] = 1000
        run.commit(claim=True)
        assert len(history(saver, "t")) == len(turns) + 1


@pytest.mark.parametrize("point", ["prune.before", "prune.statement", "prune.uncommitted", "prune.after"])
def test_a_kill_while_pruning_leaves_every_kept_checkpoint_readable(tmp_path: Path, point: str) -> None:
    path = str(tmp_path / "threads.db")
    with SqliteSaver.from_conn_string(path) as saver:
        run = Run(saver, "t")
        for turn in range(12):
            run.state.setdefault("log", []).append({"turn": turn, "text": "x" * 100})
            run.commit()
        before = history(saver, "t")
    child = start("prune", path, failpoints=f"{point}=kill")
    child.communicate()
    assert child.returncode == -9

    with SqliteSaver.from_conn_string(path) as saver:
        after = history(saver, "t")
        assert len(after) == (4 if point == "prune.after" else 12), "all of it, or nothing"
        assert [saved.values for saved in after] == [saved.values for saved in before][: len(after)]
        assert saver.verify().problems == []


def test_two_processes_on_one_thread_lose_no_update(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    SqliteSaver(path).close()
    said = go_together([start("compete", path, "25"), start("compete", path, "25")])

    with SqliteSaver.from_conn_string(path) as saver:
        listed = history(saver, "t")
        head = listed[0]
        assert len(head.values["log"]) == len(listed), "every commit that passed is in the state"
        done = [entry for entry in head.values["log"] if len(entry) == 3]
        assert len(done) == sum(lines.count("won") for lines in said)
        assert [saved.parent_id for saved in listed] == [saved.checkpoint_id for saved in listed[1:]] + [None]
        assert saver.verify().problems == []


def test_processes_may_set_up_one_file_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")

    said = go_together([start("setup", path) for _ in range(4)])

    assert said == [["done"]] * 4
    with SqliteSaver.from_conn_string(path) as saver:
        assert saver.threads() == []


def test_a_process_that_ends_writes_what_it_submitted(tmp_path: Path) -> None:
    path = str(tmp_path / "threads.db")
    child = start("leave", path)
    child.communicate(timeout=60)

    assert child.returncode == 0
    with SqliteSaver.from_conn_string(path) as saver:
        assert len(history(saver, "t")) == 200


def test_a_forked_child_cannot_use_its_parents_saver(tmp_path: Path) -> None:
    child = start("fork", str(tmp_path / "threads.db"))
    said = child.communicate(timeout=60)[0].splitlines()

    assert child.returncode == 0
    assert said[0].endswith("threads.db' was opened in another process")
    assert said[1:] == ["the parent has 2"]
