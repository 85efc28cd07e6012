"""Namespaces: which are allowed, and that they never run into each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.store.base import InvalidNamespaceError, ListNamespacesOp, MatchCondition, PutOp
from clew.store.base._namespace import decode_namespace, encode_namespace, namespace_range

LABELS = st.text(st.characters(exclude_characters=".\x00"), min_size=1, max_size=4)
NAMESPACES = st.lists(LABELS, max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("namespace", "message"),
    [
        ((), "the namespace of an item is empty"),
        (("a", ""), "the label '' of namespace ('a', '') is empty"),
        (("a.b", "c"), "the label 'a.b' of namespace ('a.b', 'c') contains a period"),
        (("a", "b\x00c"), "the label 'b\\x00c' of namespace ('a', 'b\\x00c') contains a NUL character"),
        (("a", 1), "the label 1 of namespace ('a', 1) is of type int"),
        (("langgraph", "x"), "the first label of namespace ('langgraph', 'x') is reserved"),
        (("clew",), "the first label of namespace ('clew',) is reserved"),
        ("users", "the namespace 'users' is a string, not a tuple of labels"),
    ],
)
def test_bad_namespace_is_refused_by_put_and_by_batch(store: Any, namespace: Any, message: str) -> None:
    with pytest.raises(InvalidNamespaceError) as info:
        store.put(namespace, "k", {})
    assert str(info.value) == message
    assert info.value.hint
    assert isinstance(info.value, ValueError)

    with pytest.raises(InvalidNamespaceError):
        store.batch([PutOp(namespace, "k", {})])
    assert store.list_namespaces() == []


@pytest.mark.parametrize("namespace", [("a.b",), ("",), (1,), "users"])
def test_bad_label_is_refused_by_every_read(store: Any, namespace: Any) -> None:
    calls = [
        lambda: store.get(namespace, "k"),
        lambda: store.delete(namespace, "k"),
        lambda: store.search(namespace),
        lambda: store.list_namespaces(prefix=namespace),
        lambda: store.list_namespaces(suffix=namespace),
        lambda: store.batch([ListNamespacesOp((MatchCondition("prefix", namespace),))]),
    ]
    for call in calls:
        with pytest.raises(InvalidNamespaceError):
            call()


def test_reserved_label_is_allowed_below_the_root_and_in_reads(store: Any) -> None:
    store.put(("a", "langgraph", "clew"), "k", {})

    assert store.get(("langgraph",), "k") is None
    assert store.list_namespaces(suffix=("clew",)) == [("a", "langgraph", "clew")]


def test_search_finds_a_namespace_and_what_lies_under_it_and_no_sibling(store: Any) -> None:
    inside = [("acme",), ("acme", "east"), ("acme", "east", "1")]
    outside = [("acme-corp",), ("acm",), ("ACME",), ("acme ",), ("other", "acme"), ("acmé",)]
    for namespace in inside + outside:
        store.put(namespace, "k", {})

    assert sorted(item.namespace for item in store.search(("acme",), limit=100)) == inside
    assert store.list_namespaces(prefix=("acme",)) == inside
    assert len(store.search((), limit=100)) == len(inside + outside)


@pytest.mark.parametrize("wild", ["%", "_", "a%", "*", "?", "[a-z]", "a_c"])
def test_characters_of_pattern_languages_stand_for_themselves(store: Any, wild: str) -> None:
    store.put(("abc",), "k", {})
    store.put((wild, "x"), "k", {})

    assert [item.namespace for item in store.search((wild,))] == [(wild, "x")]


def test_labels_are_never_joined(store: Any) -> None:
    places = [("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"), ("a,b", "c"), ("a", "b,c"), ("a/b",), ("a:b", "c")]
    for position, namespace in enumerate(places):
        store.put(namespace, "k", {"n": position})

    assert [store.get(namespace, "k").value["n"] for namespace in places] == list(range(len(places)))


def test_unicode_forms_and_lone_surrogates_are_distinct_labels(store: Any) -> None:
    places = [("\u00e9",), ("e\u0301",), ("\ud800",), ("\udfff", "x"), ("\U0010ffff",)]
    for namespace in places:
        store.put(namespace, "k", {})

    assert store.list_namespaces() == sorted(places)
    assert [item.namespace for item in store.search(("\udfff",))] == [("\udfff", "x")]


def test_namespaces_are_listed_sorted_in_pages(store: Any) -> None:
    places = [("b",), ("a", "c"), ("a",), ("a", "b"), ("a-",)]
    for namespace in places:
        store.put(namespace, "k", {})
        store.put(namespace, "l", {})

    assert store.list_namespaces() == sorted(places)
    assert store.list_namespaces(limit=2, offset=1) == sorted(places)[1:3]
    assert store.list_namespaces(limit=0) == []
    assert store.list_namespaces(offset=9) == []


def test_listing_matches_prefix_suffix_and_wildcards(store: Any) -> None:
    places = [("a", "x", "v1"), ("a", "y", "v1"), ("a", "y", "v2"), ("b", "x", "v1"), ("v1",)]
    for namespace in places:
        store.put(namespace, "k", {})

    assert store.list_namespaces(prefix=("a", "y")) == [("a", "y", "v1"), ("a", "y", "v2")]
    assert store.list_namespaces(suffix=("v1",)) == [("a", "x", "v1"), ("a", "y", "v1"), ("b", "x", "v1"), ("v1",)]
    assert store.list_namespaces(prefix=("*", "x")) == [("a", "x", "v1"), ("b", "x", "v1")]
    assert store.list_namespaces(suffix=("y", "*")) == [("a", "y", "v1"), ("a", "y", "v2")]
    assert store.list_namespaces(prefix=("a",), suffix=("x", "v1")) == [("a", "x", "v1")]
    assert store.list_namespaces(prefix=("a", "x", "v1", "z")) == []


def test_listing_cuts_to_max_depth_and_lists_each_once(store: Any) -> None:
    for namespace in [("a", "b", "c"), ("a", "b", "d", "e"), ("a", "b", "d", "i"), ("a", "b", "f"), ("a", "c", "f")]:
        store.put(namespace, "k", {})

    assert store.list_namespaces(prefix=("a", "b"), max_depth=3) == [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")]
    assert store.list_namespaces(max_depth=2) == [("a", "b"), ("a", "c")]
    assert store.list_namespaces(max_depth=2, limit=1, offset=1) == [("a", "c")]


@given(NAMESPACES)
def test_encoded_namespace_is_decoded_exactly(namespace: tuple[str, ...]) -> None:
    assert decode_namespace(encode_namespace(namespace)) == namespace


@given(NAMESPACES, NAMESPACES)
def test_encoded_namespaces_sort_and_start_as_the_namespaces_do(left: tuple[str, ...], right: tuple[str, ...]) -> None:
    low, high = namespace_range(left)

    assert (encode_namespace(left) < encode_namespace(right)) == (left < right)
    assert (low <= encode_namespace(right) < high) == (right[: len(left)] == left)
