"""Two stateful sub-agents, each in a graph of its own under a unique node name, run in parallel over two turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from clew.func import task
from clew.graph import START, MessagesState, StateGraph
from tests.both import Drive, on

Model = Callable[[list[Any]], AIMessage]


def scripted(topic: str, facts: dict[str, str]) -> Model:
    """A model that looks a fact up with a tool, then answers with it and with how many questions it remembers."""

    def answer(messages: list[Any]) -> AIMessage:
        if isinstance(messages[-1], HumanMessage):
            call = {"name": f"{topic}_info", "args": {"name": messages[-1].content}, "id": f"call-{len(messages)}"}
            return AIMessage("", tool_calls=[call])
        asked = sum(isinstance(message, HumanMessage) for message in messages)
        return AIMessage(f"{messages[-1].content} ({topic} question {asked})")

    answer.facts = facts  # type: ignore[attr-defined]
    return answer


def create_agent(model: Any, name: str) -> Any:
    """A small agent: model and tool in turns, with memory of its own on the thread."""

    def think(state: MessagesState) -> Any:
        return {"messages": [model(state["messages"])]}

    def use_tool(state: MessagesState) -> Any:
        call = state["messages"][-1].tool_calls[0]
        return {"messages": [ToolMessage(model.facts[call["args"]["name"]], tool_call_id=call["id"])]}

    def path(state: MessagesState) -> str:
        return "use_tool" if state["messages"][-1].tool_calls else "__end__"

    builder = StateGraph(MessagesState).add_node(think).add_node(use_tool)
    builder.add_edge(START, "think").add_conditional_edges("think", path).add_edge("use_tool", "think")
    return builder.compile(checkpointer=True, name=name)


def create_sub_agent(model: Any, *, name: str) -> Any:
    """The agent inside a graph whose only node has a unique name: a namespace that stays the same."""
    return (
        StateGraph(MessagesState)
        .add_node(name, create_agent(model, name))
        .add_edge(START, name)
        .compile(name=f"{name}s")
    )


def supervisor(saver: Any) -> Any:
    fruit = create_sub_agent(scripted("fruit", {"apple": "red", "pear": "green"}), name="fruit_agent")
    veg = create_sub_agent(scripted("veg", {"leek": "long", "beet": "round"}), name="veg_agent")

    @task
    def ask_fruit(question: str) -> str:
        return fruit.invoke({"messages": [HumanMessage(question)]})["messages"][-1].content

    @task
    def ask_veg(question: str) -> str:
        return veg.invoke({"messages": [HumanMessage(question)]})["messages"][-1].content

    def delegate(state: MessagesState) -> Any:
        questions = state["messages"][-1].content.split()
        asked = [ask_fruit(questions[0]), ask_veg(questions[1])]
        return {"messages": [AIMessage(" / ".join(future.result() for future in asked))]}

    return StateGraph(MessagesState).add_node(delegate).add_edge(START, "delegate").compile(checkpointer=saver)


def test_each_sub_agent_remembers_its_own_turns(saver: Any) -> None:
    graph = supervisor(saver)

    replies = [
        graph.invoke({"messages": [HumanMessage(text)]}, on("chat"))["messages"][-1].content
        for text in ("apple leek", "pear beet")
    ]

    assert replies == [
        "red (fruit question 1) / long (veg question 1)",
        "green (fruit question 2) / round (veg question 2)",
    ]


def test_another_thread_s_sub_agents_start_fresh(saver: Any) -> None:
    graph = supervisor(saver)
    graph.invoke({"messages": [HumanMessage("apple leek")]}, on("one"))

    state = graph.invoke({"messages": [HumanMessage("pear beet")]}, on("two"))

    assert state["messages"][-1].content == "green (fruit question 1) / round (veg question 1)"


def test_sub_agents_as_parallel_nodes(drive: Drive, saver: Any) -> None:
    fruit = create_sub_agent(scripted("fruit", {"apple": "red"}), name="fruit_agent")
    veg = create_sub_agent(scripted("veg", {"apple": "not a vegetable"}), name="veg_agent")
    builder = StateGraph(MessagesState)
    for name, agent in (("fruits", fruit), ("vegs", veg)):
        builder.add_node(name, agent).add_edge(START, name)
    graph = builder.compile(checkpointer=saver)

    for turn in (1, 2):
        state = drive.invoke(graph, {"messages": [HumanMessage("apple", id=f"q{turn}")]}, on())
        texts = [message.content for message in state["messages"]]
        assert any(text.startswith("red (fruit") for text in texts)
        assert any(text.startswith("not a vegetable (veg") for text in texts)
