"""Caches: what they keep, for how long, and what they refuse. One test body for every backend and both ways to call."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from clew.cache.base import BaseCache
from clew.cache.memory import InMemoryCache
from clew.cache.sqlite import SqliteCache
from clew.errors import SerializationError, StorageError

NS = ("graph", "node")


class Clock:
    """A clock that moves when it is told to; seconds."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class AsyncFace:
    """The sync names of a cache's methods, answered by its async methods."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.cache, f"a{name}", None)
        if method is None:
            return getattr(self.cache, name)

        async def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            assert inspect.isawaitable(answer)
            return await answer

        return lambda *arguments: asyncio.run(call(*arguments))


class TextSerializer:
    """A serializer of the caller's own."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "text", str(obj).encode()

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        assert data[0] == "text"
        return data[1].decode()


@dataclass
class Point:
    x: int


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory sync", "memory async", "sqlite sync", "sqlite async"])
def make_cache(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Any]]:
    backend, calls = request.param.split()
    opened: list[SqliteCache[Any]] = []

    def make(**options: Any) -> Any:
        cache: BaseCache[Any]
        if backend == "memory":
            cache = InMemoryCache(clock=clock, **options)
        else:
            cache = SqliteCache(path=str(tmp_path / "cache.db"), clock=clock, **options)
            opened.append(cache)
        return cache if calls == "sync" else AsyncFace(cache)

    yield make
    for cache in opened:
        cache.close()


@pytest.fixture
def cache(make_cache: Callable[..., Any]) -> Any:
    return make_cache()


def test_values_are_given_by_their_keys_and_missing_ones_left_out(cache: Any) -> None:
    cache.set({(NS, "a"): ({"n": 1}, None), (NS, "b"): ([1, (2, 3)], None), (("other",), "a"): (None, None)})

    assert cache.get([(NS, "a"), (NS, "b"), (NS, "c"), (("other",), "a")]) == {
        (NS, "a"): {"n": 1},
        (NS, "b"): [1, (2, 3)],
        (("other",), "a"): None,
    }
    assert cache.get([(NS, "a")]) == {(NS, "a"): {"n": 1}}
    assert cache.get([]) == {}
    assert cache.get([(NS, "c")]) == {}


def test_setting_again_replaces_the_value_and_nothing_is_a_fine_set(cache: Any) -> None:
    cache.set({(NS, "a"): (1, 5)})
    cache.set({(NS, "a"): (2, None)})
    cache.set({})

    assert cache.get([(NS, "a")]) == {(NS, "a"): 2}


def test_values_are_kept_exactly_and_changes_by_callers_do_not_reach_them(cache: Any) -> None:
    value = {
        "tuple": (1,),
        "set": {1},
        "price": Decimal("1.10"),
        "list": [1],
        "bytes": b"\xff",
        "buffer": bytearray(b"x"),
    }
    cache.set({(NS, "a"): (value, None)})
    value["list"].append(2)  # type: ignore[attr-defined]
    cache.get([(NS, "a")])[NS, "a"]["list"].append(3)

    assert cache.get([(NS, "a")])[NS, "a"] == {**value, "list": [1]}


def test_value_expires_after_its_seconds(cache: Any, clock: Clock) -> None:
    cache.set({(NS, "short"): (1, 10), (NS, "long"): (2, 20), (NS, "forever"): (3, None)})
    keys = [(NS, "short"), (NS, "long"), (NS, "forever")]

    clock.now += 9.9
    assert list(cache.get(keys).values()) == [1, 2, 3]
    clock.now += 0.1
    assert list(cache.get(keys).values()) == [2, 3]
    clock.now += 1000
    assert list(cache.get(keys).values()) == [3]


def test_clear_forgets_exactly_the_namespaces_it_is_given(cache: Any) -> None:
    places = [("a",), ("a", "b"), ("ab",), ("a,b",), ("b",), ()]
    cache.set({(ns, "k"): (n, None) for n, ns in enumerate(places)})

    cache.clear([("a",), ("never",)])
    assert set(cache.get([(ns, "k") for ns in places])) == {(ns, "k") for ns in places[1:]}
    cache.clear([])
    assert len(cache.get([(ns, "k") for ns in places])) == 5
    cache.clear()
    assert cache.get([(ns, "k") for ns in places]) == {}


def test_odd_namespaces_and_keys_never_meet(cache: Any) -> None:
    odd = ["", ",", "a", "a,", "\x00", "\x00\x00", "\ud800", "\u00e9", "e\u0301", "%", "'; drop table cache_entry; --"]
    keys = [((left, right), key) for left in odd for right in odd for key in odd]
    cache.set({key: (n, None) for n, key in enumerate(keys)})

    assert cache.get(keys) == {key: n for n, key in enumerate(keys)}


