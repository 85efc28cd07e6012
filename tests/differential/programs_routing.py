"""Conditional edges, `Send` and `Command`."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from tests.differential.observe import Raised, attempt
from tests.differential.program import differing, program
from tests.differential.programs_basics import Log, say


@program
def conditional_edges_in_every_form(lib: Any) -> Any:
    def several(state: Any) -> list[str]:
        return ["a", "b"]

    def one(state: Any) -> Literal["a", "b"]:
        return "b"

    outputs = []
    for path, path_map in (
        (several, None),
        (one, None),
        (lambda state: True, {True: "a", False: "b"}),
        (lambda state: "left", {"left": "b"}),
        (lambda state: ["left", "right"], {"left": "a", "right": "b"}),
        (lambda state: "a", ["a", "b"]),
        (lambda state: lib.END, None),
    ):
        builder = lib.StateGraph(Log)
        builder.add_node("start", say("start")).add_node("a", say("a")).add_node("b", say("b"))
        builder.add_edge(lib.START, "start").add_conditional_edges("start", path, path_map)
        outputs.append(builder.compile().invoke({}))
    return outputs


@program
def path_sees_the_nodes_own_writes(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("set", lambda state: {"count": 1}).add_node("yes", say("yes")).add_node("no", say("no"))
    builder.add_edge(lib.START, "set")
    builder.add_conditional_edges("set", lambda state: "yes" if state.get("count") else "no")
    return builder.compile().invoke({})


@program
def several_conditional_edges_from_one_node(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("start", "a", "b"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "start")

    def first(state: Any) -> str:
        return "a"

    def second(state: Any) -> str:
        return "b"

    builder.add_conditional_edges("start", first).add_conditional_edges("start", second)
    return builder.compile().invoke({})


@program
def conditional_entry_point(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", say("a")).add_node("b", say("b"))
    builder.set_conditional_entry_point(lambda state: "b" if state.get("count") else "a")
    graph = builder.compile()
    return [graph.invoke({"count": 0}), graph.invoke({"count": 1})]


@program
def map_with_send_keeps_the_order_of_sends(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("one", lambda item: {"log": [f"one {item['n']}"]})
    builder.add_node("join", say("join"))
    builder.add_conditional_edges(lib.START, lambda state: [lib.Send("one", {"n": n}) for n in (3, 1, 2)], ["one"])
    builder.add_edge("one", "join")
    graph = builder.compile()
    return [graph.invoke({}), sorted(map(str, graph.stream({}, stream_mode="updates")))]


@program
def sends_beside_names(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", say("a")).add_node("b", lambda item: {"log": [f"b {item}"]})
    builder.add_conditional_edges(lib.START, lambda state: ["a", lib.Send("b", 1), lib.Send("b", 2)])
    return builder.compile().invoke({})


@program
def send_from_a_sent_task(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda n: {"log": [f"a {n}"]})
    builder.add_conditional_edges(lib.START, lambda state: [lib.Send("a", 1), lib.Send("a", 2)])
    builder.add_node("b", lambda n: lib.Command(update={"log": [f"b {n}"]}, goto=[lib.Send("c", n)] if n else []))
    builder.add_node("c", lambda n: {"log": [f"c {n}"]})
    builder.add_conditional_edges("a", lambda n: [lib.Send("b", 5)])
    return builder.compile().invoke({})


@differing("a Send to an unknown node is an error", clew=lambda peer: Raised(frozenset({"InvalidUpdateError"})))
def send_to_an_unknown_node(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("a", say("a")).add_edge(lib.START, "a")
    builder.add_conditional_edges("a", lambda state: lib.Send("nowhere", 1))
    graph = builder.compile()
    return attempt(lambda: graph.invoke({}))


@program
def command_updates_and_goes(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda state: lib.Command(update={"log": ["a"]}, goto="c"), destinations=("c",))
    builder.add_node("b", say("b")).add_node("c", lambda state: lib.Command(goto=["d", "e"]))
    builder.add_node("d", say("d")).add_node("e", lambda state: lib.Command(goto=lib.END))
    builder.add_edge(lib.START, "a")
    graph = builder.compile()
    return [graph.invoke({}), sorted(map(str, graph.stream({}, stream_mode="updates")))]


@program
def command_beside_a_static_edge_takes_both(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda state: lib.Command(goto="b")).add_node("b", say("b")).add_node("c", say("c"))
    builder.add_edge(lib.START, "a").add_edge("a", "c")
    return builder.compile().invoke({})


@program
def several_commands_from_one_node(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node(
        "a", lambda state: [lib.Command(update={"log": ["1"]}, goto="b"), lib.Command(goto="c"), {"log": ["2"]}]
    )
    builder.add_node("b", say("b")).add_node("c", say("c")).add_edge(lib.START, "a")
    return builder.compile().invoke({})


@program
def command_with_pairs_for_an_update(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda state: lib.Command(update=[("log", ["1"]), ("log", ["2"])])).add_edge(lib.START, "a")
    return builder.compile().invoke({})


@differing("a goto to an unknown node is an error", clew=lambda peer: Raised(frozenset({"InvalidUpdateError"})))
def command_to_an_unknown_node(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("a", lambda state: lib.Command(goto="nowhere")).add_edge(lib.START, "a")
    graph = builder.compile()
    return attempt(lambda: graph.invoke({}))


@program
def command_as_input(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", say("a")).add_node("b", say("b")).add_edge(lib.START, "a")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    return [
        graph.invoke({"log": ["in"]}, lib.config()),
        graph.invoke(lib.Command(goto="b"), lib.config()),
        graph.invoke(lib.Command(update={"log": ["put"]}, goto="b"), lib.config()),
        graph.invoke(lib.Command(update={"log": ["only put"]}), lib.config()),
        graph.get_state(lib.config()).next,
    ]


class Child(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    own: str


@program
def command_to_the_parent(lib: Any) -> Any:
    inner = lib.StateGraph(Child)
    inner.add_node(
        "deep", lambda state: lib.Command(graph=lib.Command.PARENT, update={"log": ["from deep"]}, goto="after")
    )
    inner.add_node("never", say("never")).add_edge(lib.START, "deep").add_edge("deep", "never")
    builder = lib.StateGraph(Log)
    builder.add_node("inner", inner.compile()).add_node("after", say("after")).add_node("next", say("next"))
    builder.add_edge(lib.START, "inner").add_edge("inner", "next")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    return [
        list(graph.stream({"log": ["in"]}, lib.config(), stream_mode="updates")),
        graph.get_state(lib.config()).values,
    ]


@program
def command_to_the_parents_send(lib: Any) -> Any:
    inner = lib.StateGraph(Child)
    inner.add_node(
        "deep", lambda state: lib.Command(graph=lib.Command.PARENT, goto=[lib.Send("after", 1), lib.Send("after", 2)])
    )
    inner.add_edge(lib.START, "deep")
    builder = lib.StateGraph(Log).add_node("inner", inner.compile())
    builder.add_node("after", lambda n: {"log": [f"after {n}"]}).add_edge(lib.START, "inner")
    return builder.compile().invoke({})


@program
def command_to_a_parent_that_is_not_there(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda state: lib.Command(graph=lib.Command.PARENT, goto="b")).add_edge(lib.START, "a")
    graph = builder.compile()
    return type(attempt(lambda: graph.invoke({}))).__name__
