"""Retention of threads that were put away."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypedDict

from clew.errors import ThreadNotFoundError
from clew.graph import START, StateGraph
from clew.retention import Retention
from clew.threads import EVERYONE, Threads
from tests.both import on


class State(TypedDict):
    xs: Annotated[list[int], operator.add]


def test_what_was_archived_for_long_goes_with_its_checkpoints(own_saver: Any) -> None:
    graph = StateGraph(State).add_node("one", lambda state: {"xs": [1]}).add_edge(START, "one")
    run = graph.compile(checkpointer=own_saver)
    threads = Threads(own_saver)
    for name in ("kept", "old", "unused", "new"):
        threads.create(name, user_id="ada")
    for name in ("kept", "old", "new", "unlisted"):
        run.invoke({"xs": [0]}, on(name))
    for name in ("old", "unused"):
        threads.archive(name, user_id="ada")
    moment = datetime.now(UTC)
    threads.archive("new", user_id="ada")

    policy = Retention(delete_archived_older_than=moment)
    looked = own_saver.retain(policy, dry_run=True)
    assert {one.thread_id for one in looked.details} == {"old", "unused"}
    assert threads.get("old", user_id="ada").archived
    report = own_saver.retain(policy)
    assert {(one.thread_id, one.is_deleted, one.checkpoints > 0) for one in report.details} == {
        ("old", True, True),
        ("unused", True, False),
    }
    assert report.details == looked.details

    everyone = threads.of(EVERYONE)
    assert [one.id for one in everyone.list(archived=True).threads] == ["new"]
    assert [one.id for one in everyone.list().threads] == ["kept"]
    assert {one.thread_id for one in own_saver.threads()} == {"kept", "new", "unlisted"}
    assert own_saver.retain(Retention(delete_archived_older_than=timedelta(days=1))).details == ()


def test_a_thread_that_retention_deletes_is_not_listed_any_more(own_saver: Any) -> None:
    graph = StateGraph(State).add_node("one", lambda state: {"xs": [1]}).add_edge(START, "one")
    threads = Threads(own_saver)
    threads.create("t", user_id="ada")
    graph.compile(checkpointer=own_saver).invoke({"xs": [0]}, on("t"))
    own_saver.retain(Retention(delete_threads_older_than=datetime.now(UTC) + timedelta(hours=1)))
    try:
        threads.get("t", user_id="ada")
    except ThreadNotFoundError:
        pass
    else:
        raise AssertionError("it is still listed")
