"""History, replay and forks: going back never loses or mixes anything."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest

from clew.errors import CheckpointNotFoundError, InvalidUpdateError
from clew.graph import END, START, StateGraph
from clew.types import Command, Overwrite, StateUpdate, interrupt
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]
    last: str


class Ran:
    """Three nodes in a row, which record each time they run."""

    def __init__(self, saver: Any, names: str = "abc") -> None:
        self.names: list[str] = []
        builder = StateGraph(Log).add_sequence([(name, self.node(name)) for name in names])
        self.graph = builder.add_edge(START, names[0]).compile(checkpointer=saver)

    def node(self, name: str) -> Any:
        def run(state: Log) -> Any:
            self.names.append(name)
            return {"log": [name], "last": name}

        return run

    def taken(self) -> list[str]:
        names, self.names = self.names, []
        return names


def at(history: list[Any], *nodes: str) -> Any:
    """The newest snapshot before which `nodes` run next."""
    return next(snapshot for snapshot in history if snapshot.next == nodes)


# -- history ---------------------------------------------------------------------------------------------------------


def test_history_lists_every_checkpoint_newest_first(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())

    history = drive.get_state_history(ran.graph, on())

    assert [snapshot.next for snapshot in history] == [(), ("c",), ("b",), ("a",), (START,)]
    assert [snapshot.metadata["step"] for snapshot in history] == [3, 2, 1, 0, -1]
    assert [snapshot.metadata["source"] for snapshot in history] == ["loop"] * 4 + ["input"]
    assert [snapshot.values.get("log", []) for snapshot in history] == [
        ["in", "a", "b", "c"],
        ["in", "a", "b"],
        ["in", "a"],
        ["in"],
        [],
    ]
    assert [snapshot.parent_config for snapshot in history] == [*(s.config for s in history[1:]), None]
    assert [task.result for snapshot in history[1:-1] for task in snapshot.tasks] == [
        {"log": [name], "last": name} for name in "cba"
    ]


def test_history_continues_over_turns(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    for _ in range(3):
        drive.invoke(ran.graph, {"log": ["in"]}, on())

    history = drive.get_state_history(ran.graph, on())

    assert len(history) == 15
    assert [snapshot.metadata["step"] for snapshot in history] == list(range(13, -2, -1))


def test_history_takes_a_limit_a_start_and_a_filter(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    for _ in range(2):
        drive.invoke(ran.graph, {"log": ["in"]}, on())
    history = drive.get_state_history(ran.graph, on())

    assert drive.get_state_history(ran.graph, on(), limit=3) == history[:3]
    assert drive.get_state_history(ran.graph, on(), before=history[2].config, limit=2) == history[3:5]
    inputs = drive.get_state_history(ran.graph, on(), filter={"source": "input"})
    assert [snapshot.config for snapshot in inputs] == [s.config for s in history if s.metadata["source"] == "input"]


def test_a_snapshot_s_config_reads_it_again(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())

    for snapshot in drive.get_state_history(ran.graph, on()):
        again = drive.get_state(ran.graph, snapshot.config)
        assert (again.values, again.next, again.config) == (snapshot.values, snapshot.next, snapshot.config)


def test_a_thread_never_run_is_empty(drive: Drive, saver: Any) -> None:
    snapshot = drive.get_state(Ran(saver).graph, on("new"))

    assert (snapshot.values, snapshot.next, snapshot.metadata, snapshot.tasks) == ({}, (), None, ())
    assert drive.get_state_history(Ran(saver).graph, on("new")) == []


# -- replay ----------------------------------------------------------------------------------------------------------


def test_replay_runs_what_came_after_and_nothing_before(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())
    past = at(drive.get_state_history(ran.graph, on()), "b")
    ran.taken()

    state = drive.invoke(ran.graph, None, past.config)

    assert ran.taken() == ["b", "c"]
    assert state["log"] == ["in", "a", "b", "c"]


def test_replay_adds_a_branch_and_keeps_the_old_one(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())
    before = drive.get_state_history(ran.graph, on())

    drive.invoke(ran.graph, None, at(before, "b").config)
    after = drive.get_state_history(ran.graph, on())

    kept = {snapshot.config["configurable"]["checkpoint_id"]: snapshot.values for snapshot in after}
    assert all(kept[old.config["configurable"]["checkpoint_id"]] == old.values for old in before)
    assert len(after) > len(before)
    assert drive.get_state(ran.graph, on()).config == after[0].config


def test_input_at_a_past_checkpoint_forks(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["one"]}, on())
    end_of_first = drive.get_state(ran.graph, on()).config
    drive.invoke(ran.graph, {"log": ["two"]}, on())

    state = drive.invoke(ran.graph, {"log": ["other"]}, end_of_first)

    assert state["log"] == ["one", "a", "b", "c", "other", "a", "b", "c"]
    assert drive.get_state(ran.graph, on()).values == state


def test_answered_questions_are_asked_again_in_a_replay(drive: Drive, saver: Any) -> None:
    def ask(state: Log) -> Any:
        return {"log": [interrupt("?")]}

    builder = StateGraph(Log).add_sequence([("before", lambda state: {"log": ["before"]}), ask])
    graph = builder.add_edge(START, "before").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())
    drive.invoke(graph, Command(resume="first"), on())
    past = at(drive.get_state_history(graph, on()), "ask")

    asked = drive.invoke(graph, None, past.config)
    assert [question.value for question in asked["__interrupt__"]] == ["?"]
    assert drive.invoke(graph, Command(resume="second"), on())["log"] == ["before", "second"]


def test_answer_at_an_old_checkpoint_makes_a_branch_of_its_own(drive: Drive, saver: Any) -> None:
    def ask(state: Log) -> Any:
        return {"log": [interrupt("?")]}

    graph = StateGraph(Log).add_node(ask).add_edge(START, "ask").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())
    waiting = drive.get_state(graph, on()).config
    drive.invoke(graph, Command(resume="first"), on())
    answered = drive.get_state(graph, on()).config

    again = drive.invoke(graph, Command(resume="second"), waiting)

    assert again["log"] == ["second"]
    assert drive.get_state(graph, answered).values["log"] == ["first"]
    assert drive.get_state(graph, on()).values["log"] == ["second"]


# -- forks -----------------------------------------------------------------------------------------------------------


def test_update_of_a_past_state_forks(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())
    past = at(drive.get_state_history(ran.graph, on()), "b")
    ran.taken()

    fork = drive.update_state(ran.graph, past.config, {"log": ["edited"]})
    state = drive.invoke(ran.graph, None, fork)

    assert ran.taken() == ["b", "c"]
    assert state["log"] == ["in", "a", "edited", "b", "c"]
    assert drive.get_state(ran.graph, fork).metadata["source"] == "update"
    assert drive.get_state(ran.graph, fork).parent_config == past.config


def test_forks_never_see_each_other_s_later_writes(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())
    past = at(drive.get_state_history(ran.graph, on()), "b").config
    left = drive.update_state(ran.graph, past, {"log": ["left"]})
    right = drive.update_state(ran.graph, past, {"log": ["right"]})

    assert drive.invoke(ran.graph, None, left)["log"] == ["in", "a", "left", "b", "c"]
    left_end = drive.get_state(ran.graph, on()).config
    assert drive.invoke(ran.graph, None, right)["log"] == ["in", "a", "right", "b", "c"]
    assert drive.invoke(ran.graph, {"log": ["more"]}, left_end)["log"][:5] == ["in", "a", "left", "b", "c"]
    assert drive.get_state(ran.graph, right).values["log"] == ["in", "a", "right"]


def test_fork_of_a_fork(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": []}, on())
    config = at(drive.get_state_history(ran.graph, on()), "b").config
    for depth in range(4):
        config = drive.update_state(ran.graph, config, {"log": [str(depth)]})

    assert drive.invoke(ran.graph, None, config)["log"] == ["a", "0", "1", "2", "3", "b", "c"]


def test_copy_of_a_checkpoint_is_a_sibling(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())
    past = at(drive.get_state_history(ran.graph, on()), "b")

    twin = drive.update_state(ran.graph, past.config, None, as_node="__copy__")
    snapshot = drive.get_state(ran.graph, twin)

    assert (snapshot.values, snapshot.next) == (past.values, past.next)
    assert snapshot.metadata["source"] == "fork"
    assert snapshot.parent_config == past.parent_config


# -- updates ---------------------------------------------------------------------------------------------------------


def test_update_goes_through_reducers_and_overwrite_does_not(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": ["in"]}, on())

    drive.update_state(ran.graph, on(), {"log": ["more"]})
    assert drive.get_state(ran.graph, on()).values["log"] == ["in", "a", "b", "c", "more"]
    drive.update_state(ran.graph, on(), {"log": Overwrite(["only"])})
    assert drive.get_state(ran.graph, on()).values["log"] == ["only"]
    drive.update_state(ran.graph, on(), {"log": {"__overwrite__": ["again"]}})
    assert drive.get_state(ran.graph, on()).values["log"] == ["again"]


def test_overwrite_wins_over_other_writes_of_its_superstep(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("a", lambda state: {"log": ["a"]})
    builder.add_node("b", lambda state: {"log": Overwrite(["b"])}).add_node("c", lambda state: {"log": ["c"]})
    for name in "abc":
        builder.add_edge(START, name)
    graph = builder.compile(checkpointer=saver)

    assert drive.invoke(graph, {"log": ["in"]}, on())["log"] == ["b"]


def test_two_overwrites_in_one_superstep_are_refused(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log)
    for name in "ab":
        builder.add_node(name, lambda state: {"log": Overwrite([])}).add_edge(START, name)
    graph = builder.compile(checkpointer=saver)

    with pytest.raises(InvalidUpdateError, match="Overwrite"):
        drive.invoke(graph, {"log": ["in"]}, on())

    assert drive.get_state(graph, on()).values["log"] == ["in"]


def test_update_as_a_node_chooses_what_runs_next(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": []}, on())
    ran.taken()

    drive.update_state(ran.graph, on(), {"log": ["as a"]}, as_node="a")
    assert drive.get_state(ran.graph, on()).next == ("b",)
    drive.invoke(ran.graph, None, on())

    assert ran.taken() == ["b", "c"]


def test_update_as_input_starts_the_graph(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)

    drive.update_state(ran.graph, on(), {"log": ["in"]}, as_node="__input__")
    assert drive.get_state(ran.graph, on()).next == (START,)
    assert drive.invoke(ran.graph, None, on())["log"] == ["in", "a", "b", "c"]


def test_update_of_a_thread_never_run_makes_its_first_checkpoint(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)

    drive.update_state(ran.graph, on(), {"log": ["seeded"]}, as_node="a")

    assert drive.get_state(ran.graph, on()).values["log"] == ["seeded"]
    assert drive.invoke(ran.graph, None, on())["log"] == ["seeded", "b", "c"]


def test_ambiguous_update_is_refused(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log)
    for name in "ab":
        builder.add_node(name, lambda state: {"log": ["x"]}).add_edge(START, name)
    graph = builder.compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())
    before = drive.get_state(graph, on())

    with pytest.raises(InvalidUpdateError, match="ambiguous update: it is not clear which node wrote last") as caught:
        drive.update_state(graph, on(), {"log": ["y"]})

    assert "as_node" in str(caught.value) + str(caught.value.hint)
    assert drive.get_state(graph, on()) == before


def test_update_as_an_unknown_node_is_refused(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": []}, on())
    before = drive.get_state(ran.graph, on())

    with pytest.raises(InvalidUpdateError, match="nobody"):
        drive.update_state(ran.graph, on(), {"log": ["y"]}, as_node="nobody")

    assert drive.get_state(ran.graph, on()) == before


def test_nothing_as_the_end_clears_what_would_run_next(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_sequence([(name, lambda state: {"log": ["x"]}) for name in "ab"])
    graph = builder.add_edge(START, "a").compile(checkpointer=saver, interrupt_before=["b"])
    drive.invoke(graph, {"log": []}, on())

    drive.update_state(graph, on(), None)
    assert drive.get_state(graph, on()).next == ("b",)
    drive.update_state(graph, on(), None, as_node=END)
    assert drive.get_state(graph, on()).next == ()


def test_bulk_update_makes_one_checkpoint_per_superstep(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)

    drive.bulk_update_state(
        ran.graph,
        on(),
        [
            [StateUpdate({"log": ["in"]}, "__input__")],
            [StateUpdate({"log": ["as a"]}, "a")],
            [StateUpdate({"log": ["as b"], "last": "b"}, "b"), StateUpdate({"log": ["as c"]}, "c")],
        ],
    )
    history = drive.get_state_history(ran.graph, on())

    assert history[0].values == {"log": ["as a", "as b", "as c"], "last": "b"}
    assert len(history) == 3


def test_finished_siblings_count_in_the_newest_state(drive: Drive, saver: Any) -> None:
    def fail(state: Log) -> Any:
        return {"log": [interrupt("?")]}

    builder = StateGraph(Log).add_node("done", lambda state: {"log": ["done"]}).add_node("fail", fail)
    graph = builder.add_edge(START, "done").add_edge(START, "fail").compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())

    newest = drive.get_state(graph, on())
    at_start = drive.get_state(graph, newest.config)

    assert (newest.values["log"], newest.next) == (["done"], ("fail",))
    assert (at_start.values["log"], at_start.next) == ([], ("done", "fail"))


# -- subgraphs -------------------------------------------------------------------------------------------------------


class Nested:
    """An outer graph around an inner one with three nodes; records what runs."""

    def __init__(self, saver: Any, *, mode: Any = None, asks: bool = False) -> None:
        self.names: list[str] = []
        inner = StateGraph(Log).add_sequence([(name, self.node(name)) for name in ("i1", "i2", "i3")])
        if asks:
            inner.add_node("ask", self.ask).add_edge("i3", "ask")
        self.inner = inner.add_edge(START, "i1").compile(checkpointer=mode)
        builder = StateGraph(Log).add_node("before", self.node("before")).add_node("sub", self.inner)
        builder.add_node("after", self.node("after"))
        builder.add_edge(START, "before").add_edge("before", "sub").add_edge("sub", "after")
        self.graph = builder.compile(checkpointer=saver)

    def node(self, name: str) -> Any:
        def run(state: Log) -> Any:
            self.names.append(name)
            return {"log": [name]}

        return run

    def ask(self, state: Log) -> Any:
        return {"log": [interrupt("?")]}

    def taken(self) -> list[str]:
        names, self.names = self.names, []
        return names


def inner_history(drive: Drive, nested: Nested) -> list[Any]:
    """The history of the subgraph that the newest superstep runs, or the last one that did."""
    for snapshot in drive.get_state_history(nested.graph, on()):
        for one in snapshot.tasks:
            if one.state is not None:
                return drive.get_state_history(nested.graph, one.state)
    raise AssertionError("no subgraph has run")


@pytest.mark.parametrize("asks", [False, True])
def test_rerun_from_a_checkpoint_inside_a_subgraph_runs_from_there(drive: Drive, saver: Any, asks: bool) -> None:
    nested = Nested(saver, asks=asks)
    drive.invoke(nested.graph, {"log": []}, on())
    inside = inner_history(drive, nested)
    past = at(inside, "i2")
    nested.taken()

    state = drive.invoke(nested.graph, None, past.config)

    assert nested.taken() == (["i2", "i3"] if asks else ["i2", "i3", "after"])
    if asks:
        state = drive.invoke(nested.graph, Command(resume="yes"), on())
        assert nested.taken() == ["after"]
    assert [line for line in state["log"] if line in ("i1", "i2", "i3")] == ["i1", "i2", "i3"]


def test_rerun_from_the_snapshot_of_a_waiting_subgraph(drive: Drive, saver: Any) -> None:
    nested = Nested(saver, asks=True)
    drive.invoke(nested.graph, {"log": []}, on())
    inside = drive.get_state(nested.graph, on(), subgraphs=True).tasks[0].state
    nested.taken()

    asked = drive.invoke(nested.graph, None, inside.config)

    assert nested.taken() == []
    assert [question.value for question in asked["__interrupt__"]] == ["?"]


def test_update_inside_a_waiting_subgraph(drive: Drive, saver: Any) -> None:
    nested = Nested(saver, asks=True)
    drive.invoke(nested.graph, {"log": []}, on())
    inside = drive.get_state(nested.graph, on(), subgraphs=True).tasks[0].state

    drive.update_state(nested.graph, inside.config, {"log": ["edited"]})
    state = drive.invoke(nested.graph, Command(resume="yes"), on())

    assert state["log"] == ["before", "before", "i1", "i2", "i3", "edited", "yes", "after"]
    assert nested.taken().count("i1") == 1


def test_replay_of_the_parent_runs_its_subgraph_anew(drive: Drive, saver: Any) -> None:
    nested = Nested(saver)
    drive.invoke(nested.graph, {"log": []}, on())
    past = at(drive.get_state_history(nested.graph, on()), "sub")
    nested.taken()

    drive.invoke(nested.graph, None, past.config)

    assert nested.taken() == ["i1", "i2", "i3", "after"]


def remembering(saver: Any) -> Any:
    """A node that calls a stateful subgraph, which notes how often it has been called."""

    class Own(TypedDict):
        calls: Annotated[int, operator.add]

    inner = StateGraph(Own).add_node("count", lambda state: {"calls": 1}).add_edge(START, "count")
    counter = inner.compile(checkpointer=True)

    def call(state: Log) -> Any:
        return {"log": [f"call {counter.invoke({'calls': 0})['calls']}"]}

    return StateGraph(Log).add_node(call).add_edge(START, "call").compile(checkpointer=saver)


def test_forks_do_not_share_a_subgraph_s_memory(drive: Drive, saver: Any) -> None:
    graph = remembering(saver)
    drive.invoke(graph, {"log": []}, on())
    first = drive.get_state(graph, on()).config
    drive.invoke(graph, {"log": []}, on())
    drive.invoke(graph, {"log": []}, on())
    main_end = drive.get_state(graph, on()).config

    fork = drive.invoke(graph, {"log": []}, first)
    assert fork["log"] == ["call 1", "call 2"]
    assert drive.invoke(graph, {"log": []}, on())["log"] == ["call 1", "call 2", "call 3"]
    assert drive.invoke(graph, {"log": []}, main_end)["log"][-1] == "call 4"


def test_replay_starts_a_subgraph_s_memory_from_before(drive: Drive, saver: Any) -> None:
    graph = remembering(saver)
    for _ in range(3):
        drive.invoke(graph, {"log": []}, on())
    second_turn = [s for s in drive.get_state_history(graph, on()) if s.next == ("call",)][1]

    assert drive.invoke(graph, None, second_turn.config)["log"] == ["call 1", "call 2"]


def test_checkpoint_of_another_thread_is_not_found(drive: Drive, saver: Any) -> None:
    ran = Ran(saver)
    drive.invoke(ran.graph, {"log": []}, on("one"))
    foreign = drive.get_state(ran.graph, on("one")).config["configurable"]["checkpoint_id"]
    drive.invoke(ran.graph, {"log": []}, on("two"))
    before = drive.get_state(ran.graph, on("two"))

    config = on("two", checkpoint_id=foreign)
    for call in (
        lambda: drive.invoke(ran.graph, None, config),
        lambda: drive.get_state(ran.graph, config),
        lambda: drive.update_state(ran.graph, config, {"log": ["x"]}),
    ):
        with pytest.raises(CheckpointNotFoundError, match=foreign) as caught:
            call()
        assert "'two'" in str(caught.value)

    assert drive.get_state(ran.graph, on("two")) == before
