"""What JSON says of values that it has no word for."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections import deque
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from clew.errors import SerializationError
from clew.server.errors import ApiError
from clew.server.extract import extracted, parsed
from clew.server.formats import encoded
from clew.types import Interrupt


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Pair(NamedTuple):
    left: int
    right: int


class Model(BaseModel):
    name: str


class Colour(enum.Enum):
    RED = "red"


class Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, 2.5, True, None, "ü"]}, {"a": [1, 2.5, True, None, "ü"]}),
        (float("nan"), None),
        ([float("inf")], [None]),
        (b"\xff\x00", "_wA="),
        ((1, 2), [1, 2]),
        (deque([1]), [1]),
        ({1: "a"}, {"1": "a"}),
        (frozenset({1}), [1]),
        (Point(1, Point(2)), {"x": 1, "y": {"x": 2, "y": None}}),
        (Pair(1, 2), [1, 2]),
        (Model(name="n"), {"name": "n"}),
        (Colour.RED, "red"),
        (Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (timedelta(seconds=1.5), 1.5),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (ValueError("boom"), {"error": "ValueError", "message": "boom"}),
        (Odd(), "odd"),
        ("lone \ud800", "lone \ud800"),
        (
            {"\ud800": [Point(1), b"\x00", float("nan"), Model(name="\udfff"), (1, {2})]},
            {"\ud800": [{"x": 1, "y": None}, "AA==", None, {"name": "\udfff"}, [1, [2]]]},
        ),
        (2**70, 2**70),
    ],
)
def test_a_value_is_said(value: Any, said: Any) -> None:
    assert json.loads(encoded(value)) == said


def test_messages_are_their_fields() -> None:
    said = json.loads(encoded([HumanMessage("hi", id="1"), AIMessage("yo", id="2", tool_calls=[])]))

    assert [(each["type"], each["content"], each["id"]) for each in said] == [("human", "hi", "1"), ("ai", "yo", "2")]
    assert said[1]["tool_calls"] == []


def test_a_question_has_its_id_and_value() -> None:
    said = json.loads(encoded(Interrupt(value="?", id="i")))

    assert (said["id"], said["value"]) == ("i", "?")


def test_a_value_that_holds_itself_is_an_error_and_not_a_crash() -> None:
    held: list[Any] = []
    held.append(held)

    with pytest.raises(SerializationError, match="cannot be said in JSON"):
        encoded(held)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", 1),
        ("list[0]", "x"),
        ("list[-1].c", 2),
        ("list[5]", None),
        ("a[0]", None),
        ("list.b", None),
        ("nothing.at.all", None),
    ],
)
def test_a_path_leads_somewhere_or_nowhere(path: str, found: Any) -> None:
    assert extracted({"a": {"b": 1}, "list": ["x", {"c": 2}]}, parsed(path)) == found


@pytest.mark.parametrize("path", ["", "a..b", "a[x]", "a[", "[1", "a]", "a."])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ApiError, match="path"):
        parsed(path)
