"""What is refused, and what a failure leaves behind."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

from tests.differential.observe import Raised, attempt
from tests.differential.program import differing, program
from tests.differential.programs_basics import Log, chain, say
from tests.differential.programs_state_api import history, short


@program
def graphs_that_cannot_be_built(lib: Any) -> Any:
    def no_entry(builder: Any) -> None:
        builder.add_node("a", say("a"))

    def unknown_end(builder: Any) -> None:
        builder.add_node("a", say("a")).add_edge(lib.START, "a").add_edge("a", "nowhere")

    def unknown_start(builder: Any) -> None:
        builder.add_node("a", say("a")).add_edge(lib.START, "a").add_edge("nowhere", "a")

    def twice(builder: Any) -> None:
        builder.add_node("a", say("a")).add_node("a", say("a"))

    def reserved(builder: Any) -> None:
        builder.add_node("__start__", say("a"))

    def bad_name(builder: Any) -> None:
        builder.add_node("a|b", say("a"))

    def edge_from_end(builder: Any) -> None:
        builder.add_node("a", say("a")).add_edge(lib.END, "a")

    def edge_to_start(builder: Any) -> None:
        builder.add_node("a", say("a")).add_edge("a", lib.START)

    def name_of_a_field(builder: Any) -> None:
        builder.add_node("log", say("a")).add_edge(lib.START, "log")

    def same_path_twice(builder: Any) -> None:
        def path(state: Any) -> str:
            return "a"

        builder.add_node("a", say("a")).add_edge(lib.START, "a")
        builder.add_conditional_edges("a", path).add_conditional_edges("a", path)

    def breakpoint_nowhere(builder: Any) -> Any:
        builder.add_node("a", say("a")).add_edge(lib.START, "a")
        return builder.compile(interrupt_before=["nowhere"])

    def build(make: Any) -> Any:
        builder = lib.StateGraph(Log)
        make(builder)
        builder.compile()
        return "built"

    makes = (
        no_entry,
        unknown_end,
        unknown_start,
        twice,
        reserved,
        bad_name,
        edge_from_end,
        edge_to_start,
        name_of_a_field,
        same_path_twice,
        breakpoint_nowhere,
    )
    return {make.__name__: attempt(lambda make=make: build(make)) for make in makes}


@program
def failed_node_leaves_the_thread_where_it_was(lib: Any) -> Any:
    tries: list[int] = []

    def flaky(state: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ArithmeticError("no")
        return {"log": ["flaky"]}

    builder = lib.StateGraph(Log).add_sequence([("a", say("a")), ("flaky", flaky), ("b", say("b"))])
    graph = builder.add_edge(lib.START, "a").compile(checkpointer=lib.InMemorySaver())
    failed = attempt(lambda: graph.invoke({"log": ["in"]}, lib.config()))
    state = graph.get_state(lib.config())
    return [
        failed,
        state.values,
        state.next,
        [bool(task.error) for task in state.tasks],
        graph.invoke(None, lib.config()),
        len(history(graph, lib.config())),
    ]


@program
def finished_sibling_of_a_failed_node_is_not_run_again(lib: Any) -> Any:
    ran: list[str] = []

    def good(state: Any) -> Any:
        ran.append("good")
        return {"log": ["good"]}

    async def agood(state: Any) -> Any:
        return good(state)

    async def flaky(state: Any) -> Any:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ran.append("flaky")
        if ran.count("flaky") == 1:
            raise ArithmeticError("no")
        return {"log": ["flaky"]}

    async def both() -> Any:
        builder = lib.StateGraph(Log).add_node("good", agood).add_node("flaky", flaky)
        builder.add_edge(lib.START, "good").add_edge(lib.START, "flaky")
        graph = builder.compile(checkpointer=lib.InMemorySaver())
        failed = False
        try:
            await graph.ainvoke({}, lib.config())
        except ArithmeticError:
            failed = True
        state = await graph.aget_state(lib.config())
        return [failed, state.next, await graph.ainvoke(None, lib.config()), sorted(ran)]

    return asyncio.run(both())


@program
def async_node_in_a_sync_run(lib: Any) -> Any:
    async def node(state: Any) -> Any:
        return {"log": ["x"]}

    graph = lib.StateGraph(Log).add_node("node", node).add_edge(lib.START, "node").compile()
    return attempt(lambda: graph.invoke({}))


@program
def empty_and_missing_inputs(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    return [
        attempt(lambda: graph.invoke(None, lib.config("1"))),
        attempt(lambda: graph.invoke({}, lib.config("2"))),
        attempt(lambda: graph.invoke({"unknown": 1}, lib.config("3"))),
        attempt(lambda: graph.invoke(7, lib.config("4"))),
    ]


@differing(
    "a checkpoint that the thread does not have is an error", clew=lambda peer: Raised(frozenset({"ValueError"}))
)
def unknown_checkpoint(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    return attempt(lambda: graph.invoke({"log": ["x"]}, lib.config("5", checkpoint_id="1ef-not-there")))


@program
def failure_streams_what_came_before(lib: Any) -> Any:
    def fail(state: Any) -> Any:
        raise ArithmeticError("no")

    builder = lib.StateGraph(Log).add_node("a", say("a")).add_node("fail", fail)
    graph = builder.add_edge(lib.START, "a").add_edge("a", "fail").compile()
    parts: list[Any] = []
    failed = attempt(lambda: parts.extend(graph.stream({}, stream_mode=["updates", "tasks"])))
    seen: list[Any] = []

    def consume() -> None:
        for part in graph.stream({}, stream_mode=["updates", "tasks"]):
            seen.append(part)

    return [failed, attempt(consume), seen]


@differing(
    "a checkpointer without a thread_id runs on a fresh thread and warns",
    clew=lambda peer: ["list", "result", ["list", "a"]],
)
def checkpointer_without_a_thread_id(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    with warnings.catch_warnings(record=True):  # what it says is tested where bad input is
        output = attempt(lambda: graph.invoke({}))
    return ["result", output["log"] if isinstance(output, dict) else output]


@differing(
    "interrupt is a BaseException, so a node's `except Exception` does not swallow it",
    clew=lambda peer: ["list", "__interrupt__"],
)
def interrupt_inside_except_exception(lib: Any) -> Any:
    def ask(state: Any) -> Any:
        try:
            return {"log": [lib.interrupt("?")]}
        except Exception:
            return {"log": ["swallowed"]}

    builder = lib.StateGraph(Log).add_node("ask", ask).add_edge(lib.START, "ask")
    output = builder.compile(checkpointer=lib.InMemorySaver()).invoke({}, lib.config())
    return [key for key in output if key == "__interrupt__"] or ["swallowed"]


@differing(
    "lossy values round-trip exactly",
    clew=lambda peer: ["list", "Counter", "deque", "tuple", "set"],
)
def lossy_values(lib: Any) -> Any:
    from collections import Counter, deque

    builder = lib.StateGraph(dict)
    builder.add_node("a", lambda state: {"v": [Counter("aab"), deque([1], maxlen=2), (1, 2), {3}]})
    graph = builder.add_edge(lib.START, "a").compile(checkpointer=lib.InMemorySaver())
    graph.invoke({}, lib.config())
    return [type(value).__name__ for value in graph.get_state(lib.config()).values["v"]]


@differing(
    "an invalid write is refused and nothing is stored",
    clew=lambda peer: ["list", peer[1], {"set": []}],
)
def invalid_pydantic_write(lib: Any) -> Any:
    from pydantic import BaseModel

    class Model(BaseModel):
        number: int = 1

    builder = lib.StateGraph(Model).add_node("a", lambda state: {"number": "many"}).add_edge(lib.START, "a")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    attempt(lambda: graph.invoke({"number": 2}, lib.config()))
    states = [one.values for one in graph.get_state_history(lib.config())]
    return ["stored", {values["number"] for values in states if isinstance(values.get("number"), str)}]


@differing(
    "a thread id must be a string, an integer or a UUID, of 1 to 255 characters without NUL",
    clew=lambda peer: ["list", "ran", "ran", "ran", "refused", "refused", "refused"],
)
def thread_ids(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    return [
        "ran" if isinstance(attempt(lambda thread=thread: graph.invoke({}, lib.config(thread))), dict) else "refused"
        for thread in ("a/../b", 7, "x" * 255, "", "x" * 256, "a\0b")
    ]


@program
def integer_and_text_thread_ids_are_the_same_thread(lib: Any) -> Any:
    graph = chain(lib, "a", checkpointer=lib.InMemorySaver())
    graph.invoke({}, lib.config(7))
    return [graph.get_state(lib.config("7")).values, short(graph.get_state(lib.config("8")))["values"]]
