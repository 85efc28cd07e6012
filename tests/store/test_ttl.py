"""Times to live: when items expire, and what starts their time anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clew.store.base import GetOp, InvalidOpError, PutOp

from .faces import Clock

HIDING = {"omit_expired": True}


def test_expired_item_is_there_until_it_is_swept(store: Any, clock: Clock) -> None:
    store.put(("a",), "k", {"n": 1}, ttl=10)
    store.put(("a",), "forever", {"n": 2})
    clock.advance(minutes=9.99)
    assert store.sweep_ttl() == 0

    clock.advance(minutes=0.01)
    assert store.get(("a",), "k", refresh_ttl=False) is not None
    assert store.sweep_ttl() == 1

    assert store.get(("a",), "k") is None
    assert [item.key for item in store.search(("a",))] == ["forever"]


def test_expired_item_is_invisible_where_the_store_omits_it(make_store: Callable[..., Any], clock: Clock) -> None:
    store = make_store(ttl=HIDING)
    store.put(("a",), "k", {"n": 1}, ttl=10)
    store.put(("b",), "k", {"n": 1})
    clock.advance(minutes=10)

    assert store.get(("a",), "k") is None
    assert [item.namespace for item in store.search(())] == [("b",)]
    assert store.list_namespaces() == [("b",)]
    assert store.sweep_ttl() == 1


def test_reading_and_finding_start_the_time_anew(make_store: Callable[..., Any], clock: Clock) -> None:
    store = make_store(ttl=HIDING)
    for key in ("got", "found", "left"):
        store.put(("a", key), key, {}, ttl=10)
    clock.advance(minutes=9)
    store.get(("a", "got"), "got")
    store.search(("a", "found"))
    clock.advance(minutes=9)

    assert [item.key for item in store.search(("a",), refresh_ttl=False)] in (["got", "found"], ["found", "got"])


def test_reading_with_refresh_switched_off_does_not_start_the_time_anew(
    make_store: Callable[..., Any], clock: Clock
) -> None:
    store = make_store(ttl=HIDING | {"refresh_on_read": False})
    store.put(("a",), "asked", {}, ttl=10)
    store.put(("a",), "default", {}, ttl=10)
    clock.advance(minutes=9)
    store.get(("a",), "default")
    store.search(("a",))
    store.get(("a",), "asked", refresh_ttl=True)
    clock.advance(minutes=9)

    assert [item.key for item in store.search(("a",))] == ["asked"]


def test_only_the_items_a_search_returns_are_refreshed(make_store: Callable[..., Any], clock: Clock) -> None:
    store = make_store(ttl=HIDING)
    for n in range(3):
        store.put(("a",), str(n), {"n": n}, ttl=10)
    clock.advance(minutes=9)
    store.search(("a",), filter={"n": {"$gte": 1}}, limit=1, offset=1)
    clock.advance(minutes=9)

    assert len(store.search(("a",))) == 1


def test_put_without_ttl_uses_the_default_and_none_means_forever(make_store: Callable[..., Any], clock: Clock) -> None:
    store = make_store(ttl=HIDING | {"default_ttl": 10})
    store.put(("a",), "default", {})
    store.put(("a",), "forever", {}, ttl=None)
    store.put(("a",), "longer", {}, ttl=30)
    clock.advance(minutes=20)

    assert {item.key for item in store.search(("a",), refresh_ttl=False)} == {"forever", "longer"}


def test_put_replaces_the_time_to_live(make_store: Callable[..., Any], clock: Clock) -> None:
    store = make_store(ttl=HIDING)
    store.put(("a",), "k", {}, ttl=1)
    store.put(("a",), "k", {})
    clock.advance(minutes=100)

    assert store.get(("a",), "k") is not None


@pytest.mark.parametrize("ttl", [-1, float("nan"), float("inf"), "5", True])
def test_time_to_live_must_be_minutes(store: Any, ttl: Any) -> None:
    with pytest.raises(InvalidOpError, match="the ttl of item 'k'") as info:
        store.put(("a",), "k", {}, ttl=ttl)

    assert info.value.hint == "give minutes, 0 or more, or None"


def test_batch_of_a_read_and_a_put_leaves_the_time_of_the_put(make_store: Callable[..., Any], clock: Clock) -> None:
    store = make_store(ttl=HIDING)
    store.put(("a",), "k", {}, ttl=10)
    store.batch([GetOp(("a",), "k"), PutOp(("a",), "k", {"n": 1}, ttl=2)])
    clock.advance(minutes=5)

    assert store.get(("a",), "k") is None
