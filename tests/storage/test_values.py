"""Differences between encoded values: exact, and small where the change was small."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clew.serde import Codec
from clew.storage.delta import apply, diff
from clew.storage.splice import apply_splice, splice, splice_size
from clew.storage.values import (
    Delta,
    Value,
    decode_value,
    dict_value,
    encode_full,
    encode_value,
    list_value,
    opaque_value,
    state_hash,
)

codec = Codec()
items = st.binary(min_size=1, max_size=5) | st.binary(min_size=250, max_size=260)
values = (
    st.lists(items, max_size=12).map(list_value)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), items, max_size=6).map(dict_value)
    | st.binary(max_size=600).map(opaque_value)
)


@given(values, values)
def test_applying_a_difference_gives_the_new_value(old: Value, new: Value) -> None:
    found = apply(old, diff(old, new))

    assert found == new
    assert list(found.data) == list(new.data)
    assert state_hash({"a": found}) == state_hash({"a": new})


@given(st.data())
def test_lists_that_were_rearranged_come_out_right(data: st.DataObject) -> None:
    old = data.draw(st.lists(items, max_size=20))
    chosen = data.draw(st.lists(st.sampled_from(old) if old else items, max_size=20))
    new = list_value(chosen + data.draw(st.lists(items, max_size=3)))

    assert apply(list_value(old), diff(list_value(old), new)) == new


@given(st.binary(max_size=3000), st.data())
def test_splicing_gives_the_new_bytes(old: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(old)))
    until = data.draw(st.integers(at, len(old)))
    new = old[:at] + data.draw(st.binary(max_size=50)) + old[until:]

    assert apply_splice(old, splice(old, new)) == new


def delta_size(old: Any, new: Any) -> int:
    before = encode_value(old, codec)
    return weigh(diff(before, encode_value(new, codec, before)))


def weigh(delta: Delta) -> int:
    return len(codec.encode(delta))


MESSAGES = [{"type": "ai", "id": f"{number:08}", "content": f"word {number} " * 40} for number in range(200)]


def test_small_changes_of_large_values_are_small() -> None:
    edited = [*MESSAGES[:50], {**MESSAGES[50], "content": MESSAGES[50]["content"] + "!"}, *MESSAGES[51:]]
    files = {f"/file {number}": "line\n" * 500 for number in range(50)}
    cases: dict[str, tuple[Any, Any]] = {
        "append": (MESSAGES, [*MESSAGES, "new"]),
        "prepend": (MESSAGES, ["new", *MESSAGES]),
        "window": (MESSAGES, [*MESSAGES[10:], "new"]),
        "delete": (MESSAGES, MESSAGES[:70] + MESSAGES[71:]),
        "edit": (MESSAGES, edited),
        "swap": (MESSAGES, [*MESSAGES[100:], *MESSAGES[:100]]),
        "clear": (MESSAGES, []),
        "file": (files, {**files, "/file 7": files["/file 7"] + "one more line\n"}),
        "nested": ({"messages": MESSAGES}, {"messages": [*MESSAGES, "new"]}),
        "tuple": (("a", MESSAGES), ("a", [*MESSAGES, "new"])),
        "numbers": (list(range(5000)), [*range(5000), 1]),
    }

    sizes = {name: delta_size(old, new) for name, (old, new) in cases.items()}

    assert {name: size for name, size in sizes.items() if size > 150} == {}


def test_a_change_in_place_is_found_though_the_object_is_the_same() -> None:
    value = [{"deep": {"er": [1, 2]}}, "x"]
    before = encode_value(value, codec)
    assert encode_value(value, codec, before) is before
    value[0]["deep"]["er"].append(3)  # type: ignore[index] - the first item is a dict

    after = encode_value(value, codec, before)

    assert after != before
    assert decode_value(apply(before, diff(before, after)), codec.decode) == value


def test_a_value_that_was_rewritten_is_stored_whole() -> None:
    old, new = encode_value("a" * 1000, codec), encode_value("b" * 1000, codec)

    assert diff(old, new) == [2, new.data]
    assert encode_full("b" * 1000, codec) == [2, new.data]


def test_the_order_of_keys_survives() -> None:
    old = encode_value({"a": 1, "b": 2, "c": 3}, codec)
    for new in ({"c": 3, "a": 1, "b": 2}, {"b": 2, "a": 9}, {"z": 0, "a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 3}):
        encoded = encode_value(new, codec, old)
        found = decode_value(apply(old, diff(old, encoded)), codec.decode)
        assert list(found.items()) == list(new.items())


def test_dicts_whose_keys_a_record_cannot_hold_are_kept_all_the_same() -> None:
    for value in ({1: "a"}, {"a\ud800": 1}, {("t",): 1}, {None: 2}):
        assert decode_value(encode_value(value, codec), codec.decode) == value


def test_splicing_finds_its_footing_after_changed_headers() -> None:
    old = bytes(range(256)) * 40
    new = old[:3] + b"??" + old[4:5000] + b"inserted" + old[5000:] + b"tail"

    assert splice_size(splice(old, new)) < 120
