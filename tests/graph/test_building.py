"""Building a graph: what is accepted, what is refused and how the message reads."""

from __future__ import annotations

import logging
import operator
from functools import partial
from typing import Annotated, Any, Literal, TypedDict

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.errors import GraphError
from clew.graph import END, START, StateGraph
from clew.types import Command, RetryPolicy, Send
from tests.both import Drive, on


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def say(word: str) -> Any:
    return lambda state: {"log": [word]}


def logged(drive: Drive, builder: StateGraph[Any]) -> list[str]:
    return drive.invoke(builder.compile(), {"log": []})["log"]


# -- nodes -----------------------------------------------------------------------------------------------------------


def test_node_is_named_after_its_function() -> None:
    def plan(state: Log) -> Any: ...

    class Act:
        def __call__(self, state: Log) -> Any: ...

    builder = StateGraph(Log).add_node(plan).add_node("act", Act()).add_node("part", partial(plan))

    assert list(builder.nodes) == ["plan", "act", "part"]


def test_methods_partials_and_callables_run(drive: Drive) -> None:
    class Worker:
        def method(self, state: Log) -> Any:
            return {"log": ["method"]}

        def __call__(self, state: Log) -> Any:
            return {"log": ["call"]}

    def part(word: str, state: Log) -> Any:
        return {"log": [word]}

    builder = StateGraph(Log).add_sequence(
        [("method", Worker().method), ("call", Worker()), ("part", partial(part, "partial"))]
    )
    assert logged(drive, builder.add_edge(START, "method")) == ["method", "call", "partial"]


@pytest.mark.parametrize("name", ["a|b", "a:b"])
def test_reserved_characters_in_names_are_refused(name: str) -> None:
    with pytest.raises(GraphError, match="is a reserved character") as caught:
        StateGraph(Log).add_node(name, say("x"))

    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", [START, END])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(GraphError, match=f"`{name}` is reserved"):
        StateGraph(Log).add_node(name, say("x"))


def test_same_name_twice_is_refused() -> None:
    with pytest.raises(GraphError, match="`a` already present") as caught:
        StateGraph(Log).add_node("a", say("x")).add_node("a", say("y"))

    assert caught.value.hint == "give each node a name of its own"


def test_node_without_a_function_is_refused() -> None:
    with pytest.raises(GraphError, match="node 'a' was added without a function"):
        StateGraph(Log).add_node("a")


def test_something_that_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="a node must be a function, a compiled graph or a runnable, not int"):
        StateGraph(Log).add_node("a", 3).add_edge(START, "a").compile()


def test_metadata_of_a_node_is_streamed_with_its_tasks(drive: Drive) -> None:
    builder = StateGraph(Log).add_node("a", say("x"), metadata={"team": "red"}).add_edge(START, "a")

    first = next(iter(drive.stream(builder.compile(), {"log": []}, stream_mode="tasks")))

    assert first["metadata"]["team"] == "red"


# -- edges -----------------------------------------------------------------------------------------------------------


def test_list_edge_waits_for_all_starts(drive: Drive) -> None:
    builder = StateGraph(Log)
    for name in ("start", "quick", "slow", "slower", "join"):
        builder.add_node(name, say(name))
    builder.add_edge(START, "start").add_edge("start", "quick").add_edge("start", "slow").add_edge("slow", "slower")
    builder.add_edge(["quick", "slower"], "join")

    assert logged(drive, builder) == ["start", "quick", "slow", "slower", "join"]


def test_list_edge_fires_again_in_a_second_turn(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).add_node("b", say("b")).add_node("join", say("join"))
    builder.add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], "join")
    graph = builder.compile(checkpointer=saver)

    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, {"log": []}, on())["log"] == ["a", "b", "join"] * 2


def test_node_runs_once_for_several_edges_of_one_superstep(drive: Drive) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).add_node("b", say("b")).add_node("end", say("end"))
    builder.add_edge(START, "a").add_edge(START, "b").add_edge("a", "end").add_edge("b", "end")

    assert logged(drive, builder) == ["a", "b", "end"]


def test_deferred_node_waits_for_everything_else(drive: Drive) -> None:
    builder = StateGraph(Log)
    for name in ("quick", "slow", "slower"):
        builder.add_node(name, say(name))
    builder.add_node("sum", say("sum"), defer=True)
    builder.add_edge(START, "quick").add_edge(START, "slow").add_edge("slow", "slower")
    builder.add_edge("quick", "sum").add_edge("slower", "sum")

    assert logged(drive, builder) == ["quick", "slow", "slower", "sum"]


