"""Graphs inside graphs: shared and own state, memory, interrupts and inspection."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from typing_extensions import TypedDict

from tests.differential.observe import attempt
from tests.differential.program import program
from tests.differential.programs_basics import Log, say
from tests.differential.programs_state_api import short


class Own(TypedDict, total=False):
    own: Annotated[list[str], operator.add]


class Only(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def remembering(lib: Any, checkpointer: Any) -> Any:
    builder = lib.StateGraph(Own)
    builder.add_node("note", lambda state: {"own": [f"note {len(state['own'])}"]}).add_edge(lib.START, "note")
    return builder.compile(checkpointer=checkpointer)


def asking_inside(lib: Any, checkpointer: Any = None) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("first", say("first")).add_node("ask", lambda state: {"log": [lib.interrupt("deep?")]})
    builder.add_edge(lib.START, "first").add_edge("first", "ask")
    return builder.compile(checkpointer=checkpointer)


def around(lib: Any, inner: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("inner", inner).add_node("after", say("after"))
    builder.add_edge(lib.START, "inner").add_edge("inner", "after")
    return builder.compile(checkpointer=lib.InMemorySaver())


@program
def subgraph_as_a_node(lib: Any) -> Any:
    inner = lib.StateGraph(Log).add_node("deep", say("deep")).add_edge(lib.START, "deep").compile()
    return around(lib, inner).invoke({"log": ["in"]}, lib.config())


@program
def subgraph_called_in_a_node(lib: Any) -> Any:
    inner = remembering(lib, None)

    def call(state: Any) -> Any:
        return {"log": inner.invoke({"own": state["log"]})["own"]}

    return around(lib, call).invoke({"log": ["in"]}, lib.config())


@program
def memory_of_subgraphs_over_turns(lib: Any) -> Any:
    outputs = []
    for checkpointer in (None, True, False):
        inner = remembering(lib, checkpointer)

        def call(state: Any, inner: Any = inner) -> Any:
            return {"log": inner.invoke({"own": ["turn"]})["own"]}

        graph = around(lib, call)
        outputs.append([graph.invoke({}, lib.config()), graph.invoke({}, lib.config())])
    return outputs


@program
def interrupt_inside_a_subgraph(lib: Any) -> Any:
    outputs = []
    for checkpointer in (None, True):
        graph = around(lib, asking_inside(lib, checkpointer))
        outputs.append(
            [
                graph.invoke({"log": ["in"]}, lib.config()),
                graph.get_state(lib.config()).next,
                graph.invoke(lib.Command(resume="yes"), lib.config()),
            ]
        )
    return outputs


@program
def interrupt_inside_a_called_subgraph(lib: Any) -> Any:
    ran: list[str] = []
    inner = asking_inside(lib)

    def call(state: Any) -> Any:
        ran.append("call")
        return {"log": inner.invoke({"log": ["given"]})["log"]}

    graph = around(lib, call)
    first = graph.invoke({}, lib.config())
    return [first, graph.invoke(lib.Command(resume="yes"), lib.config()), ran]


@program
def state_of_an_interrupted_subgraph(lib: Any) -> Any:
    graph = around(lib, asking_inside(lib))
    graph.invoke({"log": ["in"]}, lib.config())
    outer = graph.get_state(lib.config(), subgraphs=True)
    task = outer.tasks[0]
    return [outer.values, outer.next, task.name, short(task.state), short(graph.get_state(task.state.config))]


@program
def state_of_a_subgraph_without_asking_for_it(lib: Any) -> Any:
    graph = around(lib, asking_inside(lib))
    graph.invoke({"log": ["in"]}, lib.config())
    task = graph.get_state(lib.config()).tasks[0]
    return [task.name, task.state]


@program
def update_inside_an_interrupted_subgraph(lib: Any) -> Any:
    graph = around(lib, asking_inside(lib))
    graph.invoke({"log": ["in"]}, lib.config())
    inner = graph.get_state(lib.config(), subgraphs=True).tasks[0].state
    graph.update_state(inner.config, {"log": ["answered from outside"]}, as_node="ask")
    return graph.invoke(None, lib.config())


@program
def stream_of_an_interrupted_subgraph(lib: Any) -> Any:
    graph = around(lib, asking_inside(lib))
    modes = ["updates", "values"]
    return [
        list(graph.stream({"log": ["in"]}, lib.config(), stream_mode=modes, subgraphs=True)),
        list(graph.stream(lib.Command(resume="yes"), lib.config(), stream_mode=modes, subgraphs=True)),
    ]


@program
def breakpoint_inside_a_subgraph(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("one", say("one")).add_node("two", say("two"))
    inner = builder.add_edge(lib.START, "one").add_edge("one", "two").compile(interrupt_before=["two"])
    graph = around(lib, inner)
    return [
        graph.invoke({"log": ["in"]}, lib.config()),
        graph.get_state(lib.config()).next,
        graph.invoke(None, lib.config()),
    ]


@program
def parallel_subgraphs_that_ask(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("left", "right"):
        builder.add_node(name, asking_inside(lib)).add_edge(lib.START, name)
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    asked = graph.invoke({}, lib.config())["__interrupt__"]
    return [len(asked), graph.invoke(lib.Command(resume={one.id: "yes" for one in asked}), lib.config())]


@program
def three_levels_deep(lib: Any) -> Any:
    middle = lib.StateGraph(Log).add_node("inner", asking_inside(lib)).add_edge(lib.START, "inner").compile()
    graph = around(lib, middle)
    first = graph.invoke({"log": ["in"]}, lib.config())
    task = graph.get_state(lib.config(), subgraphs=True).tasks[0]
    deepest = task.state.tasks[0].state
    return [first, deepest.values, deepest.next, graph.invoke(lib.Command(resume="yes"), lib.config())]


@program
def subgraphs_of_a_graph(lib: Any) -> Any:
    middle = lib.StateGraph(Log).add_node("deep", asking_inside(lib)).add_edge(lib.START, "deep").compile()
    graph = around(lib, middle)
    return [
        sorted(name for name, _ in graph.get_subgraphs()),
        sorted(name for name, _ in graph.get_subgraphs(recurse=True)),
        sorted(name for name, _ in graph.get_subgraphs(namespace="inner")),
    ]


@program
def subgraph_with_true_at_the_root_is_refused(lib: Any) -> Any:
    graph = remembering(lib, True)
    return attempt(lambda: graph.invoke({"own": []}, lib.config()))


@program
def subgraph_failure_reaches_the_caller(lib: Any) -> Any:
    def fail(state: Any) -> Any:
        raise ArithmeticError("deep")

    inner = lib.StateGraph(Log).add_node("deep", fail).add_edge(lib.START, "deep").compile()
    graph = around(lib, inner)
    return [attempt(lambda: graph.invoke({"log": ["in"]}, lib.config())), short(graph.get_state(lib.config()))["next"]]


@program
def sends_to_a_subgraph(lib: Any) -> Any:
    inner = lib.StateGraph(Log, output_schema=Only).add_node("deep", lambda state: {"log": [f"deep {state['count']}"]})
    builder = lib.StateGraph(Log).add_node("inner", inner.add_edge(lib.START, "deep").compile())
    builder.add_conditional_edges(lib.START, lambda state: [lib.Send("inner", {"count": n}) for n in (1, 2)], ["inner"])
    return builder.compile().invoke({})
