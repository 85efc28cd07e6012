"""The store over HTTP, through the field's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clew.checkpoint.sqlite import SqliteSaver
from clew.server.owned_store import OwnedStore
from clew.store.memory import InMemoryStore
from clew.store.postgres import PostgresStore
from tests.server.kit import Api, InProcess, make_app


def test_an_item_from_beginning_to_end(api: Api) -> None:
    api.store.put_item(["notes", "rome"], "first", {"text": "forum", "stars": 4})
    api.store.put_item(["notes", "rome"], "second", {"text": "pantheon", "stars": 5}, index=False, ttl=10)
    api.store.put_item(["plans"], "first", {"text": "walk", "stars": 5})

    item = api.store.get_item(["notes", "rome"], "first")
    assert (item["namespace"], item["key"], item["value"]["stars"]) == (["notes", "rome"], "first", 4)
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    found = api.store.search_items(["notes"], filter={"stars": {"$gte": 5}})["items"]
    assert [(each["key"], each["score"]) for each in found] == [("second", None)]
    assert len(api.store.search_items([], limit=2)["items"]) == 2
    assert len(api.store.search_items([], limit=2, offset=2)["items"]) == 1
    assert api.store.list_namespaces() == {"namespaces": [["notes", "rome"], ["plans"]]}
    assert api.store.list_namespaces(prefix=["notes"]) == {"namespaces": [["notes", "rome"]]}
    assert api.store.list_namespaces(suffix=["rome"], max_depth=1) == {"namespaces": [["notes"]]}
    api.store.delete_item(["notes", "rome"], "first")
    assert api.store.get_item(["notes", "rome"], "first") is None


def test_each_owner_has_a_store_of_their_own(api: Api) -> None:
    other = api.of(f"{api.user}2")  # begins like the first one's
    api.store.put_item(["notes"], "k", {"mine": True})

    assert other.store.get_item(["notes"], "k") is None
    assert other.store.search_items([])["items"] == []
    assert other.store.list_namespaces() == {"namespaces": []}
    other.store.delete_item(["notes"], "k")
    assert api.store.get_item(["notes"], "k")["value"] == {"mine": True}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/store/items", {"namespace": ["a.b"], "key": "k", "value": {}}),
        ("PUT", "/store/items", {"namespace": [], "key": "k", "value": {}}),
        ("PUT", "/store/items", {"namespace": [""], "key": "k", "value": {}}),
        ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": [1]}),
        ("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {}, "ttl": -1}),
        ("PUT", "/store/items", {"namespace": ["langgraph"], "key": "k", "value": {}}),
        ("POST", "/store/items/search", {"namespace_prefix": ["a.b"]}),
        ("POST", "/store/items/search", {"filter": {"a": {"$near": 1}}}),
        ("POST", "/store/items/search", {"limit": 0}),
        ("POST", "/store/namespaces", {"max_depth": 0}),
        ("GET", "/store/items?namespace=a", None),
        ("DELETE", "/store/items", {"namespace": ["a.b"], "key": "k"}),
    ],
)
def test_what_cannot_be_kept_is_refused(here: InProcess, method: str, path: str, body: Any) -> None:
    answer = here.request(method, path, json=body)

    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["detail"], str)


def test_a_service_without_a_store_says_so() -> None:
    with asyncio.Runner() as runner:
        api = InProcess(make_app(SqliteSaver(":memory:"), None), runner, "ada")

        assert api.request("GET", "/store/items?namespace=a&key=k").json() == {
            "detail": "this service has no store",
            "hint": "pass store=... to create_app",
        }


def test_an_owned_store_is_the_same_for_blocking_callers() -> None:
    inner = InMemoryStore()
    mine = OwnedStore(inner, ("user ada",))

    mine.put(("notes",), "k", {"n": 1})

    assert inner.get(("user ada", "notes"), "k") is not None
    item = mine.get(("notes",), "k")
    assert item is not None
    assert item.namespace == ("notes",)
    assert mine.list_namespaces(max_depth=1) == [("notes",)]
    assert [each.namespace for each in mine.search(())] == [("notes",)]


def test_items_are_kept_in_postgres(database: str) -> None:
    with (
        asyncio.Runner() as runner,
        PostgresStore.from_conn_string(database) as store,
        InProcess(make_app(SqliteSaver(":memory:"), store), runner, "ada") as api,
    ):
        test_an_item_from_beginning_to_end(api)
        test_each_owner_has_a_store_of_their_own(api)
        api.store.put_item(["notes"], "k", {"mine": False, "ümläut": [None, 1.5]})

        assert api.store.get_item(["notes"], "k")["value"] == {"mine": False, "ümläut": [None, 1.5]}