def test_deferred_join_waits_for_everything_else(drive: Drive) -> None:
    builder = StateGraph(Log)
    for name in ("a", "b", "c", "d"):
        builder.add_node(name, say(name))
    builder.add_node("sum", say("sum"), defer=True)
    builder.add_edge(START, "a").add_edge(START, "b").add_edge(START, "c").add_edge("c", "d")
    builder.add_edge(["a", "b"], "sum")

    assert logged(drive, builder) == ["a", "b", "c", "d", "sum"]


def test_sequence_runs_in_order_and_takes_names(drive: Drive) -> None:
    def middle(state: Log) -> Any:
        return {"log": ["middle"]}

    builder = StateGraph(Log).add_sequence([("first", say("first")), middle, ("last", say("last"))])

    assert logged(drive, builder.add_edge(START, "first")) == ["first", "middle", "last"]


def test_sequence_needs_nodes_with_names_of_their_own() -> None:
    with pytest.raises(GraphError, match="needs at least one node"):
        StateGraph(Log).add_sequence([])
    with pytest.raises(GraphError, match="node with the name 'a' already exists"):
        StateGraph(Log).add_sequence([("a", say("a")), ("a", say("a"))])


def test_entry_and_finish_points_are_edges(drive: Drive) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).set_entry_point("a").set_finish_point("a")

    assert builder.edges == {(START, "a"), ("a", END)}
    assert logged(drive, builder) == ["a"]


def test_conditional_entry_point(drive: Drive) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).add_node("b", say("b"))
    builder.set_conditional_entry_point(lambda state: state["log"][0])
    graph = builder.compile()

    assert drive.invoke(graph, {"log": ["b"]})["log"] == ["b", "b"]


# -- conditional edges -----------------------------------------------------------------------------------------------


def routed(path: Any, path_map: Any = None) -> StateGraph[Any]:
    builder = StateGraph(Log).add_node("start", say("start"))
    for name in ("left", "right"):
        builder.add_node(name, say(name))
    return builder.add_edge(START, "start").add_conditional_edges("start", path, path_map)


@pytest.mark.parametrize(
    ("path", "path_map", "expected"),
    [
        (lambda state: "left", None, ["start", "left"]),
        (lambda state: ["left", "right"], None, ["start", "left", "right"]),
        (lambda state: END, None, ["start"]),
        (lambda state: True, {True: "right", False: "left"}, ["start", "right"]),
        (lambda state: "go", {"go": "left", "stop": END}, ["start", "left"]),
        (lambda state: "stop", {"go": "left", "stop": END}, ["start"]),
        (lambda state: "right", ["left", "right"], ["start", "right"]),
        (lambda state: [Send("left", {"log": []}), "right"], None, ["start", "left", "right"]),
    ],
)
def test_conditional_edge_goes_where_its_path_says(drive: Drive, path: Any, path_map: Any, expected: Any) -> None:
    assert sorted(logged(drive, routed(path, path_map))) == sorted(expected)


def test_path_sees_what_its_node_wrote(drive: Drive) -> None:
    seen: list[Any] = []

    def path(state: Log) -> str:
        seen.append(list(state["log"]))
        return END

    logged(drive, routed(path))

    assert seen == [["start"]]


def test_several_conditional_edges_of_one_node_all_count(drive: Drive) -> None:
    builder = routed(lambda state: "left")

    def also(state: Log) -> str:
        return "right"

    builder.add_conditional_edges("start", also)

    assert logged(drive, builder) == ["start", "left", "right"]


def test_two_conditional_edges_of_one_name_are_refused() -> None:
    def path(state: Log) -> str:
        return END

    with pytest.raises(GraphError, match="Branch with name `path` already exists for node `start`"):
        routed(path).add_conditional_edges("start", path)


def test_literal_annotation_names_the_targets() -> None:
    def path(state: Log) -> Literal["left", "__end__"]:
        return "left"

    builder = routed(path)

    assert builder.branches["start"]["path"].ends == {"left": "left", "__end__": "__end__"}


def test_path_that_returns_nothing_is_an_error(drive: Drive) -> None:
    with pytest.raises(ValueError, match="did not return a valid destination"):
        logged(drive, routed(lambda state: None))


# -- Send ------------------------------------------------------------------------------------------------------------


