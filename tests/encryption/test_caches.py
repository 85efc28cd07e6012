"""Caches with a key: entries and the names they are found by are unreadable, and no entry passes for another."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, TypedDict

import pytest

from clew.cache.memory import InMemoryCache
from clew.cache.sqlite import SqliteCache
from clew.graph import START, StateGraph
from clew.types import CachePolicy
from tests.encryption.backends import serde

A, B = (("node",), "SECRET-key a"), (("node",), "SECRET-key b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


def stored(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob("cache.db*"))


def test_entries_and_their_keys_cannot_be_read(path: Path) -> None:
    with SqliteCache[Any](path=str(path), serde=serde()) as cache:
        cache.set({A: ("SECRET-value", None)})

        assert b"SECRET" not in stored(path)
    with SqliteCache[Any](path=str(path), serde=serde()) as cache:
        assert cache.get([A, B]) == {A: "SECRET-value"}
    with SqliteCache[Any](path=str(path)) as cache:
        assert cache.get([A]) == {}
        cache.set({A: ("SECRET-value", None)})
        assert b"SECRET-value" in stored(path), "without a key the same search finds it"


@pytest.mark.parametrize("keys", [("old",), ("old", "new"), ("new",)])
def test_an_entry_under_another_key_counts_as_not_cached_or_is_right(path: Path, keys: tuple[str, ...]) -> None:
    with SqliteCache[Any](path=str(path), serde=serde("old")) as cache:
        cache.set({A: (1, None)})
    with SqliteCache[Any](path=str(path), serde=serde(*keys)) as cache:
        assert cache.get([A]) == ({A: 1} if keys == ("old",) else {})


def test_an_entry_that_was_moved_counts_as_not_cached(path: Path) -> None:
    with SqliteCache[Any](path=str(path), serde=serde()) as cache:
        cache.set({A: ("of a", None), B: ("of b", None)})
        with sqlite3.connect(path) as connection:
            connection.execute("update cache_entry set value = (select value from cache_entry limit 1)")
        connection.close()

        assert len(cache.get([A, B])) == 1
        assert {key: value for key, value in cache.get([A, B]).items() if value != f"of {key[1][-1]}"} == {}


def test_a_cache_in_memory_takes_a_key_too() -> None:
    cache = InMemoryCache[Any](serde=serde())
    cache.set({A: ("SECRET-value", None)})

    assert cache.get([A]) == {A: "SECRET-value"}
    assert "SECRET-value" not in repr(vars(cache))


def test_a_graph_is_served_from_an_encrypted_cache(path: Path) -> None:
    class State(TypedDict):
        text: str

    calls: list[str] = []

    def shout(state: State) -> State:
        calls.append(state["text"])
        return {"text": state["text"].upper()}

    builder = StateGraph(State).add_node("shout", shout, cache_policy=CachePolicy()).add_edge(START, "shout")
    with SqliteCache[Any](path=str(path), serde=serde()) as cache:
        graph = builder.compile(cache=cache)
        results = [graph.invoke({"text": "SECRET-text"}) for _ in range(2)]

    assert results == [{"text": "SECRET-TEXT"}] * 2
    assert calls == ["SECRET-text"]
    assert b"SECRET" not in stored(path)
