"""Rules 1 to 7 on random histories: whatever was committed reads back exactly, on every backend."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.postgres import PostgresSaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.ids import id_bytes
from clew.storage import records, upkeep
from clew.storage.query import Query, Steps
from tests.storage.kit import Run, frozen, history, load, write

SETTINGS = {"keyframe_factor": 0.05, "keyframe_chain": 7, "heads_limit": 6_000}
THREAD = "a thread/../é"


def change(rnd: random.Random, state: dict[str, Any]) -> None:
    """Change a state in place, as nodes do."""
    messages = state.setdefault("messages", [])
    files = state.setdefault("files", {})
    match rnd.randrange(13):
        case 0 | 1 | 2:
            messages.append({"id": rnd.randrange(10**6), "content": "x" * rnd.randrange(400)})
        case 3 if messages:
            rnd.choice(messages)["content"] += f"changed in place {rnd.randrange(100)}"
        case 4 if messages:
            del messages[rnd.randrange(len(messages))]
        case 5 if messages:
            messages.insert(rnd.randrange(len(messages)), {"id": -1, "content": "in the middle"})
        case 6:
            name = f"file {rnd.randrange(5)}"
            files[name] = files.get(name, "") + "y" * rnd.randrange(300) + str(rnd.random())
        case 7 if files:
            files.pop(rnd.choice(list(files)))
        case 8:
            state["count"] = rnd.randrange(100)
        case 9:
            rnd.shuffle(messages)
        case 10:
            state["messages"] = messages[len(messages) // 2 :]
        case 11:
            state.pop("files", None)
        case _:
            state["nested"] = (state.get("nested", [[]])[0][-3:], {1: (2, 3)}, {rnd.randrange(9)}, [1, 2.5, None])


class Truth:
    """What every backend must agree with: plain copies of what was committed."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Any, str | None, dict[str, Any], str]] = {}  # id -> values, parent, versions, run

    def commit(self, run: Run, id: str, parent: str | None) -> None:
        self.kept[id] = (frozen(run.state), parent, dict(run.versions), run.run_id)

    @property
    def newest(self) -> str | None:
        return max(self.kept, default=None)

    def check(self, saver: Any, thread: str) -> None:
        listed = history(saver, thread)
        assert [saved.checkpoint_id for saved in listed] == sorted(self.kept, reverse=True)
        for saved in listed:
            self._check_one(saved)
        for id in self.kept:
            found = load(saver, thread, at=id)
            assert found is not None
            self._check_one(found)
            assert found.is_head == (id == self.newest)
        head = load(saver, thread)
        assert (None if head is None else head.checkpoint_id) == self.newest
        assert saver.verify(thread).problems == []

    def _check_one(self, saved: Any) -> None:
        values, parent, versions, run_id = self.kept[saved.checkpoint_id]
        assert saved.values == values
        for name, value in values.items():
            if isinstance(value, dict):
                assert list(saved.values[name]) == list(value), "the order of keys"
        assert saved.parent_id == (parent if parent in self.kept else None)
        assert saved.versions == versions
        assert saved.metadata.get("run_id", "") == run_id


def runs_on(saver: Any, truth: Truth, rnd: random.Random, number: int) -> None:
    """One run: from the head or from any kept checkpoint, a few supersteps."""
    at = rnd.choice(sorted(truth.kept)) if truth.kept and rnd.random() < 0.3 else None
    run = Run(saver, THREAD, at=at, run_id=f"00000000-0000-4000-8000-{number:012d}")
    parent = None if run.loaded is None else run.loaded.checkpoint_id
    for turn in range(rnd.randrange(1, 9)):
        for _ in range(rnd.randrange(0, 3)):
            change(rnd, run.state)
        tasks = [write(frozen(run.state.get("messages", [])[-1:])) for _ in range(rnd.random() < 0.4)]
        if tasks and turn and rnd.random() < 0.5:
            saver.run(run.cursor.save_writes(tasks))
        if rnd.random() < 0.5:
            id = run.commit(claim=turn == 0, writes=tasks)
        else:
            id = run.submit(writes=tasks)
        truth.commit(run, id, parent)
        parent = id
    saver.flush(run.session)


def prune(saver: Any, truth: Truth, rnd: random.Random) -> None:
    """Drop a random part of the history; the newest stays."""
    kept = {id for id in truth.kept if rnd.random() < 0.6} | {truth.newest}

    ids = {id_bytes(id) for id in kept if id}

    def steps() -> Steps[None]:
        root = saver.place(THREAD)
        for line, *_ in (yield Query("head_list", ("", THREAD))):
            keys = yield from upkeep.read_keys("", line)
            yield from upkeep.retain(root, line, keys, {key.position for key in keys if key.checkpoint_id in ids})
        yield from upkeep.sweep_spills(root)

    saver.run(saver._op(THREAD, steps, kind="prune"))
    truth.kept = {id: value for id, value in truth.kept.items() if id in kept}


def delete_run(saver: Any, truth: Truth, rnd: random.Random) -> None:
    """Take back everything that one run did."""
    run_id = rnd.choice(sorted({run for *_, run in truth.kept.values()}))
    saver.delete_for_runs([run_id])
    truth.kept = {id: value for id, value in truth.kept.items() if value[3] != run_id}


def play(saver: Any, seed: int) -> None:
    rnd = random.Random(seed)
    truth = Truth()
    for number in range(rnd.randrange(2, 12)):
        choice = rnd.random()
        if choice < 0.7 or not truth.kept:
            runs_on(saver, truth, rnd, number)
        elif choice < 0.85:
            prune(saver, truth, rnd)
        else:
            delete_run(saver, truth, rnd)
        if rnd.random() < 0.3:
            truth.check(saver, THREAD)
    truth.check(saver, THREAD)
    saver.copy_thread(THREAD, "the copy")
    truth.check(saver, "the copy")
    saver.delete_thread(THREAD)
    assert load(saver, THREAD) is None
    truth.check(saver, "the copy")


@pytest.fixture(autouse=True)
def _small_spills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SPILL_FROM", 300)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_memory_reads_back_what_was_committed(seed: int) -> None:
    play(InMemorySaver(**SETTINGS), seed)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sqlite_reads_back_what_was_committed(seed: int) -> None:
    with SqliteSaver.from_conn_string(":memory:", **SETTINGS) as saver:
        play(saver, seed)


def played_on(database: str, seed: int, **settings: Any) -> None:
    with PostgresSaver.from_conn_string(database, **SETTINGS, **settings) as saver:
        for thread in (THREAD, "the copy"):
            saver.delete_thread(thread)  # of an earlier example
        play(saver, seed)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres_reads_back_what_was_committed(emptied: str, seed: int) -> None:
    played_on(emptied, seed)


@pytest.mark.long
@pytest.mark.timeout(1800)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_postgres_reads_back_what_was_committed_in_many_histories(emptied: str, seed: int) -> None:
    played_on(emptied, seed, prepare=bool(seed % 2))
