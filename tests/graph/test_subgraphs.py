"""Subgraphs by their checkpointer (False, None, True): what each may and may not do."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest

from clew.errors import GraphError, NoSaverError
from clew.graph import START, StateGraph
from clew.types import Command, RetryPolicy, Send, interrupt
from tests.both import Drive, on

Log = TypedDict("Log", {"log": Annotated[list[str], operator.add]})
MODES = [False, None, True]


def asking(checkpointer: Any, name: str = "inner") -> Any:
    """A graph that works, asks, and notes the answer."""

    def work(state: Log) -> Any:
        return {"log": [f"{name} worked"]}

    def ask(state: Log) -> Any:
        return {"log": [f"{name} heard {interrupt(f'{name}?')}"]}

    builder = StateGraph(Log).add_node("work", work).add_node("ask", ask)
    return builder.add_edge(START, "work").add_edge("work", "ask").compile(checkpointer=checkpointer, name=name)


def counting(checkpointer: Any, name: str = "inner") -> Any:
    """A graph that notes how often it has been called before, as far as it remembers."""

    def note(state: Log) -> Any:
        return {"log": [f"{name} {len(state['log'])}"]}

    return StateGraph(Log).add_node("note", note).add_edge(START, "note").compile(checkpointer=checkpointer, name=name)


def calling(*graphs: Any) -> Any:
    """A node that calls graphs one after another, each with no input of its own, and notes their last line."""

    def call(state: Any) -> Any:
        return {"log": [graph.invoke({"log": []})["log"][-1] for graph in graphs]}

    return call


def around(node: Any, saver: Any, **options: Any) -> Any:
    return StateGraph(Log).add_node("outer", node, **options).add_edge(START, "outer").compile(checkpointer=saver)


# -- interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, True])
def test_question_inside_a_subgraph_node_is_asked_and_answered(drive: Drive, saver: Any, mode: Any) -> None:
    graph = around(asking(mode), saver)

    asked = drive.invoke(graph, {"log": []}, on())
    answered = drive.invoke(graph, Command(resume="yes"), on())

    assert [question.value for question in asked["__interrupt__"]] == ["inner?"]
    assert answered == {"log": ["inner worked", "inner heard yes"]}


@pytest.mark.parametrize("mode", [None, True])
def test_question_inside_a_called_subgraph_is_asked_and_answered(drive: Drive, saver: Any, mode: Any) -> None:
    graph = around(calling(asking(mode)), saver)

    asked = drive.invoke(graph, {"log": []}, on())
    answered = drive.invoke(graph, Command(resume="yes"), on())

    assert [question.value for question in asked["__interrupt__"]] == ["inner?"]
    assert answered == {"log": ["inner heard yes"]}


@pytest.mark.parametrize("is_node", [True, False])
def test_subgraph_without_checkpoints_cannot_ask(drive: Drive, saver: Any, is_node: bool) -> None:
    inner = asking(False)
    graph = around(inner if is_node else calling(inner), saver)

    with pytest.raises(NoSaverError, match="subgraph 'inner' was compiled with checkpointer=False"):
        drive.invoke(graph, {"log": []}, on())

    assert drive.get_state(graph, on()).next == ("outer",)


@pytest.mark.parametrize("mode", [None, True])
def test_finished_nodes_of_a_subgraph_are_not_repeated_after_an_answer(drive: Drive, saver: Any, mode: Any) -> None:
    worked: list[str] = []

    def work(state: Log) -> Any:
        worked.append("once")
        return {}

    def ask(state: Log) -> Any:
        return {"log": [interrupt("?")]}

    inner = StateGraph(Log).add_sequence([work, ask]).add_edge(START, "work").compile(checkpointer=mode)
    graph = around(calling(inner), saver)
    drive.invoke(graph, {"log": []}, on())
    drive.invoke(graph, Command(resume="yes"), on())

    assert worked == ["once"]


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "second"), [(False, "inner 0"), (None, "inner 0"), (True, "inner 1")])
def test_memory_across_invocations(drive: Drive, saver: Any, mode: Any, second: str) -> None:
    graph = around(calling(counting(mode)), saver)

    drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, {"log": []}, on())

    assert state["log"] == ["inner 0", second]


@pytest.mark.parametrize(("mode", "second"), [(False, "inner 0"), (None, "inner 0"), (True, "inner 1")])
def test_memory_of_a_subgraph_added_as_a_node(drive: Drive, saver: Any, mode: Any, second: str) -> None:
    class Own(TypedDict):
        own: Annotated[list[str], operator.add]

    def note(state: Own) -> Any:
        return {"own": [f"inner {len(state['own'])}"]}

    inner = StateGraph(Own).add_node("note", note).add_edge(START, "note").compile(checkpointer=mode)
    heard: list[str] = []

    class Both(TypedDict):
        own: list[str]

    def hear(state: Both) -> Any:
        heard.append(state["own"][-1])
        return {"own": []}

    builder = StateGraph(Both).add_node("outer", inner).add_node("hear", hear)
    graph = builder.add_edge(START, "outer").add_edge("outer", "hear").compile(checkpointer=saver)
    drive.invoke(graph, {"own": []}, on())
    drive.invoke(graph, {"own": []}, on())

    assert heard == ["inner 0", second]


def test_memory_belongs_to_the_thread(drive: Drive, saver: Any) -> None:
    graph = around(calling(counting(True)), saver)

    drive.invoke(graph, {"log": []}, on("one"))
    drive.invoke(graph, {"log": []}, on("one"))

    assert drive.invoke(graph, {"log": []}, on("two")) == {"log": ["inner 0"]}


def test_memory_belongs_to_the_node(drive: Drive, saver: Any) -> None:
    inner = counting(True)
    builder = StateGraph(Log).add_node("left", calling(inner)).add_node("right", calling(inner))
    graph = builder.add_edge(START, "left").add_edge("left", "right").compile(checkpointer=saver)

    assert drive.invoke(graph, {"log": []}, on()) == {"log": ["inner 0", "inner 0"]}
    assert drive.invoke(graph, {"log": []}, on())["log"][2:] == ["inner 1", "inner 1"]


def test_memory_is_kept_when_a_later_turn_asks(drive: Drive, saver: Any) -> None:
    graph = around(calling(asking(True)), saver)
    config = on()

    for turn in ("a", "b"):
        drive.invoke(graph, {"log": []}, config)
        drive.invoke(graph, Command(resume=turn), config)

    inside = saver_values(drive, graph, config, "outer")
    assert inside == ["inner worked", "inner heard a", "inner worked", "inner heard b"]


def saver_values(drive: Drive, graph: Any, config: Any, ns: str) -> Any:
    return drive.get_state(graph, on(checkpoint_ns=ns)).values["log"]


# -- several in one node ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_several_different_subgraphs_in_one_node(drive: Drive, saver: Any, mode: Any) -> None:
    graph = around(calling(counting(mode, "fruit"), counting(mode, "veg")), saver)

    drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, {"log": []}, on())

    again = ["fruit 1", "veg 1"] if mode is True else ["fruit 0", "veg 0"]
    assert state["log"] == ["fruit 0", "veg 0", *again]


@pytest.mark.parametrize("mode", [None, True])
def test_several_different_subgraphs_in_one_node_ask_in_turn(drive: Drive, saver: Any, mode: Any) -> None:
    graph = around(calling(asking(mode, "fruit"), asking(mode, "veg")), saver)

    first = drive.invoke(graph, {"log": []}, on())
    second = drive.invoke(graph, Command(resume="apple"), on())
    last = drive.invoke(graph, Command(resume="leek"), on())

    assert [first["__interrupt__"][0].value, second["__interrupt__"][0].value] == ["fruit?", "veg?"]
    assert last == {"log": ["fruit heard apple", "veg heard leek"]}


@pytest.mark.parametrize("mode", MODES)
def test_same_subgraph_one_call_after_another(drive: Drive, saver: Any, mode: Any) -> None:
    inner = counting(mode)
    graph = around(calling(inner, inner, inner), saver)

    drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, {"log": []}, on())

    again = ["inner 1"] * 3 if mode is True else ["inner 0"] * 3
    assert state["log"] == ["inner 0"] * 3 + again


@pytest.mark.parametrize("mode", [None, True])
def test_same_subgraph_asks_in_each_call_one_after_another(drive: Drive, saver: Any, mode: Any) -> None:
    inner = asking(mode)
    graph = around(calling(inner, inner), saver)

    drive.invoke(graph, {"log": []}, on())
    drive.invoke(graph, Command(resume="one"), on())
    state = drive.invoke(graph, Command(resume="two"), on())

    assert state == {"log": ["inner heard one", "inner heard two"]}


# -- under Send, nested, with retries --------------------------------------------------------------------------------


def fanning(node: Any, saver: Any, count: int = 2) -> Any:
    builder = StateGraph(Log).add_node("outer", node)
    builder.add_conditional_edges(START, lambda state: [Send("outer", {"log": []}) for _ in range(count)], ["outer"])
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("mode", [False, None])
def test_subgraphs_run_in_parallel_under_send(drive: Drive, saver: Any, mode: Any) -> None:
    graph = fanning(counting(mode), saver, 3)

    assert drive.invoke(graph, {"log": []}, on()) == {"log": ["inner 0"] * 3}


def test_parallel_subgraphs_under_send_ask_each_its_own_question(drive: Drive, saver: Any) -> None:
    graph = fanning(asking(None), saver)

    asked = drive.invoke(graph, {"log": []}, on())["__interrupt__"]
    assert len({question.id for question in asked}) == 2
    answers = {asked[0].id: "first", asked[1].id: "second"}
    state = drive.invoke(graph, Command(resume=answers), on())

    assert [line for line in state["log"] if "heard" in line] == ["inner heard first", "inner heard second"]


def test_nested_two_levels_ask_through_both(drive: Drive, saver: Any) -> None:
    middle = StateGraph(Log).add_node("middle", asking(None)).add_edge(START, "middle").compile()
    graph = around(middle, saver)

    asked = drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, Command(resume="deep"), on())

    assert [question.value for question in asked["__interrupt__"]] == ["inner?"]
    assert state == {"log": ["inner worked", "inner heard deep"]}


@pytest.mark.parametrize(
    ("outer", "inner", "second"),
    [(True, True, "inner 1"), (None, True, "inner 1"), (True, None, "inner 0"), (False, None, "inner 0")],
)
def test_memory_two_levels_down(drive: Drive, saver: Any, outer: Any, inner: Any, second: str) -> None:
    deep = counting(inner)
    middle = StateGraph(Log).add_node("deep", calling(deep)).add_edge(START, "deep").compile(checkpointer=outer)
    graph = around(calling(middle), saver)

    drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, {"log": []}, on())

    assert state["log"][-1] == second


def test_subgraph_below_one_without_checkpoints_cannot_ask(drive: Drive, saver: Any) -> None:
    middle = StateGraph(Log).add_node("deep", asking(None)).add_edge(START, "deep").compile(checkpointer=False)
    graph = around(middle, saver)

    with pytest.raises(NoSaverError, match="checkpointer=False"):
        drive.invoke(graph, {"log": []}, on())


@pytest.mark.parametrize("mode", MODES)
def test_retried_node_calls_its_subgraph_under_the_same_namespace(drive: Drive, saver: Any, mode: Any) -> None:
    inner = counting(mode)
    attempts: list[int] = []

    def call(state: Log) -> Any:
        line = inner.invoke({"log": []})["log"][-1]
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("lost")
        return {"log": [line]}

    graph = around(call, saver, retry_policy=RetryPolicy(initial_interval=0, jitter=False))
    state = drive.invoke(graph, {"log": []}, on())

    assert len(attempts) == 2
    assert state == {"log": ["inner 0"]}


@pytest.mark.parametrize("mode", [None, True])
def test_subgraph_resumes_inside_after_its_node_failed(drive: Drive, saver: Any, mode: Any) -> None:
    done: list[str] = []

    def first(state: Log) -> Any:
        done.append("first")
        return {"log": ["first"]}

    def second(state: Log) -> Any:
        done.append("second")
        if done.count("second") == 1:
            raise RuntimeError("power cut")
        return {"log": ["second"]}

    inner = StateGraph(Log).add_sequence([first, second]).add_edge(START, "first").compile(checkpointer=mode)
    graph = around(inner, saver)
    with pytest.raises(RuntimeError, match="power cut"):
        drive.invoke(graph, {"log": []}, on())
    state = drive.invoke(graph, None, on())

    assert done == ["first", "second", "second"]
    assert state == {"log": ["first", "second"]}


# -- inspection ------------------------------------------------------------------------------------------------------


def test_state_of_a_waiting_subgraph_is_shown(drive: Drive, saver: Any) -> None:
    graph = around(asking(None), saver)
    drive.invoke(graph, {"log": []}, on())

    task = drive.get_state(graph, on(), subgraphs=True).tasks[0]

    assert task.state.values == {"log": ["inner worked"]}
    assert task.state.next == ("ask",)
    assert [question.value for question in task.state.interrupts] == ["inner?"]


def test_state_of_a_waiting_stateful_subgraph_is_shown(drive: Drive, saver: Any) -> None:
    graph = around(asking(True), saver)
    drive.invoke(graph, {"log": []}, on())

    task = drive.get_state(graph, on(), subgraphs=True).tasks[0]

    assert task.state.values == {"log": ["inner worked"]}
    assert task.state.next == ("ask",)


def test_without_asking_for_subgraphs_a_task_names_the_config_of_its_state(drive: Drive, saver: Any) -> None:
    graph = around(asking(None), saver)
    drive.invoke(graph, {"log": []}, on())

    config = drive.get_state(graph, on()).tasks[0].state

    assert config["configurable"]["checkpoint_ns"].startswith("outer:")
    assert drive.get_state(graph, config).values == {"log": ["inner worked"]}


def test_nothing_is_shown_of_a_subgraph_without_checkpoints(drive: Drive, saver: Any) -> None:
    def fail(state: Log) -> Any:
        raise RuntimeError("stop here")

    inner = StateGraph(Log).add_node("fail", fail).add_edge(START, "fail").compile(checkpointer=False)
    graph = around(inner, saver)
    with pytest.raises(RuntimeError, match="stop here"):
        drive.invoke(graph, {"log": []}, on())

    state = drive.get_state(graph, on(), subgraphs=True).tasks[0].state
    assert state is None or not getattr(state, "values", None)


def test_state_is_shown_two_levels_down(drive: Drive, saver: Any) -> None:
    middle = StateGraph(Log).add_node("middle", asking(None)).add_edge(START, "middle").compile()
    graph = around(middle, saver)
    drive.invoke(graph, {"log": []}, on())

    top = drive.get_state(graph, on(), subgraphs=True)
    deep = top.tasks[0].state.tasks[0].state

    assert deep.values == {"log": ["inner worked"]}
    assert deep.next == ("ask",)


def test_finished_stateful_subgraph_is_read_by_its_namespace(drive: Drive, saver: Any) -> None:
    graph = around(counting(True), saver)
    drive.invoke(graph, {"log": []}, on())
    drive.invoke(graph, {"log": []}, on())

    snapshot = drive.get_state(graph, on(checkpoint_ns="outer"))

    assert snapshot.next == ()
    assert len(drive.get_state_history(graph, on(checkpoint_ns="outer"))) > 3


def test_subgraphs_are_listed_by_namespace() -> None:
    deep = asking(None)
    middle = StateGraph(Log).add_node("middle", deep).add_edge(START, "middle").compile()
    graph = around(middle, None)

    assert dict(graph.get_subgraphs()) == {"outer": middle}
    assert dict(graph.get_subgraphs(recurse=True)) == {"outer": middle, "outer|middle": deep}
    assert dict(graph.get_subgraphs(namespace="outer|middle", recurse=True)) == {"outer|middle": deep}


def test_own_memory_is_refused_for_a_root_graph(drive: Drive) -> None:
    with pytest.raises(RuntimeError, match=r"checkpointer=True .* root graph needs a saver"):
        drive.invoke(counting(True), {"log": []}, on())


def test_something_that_is_no_saver_is_refused() -> None:
    builder = StateGraph(Log).add_node("note", lambda state: {}).add_edge(START, "note")

    with pytest.raises(TypeError, match="the checkpointer is a str, which cannot save checkpoints"):
        builder.compile(checkpointer="threads.db")


def test_a_graph_error_is_a_value_error() -> None:
    assert issubclass(GraphError, ValueError)
