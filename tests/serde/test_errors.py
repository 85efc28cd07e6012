"""What a user reads when a value cannot be stored."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, PrivateAttr

from clew.errors import SerializationError, StorageError
from clew.serde import Codec, TypeRegistry, relocated


@dataclass(slots=True)
class Node:
    child: Any


class Model(BaseModel):
    a: Any = None
    _lock: Any = PrivateAttr(default=None)


class Pair(NamedTuple):
    left: Any
    right: Any


CODEC = Codec(TypeRegistry([Node, Model, Pair]))
LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, ""),
        ([1, LOCK], "[1]"),
        ({"a": {"b": [LOCK]}}, "['a']['b'][0]"),
        ([0, Node({"when": LOCK})], "[1].child['when']"),
        (Pair(1, (2, LOCK)), ".right[1]"),
        (Model(a=[LOCK]), ".a[0]"),
        (deque([LOCK]), "[0]"),
        ({1: LOCK}, "[1]"),
        ({LOCK: 1}, f"[key {LOCK!r}]"),
        ({"x" * 100: LOCK}, f"['{'x' * 56}...]"),
        ({"\ud800": [{1: LOCK}]}, "['\\ud800'][0][1]"),
    ],
    ids=range(11),
)
def test_path_leads_to_the_part_that_cannot_be_stored(value: object, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        CODEC.encode(value)

    where = f" (at {path})" if path else ""
    assert caught.value.path == path
    assert str(caught.value) == f"a value of type '_thread.lock' cannot be stored{where}"
    assert isinstance(caught.value, StorageError)


@pytest.mark.parametrize("value", [LOCK, print, iter([]), (item for item in ())], ids=range(4))
def test_what_cannot_be_stored_at_all_has_its_own_remedy(value: object) -> None:
    with pytest.raises(SerializationError) as caught:
        CODEC.encode([value])

    assert (
        caught.value.hint
        == "keep it out of the state: store what it is made from, and make it again where it is needed"
    )


def test_private_attribute_that_cannot_be_stored_is_named() -> None:
    model = Model()
    model._lock = LOCK

    with pytest.raises(SerializationError) as caught:
        CODEC.encode({"m": model})

    assert caught.value.path == "['m']._lock"


def test_items_name_the_index_of_the_bad_one() -> None:
    with pytest.raises(SerializationError) as caught:
        CODEC.encode_items([1, {"a": LOCK}])

    assert caught.value.path == "[1]['a']"


def test_channel_is_put_before_the_path() -> None:
    with pytest.raises(SerializationError) as caught:
        CODEC.encode([1, LOCK])

    named = relocated(caught.value, "messages")

    assert str(named) == "a value of type '_thread.lock' cannot be stored (at messages[1])"
    assert (named.path, named.hint) == ("messages[1]", caught.value.hint)


@pytest.mark.parametrize("depth", [255, 256, 1000, 100_000])
def test_deep_lists_are_stored_or_refused(depth: int) -> None:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]

    if depth <= 255:
        data = CODEC.encode(value)
        assert CODEC.encode(CODEC.decode(data)) == data
    else:
        with pytest.raises(SerializationError, match="nests more than 255 lists and dicts, or contains itself"):
            CODEC.encode(value)


@pytest.mark.parametrize("depth", [1, 50, 99, 100, 101, 5000])
def test_deep_objects_are_stored_or_refused(depth: int) -> None:
    value: Any = None
    for _ in range(depth):
        value = Node(value)

    if depth <= 100:
        data = CODEC.encode(value)
        assert CODEC.encode(CODEC.decode(data)) == data
    else:
        with pytest.raises(SerializationError, match="nests more than 100 objects or tuples"):
            CODEC.encode(value)


def test_value_that_contains_itself_is_refused() -> None:
    endless_list: list[Any] = []
    endless_list.append(endless_list)
    endless_object = Node(None)
    endless_object.child = [endless_object]
    endless_dict: dict[Any, Any] = {}
    endless_dict[1] = endless_dict

    for value in (endless_list, endless_object, endless_dict):
        with pytest.raises(SerializationError, match="contains itself"):
            CODEC.encode(value)


def test_what_is_stored_deep_can_be_read_again() -> None:
    """Whatever nesting of lists inside tuples is accepted when written is accepted when read."""
    for width in (1, 30, 31, 32, 33, 200):
        value: Any = None
        for _ in range(90):
            for _ in range(width):
                value = [value]
            value = (value,)
        try:
            data = CODEC.encode(value)
        except SerializationError:
            assert width > 30
        else:
            assert width <= 32
            assert CODEC.encode(CODEC.decode(data)) == data


def test_odd_keys_at_every_depth_take_time_in_proportion() -> None:
    value: Any = None
    for _ in range(40):
        value = Node([value, {1: "a key that is no string"}])

    data = CODEC.encode(value)

    assert CODEC.encode(CODEC.decode(data)) == data


def test_keyboard_interrupt_while_storing_is_not_swallowed() -> None:
    types = TypeRegistry()

    def stop(value: object) -> object:
        raise KeyboardInterrupt

    types.register(Node, encode=stop, decode=lambda content: content)
    for store in (Codec(types).encode, Codec(types).encode_items):
        with pytest.raises(KeyboardInterrupt):
            store([Node(1)])


def test_a_failure_leaves_nothing_behind_for_the_next_value() -> None:
    with pytest.raises(SerializationError):
        CODEC.encode(Node(LOCK))

    assert CODEC.decode(CODEC.encode({1: 2})) == {1: 2}
    assert CODEC.decode_items(CODEC.encode_items([Node(1), {1: 2}])) == [Node(1), {1: 2}]
