"""A store in which one owner's items are all there is: like any other store, whatever the owner is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clew.server.auth import Owner
from clew.server.owned_store import owned
from clew.store.base import BaseStore, MatchCondition
from clew.store.memory import InMemoryStore
from clew.store.postgres import PostgresStore
from clew.store.sqlite import SqliteStore
from clew.testing import StoreConformance

NAMES = ["ada", "ada.b", "ada b", "ada%2Eb", "a/b", "user ada", "Ada", "é", "e\u0301", "😀" * 255, "%", "_", "**"]


class TestOwnedStore(StoreConformance):
    """The kit of stores, on one owner's part of a store in which others have items, too."""

    is_durable = False

    @contextmanager
    def open(self) -> Iterator[Any]:
        with SqliteStore.from_conn_string(":memory:") as store:
            for name in ("ada2", "ad", "Ada"):
                for number in range(3):
                    owned(store, Owner(name).of_items).put((f"face {number}", "a"), "k", {"of": name})
            yield owned(store, Owner("ada").of_items)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseStore]:
    if request.param == "memory":
        yield InMemoryStore()
    elif request.param == "sqlite":
        with SqliteStore.from_conn_string(str(tmp_path / "items.db")) as opened:
            yield opened
    else:
        server, schema = request.getfixturevalue("server"), f"owned {os.getpid()}"
        with PostgresStore.from_conn_string(server, schema=schema, min_size=1, max_size=1) as opened:
            opened.setup()
            yield opened
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("set client_min_messages = warning")
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


def test_owners_are_kept_apart_whatever_they_are_called(store: BaseStore) -> None:
    of = {name: owned(store, Owner(name).of_items) for name in NAMES}
    for name, mine in of.items():
        mine.put(("notes", "rome"), "k", {"of": name})

    for name, mine in of.items():
        item = mine.get(("notes", "rome"), "k")
        assert item is not None
        assert (item.value, item.namespace) == ({"of": name}, ("notes", "rome"))
        assert [each.value for each in mine.search(())] == [{"of": name}]
        assert [each.value for each in mine.search(("notes",))] == [{"of": name}]
        for prefix in ((), ("*",), ("notes",), ("*", "rome")):
            assert mine.list_namespaces(prefix=prefix) == [("notes", "rome")]
        for none in (("user ada",), ("*", "notes"), ("*", "*", "*"), ("user ada", "notes"), ("rome",)):
            assert mine.list_namespaces(prefix=none) == []
    of["ada"].delete(("notes", "rome"), "k")
    assert sum(len(mine.search(())) for mine in of.values()) == len(NAMES) - 1


def test_what_is_listed_ends_and_is_cut_as_in_any_store(store: BaseStore) -> None:
    mine, other = (owned(store, Owner(name).of_items) for name in ("ada", "bob"))
    for place in (("notes",), ("notes", "rome"), ("plans", "rome", "day")):
        mine.put(place, "k", {})
        other.put((*place, "more"), "k", {})

    assert mine.list_namespaces(max_depth=1) == [("notes",), ("plans",)]
    assert mine.list_namespaces(max_depth=2) == [("notes",), ("notes", "rome"), ("plans", "rome")]
    assert mine.list_namespaces(suffix=("rome",)) == [("notes", "rome")]
    assert mine.list_namespaces(suffix=("*", "rome")) == [("notes", "rome")]
    assert mine.list_namespaces(suffix=("*", "notes")) == []
    assert mine.list_namespaces(suffix=("user ada", "notes")) == []
    assert mine.list_namespaces(suffix=("*", "*", "*")) == [("plans", "rome", "day")]
    assert mine.list_namespaces(prefix=("plans",), suffix=("day",), max_depth=2) == [("plans", "rome")]
    assert mine.list_namespaces(limit=1, offset=1) == [("notes", "rome")]
    assert MatchCondition("prefix", ("user ada",)).path == Owner("ada").of_items