def test_send_gives_each_task_its_own_input_in_order(drive: Drive, saver: Any) -> None:
    class Jokes(TypedDict):
        subjects: list[str]
        jokes: Annotated[list[str], operator.add]

    def joke(state: Any) -> Any:
        return {"jokes": [f"joke about {state['subject']}"]}

    builder = StateGraph(Jokes).add_node(joke)
    builder.add_conditional_edges(
        START, lambda state: [Send("joke", {"subject": subject}) for subject in state["subjects"]], ["joke"]
    )
    graph = builder.compile(checkpointer=saver)
    subjects = [f"s{index}" for index in range(12)]

    state = drive.invoke(graph, {"subjects": subjects}, on())

    assert state["jokes"] == [f"joke about {subject}" for subject in subjects]


def test_send_and_edge_to_one_node_make_two_tasks(drive: Drive) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).add_node("b", lambda state: {"log": [f"b{len(state['log'])}"]})
    builder.add_edge(START, "a").add_edge("a", "b")
    builder.add_conditional_edges("a", lambda state: [Send("b", {"log": ["x", "y", "z"]})], ["b"])

    assert sorted(logged(drive, builder)) == ["a", "b1", "b3"]


# -- compiling -------------------------------------------------------------------------------------------------------


def test_graph_needs_a_way_in() -> None:
    with pytest.raises(GraphError, match="Graph must have an entrypoint"):
        StateGraph(Log).add_node("a", say("a")).compile()


def test_edge_from_the_end_or_to_the_start_is_refused() -> None:
    with pytest.raises(GraphError, match="END cannot be a start node"):
        StateGraph(Log).add_edge(END, "a")
    with pytest.raises(GraphError, match="START cannot be an end node"):
        StateGraph(Log).add_edge("a", START)


def test_list_edge_names_nodes_that_exist() -> None:
    with pytest.raises(GraphError, match="Need to add_node `b` first"):
        StateGraph(Log).add_node("a", say("a")).add_edge(["a", "b"], "a")


def test_adding_to_a_compiled_graph_warns(caplog: pytest.LogCaptureFixture) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).add_edge(START, "a")
    builder.compile()

    with caplog.at_level(logging.WARNING, "clew"):
        builder.add_node("b", say("b"))

    assert "the compiled graph will not have it" in caplog.text


def test_old_argument_names_say_their_new_ones() -> None:
    with pytest.raises(GraphError, match="unexpected argument 'input'") as caught:
        StateGraph(Log, input=Log)

    assert caught.value.hint == "use input_schema"


# -- breakpoints -----------------------------------------------------------------------------------------------------


def three(**options: Any) -> Any:
    builder = StateGraph(Log).add_sequence([(name, say(name)) for name in ("a", "b", "c")]).add_edge(START, "a")
    return builder.compile(checkpointer=InMemorySaver(), **options)


@pytest.mark.parametrize("is_compiled", [True, False])
@pytest.mark.parametrize(
    ("kind", "before", "stops"),
    [
        ("interrupt_before", ["b"], [["a"], ["a", "b", "c"]]),
        ("interrupt_after", ["b"], [["a", "b"], ["a", "b", "c"]]),
        ("interrupt_before", "*", [[], ["a"], ["a", "b"], ["a", "b", "c"]]),
        ("interrupt_after", "*", [["a"], ["a", "b"], ["a", "b", "c"]]),
    ],
)
def test_breakpoints_stop_and_go_on(drive: Drive, is_compiled: bool, kind: str, before: Any, stops: Any) -> None:
    options: Any = {kind: before}
    graph = three(**options) if is_compiled else three()
    call: Any = {} if is_compiled else options
    seen = []

    given: Any = {"log": []}
    for _ in stops:
        seen.append(drive.invoke(graph, given, on(), **call)["log"])
        given = None

    assert seen == stops
    assert drive.get_state(graph, on()).next == ()


def test_state_can_be_edited_at_a_breakpoint(drive: Drive) -> None:
    graph = three(interrupt_before=["c"])
    drive.invoke(graph, {"log": []}, on())
    drive.update_state(graph, on(), {"log": ["edited"]})

    assert drive.get_state(graph, on()).next == ("c",)
    assert drive.invoke(graph, None, on())["log"] == ["a", "b", "edited", "c"]


def test_breakpoint_at_an_unknown_node_is_refused() -> None:
    with pytest.raises(ValueError, match="`nowhere` not found"):
        three(interrupt_before=["nowhere"])


