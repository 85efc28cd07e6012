"""get_state, histories, updates, time travel and forks."""

from __future__ import annotations

from typing import Any

from tests.differential.observe import attempt
from tests.differential.program import program
from tests.differential.programs_basics import Log, chain, say


def short(snapshot: Any) -> Any:
    return {
        "values": snapshot.values,
        "next": snapshot.next,
        "source": (snapshot.metadata or {}).get("source"),
        "step": (snapshot.metadata or {}).get("step"),
        "id": snapshot.config["configurable"].get("checkpoint_id"),
        "parent": (snapshot.parent_config or {}).get("configurable", {}).get("checkpoint_id"),
        "tasks": snapshot.tasks,
        "interrupts": snapshot.interrupts,
    }


def history(graph: Any, config: Any, **options: Any) -> Any:
    return [short(snapshot) for snapshot in graph.get_state_history(config, **options)]


@program
def state_of_a_fresh_thread(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    return [graph.get_state(lib.config()), list(graph.get_state_history(lib.config()))]


@program
def state_after_a_run(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, {**lib.config(), "metadata": {"tier": "gold"}})
    return graph.get_state(lib.config())


@program
def history_of_two_runs(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["one"]}, lib.config())
    graph.invoke({"log": ["two"]}, lib.config())
    return history(graph, lib.config())


@program
def history_with_limit_filter_and_before(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["one"]}, lib.config())
    graph.invoke({"log": ["two"]}, lib.config())
    every = list(graph.get_state_history(lib.config()))
    return [
        history(graph, lib.config(), limit=2),
        history(graph, lib.config(), filter={"source": "input"}),
        history(graph, lib.config(), filter={"step": 1}),
        history(graph, lib.config(), before=every[2].config, limit=1),
    ]