def test_unknown_type_is_refused_and_nothing_is_stored(cache: Any) -> None:
    with pytest.raises(SerializationError, match="Point") as info:
        cache.set({(NS, "good"): (1, None), (NS, "bad"): ({"at": [Point(1)]}, None)})

    assert "at" in info.value.path
    assert cache.get([(NS, "good")]) == {}


def test_class_that_was_learned_is_kept(cache: Any) -> None:
    cache.learn([Point])
    cache.set({(NS, "a"): (Point(1), None)})

    assert cache.get([(NS, "a")]) == {(NS, "a"): Point(1)}


def test_own_serializer_is_used(make_cache: Callable[..., Any]) -> None:
    cache = make_cache(serde=TextSerializer())
    cache.learn([Point])
    cache.set({(NS, "a"): (5, None)})

    assert cache.get([(NS, "a")]) == {(NS, "a"): "5"}


def test_file_is_shared_and_outlives_the_object(tmp_path: Path, clock: Clock) -> None:
    path = str(tmp_path / "cache.db")
    with SqliteCache[Any](path=path, clock=clock) as one, SqliteCache[Any](path=path, clock=clock) as two:
        one.set({(NS, "a"): (1, None)})
        assert two.get([(NS, "a")]) == {(NS, "a"): 1}
    program = (
        "import sys; from clew.cache.sqlite import SqliteCache\n"
        "with SqliteCache(path=sys.argv[1]) as cache:\n"
        "    print(cache.get([(('graph', 'node'), 'a')])); cache.set({(('graph', 'node'), 'a'): (2, None)})"
    )
    output = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True).stdout

    assert output == "{(('graph', 'node'), 'a'): 1}\n"
    with SqliteCache[Any](path=path) as again:
        assert again.get([(NS, "a")]) == {(NS, "a"): 2}


def test_value_of_a_type_unknown_here_counts_as_not_cached(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")
    with SqliteCache[Any](path=path) as writer, SqliteCache[Any](path=path) as reader:
        writer.learn([Point])
        writer.set({(NS, "a"): (Point(1), None), (NS, "b"): (1, None)})

        assert reader.get([(NS, "a"), (NS, "b")]) == {(NS, "b"): 1}


def test_damaged_value_counts_as_not_cached(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")
    with SqliteCache[Any](path=path) as cache:
        cache.set({(NS, "a"): ("text", None)})
        raw = sqlite3.connect(path, isolation_level=None)
        [(value,)] = raw.execute("select value from cache_entry")
        for position in range(len(value)):
            flipped = value[:position] + bytes([value[position] ^ 1]) + value[position + 1 :]
            raw.execute("update cache_entry set value = ?", (flipped,))
            assert cache.get([(NS, "a")]) == {}
        raw.execute("update cache_entry set value = ?, tag = 'pickle'", (value,))
        assert cache.get([(NS, "a")]) == {}
        raw.close()


def test_expired_rows_leave_the_file_when_something_is_set(tmp_path: Path, clock: Clock) -> None:
    path = str(tmp_path / "cache.db")
    with SqliteCache[Any](path=path, clock=clock) as cache:
        cache.set({(NS, str(n)): (n, 1) for n in range(5)})
        clock.now += 1
        cache.set({(NS, "new"): (1, None)})
        raw = sqlite3.connect(path)
        rows = raw.execute("select cast(key as text) from cache_entry").fetchall()
        raw.close()

    assert rows == [("new",)]


def test_expired_value_is_dropped_from_memory_when_it_is_asked_for(clock: Clock) -> None:
    cache: InMemoryCache[int] = InMemoryCache(clock=clock)
    cache.set({(NS, "a"): (1, 1)})
    clock.now += 1

    assert cache.get([(NS, "a")]) == {}
    assert cache._entries == {NS: {}}


def test_closed_cache_says_so(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.db")
    with SqliteCache[Any](path=path) as cache:
        cache.set({(NS, "a"): (1, None)})

    with pytest.raises(StorageError, match=r"cache.db' is closed"):
        cache.get([(NS, "a")])


def test_file_that_is_not_a_database_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database " * 100)

    with SqliteCache[Any](path=str(path)) as cache, pytest.raises(StorageError, match="is not a SQLite database"):
        cache.get([(NS, "a")])


def test_cache_in_memory_needs_no_file() -> None:
    with SqliteCache[Any](path=":memory:") as cache:
        cache.set({(NS, "a"): (1, None)})
        assert asyncio.run(cache.aget([(NS, "a")])) == {(NS, "a"): 1}


def test_async_callers_may_change_a_value_after_the_call_began(tmp_path: Path) -> None:
    async def scenario(cache: SqliteCache[Any]) -> Any:
        value = [1]
        setting = asyncio.ensure_future(cache.aset({(NS, "a"): (value, None)}))
        await asyncio.sleep(0)
        value.append(2)
        await setting
        return await cache.aget([(NS, "a")])

    with SqliteCache[Any](path=str(tmp_path / "cache.db")) as cache:
        assert asyncio.run(scenario(cache)) == {(NS, "a"): [1]}