# -- commands --------------------------------------------------------------------------------------------------------


def test_command_updates_and_goes(drive: Drive) -> None:
    def start(state: Log) -> Command[Literal["right"]]:
        return Command(update={"log": ["start"]}, goto="right")

    builder = StateGraph(Log).add_node(start).add_node("right", say("right")).add_edge(START, "start")

    assert logged(drive, builder) == ["start", "right"]


def test_command_goes_to_several_nodes_and_sends(drive: Drive) -> None:
    def start(state: Log) -> Any:
        return Command(goto=["left", Send("right", {"log": ["given"]})])

    builder = StateGraph(Log).add_node(start, destinations=("left", "right")).add_edge(START, "start")
    builder.add_node("left", say("left")).add_node("right", lambda state: {"log": [f"right {state['log']}"]})

    assert sorted(logged(drive, builder)) == ["left", "right ['given']"]


def test_command_goes_along_with_edges(drive: Drive) -> None:
    def start(state: Log) -> Any:
        return Command(goto="left")

    builder = StateGraph(Log).add_node(start).add_edge(START, "start").add_edge("start", "right")
    builder.add_node("left", say("left")).add_node("right", say("right"))

    assert sorted(logged(drive, builder)) == ["left", "right"]


def test_list_of_updates_and_commands(drive: Drive) -> None:
    def start(state: Log) -> Any:
        return [{"log": ["one"]}, Command(update={"log": ["two"]}, goto="left")]

    builder = StateGraph(Log).add_node(start).add_edge(START, "start").add_node("left", say("left"))

    assert logged(drive, builder) == ["one", "two", "left"]


def test_command_update_may_be_pairs(drive: Drive) -> None:
    builder = StateGraph(Log).add_node("a", lambda state: Command(update=[("log", ["x"]), ("log", ["y"])]))

    assert logged(drive, builder.add_edge(START, "a")) == ["x", "y"]


def parent_of(inner: Any, saver: Any = None) -> Any:
    builder = StateGraph(Log).add_node("inner", inner).add_node("next", say("next")).add_edge(START, "inner")
    return builder.compile(checkpointer=saver)


def leaving(target: str = "next") -> Any:
    def leave(state: Log) -> Any:
        return Command(graph=Command.PARENT, update={"log": ["from inside"]}, goto=target)

    return StateGraph(Log).add_node(leave).add_edge(START, "leave").compile()


def test_command_to_the_parent_from_a_subgraph(drive: Drive, saver: Any) -> None:
    assert drive.invoke(parent_of(leaving(), saver), {"log": []}, on()) == {"log": ["from inside", "next"]}


def test_command_to_the_parent_from_a_called_subgraph(drive: Drive, saver: Any) -> None:
    inner = leaving()

    def call(state: Log) -> Any:
        return inner.invoke(state)

    assert drive.invoke(parent_of(call, saver), {"log": []}, on()) == {"log": ["from inside", "next"]}


def test_command_to_the_parent_reaches_the_nearest_only(drive: Drive, saver: Any) -> None:
    middle = StateGraph(Log).add_node("deep", leaving("beside")).add_node("beside", say("beside"))
    graph = parent_of(middle.add_edge(START, "deep").compile(), saver)

    assert drive.invoke(graph, {"log": []}, on()) == {"log": ["from inside", "beside"]}


def test_command_to_the_parent_is_not_retried(drive: Drive, saver: Any) -> None:
    inner = leaving()
    calls: list[int] = []

    def call(state: Log) -> Any:
        calls.append(1)
        return inner.invoke(state)

    builder = StateGraph(Log).add_node("next", say("next")).add_edge(START, "call")
    builder.add_node(call, retry_policy=RetryPolicy(initial_interval=0, retry_on=lambda error: True))
    graph = builder.compile(checkpointer=saver)

    assert drive.invoke(graph, {"log": []}, on()) == {"log": ["from inside", "next"]}
    assert calls == [1]


def test_command_as_input_goes_to_a_node(drive: Drive, saver: Any) -> None:
    builder = StateGraph(Log).add_node("a", say("a")).add_node("b", say("b")).add_edge(START, "a")
    graph = builder.compile(checkpointer=saver)
    drive.invoke(graph, {"log": []}, on())

    assert drive.invoke(graph, Command(goto="b", update={"log": ["u"]}), on())["log"] == ["a", "u", "b"]
