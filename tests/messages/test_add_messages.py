"""Merging messages: by id, from everything that converts to a message, with typed errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph.message import add_messages as peer_add_messages

from clew.errors import InvalidMessagesError, InvalidUpdateError
from clew.graph import message as message_module
from clew.graph.message import REMOVE_ALL_MESSAGES, MessagesState, add_messages


def texts(messages: list[Any]) -> list[Any]:
    return [message.content for message in messages]


def test_new_message_is_appended_and_left_is_not_changed() -> None:
    left = [HumanMessage("Hello", id="1")]

    merged = add_messages(left, [AIMessage("Hi", id="2")])

    assert merged == [HumanMessage("Hello", id="1"), AIMessage("Hi", id="2")]
    assert left == [HumanMessage("Hello", id="1")]


def test_message_with_known_id_takes_the_place_of_the_old_one() -> None:
    left = [HumanMessage("a", id="1"), AIMessage("b", id="2")]

    assert texts(add_messages(left, HumanMessage("c", id="1"))) == ["c", "b"]


def test_message_without_id_gets_a_random_one_on_the_object_itself() -> None:
    left, right = HumanMessage("a"), AIMessage("b")

    merged = add_messages([left], [right])

    assert merged[0] is left
    assert merged[1] is right
    assert left.id is not None
    assert right.id is not None
    assert left.id != right.id


@pytest.mark.parametrize(
    ("like", "expected"),
    [
        ("text", HumanMessage("text", id="x")),
        (("assistant", "text"), AIMessage("text", id="x")),
        ({"role": "system", "content": "text"}, SystemMessage("text", id="x")),
        ({"type": "human", "content": "text"}, HumanMessage("text", id="x")),
        (AIMessageChunk("text"), AIMessage("text", id="x")),
    ],
)
@pytest.mark.parametrize("in_list", [True, False])
def test_what_converts_to_a_message_is_converted(like: Any, expected: AnyMessage, in_list: bool) -> None:
    merged = add_messages([], [like] if in_list else like)

    assert type(merged[0]) is type(expected)
    assert texts(merged) == ["text"]
    assert merged[0].id


def test_what_converts_is_converted_on_the_left_too() -> None:
    merged = add_messages([("user", "a"), AIMessageChunk("b", id="2")], [AIMessage("c", id="2")])

    assert [type(message) for message in merged] == [HumanMessage, AIMessage]
    assert texts(merged) == ["a", "c"]


def test_remove_message_removes_by_id() -> None:
    left = [HumanMessage("a", id="1"), AIMessage("b", id="2")]

    assert add_messages(left, RemoveMessage(id="1")) == [AIMessage("b", id="2")]


def test_message_removed_and_written_again_keeps_its_place() -> None:
    left = [HumanMessage("a", id="1"), AIMessage("b", id="2")]

    merged = add_messages(left, [RemoveMessage(id="1"), HumanMessage("c", id="1")])

    assert texts(merged) == ["c", "b"]


def test_message_written_and_then_removed_is_gone() -> None:
    assert add_messages([], [AIMessage("a", id="1"), RemoveMessage(id="1")]) == []


def test_the_last_of_two_new_messages_with_one_id_stays() -> None:
    assert texts(add_messages([], [AIMessage("a", id="1"), AIMessage("b", id="1")])) == ["b"]


def test_remove_all_drops_everything_before_it() -> None:
    left = [HumanMessage("a", id="1")]
    right = [AIMessage("b", id="2"), RemoveMessage(id=REMOVE_ALL_MESSAGES), AIMessage("c", id="3")]

    assert texts(add_messages(left, right)) == ["c"]
    assert add_messages(left, RemoveMessage(id=REMOVE_ALL_MESSAGES)) == []


def test_messages_after_remove_all_are_merged_by_id_too() -> None:
    right = [RemoveMessage(id=REMOVE_ALL_MESSAGES), AIMessage("b", id="2"), AIMessage("c", id="2")]

    assert texts(add_messages([], right)) == ["c"]


def test_removing_an_unknown_id_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidMessagesError, match="cannot remove message 'nope'") as caught:
        add_messages([HumanMessage("a", id="1")], RemoveMessage(id="nope"))

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InvalidUpdateError)
    assert "REMOVE_ALL_MESSAGES" in (caught.value.hint or "")


@pytest.mark.parametrize("wrong", [7, {"content": "no role"}, {"role": "nobody", "content": "x"}, ("a", "b", "c")])
def test_what_is_not_a_message_is_an_error_that_shows_it(wrong: Any) -> None:
    with pytest.raises(InvalidMessagesError, match="cannot make a message of") as caught:
        add_messages([], [wrong])

    assert "(role, text)" in (caught.value.hint or "")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("left", "right", "missing"), [([], None, "right"), (None, [], "left")])
def test_one_missing_side_is_an_error_that_names_it(left: Any, right: Any, missing: str) -> None:
    with pytest.raises(InvalidMessagesError, match=f"'{missing}' is None"):
        add_messages(left, right)


def test_openai_format_rewrites_contents() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "1234"}}
    here = {"type": "text", "text": "Here:", "cache_control": {"type": "ephemeral"}}

    reducer = add_messages(format="langchain-openai")
    merged = reducer([], [HumanMessage([here, image])])

    assert merged[0].content == [
        {"type": "text", "text": "Here:"},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,1234"}},
    ]


def test_unknown_format_is_an_early_error() -> None:
    with pytest.raises(InvalidMessagesError, match="does not know the format 'xml'"):
        add_messages(format="xml")  # type: ignore[call-overload]


def test_messages_state_has_one_field_merged_by_id() -> None:
    class Chat(MessagesState):
        topic: str

    hints = get_type_hints(Chat, include_extras=True)

    assert hints["messages"] == Annotated[list, add_messages]
    assert hints["topic"] is str


def test_messages_state_is_accepted_inside_pydantic_models() -> None:
    from pydantic import TypeAdapter

    assert TypeAdapter(MessagesState).validate_python({"messages": []}) == {"messages": []}


def test_remove_message_is_langchain_cores_class() -> None:
    assert message_module.RemoveMessage is RemoveMessage


messages = st.builds(
    lambda kind, number: kind(f"m{number}", id=str(number)) if kind is not RemoveMessage else kind(id=str(number)),
    st.sampled_from([HumanMessage, AIMessage, RemoveMessage]),
    st.integers(0, 6),
)


@given(st.lists(messages.filter(lambda message: not isinstance(message, RemoveMessage))), st.lists(messages))
def test_merging_gives_what_the_peer_gives(left: list[Any], right: list[Any]) -> None:
    def outcome(reducer: Any) -> Any:
        try:
            return reducer(left, right)
        except ValueError:
            return "an error"

    assert outcome(add_messages) == outcome(peer_add_messages)


def test_tool_messages_keep_their_call_id() -> None:
    merged = add_messages([AIMessage("call", id="1")], [ToolMessage("done", tool_call_id="t1", id="2")])

    assert merged[1].tool_call_id == "t1"


WITHOUT_LANGCHAIN = """
import sys, typing
sys.modules["langchain_core"] = None  # as if it were not installed
from clew.errors import MissingExtraError
from clew.graph.message import MessagesState, add_messages, push_message
typing.get_type_hints(MessagesState, include_extras=True)
add_messages(format="langchain-openai")
def remove(): from clew.graph.message import RemoveMessage
for call in (lambda: add_messages([], []), lambda: push_message("hi"), remove):
    try:
        call()
    except MissingExtraError as error:
        print(error, "|", error.hint)
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_langchain_core_the_error_names_the_extra() -> None:
    lines = run_python(WITHOUT_LANGCHAIN).splitlines()

    assert lines == [
        f"{feature} needs a package that is not installed | install it with: pip install 'clew[langchain]'"
        for feature in ("merging messages with add_messages", "push_message", "RemoveMessage")
    ]


def test_importing_the_module_does_not_import_langchain_core() -> None:
    code = "import sys, clew.graph.message; print('langchain_core' in sys.modules, 'pydantic' in sys.modules)"

    assert run_python(code) == "False False\n"
