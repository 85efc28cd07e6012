"""What callback handlers see of a graph and its nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.context import collect_runs

from clew import _langchain
from clew.errors import GraphInterrupt
from clew.types import Interrupt
from tests.messages.small_driver import arun_nodes, run_nodes

QUESTION = GraphInterrupt((Interrupt(value="sure?", id="i1"),))


class Log(BaseCallbackHandler):
    """Every event as (what, name or error), with runs' tags and metadata kept aside."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.names: dict[Any, str] = {}
        self.tags: dict[str, list[str]] = {}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.parents: dict[str, str | None] = {}

    def _start(self, what: str, run_id: Any, parent_run_id: Any, tags: Any, metadata: Any, name: Any) -> None:
        self.names[run_id] = name
        self.tags[name] = tags or []
        self.metadata[name] = metadata or {}
        self.parents[name] = self.names.get(parent_run_id)
        self.events.append((f"{what} start", name))

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        self._start("chain", run_id, parent_run_id, more["tags"], more["metadata"], more["name"])

    def on_tool_start(self, serialized: Any, text: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any) -> None:
        self._start("tool", run_id, parent_run_id, more["tags"], more["metadata"], serialized["name"])

    def on_retriever_start(
        self, serialized: Any, query: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        self._start("retriever", run_id, parent_run_id, more["tags"], more["metadata"], "retriever")

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: Any, parent_run_id: Any = None, **more: Any
    ) -> None:
        self._start("model", run_id, parent_run_id, more["tags"], more["metadata"], "model")

    def on_chain_end(self, outputs: Any, *, run_id: Any, **more: Any) -> None:
        self.events.append(("chain end", self.names[run_id]))

    def on_tool_end(self, output: Any, *, run_id: Any, **more: Any) -> None:
        self.events.append(("tool end", self.names[run_id]))

    def on_chain_error(self, error: Any, *, run_id: Any, **more: Any) -> None:
        self.events.append(("chain error", (self.names[run_id], type(error).__name__)))

    def on_tool_error(self, error: Any, *, run_id: Any, **more: Any) -> None:
        self.events.append(("tool error", (self.names[run_id], type(error).__name__)))

    def on_retriever_error(self, error: Any, *, run_id: Any, **more: Any) -> None:
        self.events.append(("retriever error", (self.names[run_id], type(error).__name__)))


class AsyncLog(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.events: list[str] = []

    async def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:
        self.events.append(f"start {more['name']}")

    async def on_chain_end(self, outputs: Any, **more: Any) -> None:
        self.events.append("end")

    async def on_tool_error(self, error: Any, **more: Any) -> None:
        self.events.append("tool error")

    async def on_chain_error(self, error: Any, **more: Any) -> None:
        self.events.append("error")


def model() -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage("hello world")]))


@tool
def ask(question: str) -> str:
    """Ask a person."""
    raise QUESTION


@tool
async def aask(question: str) -> str:
    """Ask a person."""
    raise QUESTION


@tool
def add(number: int) -> int:
    """Add one."""
    return number + 1


class AskingRetriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        raise QUESTION


def test_handlers_see_the_graph_and_each_node_inside_it() -> None:
    log = Log()

    run_nodes({"callbacks": [log]}, [("one", lambda value, config: 1), ("two", lambda value, config: 2)])

    assert log.events == [
        ("chain start", "graph"),
        ("chain start", "one"),
        ("chain end", "one"),
        ("chain start", "two"),
        ("chain end", "two"),
        ("chain end", "graph"),
    ]
    assert log.parents == {"graph": None, "one": "graph", "two": "graph"}


def test_async_handlers_see_the_same() -> None:
    log, async_log = Log(), AsyncLog()

    async def one(value: Any, config: Any) -> int:
        return 1

    asyncio.run(arun_nodes({"callbacks": [log, async_log]}, [("one", one)]))

    assert log.events == [
        ("chain start", "graph"),
        ("chain start", "one"),
        ("chain end", "one"),
        ("chain end", "graph"),
    ]
    assert async_log.events == ["start graph", "start one", "end", "end"]


