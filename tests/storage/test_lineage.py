"""Forks: branches never see each other's later writes, in the root and in subgraphs."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import CheckpointNotFoundError
from tests.storage.kit import Run, history, load, write


def turn(saver: Any, value: int, *, at: str | None = None, inner: bool = True) -> Run:
    """A run of two supersteps whose subgraph appends to a memory of its own in between."""
    run = Run(saver, "t", at=at)
    run.state["n"] = value
    run.commit(claim=True)
    if inner:
        child = Run(saver, "t", "child", session=run.session)
        child.state.setdefault("memory", []).append(value)
        child.commit()
    run.state["n"] = value + 1
    run.commit()
    return run


def memory_of(saver: Any, at: str | None = None) -> Any:
    run = Run(saver, "t", at=at)
    return Run(saver, "t", "child", session=run.session).state.get("memory")


def test_a_subgraph_remembers_along_the_line_of_its_root(saver: Any) -> None:
    turn(saver, 10)
    turn(saver, 20)

    assert memory_of(saver) == [10, 20]


def test_a_fork_does_not_see_what_the_subgraph_did_after_it(saver: Any) -> None:
    turn(saver, 10)
    first_turn = history(saver, "t")[0].checkpoint_id
    turn(saver, 20)
    fork = turn(saver, 30, at=first_turn)

    assert memory_of(saver) == [10, 30]
    assert fork.state["n"] == 31
    assert [saved.values["n"] for saved in history(saver, "t")] == [31, 30, 21, 20, 11, 10]
    assert memory_of(saver, at=history(saver, "t")[2].checkpoint_id) == [10, 20]


def test_a_replay_keeps_what_its_subgraph_did_before_the_root_moved(saver: Any) -> None:
    turn(saver, 10)
    start = history(saver, "t")[1].checkpoint_id
    replay = Run(saver, "t", at=start)
    saver.run(replay.cursor.claim())
    child = Run(saver, "t", "child", session=replay.session)
    assert child.state == {}, "the subgraph ran under this step in the other future"
    child.state["memory"] = ["again"]
    child.commit()
    replay.state["n"] = 99
    replay.commit()

    assert memory_of(saver) == ["again"]
    newest = load(saver, "t")
    assert newest is not None
    assert newest.values == {"n": 99}
    turn(saver, 50)
    assert memory_of(saver) == ["again", 50]


def test_standing_on_an_old_step_without_committing_changes_nothing(saver: Any) -> None:
    turn(saver, 10)
    before = history(saver, "t")
    Run(saver, "t", at=before[1].checkpoint_id)

    assert history(saver, "t") == before


def test_a_fork_of_a_fork_knows_all_its_ancestors(saver: Any) -> None:
    turn(saver, 10)
    for value in (20, 30, 40):
        newest = history(saver, "t")[0].checkpoint_id
        turn(saver, 1000 + value, at=newest)
        turn(saver, value, at=newest)

    assert memory_of(saver) == [10, 20, 30, 40]
    parents = {saved.checkpoint_id: saved.parent_id for saved in history(saver, "t")}
    line, at = [], history(saver, "t")[0].checkpoint_id
    while at is not None:
        line.append(at)
        at = parents[at]
    assert len(line) == 8
    assert saver.verify("t").problems == []


def test_a_namespace_can_begin_from_another_ones_checkpoint(saver: Any) -> None:
    run = turn(saver, 10)
    cursor = run.session.cursor("other")
    saved = saver.run(cursor.load(from_ns="child"))
    assert saved is not None
    assert (saved.values, saved.ns) == ({"memory": [10]}, "child")
    step = Run(saver, "t", "child", session=run.session).step([])
    saver.run(cursor.commit(step).op)

    found = load(saver, "t", "other")
    assert found is not None
    assert (found.values, found.parent_id) == ({"memory": [10]}, None)
    assert len(history(saver, "t", "child")) == 1


def test_an_unknown_checkpoint_is_named_with_its_thread(saver: Any) -> None:
    turn(saver, 10)
    other = Run(saver, "other thread")
    other.state["n"] = 1
    id = other.commit()

    with pytest.raises(CheckpointNotFoundError, match=f"thread 't' has no checkpoint '{id}'"):
        load(saver, "t", at=id)
    with pytest.raises(CheckpointNotFoundError, match="thread 't' has no checkpoint 'no such' in namespace 'child'"):
        load(saver, "t", "child", at="no such")
    with pytest.raises(CheckpointNotFoundError, match="thread 'nobody' has no checkpoint 'x'"):
        load(saver, "nobody", at="x")


def test_pending_writes_of_an_old_branch_stay_with_it(saver: Any) -> None:
    run = turn(saver, 10, inner=False)
    saver.run(run.cursor.save_writes([write("question", channel="__interrupt__")]))
    tip, start = (saved.checkpoint_id for saved in history(saver, "t"))
    turn(saver, 20, at=start)

    old = load(saver, "t", at=tip)
    assert old is not None
    assert [task.writes for task in old.pending] == [[("__interrupt__", "question")]]
    assert load(saver, "t").pending == []


def wander(saver: Any, rnd: random.Random) -> None:
    """Runs from anywhere, with a subgraph that remembers: against a model of who may know what."""
    known: dict[str, list[int]] = {}  # root checkpoint -> what the subgraph remembered when it was committed
    since: list[int] = []  # what the subgraph has remembered under the newest root checkpoint
    head: str | None = None
    for number in range(rnd.randrange(3, 25)):
        at = rnd.choice(sorted(known)) if known and rnd.random() < 0.4 else None
        run = Run(saver, "t", at=at)
        stands_on_head = at in (None, head)
        memory = (known.get(head or "", []) + since) if stands_on_head else list(known[at or ""])
        child = Run(saver, "t", "child", session=run.session)
        assert child.state.get("memory", []) == memory
        commits = rnd.random() < 0.8
        if rnd.random() < 0.5:
            saver.run(run.cursor.claim())
        for turn in range(rnd.randrange(3)):
            child.state.setdefault("memory", []).append(100 * number + turn)
            memory.append(100 * number + turn)
            child.commit()
            if stands_on_head:
                since.append(memory[-1])
        if commits:
            run.state["n"] = number
            head = run.commit()
            known[head], since = list(memory), []
    assert saver.verify("t").problems == []


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_subgraph_remembers_exactly_what_its_root_lived_through(seed: int) -> None:
    wander(InMemorySaver(), random.Random(seed))
    with SqliteSaver.from_conn_string(":memory:") as saver:
        wander(saver, random.Random(seed))
