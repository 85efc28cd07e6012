"""Properties that hold for every value and for every bytes."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import StorageError
from clew.serde import Codec, TypeRegistry, compress
from tests.serde.exact import is_same


@dataclass(frozen=True)
class Record:
    first: Any
    second: Any


class Pair(NamedTuple):
    left: Any
    right: Any


CODEC = Codec(TypeRegistry([Record, Pair]))
STRANGER = Codec()
_text = st.text(st.characters(codec=None), max_size=20)  # with lone surrogates
_zones = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone) | st.timezones() | st.none()
_hashable_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | _text
    | st.binary(max_size=300)
    | st.decimals().filter(lambda number: not number.is_snan())  # which cannot be hashed
    | st.fractions()
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=_zones)
    | st.times()
    | st.timedeltas()
    | st.complex_numbers()
    | st.ip_addresses()
)
_hashable = st.recursive(
    _hashable_leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.builds(Pair, inner, inner) | st.builds(Record, inner, inner)
    ),
    max_leaves=5,
)
_leaves = _hashable_leaves | st.binary(max_size=20).map(bytearray)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.dictionaries(_text, inner, max_size=4)
        | st.dictionaries(_hashable, inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.builds(Record, inner, inner)
        | st.builds(Pair, inner, inner)
        | st.frozensets(_hashable, max_size=3)
        | st.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=5))
        | st.dictionaries(_text, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(_text, st.integers(), max_size=3).map(Counter)
    )


values = st.recursive(_leaves, _containers, max_leaves=25)
always_the_same = settings(derandomize=True, deadline=None, database=None, max_examples=300)


def _is_same(left: Any, right: Any) -> bool:
    if isinstance(left, Record) and isinstance(right, Record):
        return _is_same([left.first, left.second], [right.first, right.second])
    if type(left) in (list, tuple, Pair, deque) and type(left) is type(right) and len(left) == len(right):
        return all(map(_is_same, left, right))
    if type(left) in (dict, OrderedDict) and type(left) is type(right):
        return _is_same([part for pair in left.items() for part in pair], [p for pair in right.items() for p in pair])
    return is_same(left, right)


@always_the_same
@given(values)
def test_value_comes_back_exactly_and_its_bytes_too(value: Any) -> None:
    data = CODEC.encode(value)

    restored = CODEC.decode(data)

    assert _is_same(restored, value)
    assert CODEC.encode(restored) == data


@always_the_same
@given(values)
def test_equal_copies_have_equal_bytes(value: Any) -> None:
    assert CODEC.encode(copy.deepcopy(value)) == CODEC.encode(value)


@always_the_same
@given(values)
def test_the_exact_walk_gives_the_bytes_of_the_native_pass(value: Any) -> None:
    assert CODEC._level.pack_exactly(value) == CODEC.encode(value)


@always_the_same
@given(values)
def test_a_stranger_carries_the_bytes_unchanged(value: Any) -> None:
    data = CODEC.encode(value)

    assert STRANGER.encode(STRANGER.decode(data, opaque=True)) == data


@always_the_same
@given(st.lists(values, max_size=4))
def test_items_are_encoded_as_one_by_one(items: list[Any]) -> None:
    assert CODEC.encode_items(items) == [CODEC.encode(item) for item in items]


@always_the_same
@given(values, st.data())
def test_damaged_bytes_give_a_value_or_a_typed_error(value: Any, data: st.DataObject) -> None:
    damaged = bytearray(CODEC.encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    for opaque in (False, True):
        with contextlib.suppress(StorageError):
            CODEC.decode(bytes(damaged), opaque=opaque)


@always_the_same
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(StorageError):
        CODEC.decode(data)


@always_the_same
@given(st.binary(max_size=600))
def test_record_comes_back_from_its_envelope(record: bytes) -> None:
    assert compress.unpack(compress.pack(record)) == record