def test_node_runs_carry_tags_and_the_fields_metadata() -> None:
    log = Log()
    config = {"callbacks": [log], "tags": ["mine"], "metadata": {"user": "u1"}}

    run_nodes(config, [("one", lambda value, config: 1)])

    assert log.tags["one"] == ["graph:step:1", "mine"]
    assert log.tags["graph"] == ["mine"]
    assert log.metadata["graph"] == {"user": "u1", "ls_integration": "clew"}
    assert log.metadata["one"] == {
        "user": "u1",
        "ls_integration": "clew",
        "langgraph_step": 1,
        "langgraph_node": "one",
        "langgraph_triggers": ("branch:to:one",),
        "langgraph_path": ("__pregel_pull", "one"),
        "langgraph_checkpoint_ns": "one:1",
    }


def test_what_addresses_the_run_becomes_metadata() -> None:
    log = Log()
    config = {"callbacks": [log], "configurable": {"thread_id": "t1", "secret": "s"}, "metadata": {"user": "u1"}}

    run_nodes(config, [("one", lambda value, config: 1)])

    assert log.metadata["graph"] == {"user": "u1", "thread_id": "t1", "ls_integration": "clew"}
    assert log.metadata["one"]["thread_id"] == "t1"


def test_run_name_and_run_id_belong_to_the_graph_alone() -> None:
    log = Log()
    inside: dict[str, Any] = {}

    def one(value: Any, config: dict[str, Any]) -> None:
        inside.update(config)

    run_nodes({"callbacks": [log], "run_name": "report", "run_id": None}, [("one", one)])

    assert log.events[0] == ("chain start", "report")
    assert log.events[1] == ("chain start", "one")
    assert "run_name" not in inside
    assert "run_id" not in inside


def test_model_called_without_config_is_inside_the_node() -> None:
    log = Log()

    run_nodes({"callbacks": [log]}, [("one", lambda value, config: model().invoke("hi"))])

    assert log.parents["model"] == "one"
    assert log.metadata["model"]["langgraph_node"] == "one"


def test_configurable_and_metadata_are_inherited_without_callbacks() -> None:
    seen: dict[str, Any] = {}
    chain = RunnableLambda(lambda value, config: seen.update(config))

    config = {"configurable": {"user": "u1"}, "metadata": {"m": 1}}
    run_nodes(config, [("one", lambda value, config: chain.invoke(value))], "input")

    assert seen["configurable"]["user"] == "u1"
    assert seen["metadata"]["langgraph_node"] == "one"


def test_nobody_listening_means_no_run() -> None:
    assert _langchain.start_graph_run({}, "graph", None) is None
    assert asyncio.run(_langchain.astart_graph_run({"callbacks": []}, "graph", None)) is None


def test_tracers_of_the_context_listen_without_being_in_the_config() -> None:
    with collect_runs() as collected:
        run_nodes({}, [("one", lambda value, config: 1)])

    assert [run.name for run in collected.traced_runs] == ["graph"]
    assert [run.name for run in collected.traced_runs[0].child_runs] == ["one"]


def test_usage_is_counted_by_a_handler_in_the_config() -> None:
    usage = UsageMetadataCallbackHandler()
    counted = AIMessage(
        "hi",
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        response_metadata={"model_name": "fake"},
    )

    chat = GenericFakeChatModel(messages=iter([counted]))
    run_nodes({"callbacks": [usage]}, [("one", lambda value, config: chat.invoke("hi", config))])

    assert usage.usage_metadata["fake"]["total_tokens"] == 3


