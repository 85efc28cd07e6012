"""What a saver may be given as its serializer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.graph import START, StateGraph


@dataclass
class Unannotated:
    """A class that no schema of the graph names."""

    number: int


def _graph(saver: InMemorySaver) -> Any:
    builder = StateGraph(dict)
    builder.add_node("make", lambda _: {"made": Unannotated(1)})
    builder.add_edge(START, "make")
    return builder.compile(checkpointer=saver)


def test_the_classes_a_serializer_allows_can_be_stored() -> None:
    graph = _graph(InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=[Unannotated])))
    config = {"configurable": {"thread_id": "1"}}

    graph.invoke({}, config)

    assert graph.get_state(config).values == {"made": Unannotated(1)}


def test_what_is_no_serializer_is_refused() -> None:
    with pytest.raises(TypeError, match=r"serde is a dict, neither a clew\.serde\.Codec nor a JsonPlusSerializer"):
        InMemorySaver(serde={})  # pyright: ignore[reportArgumentType] - that is the point
