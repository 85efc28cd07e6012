"""Ids, names, filters and limits are only data: refused by name, or found to be nothing, on every backend.

GHSA-9rwj-6rc7-p77c (a filter's key in the text of a statement), `LIMIT` given as text, ids with NUL, of 1 MB, of other
types. Threads and tenants: tests/bad_input/test_threads.py, tests/graph/test_tenants.py, clew.testing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clew.checkpoint.base import empty_checkpoint
from clew.errors import CheckpointNotFoundError, ClewError, InvalidQueryError
from clew.graph import StateGraph
from tests.both import Drive, on
from tests.storage.kit import Run, history, load

TEXTS = ["a\x00b", "\ud800", "x" * 1_000_000, "'; drop table clew_step; --", '") or 1=1 --', "$.a[*]", "%", "\\", "{}"]
OTHERS = [7, 1.5, True, ["a"], {"a": 1}, b"x", ("a",)]


def calls(saver: Any) -> dict[str, Callable[[Any], Any]]:
    """Everything that takes a name, by what takes it."""
    checkpoint = empty_checkpoint()
    first = {"checkpoint_ns": "", "checkpoint_id": "x"}
    return {
        "get_tuple's namespace": lambda bad: saver.get_tuple(on("t", checkpoint_ns=bad)),
        "list's namespace": lambda bad: list(saver.list(on("t", checkpoint_ns=bad))),
        "put's namespace": lambda bad: saver.put(on("n", checkpoint_ns=bad), checkpoint, {}, {}),
        "put_writes' namespace": lambda bad: saver.put_writes(on("n", checkpoint_ns=bad, checkpoint_id="x"), [], "t"),
        "a session's namespace": lambda bad: saver.run(saver.session("t").cursor(bad).load()),
        "get_tuple's id": lambda bad: saver.get_tuple(on("t", checkpoint_id=bad)),
        "list's id": lambda bad: list(saver.list(on("t", checkpoint_id=bad))),
        "put's id": lambda bad: saver.put(on("i", checkpoint_ns=""), {**checkpoint, "id": bad}, {}, {}),
        "put's parent": lambda bad: saver.put(on("i", checkpoint_ns="", checkpoint_id=bad), checkpoint, {}, {}),
        "put_writes' id": lambda bad: saver.put_writes(on("w", checkpoint_ns="", checkpoint_id=bad), [], "task"),
        "put_writes' task": lambda bad: saver.put_writes(on("w", **first), [("a", 1)], bad, "path"),
        "put_writes' path": lambda bad: saver.put_writes(on("w", **first), [("a", 1)], "task", bad),
        "put_writes' channel": lambda bad: saver.put_writes(on("w", **first), [(bad, 1)], "task 2"),
        "a load's id": lambda bad: load(saver, "t", at=bad),
        "before": lambda bad: list(saver.list(on("t"), before=on("t", checkpoint_id=bad))),
        "a history's before": lambda bad: history(saver, "t", before=bad),
        "the id of a run": lambda bad: saver.delete_for_runs([bad]),
    }


def test_names_are_refused_or_are_only_data(saver: Any) -> None:
    run = Run(saver, "t")
    run.state["n"] = 1
    run.commit(claim=True)
    before = history(saver, "t")

    for what, call in calls(saver).items():
        for bad in (*TEXTS, *OTHERS):
            try:
                call(bad)
            except ClewError:
                pass
            except Exception as error:
                raise AssertionError(f"{what} = {ascii(bad)[:40]}: {type(error).__name__}: {error}") from error

    assert history(saver, "t") == before, "the thread is as it was"
    for summary in saver.threads():  # and what was accepted can be read
        assert list(saver.list(on(summary.thread_id)))
    assert saver.verify().problems == []


def test_names_of_other_types_are_refused_by_name(saver: Any) -> None:
    Run(saver, "t").commit([], claim=True)

    for what, call in calls(saver).items():
        for bad in OTHERS:
            if what != "the id of a run":  # which becomes text
                with pytest.raises(InvalidQueryError, match=f"of type '{type(bad).__name__}'"):
                    call(bad)


def test_names_within_a_checkpoint_are_texts_that_can_be_stored(saver: Any) -> None:
    checkpoint = empty_checkpoint()
    for bad in ("\ud800", 7, b"x", None, ("a",)):
        for given, metadata, versions in (
            ({"channel_values": {bad: 1}}, {}, {}),
            ({"channel_versions": {bad: 1}}, {}, {}),
            ({}, {bad: 1}, {}),
            ({}, {}, {bad: 1}),
        ):
            with pytest.raises(InvalidQueryError, match=r"lone surrogate|not text"):
                saver.put(on(checkpoint_ns=""), {**checkpoint, **given}, metadata, versions)

    assert saver.threads() == []


def test_a_limit_is_a_number(drive: Drive, saver: Any) -> None:
    graph = StateGraph(dict).add_node("node", lambda state: state).set_entry_point("node").compile(checkpointer=saver)
    drive.invoke(graph, {"a": 1}, on())

    for bad in ("1; drop table clew_step", "5", b"5", 1.5, True, [5], {"a": 1}):
        for call in (
            lambda limit: list(saver.list(on(), limit=limit)),
            lambda limit: list(saver.list(None, limit=limit)),
            lambda limit: history(saver, "t", limit=limit),
            lambda limit: drive.get_state_history(graph, on(), limit=limit),
        ):
            with pytest.raises(InvalidQueryError, match="the limit of a listing is of type"):
                call(bad)
        with pytest.raises(InvalidQueryError, match="keep_last is of type"):
            saver.prune(["t"], keep_last=bad)


def test_a_limit_may_be_any_number(saver: Any) -> None:
    for _ in range(3):
        Run(saver, "t").commit([], claim=True)

    for limit, count in ((2, 2), (0, 0), (-1, 0), (2**31, 3), (2**63, 3), (10**30, 3)):
        assert len(list(saver.list(on(), limit=limit))) == count, limit


def test_a_filter_is_a_dict_whose_keys_and_values_are_only_data(saver: Any) -> None:
    hostile = [*TEXTS, "$.x') or ('1'='1", "a.b", "a[0]", 'a"b', "source' or '1'='1", "*", "$"]
    for number, key in enumerate(hostile):
        Run(saver, "t").commit([], claim=True, number=number, **({key: "here"} if "\ud800" not in key else {}))

    for number, key in enumerate(hostile):
        found = [one.metadata["number"] for one in saver.list(on(), filter={key: "here"})]
        assert found == ([number] if "\ud800" not in key else []), ascii(key)[:40]
        assert list(saver.list(on(), filter={key: "' or '1'='1"})) == []
        assert list(saver.list(on(), filter={"number": key})) == []
    for bad in ("number = 1", ["number"], 7):
        with pytest.raises(InvalidQueryError, match="the filter of a listing is of type"):
            list(saver.list(on(), filter=bad))


def test_operators_in_a_saver_s_filter_are_values(saver: Any) -> None:
    Run(saver, "t").commit([], claim=True, number=1)

    for operator in ({"$gt": 0}, {"$exists": True}, {"$ne": None}, {"$regex": ".*"}):
        assert list(saver.list(on(), filter={"number": operator})) == []


def test_checkpoint_of_another_thread_in_one_config(drive: Drive, saver: Any) -> None:
    """Whatever mixes addresses of two threads finds nothing of the other one."""
    inner = StateGraph(dict).add_node("leaf", lambda state: state).set_entry_point("leaf").compile(checkpointer=True)
    graph = StateGraph(dict).add_node("sub", inner).set_entry_point("sub").compile(checkpointer=saver)
    for thread in ("mine", "theirs"):
        drive.invoke(graph, {"whose": thread}, on(thread))
    root = drive.get_state(graph, on("theirs")).config["configurable"]["checkpoint_id"]
    inside = drive.get_state(graph, on("theirs", checkpoint_ns="sub")).config["configurable"]
    before = drive.get_state_history(graph, on("mine"))

    for address in (
        {"checkpoint_id": root},
        {"checkpoint_ns": "sub", "checkpoint_id": inside["checkpoint_id"]},
        {"checkpoint_map": {"": root}, "checkpoint_id": root},
        {**inside, "thread_id": "mine"},
    ):
        config = {"configurable": {"thread_id": "mine", **address}}
        with pytest.raises(CheckpointNotFoundError):
            drive.get_state(graph, config)
        if "checkpoint_map" in address or "checkpoint_ns" not in address:
            with pytest.raises(CheckpointNotFoundError):
                drive.invoke(graph, None, config)
        else:  # the head is the thread's own, and has nothing to run
            assert drive.invoke(graph, None, config) == {"whose": "mine"}
        assert saver.get_tuple({"configurable": {"checkpoint_ns": "", **config["configurable"]}}) is None
    assert drive.get_state_history(graph, on("mine")) == before
