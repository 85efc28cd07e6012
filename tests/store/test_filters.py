"""Filters: which values they accept, the same in every store."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from clew.store.base import InvalidOpError

ITEMS: dict[str, dict[str, Any]] = {
    "one": {"n": 1, "s": "abc", "flag": True, "tags": ["x", "y"], "meta": {"lang": "en", "size": 3}},
    "two": {"n": 2.5, "s": "abd", "flag": False, "tags": ["x"], "meta": {"lang": "de", "size": 4, "deep": {"a": 1}}},
    "none": {"n": None},
    "text": {"n": "7"},
    "truth": {"n": True},
    "bare": {"other": 1},
    "dotted": {"meta.lang": "fr"},
}

CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"n": 1}, {"one"}),
    ({"n": 1.0}, {"one"}),
    ({"n": True}, {"truth"}),
    ({"n": "7"}, {"text"}),
    ({"n": {"$eq": 2.5}}, {"two"}),
    ({"n": None}, {"none", "bare", "dotted"}),
    ({"n": {"$ne": 1}}, {"two", "none", "text", "truth"}),
    ({"n": {"$ne": None}}, {"one", "two", "text", "truth"}),
    ({"n": {"$gt": 1}}, {"two"}),
    ({"n": {"$gte": 1}}, {"one", "two"}),
    ({"n": {"$lt": 2.5}}, {"one"}),
    ({"n": {"$lte": 2.5}}, {"one", "two"}),
    ({"n": {"$gt": 0, "$lt": 2}}, {"one"}),
    ({"n": {"$gt": "6"}}, {"text"}),
    ({"n": {"$gt": None}}, set()),
    ({"n": {"$gt": [1]}}, set()),
    ({"s": {"$lt": "abd"}}, {"one"}),
    ({"flag": {"$gt": False}}, {"one"}),
    ({"flag": {"$gt": 0}}, set()),
    ({"n": {"$in": [1, "7"]}}, {"one", "text"}),
    ({"n": {"$nin": [1, "7"]}}, {"two", "none", "truth"}),
    ({"n": {"$in": []}}, set()),
    ({"n": {"$exists": False}}, {"bare", "dotted"}),
    ({"s": {"$exists": True}}, {"one", "two"}),
    ({"n": {"$not": {"$gt": 1}}}, {"one", "none", "text", "truth", "bare", "dotted"}),
    ({"n": {"$or": [{"$lt": 2}, {"$eq": None}]}}, {"one", "none", "bare", "dotted"}),
    ({"$or": [{"n": 1}, {"other": 1}]}, {"one", "bare"}),
    ({"$and": [{"n": {"$gt": 0}}, {"s": "abc"}]}, {"one"}),
    ({"$not": {"n": {"$exists": True}}}, {"bare", "dotted"}),
    ({"$or": [{"$and": [{"n": 1}, {"s": "abc"}]}, {"$not": {"n": {"$exists": True}}}]}, {"one", "bare", "dotted"}),
    ({"tags": ["x", "y"]}, {"one"}),
    ({"tags": ("x",)}, {"two"}),
    ({"tags": {"$eq": ["x"]}}, {"two"}),
    ({"tags": ["x", {"$gt": "x"}]}, {"one"}),
    ({"meta": {"lang": "en"}}, {"one"}),
    ({"meta": {"lang": {"$in": ["en", "de"]}, "size": {"$gt": 3}}}, {"two"}),
    ({"meta": {"$eq": {"lang": "en", "size": 3}}}, {"one"}),
    ({"meta": {"$eq": {"lang": "en"}}}, set()),
    ({"meta.lang": "en"}, {"one"}),
    ({"meta.lang": {"$in": ["de", "fr"]}}, {"two", "dotted"}),
    ({"meta.deep.a": 1}, {"two"}),
    ({"meta.deep.a.b": 1}, set()),
    ({"s.x": None}, set(ITEMS)),
    ({"x') or 1=1 --": 1}, set()),
    ({}, set(ITEMS)),
]


@pytest.fixture
def filled(store: Any) -> Any:
    for key, value in ITEMS.items():
        store.put(("a",), key, value)
    return store


def test_filters_accept_what_they_say(filled: Any) -> None:
    for filter, expected in CASES:
        found = {item.key for item in filled.search(("a",), filter=filter, limit=100)}
        assert (filter, found) == (filter, expected)


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        ({"n": {"$regex": "x"}}, "unknown filter operator '$regex'"),
        ({"$where": "1"}, "unknown filter operator '$where'"),
        ({"n": {"$gt": 1, "m": 2}}, "a filter mixes operators with the field 'm'"),
        ({"n": {"$in": 1}}, "the operand of $in is 1"),
        ({"n": {"$exists": 1}}, "the operand of $exists is 1"),
        ({"$or": []}, "the operand of $or is []"),
        ({"$and": {"n": 1}}, "the operand of $and is {'n': 1}"),
        ({"$or": [1]}, "a filter is of type int, not a dict"),
        ({1: 1}, "a filter names the field 1, which is not a string"),
    ],
)
def test_malformed_filter_is_refused_before_anything_is_read(store: Any, filter: Any, message: str) -> None:
    with pytest.raises(InvalidOpError) as info:
        store.search(("a",), filter=filter)

    assert str(info.value) == message
    assert info.value.hint
    assert isinstance(info.value, ValueError)


def test_unknown_operator_hint_lists_the_operators(store: Any) -> None:
    with pytest.raises(InvalidOpError) as info:
        store.search(("a",), filter={"n": {"$like": "%"}})

    assert info.value.hint == "the operators are $eq $ne $gt $gte $lt $lte $in $nin $exists $and $or $not"


def test_filter_that_is_nested_too_deep_is_refused(store: Any) -> None:
    filter: dict[str, Any] = {"n": 1}
    for _ in range(100_000):
        filter = {"$not": filter}

    with pytest.raises(InvalidOpError, match="nested more than 32 levels deep"):
        store.search(("a",), filter=filter)
    while "$not" in filter:  # taken apart step by step, as dropping it whole would overflow the stack in old Pythons
        filter = filter["$not"]


def test_dates_and_decimals_are_ordered_and_mixed_types_are_not(store: Any) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    store.put(
        ("a",), "k", {"at": moment, "naive": moment.replace(tzinfo=None), "day": date(2026, 1, 2), "d": Decimal(5)}
    )

    def finds(filter: dict[str, Any]) -> bool:
        return bool(store.search(("a",), filter=filter))

    assert finds({"at": {"$gt": datetime(2026, 1, 1, tzinfo=UTC)}})
    assert finds({"day": {"$lt": date(2026, 1, 3)}})
    assert finds({"d": {"$gt": 4}})
    assert not finds({"naive": {"$gt": datetime(2026, 1, 1, tzinfo=UTC)}})
    assert not finds({"day": {"$lt": "2027"}})


@pytest.mark.parametrize("count", ["1; drop table store_item", "5", 1.5, -1, True, None, 2**63])
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_limit_and_offset_must_be_counts(store: Any, name: str, count: Any) -> None:
    with pytest.raises(InvalidOpError, match=f"the {name} of an operation is"):
        store.search(("a",), **{name: count})
    with pytest.raises(InvalidOpError, match=f"the {name} of an operation is"):
        store.list_namespaces(**{name: count})


def test_pages_of_a_filtered_search_fit_together(store: Any) -> None:
    for n in range(30):
        store.put(("a", str(n % 3)), f"{n:02}", {"n": n})
    filter = {"n": {"$gte": 10}}

    whole = [item.key for item in store.search(("a",), filter=filter, limit=100)]
    pages = [
        item.key for offset in range(0, 25, 4) for item in store.search(("a",), filter=filter, limit=4, offset=offset)
    ]

    assert len(whole) == 20
    assert pages == whole
    assert store.search(("a",), filter=filter, limit=0) == []
