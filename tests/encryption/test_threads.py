"""What can be done with a thread can be done with an encrypted one, and gives the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from clew.cache.memory import InMemoryCache
from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from tests.differential.library import library
from tests.differential.observe import Observer, differences
from tests.differential.program import PROGRAMS, Program
from tests.differential.test_programs import observed
from tests.encryption import story
from tests.encryption.backends import Backend, bodies, serde, spills_of
from tests.model.machine import FileThreadMachine
from tests.model.test_threads import SMALL
from tests.storage.kit import Run, history, load


def seen(saver: Any, thread: str, ns: str = "") -> list[Any]:
    return [(one.checkpoint_id, one.values, one.metadata, repr(one.pending)) for one in history(saver, thread, ns)]


def test_a_copy_is_encrypted_for_its_own_thread(backend: Backend) -> None:
    saver = backend.saver(serde())
    story.fail(saver, "t")
    story.ask(saver, "t")
    namespaces = {one.config["configurable"]["checkpoint_ns"] for one in saver.list(None)}
    before = set(bodies(saver))

    saver.copy_thread("t", "copy")

    assert len(namespaces) == 2
    reader = backend.saver(serde())
    for ns in namespaces:
        assert seen(reader, "copy", ns) == seen(reader, "t", ns)
    assert len(bodies(saver)) == 2 * len(before)
    assert not set(spills_of(saver, "copy")) & set(spills_of(saver, "t"))
    reader.delete_thread("t")
    assert reader.verify().problems == []
    assert story.finish(reader, "copy")["log"][-1] == "SECRET-answer"


def test_a_copy_takes_forks_and_several_keys_along(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.storage.reseal.BATCH", 3)
    run = Run(backend.saver(serde("old")), "t")
    ids: list[str] = []
    for turn in range(10):
        run.state |= {"n": turn, "leaf": story.leaf(f"{turn % 2}")}
        ids.append(run.commit(claim=turn == 0))
    both = backend.saver(serde("old", "new"))
    fork = Run(both, "t", at=ids[4])
    fork.state["n"] = "forked"
    fork.commit(claim=True)

    both.copy_thread("t", "copy")

    new = backend.saver(serde("new"))
    assert seen(new, "copy") == seen(both, "t")
    assert new.verify("copy").is_intact
    assert load(new, "copy").values["n"] == "forked"


@pytest.mark.parametrize("keep_last", [1, 3])
def test_pruning_writes_encrypted_keyframes(backend: Backend, keep_last: int) -> None:
    saver = backend.saver(serde())
    run = Run(saver, "t")
    for turn in range(12):
        run.state |= {"n": turn, "text": "x" * 3000 + str(turn), "leaf": story.leaf(f"{turn // 6}")}
        run.commit(claim=turn == 0)
    expected = seen(saver, "t")[:keep_last]

    backend.saver(serde()).prune(["t"], keep_last=keep_last)

    reader = backend.saver(serde())
    assert seen(reader, "t") == expected
    assert reader.verify().problems == []
    assert len(spills_of(reader, "t")) == 1
    run.state["n"] = "later"
    run.commit()
    assert load(backend.saver(serde()), "t").values["n"] == "later"


def test_what_runs_made_can_be_deleted(backend: Backend) -> None:
    saver = backend.saver(serde())
    first, second = "0f0e0d0c-0b0a-4908-8706-050403020100", "0f0e0d0c-0b0a-4908-8706-050403020101"
    for run_id in (first, second):
        run = Run(saver, "t", run_id=run_id)
        for turn in range(4):
            run.state |= {"n": f"{run_id} {turn}", "text": "y" * 2500 + str(turn)}
            run.commit(claim=turn == 0)

    saver.delete_for_runs([first])

    reader = backend.saver(serde())
    assert [one.values["n"] for one in history(reader, "t")] == [f"{second} {turn}" for turn in (3, 2, 1, 0)]
    assert reader.verify().problems == []


def test_time_travel_forks_from_an_encrypted_past(backend: Backend) -> None:
    saver = backend.saver(serde())
    story.fail(saver, "t")
    story.ask(saver, "t")
    graph = story.graph_on(backend.saver(serde()))
    past = next(one for one in graph.get_state_history(story.on("t")) if one.next == ("first",))

    at = graph.update_state(past.config, {"log": ["SECRET-fork"], "fails": False})
    graph.invoke(None, at, durability="sync")

    result = story.finish(backend.saver(serde()), "t")
    assert result["log"][:2] == ["SECRET-input", "SECRET-fork"]
    assert backend.saver(serde()).verify().problems == []


def test_a_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from clew.checkpoint.sqlite import SqliteSaver
from tests.encryption import story
from tests.encryption.backends import serde
story.failing.__globals__["RuntimeError"] = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with SqliteSaver.from_conn_string(sys.argv[1], serde=serde()) as saver:
    story.fail(saver, "t")
"""
    path = str(tmp_path / "threads.db")
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", program, path], cwd=root, env=os.environ)
    assert killed.returncode == -signal.SIGKILL

    with SqliteSaver.from_conn_string(path, serde=serde()) as saver:
        assert saver.verify().problems == []
        story.ask(saver, "t")
        log = story.finish(saver, "t")["log"]

    assert sorted(set(log)) == sorted(
        ["SECRET-input", "SECRET-state", "SECRET-write", "mended", "SECRET-child", "SECRET-answer"]
    )
    assert b"SECRET" not in b"".join(file.read_bytes() for file in tmp_path.glob("threads.db*"))


def encrypted_library() -> Any:
    """clew, whose savers and caches have a key."""
    found = SimpleNamespace(**vars(library("clew")))
    found.config = library("clew").config
    found.InMemorySaver = partial(InMemorySaver, serde=serde())
    found.InMemoryCache = partial(InMemoryCache, serde=serde())
    return found


def _each_fifth_by_default() -> list[Any]:
    return [
        pytest.param(program, id=name, marks=[pytest.mark.long] if number % 5 else [])
        for number, (name, program) in enumerate(PROGRAMS.items())
    ]


@pytest.mark.parametrize("program", _each_fifth_by_default())
@pytest.mark.filterwarnings("default")
def test_a_program_gives_the_same_with_a_key(program: Program) -> None:
    found = list(differences(observed(program, "clew"), Observer().plain(program.body(encrypted_library()))))

    assert not found, "\n".join(found)


class RotatingFileMachine(FileThreadMachine):
    """Two savers on one file in the middle of a rotation: one writes with the old key, the other with the new one."""

    def opened(self) -> list[Any]:
        self.folder = tempfile.mkdtemp(prefix="clew-model-")
        path = str(Path(self.folder) / "clew.db")
        return [
            SqliteSaver(path, synchronous="NORMAL", serde=serde(*keys)) for keys in (("new", "old"), ("old", "new"))
        ]

    def teardown(self) -> None:
        try:
            if not self.parked:
                for saver in self.savers:
                    saver.reencrypt()
                    assert saver.verify().problems == []
                    assert saver.reencrypt() == 0
        finally:
            super().teardown()


def test_threads_that_several_keys_write_are_what_was_done_to_them() -> None:
    run_state_machine_as_test(RotatingFileMachine, settings=settings(SMALL, max_examples=25))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_threads_that_several_keys_write_are_what_was_done_to_them_in_many_lives() -> None:
    run_state_machine_as_test(RotatingFileMachine, settings=settings(SMALL, max_examples=400, stateful_step_count=40))