@program
def state_at_a_checkpoint(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    return [short(graph.get_state(past.config)) for past in graph.get_state_history(lib.config())]


@program
def state_without_a_checkpointer(lib: Any) -> Any:
    graph = chain(lib, "a")
    return [attempt(lambda: graph.get_state(lib.config())), attempt(lambda: graph.update_state(lib.config(), {}))]


@program
def updates_to_the_state(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    seen = []
    for values, as_node in (
        ({"log": ["inferred"]}, None),
        ({"log": ["as a"]}, "a"),
        ({"log": ["as b"]}, "b"),
        (None, None),
        ({"log": ["as input"]}, "__input__"),
        (None, lib.END),
        ({"log": ["as start"]}, lib.START),
    ):
        config = graph.update_state(lib.config(), values, as_node=as_node)
        seen.append([config, short(graph.get_state(lib.config()))])
    return [*seen, graph.invoke(None, lib.config()), history(graph, lib.config())]


@program
def update_makes_a_thread(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.update_state(lib.config(), {"log": ["first"]}, as_node="a")
    return [short(graph.get_state(lib.config())), graph.invoke(None, lib.config()), history(graph, lib.config())]


@program
def update_of_a_fresh_thread_without_a_node(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    return [
        attempt(lambda: graph.update_state(lib.config(), {"log": ["x"]})),
        attempt(lambda: graph.update_state(lib.config(), {"log": ["x"]}, as_node="nobody")),
    ]


@program
def ambiguous_update(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("a", "b"):
        builder.add_node(name, say(name)).add_edge(lib.START, name)
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    graph.invoke({}, lib.config())
    return attempt(lambda: graph.update_state(lib.config(), {"log": ["x"]}))


@program
def copied_checkpoint(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    past = next(one for one in graph.get_state_history(lib.config()) if one.next == ("b",))
    config = graph.update_state(past.config, None, as_node="__copy__")
    return [short(graph.get_state(config)), graph.invoke(None, config), history(graph, lib.config())]


@program
def bulk_updates(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    update = lib.StateUpdate
    graph.bulk_update_state(
        lib.config(),
        [
            [update({"log": ["in"]}, "__input__")],
            [update({"log": ["a1"]}, "a")],
            [update({"log": ["b1"]}, "b"), update({"log": ["a2"]}, "a")],
        ],
    )
    return [history(graph, lib.config()), attempt(lambda: graph.bulk_update_state(lib.config(), []))]


@program
def update_routes_through_conditional_edges(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("a", "yes", "no"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "a")
    builder.add_conditional_edges("a", lambda state: "yes" if state.get("count") else "no")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    graph.update_state(lib.config(), {"count": 1}, as_node="a")
    first = graph.get_state(lib.config()).next
    graph.update_state(lib.config(), {"count": 0}, as_node="a")
    return [first, graph.get_state(lib.config()).next, graph.invoke(None, lib.config())]


@program
def update_with_overwrite(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    graph.update_state(lib.config(), {"log": lib.Overwrite(["clean"])})
    return graph.get_state(lib.config()).values


@program
def replay_from_the_past(lib: Any) -> Any:
    ran: list[str] = []

    def node(name: str) -> Any:
        def run(state: Any) -> Any:
            ran.append(name)
            return {"log": [name]}

        return run

    builder = lib.StateGraph(Log).add_sequence([("a", node("a")), ("b", node("b")), ("c", node("c"))])
    graph = builder.add_edge(lib.START, "a").compile(checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    past = next(one for one in graph.get_state_history(lib.config()) if one.next == ("b",))
    ran.clear()
    output = graph.invoke(None, past.config)
    return [output, list(ran), history(graph, lib.config())]


@program
def fork_with_an_update(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    past = next(one for one in graph.get_state_history(lib.config()) if one.next == ("b",))
    config = graph.update_state(past.config, {"log": ["forked"]})
    return [graph.get_state(config).next, graph.invoke(None, config), history(graph, lib.config())]


@program
def fork_with_an_input(lib: Any) -> Any:
    graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["in"]}, lib.config())
    past = next(one for one in graph.get_state_history(lib.config()) if one.next == ("b",))
    return [graph.invoke({"log": ["other"]}, past.config), history(graph, lib.config())]


@program
def nothing_to_continue(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    fresh = attempt(lambda: graph.invoke(None, lib.config()))
    graph.invoke({"log": ["in"]}, lib.config())
    return [fresh, graph.invoke(None, lib.config()), history(graph, lib.config())]


@program
def threads_are_apart(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    graph.invoke({"log": ["one"]}, lib.config("1"))
    graph.invoke({"log": ["two"]}, lib.config("2"))
    return [graph.get_state(lib.config(thread)).values for thread in ("1", "2", "3")]


@program
def durabilities_give_the_same_output(lib: Any) -> Any:
    found = []
    for durability in ("sync", "async", "exit"):
        graph = chain(lib, "a", "b", checkpointer=lib.InMemorySaver())
        output = graph.invoke({"log": ["in"]}, lib.config(), durability=durability)
        found.append([output, graph.get_state(lib.config()).values, graph.get_state(lib.config()).next])
    return found


@program
def metadata_of_the_run_is_kept(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    config = {**lib.config("1", tenant="acme", limit=3), "metadata": {"tier": "gold", "n": 1}}
    graph.invoke({"log": ["in"]}, config)
    kept = ("source", "step", "parents", "tier", "n", "tenant", "limit", "thread_id")
    metadata = graph.get_state(lib.config()).metadata
    return {key: metadata[key] for key in kept if key in metadata}


@program
def update_as_one_of_several_waiting_nodes(lib: Any) -> Any:
    builder = lib.StateGraph(Log)
    for name in ("a", "b", "c", "d"):
        builder.add_node(name, say(name))
    builder.add_edge(lib.START, "a").add_edge("a", "b").add_edge("a", "c").add_edge("b", "d")
    graph = builder.compile(checkpointer=lib.InMemorySaver(), interrupt_before=["b", "c"])
    graph.invoke({}, lib.config())
    graph.update_state(lib.config(), {"log": ["b by hand"]}, as_node="b")
    return [graph.get_state(lib.config()).next, graph.invoke(None, lib.config(), interrupt_before=[])]
