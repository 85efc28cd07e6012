"""Messages, callbacks and runnables in real graphs, under both drivers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool

from clew.checkpoint.memory import InMemorySaver
from clew.errors import InvalidMessagesError
from clew.graph import START, MessagesState, StateGraph
from clew.graph.message import REMOVE_ALL_MESSAGES, RemoveMessage, push_message
from clew.types import Command, interrupt
from tests.messages.test_runs import Log


def graph_of(action: Any, **options: Any) -> Any:
    return StateGraph(MessagesState).add_node("node", action).add_edge(START, "node").compile(**options)


def streamed(graph: Any, given: Any, is_async: bool, **options: Any) -> list[Any]:
    async def collect() -> list[Any]:
        return [part async for part in graph.astream(given, **options)]

    return asyncio.run(collect()) if is_async else list(graph.stream(given, **options))


def echo() -> Any:
    return graph_of(lambda state: {"messages": [AIMessage(state["messages"][-1].content.upper())]})


@pytest.mark.parametrize("is_async", [False, True])
def test_pushed_message_is_streamed_at_once_and_written(is_async: bool) -> None:
    def node(state: Any) -> None:
        push_message(AIMessage("working", id="m1"))
        push_message(HumanMessage("only shown", id="m2"), state_key=None)

    parts = streamed(graph_of(node), {"messages": []}, is_async, stream_mode=["messages", "values"])

    shown = [(mode, data[0].content) for mode, data in parts if mode == "messages"]
    assert shown == [("messages", "working"), ("messages", "only shown")]
    assert [message.content for message in parts[-1][1]["messages"]] == ["working"]


def test_pushing_works_when_nobody_streams_messages() -> None:
    output = graph_of(lambda state: push_message(("ai", "x")) and None)

    with pytest.raises(InvalidMessagesError, match="needs a message with an id"):
        output.invoke({"messages": []})

    done = graph_of(lambda state: push_message(AIMessage("x", id="1")) and None).invoke({"messages": []})
    assert [message.content for message in done["messages"]] == ["x"]


def test_history_can_be_cleared_from_a_node() -> None:
    def forget(state: Any) -> Any:
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage("fresh", id="f")]}

    output = graph_of(forget).invoke({"messages": ["one", "two"]})

    assert [message.content for message in output["messages"]] == ["fresh"]


def test_ids_of_messages_are_the_same_in_the_stream_and_in_the_thread() -> None:
    graph = graph_of(lambda state: {"messages": [AIMessage("hi")]}, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}

    parts = list(graph.stream({"messages": "hello"}, config, stream_mode=["messages", "values"]))

    kept = graph.get_state(config).values["messages"]
    assert parts[-1][1]["messages"] == kept
    assert [data[0].id for mode, data in parts if mode == "messages"] == [kept[-1].id]


def test_message_streamed_in_chunks_is_not_streamed_again_when_returned() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("one two")]))
    graph = graph_of(lambda state: {"messages": [model.invoke(state["messages"])]})

    parts = list(graph.stream({"messages": "hi"}, stream_mode="messages"))

    assert [message.content for message, _ in parts] == ["one", " ", "two"]


@pytest.mark.parametrize("is_async", [False, True])
def test_graph_composes_with_prompts_and_functions(is_async: bool) -> None:
    prompt = ChatPromptTemplate.from_messages([("user", "say {word}")])
    to_state = RunnableLambda(lambda value: {"messages": value.to_messages()})
    chain = prompt | to_state | echo() | (lambda state: state["messages"][-1].content)

    output = asyncio.run(chain.ainvoke({"word": "x"})) if is_async else chain.invoke({"word": "x"})

    assert output == "SAY X"
    assert isinstance(echo(), Runnable)


def test_graph_in_front_of_a_runnable_streams_through() -> None:
    chain = echo() | RunnableLambda(lambda update: len(update))

    assert list(chain.stream({"messages": "hi"}))


def test_graph_inside_a_chain_is_a_child_in_the_trace() -> None:
    log = Log()
    chain = RunnableLambda(lambda text: {"messages": text}, name="first") | echo()

    chain.invoke("hi", {"callbacks": [log]})

    assert log.parents["node"] is not None
    assert log.parents[log.parents["node"]] == "RunnableSequence"


def test_tool_that_asks_a_person_is_closed_in_the_trace_and_runs_again_when_answered() -> None:
    @tool
    def ask(question: str) -> str:
        """Ask a person."""
        return interrupt(question)

    log = Log()
    graph = graph_of(lambda state: {"messages": [("ai", ask.invoke("sure?"))]}, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}, "callbacks": [log]}

    graph.invoke({"messages": "hi"}, config)
    output = graph.invoke(Command(resume="yes"), config)

    assert [event for event in log.events if event[0].startswith("tool")] == [
        ("tool start", "ask"),
        ("tool error", ("ask", "GraphInterrupt")),
        ("tool start", "ask"),
        ("tool end", "ask"),
    ]
    assert output["messages"][-1].content == "yes"
