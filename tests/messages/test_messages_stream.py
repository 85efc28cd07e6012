"""Stream mode "messages": tokens and returned messages, each once, with the node's metadata."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.language_models import FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from pydantic import BaseModel

from clew import _langchain
from clew._langchain.messages import graph_namespace, new_messages, push
from clew.types import Command
from tests.messages.small_driver import arun_nodes, node_config, run_nodes


class Collected:
    """What a handler emitted, and the handler."""

    def __init__(self, **options: Any) -> None:
        self.parts: list[tuple[tuple[str, ...], Any, dict[str, Any]]] = []
        handler = _langchain.messages_handler(lambda ns, part: self.parts.append((ns, *part)), **options)
        assert handler is not None
        self.handler = handler

    @property
    def texts(self) -> list[Any]:
        return [message.content for _, message, _ in self.parts]


def streaming_model(text: str = "hello world") -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(text)]))


def test_tokens_come_one_by_one_and_the_whole_message_does_not_follow() -> None:
    got = Collected()

    def node(value: Any, config: Any) -> Any:
        return {"messages": [streaming_model().invoke("hi", config)]}

    run_nodes({}, [("chat", node)], handlers=[got.handler])

    assert got.texts == ["hello", " ", "world"]
    assert all(isinstance(message, AIMessageChunk) for _, message, _ in got.parts)
    assert len({message.id for _, message, _ in got.parts}) == 1


def test_tokens_come_under_asyncio_too() -> None:
    got = Collected()

    async def node(value: Any, config: Any) -> Any:
        return {"messages": [await streaming_model().ainvoke("hi")]}

    asyncio.run(arun_nodes({}, [("chat", node)], handlers=[got.handler]))

    assert got.texts == ["hello", " ", "world"]


def test_each_part_has_the_nodes_metadata_and_the_users_tags() -> None:
    got = Collected()
    chat = streaming_model("one").with_config(tags=["joker"])

    run_nodes({"metadata": {"user": "u1"}}, [("chat", lambda value, config: chat.invoke("hi"))], handlers=[got.handler])

    ns, _, metadata = got.parts[0]
    assert ns == ()
    assert metadata["langgraph_node"] == "chat"
    assert metadata["langgraph_step"] == 1
    assert metadata["user"] == "u1"
    assert metadata["tags"] == ["joker"]


def test_model_that_cannot_stream_gives_one_whole_message() -> None:
    got = Collected()
    chat = FakeMessagesListChatModel(responses=[AIMessage("whole")])

    run_nodes({}, [("chat", lambda value, config: {"messages": chat.invoke("hi")})], handlers=[got.handler])

    assert got.texts == ["whole"]
    assert isinstance(got.parts[0][1], AIMessage)


def test_model_tagged_nostream_is_left_out_but_what_its_node_returns_is_not() -> None:
    got = Collected()
    silent = streaming_model("silent").with_config(tags=["nostream"])

    run_nodes({}, [("think", lambda value, config: silent.invoke("hi") and None)], handlers=[got.handler])
    assert got.texts == []

    loud = streaming_model("loud").with_config(tags=["nostream"])
    run_nodes({}, [("say", lambda value, config: {"messages": loud.invoke("hi")})], handlers=[got.handler])
    assert got.texts == ["loud"]


def test_returned_message_is_emitted_once_and_gets_an_id() -> None:
    got = Collected()
    said = HumanMessage("said")

    run_nodes(
        {},
        [("one", lambda value, config: {"messages": [said]}), ("two", lambda value, config: {"messages": [said]})],
        handlers=[got.handler],
    )

    assert got.texts == ["said"]
    assert said.id


def test_message_a_node_received_is_not_new_when_it_returns_it() -> None:
    got = Collected()
    old = HumanMessage("old", id="1")

    run_nodes(
        {},
        [("one", lambda value, config: {"messages": [*value["messages"], AIMessage("new", id="2")]})],
        {"messages": [old]},
        handlers=[got.handler],
    )

    assert got.texts == ["new"]


def test_engine_may_emit_what_nodes_return_itself() -> None:
    got = Collected(watch_nodes=False)
    update = {"messages": [AIMessage("new", id="2")]}

    run_nodes({}, [("one", lambda value, config: update)], handlers=[got.handler])
    assert got.texts == []

    metadata = node_config({}, "one", 1)["metadata"]
    got.handler.finish_node(metadata, update)
    got.handler.finish_node(metadata, update)
    assert got.texts == ["new"]


def in_subgraph(model: Any) -> Any:
    def node(value: Any, config: dict[str, Any]) -> None:
        model.invoke("hi", node_config(config, "inner", 1, ns="outer:1|inner:2"))

    return node


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, []), ({"subgraphs": True}, ["deep"]), ({"parent_ns": ("outer:1",)}, ["deep"])],
)
def test_subgraphs_are_covered_when_asked_for(options: dict[str, Any], expected: list[str]) -> None:
    got = Collected(**options)

    run_nodes({}, [("outer", in_subgraph(streaming_model("deep")))], handlers=[got.handler])

    assert got.texts == expected
    assert {ns for ns, _, _ in got.parts} <= {("outer:1",)}


def test_stream_of_one_graphs_messages_does_not_reach_an_unrelated_graph_run_inside() -> None:
    one, all_of_them = Collected(), Collected(subgraphs=True)

    def outer(value: Any, config: dict[str, Any]) -> None:
        run_nodes(config, [("inner", lambda value, config: {"messages": AIMessage("inner", id="1")})])

    run_nodes({}, [("outer", outer)], handlers=[one.handler, all_of_them.handler])

    assert one.texts == []
    assert all_of_them.texts == ["inner"]


def test_failed_model_and_failed_node_leave_nothing_behind() -> None:
    got = Collected()

    def fail(value: Any, config: Any) -> None:
        GenericFakeChatModel(messages=iter([])).invoke("hi")

    with pytest.raises(RuntimeError):
        run_nodes({}, [("one", fail)], handlers=[got.handler])

    assert got.texts == []
    assert got.handler._places == {}


def test_pushed_message_is_emitted_even_if_seen() -> None:
    got = Collected()
    message = AIMessage("pushed", id="1")

    def node(value: Any, config: Any) -> Any:
        push(message, config)
        push(message, config)
        return {"messages": message}

    run_nodes({}, [("one", node)], handlers=[got.handler])

    assert got.texts == ["pushed", "pushed"]
    assert got.parts[0][2]["langgraph_node"] == "one"


def test_pushing_without_listeners_does_nothing() -> None:
    push(AIMessage("x", id="1"), {})


@dataclass
class Chat:
    messages: list[Any]
    note: str = "n"


class Model(BaseModel):
    messages: list[Any]


A, B, C = AIMessage("a", id="a"), HumanMessage("b", id="b"), ToolMessage("c", tool_call_id="t", id="c")


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (None, []),
        ("text", []),
        (A, [A]),
        ([A, B, "text"], [A, B]),
        ({"messages": A, "other": [B], "text": "c"}, [A, B]),
        (Chat([A, B]), [A, B]),
        (Model(messages=[A]), [A]),
        (Command(update={"messages": [A]}), [A]),
        ([Command(update={"messages": [A]}), {"messages": [B]}], [A, B]),
        (Command(update=[("messages", A)]), [A]),
        ([("messages", [A]), ("messages", [B]), ("other", 1)], [A, B]),
        ({"messages": [A, A]}, [A]),
        ({"messages": [C]}, []),
    ],
)
def test_new_messages_finds_them_where_a_node_may_put_them(update: Any, expected: list[Any]) -> None:
    seen = {"c"}

    assert new_messages(update, seen) == expected
    assert seen == {"c"}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"langgraph_checkpoint_ns": "a:1"}, ()),
        ({"langgraph_checkpoint_ns": "a:1|b:2", "langgraph_path": ("__pregel_pull", "b")}, ("a:1",)),
        ({"langgraph_checkpoint_ns": "a:1|b:2", "langgraph_path": ("__pregel_push", 0, False)}, ("a:1",)),
        (
            {
                "langgraph_checkpoint_ns": "a:1|t:2|u:3",
                "langgraph_path": ("__pregel_push", ("__pregel_push", ("__pregel_pull", "a"), 0, True), 0, True),
            },
            (),
        ),
    ],
)
def test_task_called_by_a_node_is_in_the_nodes_graph(metadata: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert graph_namespace(metadata) == expected


WITHOUT_LANGCHAIN = """
import sys
sys.modules["langchain_core"] = None  # as if it were not installed
from clew import _langchain
print(_langchain.messages_handler(print), _langchain.new_messages({}, set()), _langchain.is_runnable(print))
print(_langchain.may_listen({}), _langchain.inherited_config(), _langchain.set_child_config({}))
class Graph(_langchain.RunnableFace):
    invoke = ainvoke = stream = astream = None
_langchain.adopt(Graph)
for use in (lambda: Graph() | print, lambda: Graph().with_retry()):
    try:
        use()
    except (ImportError, AttributeError) as error:
        print(error)
"""


def test_without_langchain_core_everything_is_quiet_or_names_the_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LANGCHAIN], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [
        "None [] False",
        "False None None",
        "composing a graph with | needs a package that is not installed",
        "'Graph' object has no attribute 'with_retry'",
    ]
