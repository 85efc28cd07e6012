"""Long lists of messages: what a cursor remembers of them never hides a change, and loads share nothing."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from clew.checkpoint.memory import InMemorySaver
from clew.serde import Codec
from clew.storage import memo
from tests.storage.kit import Run, load

COUNT = 40


def message(number: int) -> BaseMessage:
    match number % 3:
        case 0:
            return HumanMessage(f"question {number}", id=f"h{number}")
        case 1:
            call = {"name": "look", "args": {"where": [{"page": number}]}, "id": f"c{number}", "type": "tool_call"}
            return AIMessage([{"type": "text", "text": "a"}], tool_calls=[call], id=f"a{number}")
        case _:
            return ToolMessage("found", tool_call_id=f"c{number - 1}", id=f"t{number}", artifact={"rows": [[1]]})


def talk(saver: InMemorySaver, count: int = COUNT) -> Run:
    run = Run(saver, "chat")
    run.state = {"messages": [message(number) for number in range(count)]}
    run.commit(claim=True)
    return run


def stored(saver: InMemorySaver) -> Any:
    """The messages as the stored bytes say, with no state in the cache."""
    saver.heads.drop("", "chat")
    loaded = load(saver, "chat")
    assert loaded is not None
    return loaded.values["messages"]


def same(left: Any, right: Any) -> bool:
    codec = Codec()
    return codec.encode(left) == codec.encode(right)


def change_nested(item: Any) -> None:
    item.tool_calls[0]["args"]["where"][0]["page"] = -1


def change_block(item: Any) -> None:
    item.content[0]["text"] = "b"


def change_kwargs(item: Any) -> None:
    item.additional_kwargs["new"] = {"deep": [1]}


def change_content(item: Any) -> None:
    item.content = "other"


def change_fields_set(item: Any) -> None:
    item.model_fields_set.discard("content")
    item.model_fields_set.add("name")


def change_extra(item: Any) -> None:
    item.__pydantic_extra__["surprise"] = 1


def change_kind_of_number(item: Any) -> None:
    item.tool_calls[0]["args"]["where"][0]["page"] = float(item.tool_calls[0]["args"]["where"][0]["page"])


def change_class(item: Any) -> None:
    item.__class__ = HumanMessage


CHANGES = (
    change_nested,
    change_block,
    change_kwargs,
    change_content,
    change_fields_set,
    change_extra,
    change_kind_of_number,
    change_class,
)


@pytest.mark.parametrize("change", CHANGES)
def test_an_old_message_changed_in_place_is_stored(change: Any) -> None:
    saver = InMemorySaver()
    run = talk(saver)
    run.state["messages"].append(message(COUNT))
    run.commit()
    change(run.state["messages"][1])
    run.state["messages"].append(message(COUNT + 1))
    run.commit()
    assert same(stored(saver), run.state["messages"])


@pytest.mark.parametrize("change", CHANGES)
def test_a_loaded_message_changed_in_place_is_stored(change: Any) -> None:
    saver = InMemorySaver()
    talk(saver)
    run = Run(saver, "chat")
    change(run.state["messages"][1])
    run.commit(claim=True)
    assert same(stored(saver), run.state["messages"])


@pytest.mark.parametrize("change", CHANGES)
def test_no_later_load_sees_what_is_done_to_a_loaded_message(change: Any) -> None:
    saver = InMemorySaver()
    talk(saver)
    first, second = load(saver, "chat"), load(saver, "chat")
    assert first is not None
    assert second is not None
    before = copy.deepcopy(second.values["messages"])
    for item in first.values["messages"]:
        if isinstance(item, AIMessage):
            change(item)
    third = load(saver, "chat")
    assert third is not None
    assert same(second.values["messages"], before)
    assert same(third.values["messages"], before)
    assert same(stored(saver), before)


def test_a_message_is_loaded_as_it_was_stored_from_the_cache_too() -> None:
    saver = InMemorySaver()
    run = talk(saver)
    run.state["messages"][3].__pydantic_extra__["more"] = {"a": [1]}
    run.state["messages"][4].additional_kwargs["deep"] = {"a": [{"b": [None, 1.5]}]}
    run.commit()
    for _ in range(3):
        loaded = load(saver, "chat")
        assert loaded is not None
        assert same(loaded.values["messages"], run.state["messages"])
        kinds = [type(item) for item in loaded.values["messages"]]
        assert kinds == [type(item) for item in run.state["messages"]]
        assert [item.model_fields_set for item in loaded.values["messages"]] == [
            item.model_fields_set for item in run.state["messages"]
        ]


@pytest.mark.parametrize(
    "held", [b"bytes", bytearray(b"buffer"), (1, 2), {"a set"}, 2**70], ids=["bytes", "buffer", "tuple", "set", "int"]
)
def test_messages_that_hold_more_than_plain_data_are_compared_in_full(held: object) -> None:
    item = HumanMessage("text", id="x", additional_kwargs={"held": held})
    assert memo.contents([message(0), item]) is None
    saver = InMemorySaver()
    run = talk(saver)
    run.state["messages"].append(item)
    run.commit()
    assert same(stored(saver), run.state["messages"])


def test_text_that_looks_like_a_byte_string_is_still_remembered() -> None:
    assert memo.contents([HumanMessage("a" * 0xC4 + "\u0104", id="x")]) is not None


@pytest.mark.parametrize("seed", range(40))
def test_random_chats_are_stored_as_they_are(seed: int) -> None:
    generator = random.Random(seed)
    saver = InMemorySaver(keyframe_factor=generator.choice([0.2, 4.0]))
    run = talk(saver, generator.randrange(10, 60))
    count = 100
    for _ in range(25):
        items = run.state["messages"]
        match generator.randrange(9):
            case 0 | 1 | 2:
                items.append(message(count := count + 1))
            case 3:
                run.state["messages"] = [*items, message(count := count + 1), message(count := count + 1)]
            case 4:
                generator.choice(CHANGES[2:4])(generator.choice(items))
            case 5:
                items[generator.randrange(len(items))] = message(count := count + 1)
            case 6:
                run.state["messages"] = items[generator.randrange(4) :] or [message(0)]
            case 7:
                items.insert(generator.randrange(len(items)), generator.choice(items))
            case _:
                held = load(saver, "chat")
                run = Run(saver, "chat")
                assert held is not None
                generator.choice(CHANGES[2:4])(generator.choice(held.values["messages"]))
                assert same(run.state["messages"], items)
                run.commit(claim=True)
        run.commit()
        found = load(saver, "chat") if generator.random() < 0.5 else None
        assert same(stored(saver) if found is None else found.values["messages"], run.state["messages"])
    assert not saver.verify("chat").problems
