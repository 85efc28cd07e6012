"""Plain data: what JSON has, what JSON loses, and what the native encoder cannot see."""

from __future__ import annotations

import math
import struct

import pytest

from clew.serde import Codec
from tests.serde.exact import again, is_same

_NAN_WITH_PAYLOAD = struct.unpack(">d", b"\x7f\xf8\x00\x00\x00\x00\x00\x07")[0]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        10**4000,
        -(10**4000),
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        _NAN_WITH_PAYLOAD,
        5e-324,
        "",
        "text with NUL \0 and 🧵",
        b"",
        b"\xc4\xc5\xc6",
        [],
        {},
        [1, [2, [3]], {"a": [None]}],
        {"z": 1, "a": 2},
        {"": 0},
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_plain_value_comes_back_exactly(value: object) -> None:
    assert is_same(again(value), value)


@pytest.mark.parametrize(
    "value",
    [
        {1: "one", "1": "text"},
        {True: 1, 2: 2},
        {None: 1, 1.5: 2, b"k": 3, (1, "a"): 4, frozenset({1}): 5},
        {"ok": {"deep": {1: {2: {3: "end"}}}}},
        {2**70: -(2**70)},
    ],
)
def test_dict_with_any_keys_keeps_keys_and_order(value: object) -> None:
    assert is_same(again(value), value)


@pytest.mark.parametrize("value", ["\ud800", "a\udcffb", ["ok", "\udfff"], {"\ud800": "\udc00"}, {"k": {"\ud800": 1}}])
def test_lone_surrogates_are_kept(value: object) -> None:
    assert is_same(again(value), value)


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b""),
        bytearray(b"abc"),
        bytearray(300),
        bytearray(70_000),
        [b"a", bytearray(b"a")],
        {"k": [{"k": bytearray(b"x")}]},
        (bytearray(b"x"), b"x"),
        {1: bytearray(b"x")},
    ],
)
def test_bytearray_is_not_taken_for_bytes(value: object) -> None:
    assert is_same(again(value), value)


def test_accented_text_that_looks_like_byte_strings_is_plain() -> None:
    value = {"text": "Příliš žluťoučký kůň", "more": ["ąćęłńóśźż", "Ġ"]}

    assert is_same(again(value), value)


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abc"),
        memoryview(bytearray(b"abc")),
        memoryview(b"abcdefgh").cast("i"),
        memoryview(b"abcdefgh").cast("B", (2, 4)),
        memoryview(b"abcdef")[::2],
        memoryview(b""),
    ],
)
def test_memoryview_keeps_content_format_shape_and_writability(view: memoryview) -> None:
    restored = again(view)

    assert type(restored) is memoryview
    assert (restored.tobytes(), restored.format, restored.shape) == (view.tobytes(), view.format, view.shape)
    assert restored.readonly == view.readonly


def test_items_are_encoded_as_one_by_one() -> None:
    codec = Codec()
    values = [1, "\ud800", {"a": bytearray(b"x")}, {1: 2}, (1, 2), b"bytes", {"text": "čau"}]

    items = codec.encode_items(values)

    assert items == [codec.encode(value) for value in values]
    assert is_same(codec.decode_items(items), values)


def test_restored_values_are_not_shared() -> None:
    shared: list[int] = []

    left, right = again([shared, shared])

    left.append(1)
    assert right == []


def test_plain_data_is_plain_message_pack() -> None:
    value = {"role": "user", "content": "hi", "n": 1}

    assert Codec().encode(value) == b"\x83\xa4role\xa4user\xa7content\xa2hi\xa1n\x01"
