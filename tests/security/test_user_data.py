"""What users put in comes out as it was: no key, text or class of theirs means anything to what stores it.

GHSA-wwqv-p2pp-99h5 (lone surrogates took another path, which revived objects), CVE-2025-68664 (a user's dict with the
key "lc" was revived).
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest

from clew.graph import START, StateGraph
from clew.types import Command, interrupt
from tests.both import Drive, on
from tests.security.hostile import CALL

SURROGATES = ["\ud800", "a\udfffb", "\udc80" * 3, "\ud83e\uddf6"]
RESERVED: list[Any] = [
    CALL,
    {"lc": 1, "type": "secret", "id": ["HOME"]},
    {"lc": 1, "type": "not_implemented", "id": ["os", "system"], "repr": "x"},
    {"__type__": "os:system", "__clew__": 1, "$ref": "#/x", "$writes": [1]},
    {"__interrupt__": [1], "__error__": "x", "__pregel_tasks": [1], "branch:to:node": None},
    {"type": "__end__", "node": "x", "arg": {"lc": 2}},
    [1, "os", ["system", ["true"]]],
    ["tests.security.hostile", "fire", {}],
]
VALUES: list[Any] = [*SURROGATES, *RESERVED, {text: {text: [text]} for text in SURROGATES}]


class State(TypedDict):
    values: Annotated[list[Any], operator.add]


@pytest.fixture
def graph(saver: Any) -> Any:
    def ask(state: State) -> dict[str, Any]:
        return {"values": [interrupt(state["values"])]}

    builder = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("durability", ["sync", "exit"])
def test_values_that_look_like_something_are_what_they_are(drive: Drive, graph: Any, durability: Any) -> None:
    asked = drive.invoke(graph, {"values": VALUES}, on(), durability=durability)
    assert asked["__interrupt__"][0].value == VALUES
    assert drive.get_state(graph, on()).interrupts[0].value == VALUES

    done = drive.invoke(graph, Command(resume=VALUES), on(), durability=durability)

    assert done == {"values": [*VALUES, VALUES]}
    assert drive.get_state(graph, on()).values == done
    drive.update_state(graph, on(), {"values": VALUES})
    assert drive.get_state(graph, on()).values == {"values": [*VALUES, VALUES, *VALUES]}


def test_metadata_that_looks_like_something_is_what_it_is(drive: Drive, graph: Any, saver: Any) -> None:
    given = {f"key {number}": text for number, text in enumerate(SURROGATES)}
    drive.invoke(
        graph, {"values": []}, {**on(**given), "metadata": {"lc": 2, "id": "os.system", "type": "constructor"}}
    )

    metadata = drive.get_state(graph, on()).metadata

    assert {key: metadata[key] for key in given} == given
    assert (metadata["lc"], metadata["id"], metadata["type"]) == (2, "os.system", "constructor")
    assert len(list(saver.list(on(), filter={"key 0": SURROGATES[0], "lc": 2}))) == len(list(saver.list(on())))


def test_items_of_a_store_that_look_like_something_are_what_they_are(store: Any) -> None:
    value = {"values": VALUES, **CALL, **{text: text for text in SURROGATES}}
    for text in SURROGATES:
        store.put((text,), text, value)

        assert store.get((text,), text).value == value
        assert [item.key for item in store.search((text,), filter={"lc": 2, text: text})] == [text]
    assert store.list_namespaces() == sorted((text,) for text in SURROGATES)


def test_cached_values_that_look_like_something_are_what_they_are(cache: Any) -> None:
    keys = [((text,), text) for text in SURROGATES]
    cache.set(dict.fromkeys(keys, (VALUES, None)))

    assert cache.get(keys) == dict.fromkeys(keys, VALUES)
