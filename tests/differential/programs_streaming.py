"""What each stream mode gives, alone and together."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from typing_extensions import TypedDict

from tests.differential.program import program
from tests.differential.programs_basics import Log, chain, say

MODES = ("values", "updates", "custom", "tasks", "checkpoints", "debug")


def talkative(lib: Any, **options: Any) -> Any:
    def first(state: Any, writer: Any) -> Any:
        writer("starting")
        writer({"done": 1})
        return {"log": ["first"]}

    first.__annotations__["writer"] = lib.StreamWriter
    builder = lib.StateGraph(Log).add_node("first", first).add_node("second", say("second"))
    return builder.add_edge(lib.START, "first").add_edge("first", "second").compile(**options)


def each_mode(lib: Any, mode: str) -> Any:
    graph = talkative(lib, checkpointer=lib.InMemorySaver())
    return list(graph.stream({"log": ["in"]}, lib.config(), stream_mode=mode))


@program
def stream_values(lib: Any) -> Any:
    return each_mode(lib, "values")


@program
def stream_updates(lib: Any) -> Any:
    return each_mode(lib, "updates")


@program
def stream_custom(lib: Any) -> Any:
    return each_mode(lib, "custom")


@program
def stream_tasks(lib: Any) -> Any:
    return each_mode(lib, "tasks")


@program
def stream_checkpoints(lib: Any) -> Any:
    return each_mode(lib, "checkpoints")


@program
def stream_debug(lib: Any) -> Any:
    return each_mode(lib, "debug")


@program
def stream_without_a_mode_gives_updates(lib: Any) -> Any:
    return list(talkative(lib).stream({"log": ["in"]}))


@program
def stream_debug_without_a_checkpointer(lib: Any) -> Any:
    return list(talkative(lib).stream({"log": ["in"]}, stream_mode="debug"))


@program
def stream_several_modes_in_order(lib: Any) -> Any:
    graph = talkative(lib, checkpointer=lib.InMemorySaver())
    return list(graph.stream({"log": ["in"]}, lib.config(), stream_mode=["values", "updates", "custom", "tasks"]))


@program
def stream_a_list_of_one_mode(lib: Any) -> Any:
    return list(talkative(lib).stream({}, stream_mode=["values"]))


@program
def stream_v2_parts(lib: Any) -> Any:
    graph = talkative(lib, checkpointer=lib.InMemorySaver())
    modes = ["values", "updates", "custom", "tasks"]
    return [
        list(graph.stream({"log": ["in"]}, lib.config(), stream_mode=modes, version="v2")),
        list(graph.stream({"log": ["in"]}, lib.config("2"), stream_mode="updates", version="v2")),
    ]


@program
def stream_under_asyncio(lib: Any) -> Any:
    async def collect() -> Any:
        async def node(state: Any) -> Any:
            lib.get_stream_writer()("hi")
            return {"log": ["node"]}

        graph = lib.StateGraph(Log).add_node("node", node).add_edge(lib.START, "node").compile()
        parts = [part async for part in graph.astream({}, stream_mode=["custom", "values", "updates"])]
        return [parts, await graph.ainvoke({})]

    return asyncio.run(collect())


@program
def stream_of_an_input_only(lib: Any) -> Any:
    graph = chain(lib, "a")
    return [list(graph.stream({"count": 2}, stream_mode="values")), list(graph.stream({}, stream_mode="values"))]


@program
def stream_with_output_keys(lib: Any) -> Any:
    graph = chain(lib, "a", "b")
    return [
        list(graph.stream({"count": 1}, stream_mode="values", output_keys=["log"])),
        list(graph.stream({"count": 1}, stream_mode="updates", output_keys=["count"])),
        list(graph.stream({"count": 1}, stream_mode="values", output_keys="count")),
    ]


def nested(lib: Any, **options: Any) -> Any:
    inner = lib.StateGraph(Log).add_node("one", say("one")).add_node("two", say("two"))
    inner.add_edge(lib.START, "one").add_edge("one", "two")
    builder = lib.StateGraph(Log).add_node("before", say("before")).add_node("inner", inner.compile())
    return builder.add_edge(lib.START, "before").add_edge("before", "inner").compile(**options)


@program
def stream_subgraphs(lib: Any) -> Any:
    graph = nested(lib, checkpointer=lib.InMemorySaver())
    return [
        list(graph.stream({"log": ["in"]}, lib.config("1"), stream_mode="updates", subgraphs=True)),
        list(graph.stream({"log": ["in"]}, lib.config("2"), stream_mode=["values", "updates"], subgraphs=True)),
        list(graph.stream({"log": ["in"]}, lib.config("3"), stream_mode="updates", subgraphs=True, version="v2")),
        list(graph.stream({"log": ["in"]}, lib.config("4"), stream_mode="updates")),
    ]


@program
def stream_subgraph_tasks_and_checkpoints(lib: Any) -> Any:
    graph = nested(lib, checkpointer=lib.InMemorySaver())
    return [
        list(graph.stream({"log": ["in"]}, lib.config("1"), stream_mode="tasks", subgraphs=True)),
        list(graph.stream({"log": ["in"]}, lib.config("2"), stream_mode="checkpoints", subgraphs=True)),
    ]


def metadata_keys(metadata: dict[str, Any]) -> dict[str, Any]:
    kept = ("langgraph_step", "langgraph_node", "langgraph_triggers", "langgraph_path", "langgraph_checkpoint_ns")
    return {"keys": sorted(metadata), **{key: metadata[key] for key in (*kept, "tags") if key in metadata}}


def chat(lib: Any, *texts: str, **options: Any) -> Any:
    model = GenericFakeChatModel(messages=iter([AIMessage(text) for text in texts]))

    def call(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    builder = lib.StateGraph(lib.MessagesState).add_node("call", call)
    builder.add_node("note", lambda state: {"messages": [AIMessage("noted", id="note")]})
    return builder.add_edge(lib.START, "call").add_edge("call", "note").compile(**options)


@program
def stream_messages(lib: Any) -> Any:
    graph = chat(lib, "hello there", checkpointer=lib.InMemorySaver())
    config = {**lib.config(), "tags": ["mine"], "metadata": {"user": "u"}}
    parts = list(graph.stream({"messages": "hi"}, config, stream_mode="messages"))
    return [[type(message).__name__, message.content, metadata_keys(metadata)] for message, metadata in parts]


@program
def stream_messages_beside_updates(lib: Any) -> Any:
    graph = chat(lib, "one two")
    parts = list(graph.stream({"messages": "hi"}, stream_mode=["messages", "updates"]))
    return [
        [mode, part[0].content if mode == "messages" else [m.content for m in next(iter(part.values()))["messages"]]]
        for mode, part in parts
    ]


@program
def stream_messages_of_subgraphs(lib: Any) -> Any:
    builder = lib.StateGraph(lib.MessagesState).add_node("inner", chat(lib, "a b", "c d")).add_edge(lib.START, "inner")
    graph = builder.compile()
    return [
        [
            [ns, message.content]
            for ns, (message, _) in graph.stream({"messages": "hi"}, stream_mode="messages", subgraphs=True)
        ],
        [message.content for message, _ in graph.stream({"messages": "hi"}, stream_mode="messages")],
    ]


@program
def stream_messages_under_asyncio(lib: Any) -> Any:
    model = GenericFakeChatModel(messages=iter([AIMessage("one two")]))

    async def call(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def collect() -> Any:
        builder = lib.StateGraph(lib.MessagesState).add_node("call", call).add_edge(lib.START, "call")
        graph = builder.compile()
        return [message.content async for message, _ in graph.astream({"messages": "hi"}, stream_mode="messages")]

    return asyncio.run(collect())


class Wide(TypedDict, total=False):
    a: int
    b: int
    log: Annotated[list[str], operator.add]


@program
def stream_parallel_nodes(lib: Any) -> Any:
    builder = lib.StateGraph(Wide)
    builder.add_node("one", lambda state: {"a": 1, "log": ["one"]}).add_edge(lib.START, "one")
    builder.add_node("two", lambda state: {"b": 2, "log": ["two"]}).add_edge(lib.START, "two")
    graph = builder.compile()
    updates = sorted(map(str, graph.stream({}, stream_mode="updates")))
    return [list(graph.stream({}, stream_mode="values")), updates]


@program
def stream_resumed_run(lib: Any) -> Any:
    builder = lib.StateGraph(Log).add_node("ask", lambda state: {"log": [lib.interrupt("name?")]})
    builder.add_node("after", say("after")).add_edge(lib.START, "ask").add_edge("ask", "after")
    graph = builder.compile(checkpointer=lib.InMemorySaver())
    modes = ["values", "updates", "tasks", "checkpoints"]
    return [
        list(graph.stream({"log": ["in"]}, lib.config(), stream_mode=modes)),
        list(graph.stream(lib.Command(resume="Ann"), lib.config(), stream_mode=modes)),
    ]
