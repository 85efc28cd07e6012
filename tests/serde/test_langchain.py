"""langchain-core's classes: exact, compact, and robust against other versions of the library."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.prompt_values import ChatPromptValue, ChatPromptValueConcrete, ImagePromptValue, StringPromptValue

from clew.errors import SerializationError
from clew.serde import Codec, TypeRegistry
from tests.serde.exact import again

_PARTS = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
_USAGE: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}

VALUES = [
    HumanMessage("hi"),
    HumanMessage([{"type": "text", "text": "hi"}], id="x", name="ada"),
    HumanMessage("hi", name=None, additional_kwargs={}),
    HumanMessage("hi", custom=(1, 2), more={"a": 1}),
    HumanMessage.model_construct(id="no content"),
    HumanMessage.model_construct(content="x", additional_kwargs={"a": {1}}),
    AIMessage("a", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "1"}], usage_metadata=_USAGE),
    AIMessage(
        "", invalid_tool_calls=[{"name": "f", "args": "{", "id": "1", "error": "e", "type": "invalid_tool_call"}]
    ),
    AIMessage("a", response_metadata={"model": "m", "logprobs": None}),
    AIMessageChunk(
        "a", tool_call_chunks=[{"name": "f", "args": "{", "id": "1", "index": 0, "type": "tool_call_chunk"}]
    ),
    ToolMessage("r", tool_call_id="1", artifact={"rows": [(1,)]}, status="error"),
    RemoveMessage(id="1"),
    SystemMessage("s"),
    ChatMessage(role="r", content="x"),
    FunctionMessage(name="f", content="x"),
    HumanMessageChunk("x"),
    SystemMessageChunk("x"),
    ToolMessageChunk("x", tool_call_id="1"),
    ChatMessageChunk(role="r", content="x"),
    FunctionMessageChunk(name="f", content="x"),
    BaseMessage(content="x", type="own"),
    Document("text", metadata={"source": 1}, id="d"),
    Document("text"),
    Blob(data=b"x", mimetype="text/plain", path="p"),
    StringPromptValue(text="x"),
    ChatPromptValue(messages=[HumanMessage("x")]),
    ChatPromptValueConcrete(messages=[HumanMessage("x"), AIMessage("y")]),
    ImagePromptValue(image_url={"url": "u", "detail": "auto"}),
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_value_comes_back_exactly(value: Any) -> None:
    restored = again([value])[0]

    assert type(restored) is type(value)
    for part in _PARTS:
        assert getattr(restored, part) == getattr(value, part)
    assert list(vars(restored)) == list(vars(value))


def test_restored_message_can_be_used_and_changed() -> None:
    left, right = again([HumanMessage("a"), HumanMessage("b")])

    left.additional_kwargs["k"] = 1
    left.id = "new"

    assert right.additional_kwargs == {}
    assert left.model_copy(update={"name": "n"}).model_dump()["id"] == "new"
    assert "id" in left.model_fields_set


def test_cached_values_do_not_travel() -> None:
    message = AIMessage("a", id="1")
    vars(message)["lazily_computed"] = "x"

    assert "lazily_computed" not in vars(again(message))


def test_chat_is_smaller_than_its_json() -> None:
    chat: list[BaseMessage] = []
    for turn in range(100):
        chat += [
            HumanMessage(f"question {turn}", id=f"h{turn}"),
            AIMessage("", id=f"a{turn}", tool_calls=[{"name": "search", "args": {"q": "x"}, "id": f"c{turn}"}]),
            ToolMessage(f"result {turn}", tool_call_id=f"c{turn}", id=f"t{turn}"),
        ]

    stored = sum(map(len, Codec().encode_items(chat)))

    assert stored < 0.6 * sum(len(message.model_dump_json()) for message in chat)


def test_subclass_of_a_message_must_be_known() -> None:
    class Mine(HumanMessage):
        mood: str = "calm"

    with pytest.raises(SerializationError, match=r"clew\.serde\.register|Mine"):
        Codec().encode([Mine("x")])
    restored = again([Mine("x", mood="glad", extra=1)], Codec(TypeRegistry([Mine])))[0]
    assert (type(restored), restored.mood, restored.content, restored.model_extra) == (Mine, "glad", "x", {"extra": 1})


def test_part_of_a_message_that_cannot_be_stored_is_named() -> None:
    with pytest.raises(SerializationError) as caught:
        Codec().encode([HumanMessage("x", additional_kwargs={"f": [print]})])

    assert caught.value.path == "[0].additional_kwargs['f'][0]"


def test_field_unknown_to_the_installed_version_is_kept_as_an_extra() -> None:
    codec = Codec()
    from clew.serde import langchain

    rule = langchain.writers()[HumanMessage]

    restored = rule.restore({"content": "x", "invented": 1})

    assert restored.model_extra == {"invented": 1}
    assert codec.decode(codec.encode(restored)).model_extra == {"invented": 1}


def test_reading_messages_imports_langchain_core_and_nothing_is_needed_before() -> None:
    data = Codec().encode(HumanMessage("x")).hex()
    program = (
        "import sys; from clew.serde import Codec; codec = Codec(); codec.encode((1,)); "
        "assert 'langchain_core' not in sys.modules; "
        f"print(type(codec.decode(bytes.fromhex('{data}'))).__name__)"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True
    )

    assert result.stdout == "HumanMessage\n", result.stderr


def test_without_langchain_core_the_extra_is_named() -> None:
    data = Codec().encode({"a": HumanMessage("x")}).hex()
    program = (
        "import sys; sys.modules['langchain_core'] = None\n"
        "from clew.serde import Codec\n"
        f"data = bytes.fromhex('{data}')\n"
        "try: Codec().decode(data)\n"
        "except Exception as error: print(type(error).__name__, error, error.hint, sep='|')\n"
        "assert Codec().encode(Codec().decode(data, opaque=True)) == data\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True
    )

    assert result.stdout == (
        "SerializationError|stored bytes hold langchain-core messages, and langchain-core is not installed"
        "|install it with: pip install 'clew[langchain]'\n"
    ), result.stderr


def test_text_of_a_message_can_be_stored() -> None:
    text = AIMessage("the answer").text

    restored = again({"answer": text})["answer"]

    assert type(restored) is type(text)
    assert restored == "the answer"


def test_messages_are_stored_as_their_fields() -> None:
    data = Codec().encode(HumanMessage("hello", id="1"))

    assert len(data) < len(json.dumps({"content": "hello", "id": "1"}))
