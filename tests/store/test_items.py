"""What every store does with items: put, get, delete, batches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from clew.errors import SerializationError
from clew.store.base import GetOp, InvalidOpError, Item, ListNamespacesOp, PutOp, SearchItem, SearchOp

from .faces import Clock

ODD_KEYS = [
    "",
    " ",
    "a'b\"; drop table store_item; --",
    "$.a[0]",
    "\u00e9",
    "e\u0301",
    "%_*?[",
    "\x00",
    "\ud800",
    "K",
    "k",
]


def test_item_is_read_back_with_its_place_and_times(store: Any, clock: Clock) -> None:
    store.put(("users", "ada"), "taste", {"likes": ["tea", {"with": "milk"}]})

    item = store.get(("users", "ada"), "taste")

    now = datetime.fromtimestamp(clock.now, UTC)
    expected = Item(
        value={"likes": ["tea", {"with": "milk"}]},
        key="taste",
        namespace=("users", "ada"),
        created_at=now,
        updated_at=now,
    )
    assert item == expected
    assert type(item) is Item


def test_missing_item_is_none_and_leaves_no_namespace(store: Any) -> None:
    assert store.get(("users",), "nobody") is None
    assert store.list_namespaces() == []


def test_put_replaces_the_value_and_keeps_the_time_of_creation(store: Any, clock: Clock) -> None:
    created = clock.now
    store.put(("a",), "k", {"n": 1, "old": True})
    clock.advance(minutes=1)
    store.put(("a",), "k", {"n": 2})

    item = store.get(("a",), "k")

    assert item.value == {"n": 2}
    assert item.created_at == datetime.fromtimestamp(created, UTC)
    assert item.updated_at == datetime.fromtimestamp(clock.now, UTC)


def test_deleted_item_is_gone_and_deleting_nothing_is_fine(store: Any) -> None:
    store.put(("a",), "k", {"n": 1})
    store.delete(("a",), "k")
    store.delete(("a",), "never")

    assert store.get(("a",), "k") is None
    assert store.search(("a",)) == []
    assert store.list_namespaces() == []


def test_key_is_made_a_string(store: Any) -> None:
    store.put(("a",), 7, {"n": 1})

    assert store.get(("a",), "7").key == "7"


def test_odd_keys_are_all_distinct(store: Any) -> None:
    for position, key in enumerate(ODD_KEYS):
        store.put(("a",), key, {"n": position})

    assert [store.get(("a",), key).value["n"] for key in ODD_KEYS] == list(range(len(ODD_KEYS)))
    assert {item.key for item in store.search(("a",), limit=100)} == set(ODD_KEYS)


def test_later_changes_by_the_caller_do_not_reach_the_store(store: Any) -> None:
    value = {"list": [1], "dict": {"a": [1]}}
    store.put(("a",), "k", value)
    value["list"].append(2)
    store.get(("a",), "k").value["dict"]["a"].append(2)
    store.search(("a",))[0].value["list"].append(3)

    assert store.get(("a",), "k").value == {"list": [1], "dict": {"a": [1]}}


@pytest.mark.parametrize("value", ["text", 1, [1], ("a",)])
def test_value_that_is_not_a_dict_is_refused(store: Any, value: Any) -> None:
    with pytest.raises(
        SerializationError, match=r"the value of item 'k' in \('a',\) is of type \w+, not a dict"
    ) as info:
        store.put(("a",), "k", value)

    assert info.value.hint == "wrap it, as in {'value': ...}"
    assert store.get(("a",), "k") is None


def test_value_that_contains_itself_is_refused_and_the_batch_with_it(store: Any) -> None:
    value: dict[str, Any] = {}
    value["self"] = value

    with pytest.raises(SerializationError, match="contains itself"):
        store.batch([PutOp(("a",), "fine", {}), PutOp(("a",), "k", value)])

    assert store.search(("a",)) == []


def test_batch_gives_results_in_order_and_reads_before_it_writes(store: Any) -> None:
    store.put(("a",), "old", {"n": 0})

    results = store.batch(
        [
            GetOp(("a",), "new"),
            PutOp(("a",), "new", {"n": 1}),
            GetOp(("a",), "old"),
            PutOp(("a",), "old", None),
            SearchOp(("a",)),
            ListNamespacesOp(),
        ]
    )

    assert results[0] is None
    assert results[1] is None
    assert results[2].value == {"n": 0}
    assert results[3] is None
    assert [(type(item), item.key) for item in results[4]] == [(SearchItem, "old")]
    assert results[5] == [("a",)]
    assert [item.key for item in store.search(("a",))] == ["new"]


def test_last_put_of_one_item_wins_in_a_batch(store: Any) -> None:
    assert store.batch([PutOp(("a",), "k", {"n": n}) for n in range(3)]) == [None, None, None]
    assert store.get(("a",), "k").value == {"n": 2}

    store.batch([PutOp(("a",), "k", None), PutOp(("a",), "k", {"n": 9})])
    assert store.get(("a",), "k").value == {"n": 9}

    store.batch([PutOp(("a",), "k", {"n": 10}), PutOp(("a",), "k", None)])
    assert store.get(("a",), "k") is None


def test_equal_reads_in_a_batch_get_equal_results_in_lists_of_their_own(store: Any) -> None:
    store.put(("a",), "k", {"n": 1})

    first, second, third, fourth = store.batch(
        [SearchOp(("a",)), SearchOp(("a",)), ListNamespacesOp(), ListNamespacesOp()]
    )
    first.clear()
    third.clear()

    assert [item.key for item in second] == ["k"]
    assert fourth == [("a",)]


def test_searches_whose_filters_only_compare_equal_are_not_mixed_up(store: Any) -> None:
    store.put(("a",), "number", {"n": 1})
    store.put(("a",), "truth", {"n": True})

    numbers, truths = store.batch([SearchOp(("a",), {"n": 1}), SearchOp(("a",), {"n": True})])

    assert [item.key for item in numbers] == ["number"]
    assert [item.key for item in truths] == ["truth"]


def test_batch_with_one_bad_operation_changes_nothing(store: Any) -> None:
    with pytest.raises(InvalidOpError, match="operation 1 of a batch is of type str"):
        store.batch([PutOp(("a",), "k", {"n": 1}), "get"])

    assert store.get(("a",), "k") is None


def test_empty_batch_gives_nothing(store: Any) -> None:
    assert store.batch([]) == []


def test_batch_takes_any_iterable(store: Any) -> None:
    store.batch(PutOp(("a",), str(n), {"n": n}) for n in range(3))

    assert {item.key for item in store.search(("a",))} == {"0", "1", "2"}
