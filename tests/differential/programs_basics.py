"""Chains, loops, parallel nodes, joins and what nodes may return."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from typing_extensions import TypedDict

from tests.differential.observe import attempt
from tests.differential.program import program


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    count: int


def say(text: str) -> Any:
    return lambda state: {"log": [text]}


def chain(lib: Any, *names: str, **options: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_sequence([(name, say(name)) for name in names])
    builder.add_edge(lib.START, names[0])
    return builder.compile(**options)


@program
def chain_of_three(lib: Any) -> Any:
    return chain(lib, "a", "b", "c").invoke({"log": ["in"]})


@program
def empty_update_and_none(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("none", lambda state: None)
    builder.add_node("empty", lambda state: {})
    builder.add_node("unknown", lambda state: {"nobody": 1})
    builder.add_edge(lib.START, "none").add_edge("none", "empty").add_edge("empty", "unknown")
    graph = builder.compile()
    return [graph.invoke({"count": 1}), list(graph.stream({"count": 1}, stream_mode="updates"))]


@program
def loop_until_done(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("work", lambda state: {"count": state["count"] + 1, "log": [str(state["count"])]})
    builder.add_edge(lib.START, "work")
    builder.add_conditional_edges("work", lambda state: "work" if state["count"] < 4 else lib.END)
    return builder.compile().invoke({"count": 0})


@program
def fan_out_writes_in_order_of_names(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("zebra", "ant", "mouse"):
        builder.add_node(name, say(name)).add_edge(lib.START, name)
    return builder.compile().invoke({})


@program
def diamond_without_join_runs_the_end_once(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("top", "left", "right", "bottom"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "top")
    for side in ("left", "right"):
        builder.add_edge("top", side).add_edge(side, "bottom")
    return builder.compile().invoke({})


@program
def uneven_branches_without_join_run_the_end_twice(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("short", "long1", "long2", "end"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "short").add_edge(lib.START, "long1").add_edge("long1", "long2")
    builder.add_edge("short", "end").add_edge("long2", "end")
    return builder.compile().invoke({})


@program
def uneven_branches_with_join_run_the_end_once(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("short", "long1", "long2", "end"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "short").add_edge(lib.START, "long1").add_edge("long1", "long2")
    builder.add_edge(["short", "long2"], "end")
    return builder.compile().invoke({})


@program
def deferred_node_runs_last(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("short", "long1", "long2"):
        builder.add_node(name, say(name))
    builder.add_node("end", say("end"), defer=True)
    builder.add_edge(lib.START, "short").add_edge(lib.START, "long1").add_edge("long1", "long2")
    builder.add_edge("short", "end").add_edge("long2", "end")
    return builder.compile().invoke({})


@program
def join_fires_again_in_a_loop(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("fork", lambda state: {"count": state.get("count", 0) + 1})
    for name in ("a", "b", "join"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "fork").add_edge("fork", "a").add_edge("fork", "b").add_edge(["a", "b"], "join")
    builder.add_conditional_edges("join", lambda state: "fork" if state["count"] < 3 else lib.END)
    return builder.compile().invoke({})


@program
def lists_of_updates_and_tuples(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("many", lambda state: [{"log": ["a"]}, lib.Command(update={"log": ["b"]}), {"count": 5}])
    builder.add_edge(lib.START, "many")
    graph = builder.compile()
    return [graph.invoke({}), list(graph.stream({}, stream_mode="updates"))]


@program
def same_key_twice_from_one_node(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("twice", lambda state: [{"count": 1}, {"count": 2}])
    builder.add_edge(lib.START, "twice")
    return attempt(lambda: builder.compile().invoke({}))


@program
def same_key_from_two_parallel_nodes(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda state: {"count": 1}).add_edge(lib.START, "a")
    builder.add_node("b", lambda state: {"count": 2}).add_edge(lib.START, "b")
    return attempt(lambda: builder.compile().invoke({}))


@program
def not_a_dict(lib: Any) -> Any:
    results = []
    for wrong in (7, "text", [1], object):
        builder = lib.StateGraph(Log)
        builder.add_node("wrong", lambda state, wrong=wrong: wrong).add_edge(lib.START, "wrong")
        results.append(attempt(lambda builder=builder: builder.compile().invoke({})))
    return results


@program
def overwrite_replaces_what_a_reducer_would_add(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", say("a")).add_edge(lib.START, "a")
    builder.add_node("b", lambda state: {"log": lib.Overwrite(["only"])}).add_edge("a", "b")
    builder.add_node("c", lambda state: {"log": {"__overwrite__": ["again"]}}).add_edge("b", "c")
    builder.add_node("d", say("d")).add_edge("c", "d")
    return list(builder.compile().stream({"log": ["in"]}, stream_mode="values"))


@program
def overwrite_beside_a_plain_write(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", lambda state: {"log": lib.Overwrite(["only"])}).add_edge(lib.START, "a")
    builder.add_node("b", say("b")).add_edge(lib.START, "b")
    return builder.compile().invoke({"log": ["in"]})


@program
def two_overwrites_at_once(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("a", "b"):
        builder.add_node(name, lambda state: {"log": lib.Overwrite(["x"])}).add_edge(lib.START, name)
    return attempt(lambda: builder.compile().invoke({}))


@program
def output_keys_and_batch(lib: Any) -> Any:
    graph = chain(lib, "a", "b")
    return [
        graph.invoke({"count": 3}, output_keys=["count"]),
        graph.invoke({"count": 3}, output_keys="log"),
        graph.batch([{"count": 1}, {"count": 2}]),
    ]


@program
def thread_remembers(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    config = lib.config()
    return [graph.invoke({"log": ["one"]}, config), graph.invoke({"log": ["two"]}, config), graph.invoke({}, config)]


@program
def managed_values(lib: Any) -> Any:
    fields = {"log": Annotated[list, operator.add], "remaining": lib.RemainingSteps, "last": lib.IsLastStep}
    State = TypedDict("State", fields, total=False)

    builder = lib.StateGraph(State)
    builder.add_node("a", lambda state: {"log": [(state["remaining"], state["last"])]})
    builder.add_edge(lib.START, "a")
    builder.add_conditional_edges("a", lambda state: "a" if len(state["log"]) < 3 else lib.END)
    return builder.compile().invoke({}, {"recursion_limit": 4})


@program
def special_channels(lib: Any) -> Any:
    fields = {
        "topic": Annotated[list, lib.Topic(str)],
        "kept": Annotated[list, lib.Topic(str, accumulate=True)],
        "passing": Annotated[str, lib.EphemeralValue(str)],
        "anyone": Annotated[str, lib.AnyValue(str)],
        "private": Annotated[str, lib.UntrackedValue(str)],
        "seen": Annotated[list, operator.add],
    }
    State = TypedDict("State", fields, total=False)

    builder = lib.StateGraph(State)
    for name in ("a", "b"):
        builder.add_node(name, lambda state, name=name: {"topic": name, "kept": [name], "anyone": name})
        builder.add_edge(lib.START, name)
    builder.add_node("c", lambda state: {"seen": [dict(state)], "kept": "c"}).add_edge(["a", "b"], "c")
    builder.add_node("d", lambda state: {"seen": [dict(state)]}).add_edge("c", "d")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    output = graph.invoke({"passing": "p", "private": "x"}, lib.config())
    return [output, graph.get_state(lib.config()).values]


@program
def writer_config_and_store_reach_a_node(lib: Any) -> Any:
    class Context(TypedDict):
        user: str

    def node(state, config, *, store, writer, runtime):  # what is injected goes by name
        store.put(("notes",), "n1", {"user": runtime.context["user"]})
        writer({"progress": 1})
        return {"log": [config["configurable"]["thread_id"], runtime.context["user"]]}

    node.__annotations__ |= {"runtime": lib.Runtime, "writer": lib.StreamWriter}
    store = lib.InMemoryStore()
    builder = lib.StateGraph(Log, context_schema=Context).add_node("node", node).add_edge(lib.START, "node")
    graph = builder.compile(store=store, checkpointer=lib.InMemorySaver())
    parts = list(graph.stream({}, lib.config("t"), context={"user": "u"}, stream_mode=["custom", "values"]))
    return [parts, store.get(("notes",), "n1").value]


@program
def run_drawing(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    builder.add_node("a", say("a")).add_node("b", say("b")).add_edge(lib.START, "a")
    builder.add_conditional_edges("a", lambda state: "b", {"go": "b", "stop": lib.END})
    drawn = builder.compile().get_graph()
    nodes = sorted(drawn.nodes)
    return [nodes, sorted((edge.source, edge.target, edge.conditional) for edge in drawn.edges)]