def test_interrupt_closes_the_open_tool_run_before_the_node() -> None:
    log = Log()

    with pytest.raises(GraphInterrupt):
        run_nodes({"callbacks": [log]}, [("one", lambda value, config: ask.invoke("really?"))])

    assert log.events[-3:] == [
        ("tool error", ("ask", "GraphInterrupt")),
        ("chain error", ("one", "GraphInterrupt")),
        ("chain error", ("graph", "GraphInterrupt")),
    ]


def test_interrupt_closes_the_open_tool_run_under_asyncio() -> None:
    log, async_log = Log(), AsyncLog()

    async def one(value: Any, config: Any) -> Any:
        return await aask.ainvoke("really?", config)

    with pytest.raises(GraphInterrupt):
        asyncio.run(arun_nodes({"callbacks": [log, async_log]}, [("one", one)]))

    assert ("tool error", ("aask", "GraphInterrupt")) in log.events
    assert async_log.events == ["start graph", "start one", "tool error", "error", "error"]


def test_interrupt_closes_an_open_retriever_run() -> None:
    log = Log()

    with pytest.raises(GraphInterrupt):
        run_nodes({"callbacks": [log]}, [("one", lambda value, config: AskingRetriever().invoke("q"))])

    assert ("retriever error", ("retriever", "GraphInterrupt")) in log.events


def test_tool_runs_are_closed_once_and_finished_ones_are_left_alone() -> None:
    log = Log()

    def nested(value: Any, config: Any) -> Any:
        add.invoke({"number": 1})
        return RunnableLambda(lambda text: ask.invoke(text)).invoke("really?")

    with pytest.raises(GraphInterrupt):
        run_nodes({"callbacks": [log]}, [("one", nested)])

    assert [event for event in log.events if event[0].startswith("tool")] == [
        ("tool start", "add"),
        ("tool end", "add"),
        ("tool start", "ask"),
        ("tool error", ("ask", "GraphInterrupt")),
    ]


def test_tracer_has_a_finished_tool_run_after_an_interrupt() -> None:
    with collect_runs() as collected, pytest.raises(GraphInterrupt):
        run_nodes({}, [("one", lambda value, config: ask.invoke("really?"))])

    node = collected.traced_runs[0].child_runs[0]
    tool_run = node.child_runs[0]
    assert tool_run.name == "ask"
    assert tool_run.end_time is not None
    assert "GraphInterrupt" in (tool_run.error or "")


def test_cancellation_closes_the_open_tool_run() -> None:
    log = Log()

    async def cancel() -> None:
        started = asyncio.Event()

        @tool
        async def forever(question: str) -> str:
            """Never answers."""
            started.set()
            await asyncio.Event().wait()
            return "never"

        async def one(value: Any, config: Any) -> Any:
            return await forever.ainvoke("really?", config)

        task = asyncio.create_task(arun_nodes({"callbacks": [log]}, [("one", one)]))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())

    assert ("tool error", ("forever", "CancelledError")) in log.events


def test_graph_inside_a_node_is_a_child_of_the_node() -> None:
    log = Log()

    def outer(value: Any, config: dict[str, Any]) -> Any:
        return run_nodes({**config, "run_name": "inner graph"}, [("inner", lambda value, config: HumanMessage("x"))])

    run_nodes({"callbacks": [log]}, [("outer", outer)])

    assert log.parents == {"graph": None, "outer": "graph", "inner graph": "outer", "inner": "inner graph"}


def test_callbacks_merge_in_every_combination_without_changing_either() -> None:
    from langchain_core.callbacks import CallbackManager

    one, two = Log(), Log()
    for base in (None, [one], CallbackManager([one], [one])):
        for new in (None, [two], CallbackManager([two], [two])):
            merged = _langchain.merge_callbacks(base, new)
            handlers = merged if isinstance(merged, list) else merged.handlers if merged else []
            expected = [handler for given, handler in ((base, one), (new, two)) if given]
            assert set(map(id, handlers)) == set(map(id, expected))
            for given, handler in ((base, one), (new, two)):
                if given is not None:
                    assert (given if isinstance(given, list) else given.handlers) == [handler]
