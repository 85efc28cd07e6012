"""Search by meaning: ranking, scores, and that every way to compute them agrees."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from clew.store.base import PutOp, SearchOp, StoreConfigError
from clew.store.base import _vector as vector_module
from clew.store.base._vector import pack_vector, python_scores, scores
from clew.store.memory import InMemoryStore
from clew.store.sqlite import SqliteStore
from clew.store.sqlite import _engine as engine_module

WORDS = {
    "cat": (1.0, 0.0, 0.0),
    "kitten": (0.9, 0.1, 0.0),
    "dog": (0.6, 0.8, 0.0),
    "car": (0.0, 0.0, 2.0),
    "": (0.0,) * 3,
}


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [list(WORDS.get(text, (0.1, 0.1, 0.1))) for text in texts]


async def aembed(texts: Sequence[str]) -> list[list[float]]:
    return embed(texts)


def index(**changes: Any) -> dict[str, Any]:
    return {"dims": 3, "embed": embed, "fields": ["text"], **changes}


def ranked(store: Any, query: str, **options: Any) -> list[tuple[str, float | None]]:
    return [(item.key, item.score) for item in store.search(("a",), query=query, **options)]


def fill(store: Any, *words: str) -> None:
    for word in words:
        store.put(("a",), word, {"text": word})


def test_closest_items_come_first_with_their_scores(make_store: Callable[..., Any]) -> None:
    store = make_store(index=index())
    fill(store, "car", "dog", "cat", "kitten")

    found = ranked(store, "cat", limit=3)

    assert [key for key, _ in found] == ["cat", "kitten", "dog"]
    assert [score for _, score in found] == pytest.approx([1.0, 0.9 / math.hypot(0.9, 0.1), 0.6], abs=1e-6)


@pytest.mark.parametrize(
    ("distance_type", "expected"),
    [
        ("cosine", [("cat", 1.0), ("dog", 0.6), ("car", 0.0)]),
        ("l2", [("cat", 0.0), ("dog", -math.hypot(0.4, 0.8)), ("car", -math.hypot(1, 2))]),
        ("inner_product", [("cat", 1.0), ("dog", 0.6), ("car", 0.0)]),
        ("ip", [("cat", 1.0), ("dog", 0.6), ("car", 0.0)]),
    ],
)
def test_every_distance_ranks_higher_scores_as_closer(
    make_store: Callable[..., Any], distance_type: str, expected: list[tuple[str, float]]
) -> None:
    store = make_store(index=index(distance_type=distance_type))
    fill(store, "car", "dog", "cat")

    found = ranked(store, "cat")

    assert [key for key, _ in found] == [key for key, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_items_without_a_vector_come_last_in_memory_and_are_left_out_by_sqlite(
    make_store: Callable[..., Any], kind: str
) -> None:
    store = make_store(index=index())
    store.put(("a",), "unindexed", {"text": "cat"}, index=False)
    store.put(("a",), "textless", {"other": 1})
    fill(store, "dog")

    left_out = [("unindexed", None), ("textless", None)] if kind.startswith("memory") else []
    assert ranked(store, "dog") == [("dog", 1.0), *left_out]
    assert ranked(store, "dog", limit=1, offset=1) == left_out[:1]


def test_an_item_is_as_close_as_the_closest_of_its_texts(make_store: Callable[..., Any]) -> None:
    store = make_store(index=index(fields=["title", "parts[*].text"]))
    store.put(("a",), "many", {"title": "car", "parts": [{"text": "dog"}, {"text": "cat"}]})
    store.put(("a",), "one", {"title": "kitten"})

    assert [key for key, _ in ranked(store, "cat")] == ["many", "one"]
    assert ranked(store, "cat")[0][1] == 1.0


def test_put_can_name_its_own_fields(make_store: Callable[..., Any]) -> None:
    store = make_store(index=index())
    store.put(("a",), "k", {"text": "car", "note": "cat"}, index=["note"])

    assert ranked(store, "cat") == [("k", 1.0)]


def test_without_fields_the_whole_value_is_embedded(make_store: Callable[..., Any]) -> None:
    texts: list[str] = []

    def remember(given: Sequence[str]) -> list[list[float]]:
        texts.extend(given)
        return embed(given)

    make_store(index={"dims": 3, "embed": remember}).put(("a",), "k", {"b": 1, "a": "x"})

    assert texts == ['{"a": "x", "b": 1}']


def test_new_value_and_deletion_take_the_old_vector_away(make_store: Callable[..., Any], kind: str) -> None:
    store = make_store(index=index())
    fill(store, "cat", "dog")
    store.put(("a",), "cat", {"text": "car"})
    store.delete(("a",), "dog")
    assert [key for key, _ in ranked(store, "cat")] == ["cat"]
    assert ranked(store, "cat")[0][1] == 0.0

    store.put(("a",), "cat", {"text": "cat"}, index=False)
    assert ranked(store, "cat") == ([("cat", None)] if kind.startswith("memory") else [])


def test_filter_namespace_and_offset_apply_to_a_ranked_search(make_store: Callable[..., Any]) -> None:
    store = make_store(index=index())
    for n in range(40):
        store.put(("a", str(n % 2)), f"{n:02}", {"text": "cat" if n < 20 else "dog", "n": n})
    store.put(("ab",), "other", {"text": "cat"})

    narrow = ranked(store, "cat", filter={"n": {"$gte": 18}}, limit=3)
    assert [key for key, _ in narrow] == ["18", "19", "20"]
    whole = ranked(store, "cat", limit=100)
    assert len(whole) == 40
    assert [entry for offset in range(0, 40, 7) for entry in ranked(store, "cat", limit=7, offset=offset)] == whole
    assert {item.key for item in store.search(("a", "1"), query="cat", limit=3)} <= {f"{n:02}" for n in range(1, 20, 2)}


def test_query_without_an_index_is_a_plain_search(make_store: Callable[..., Any]) -> None:
    store = make_store()
    store.put(("a",), "k", {"text": "cat"}, index=["text"])

    assert ranked(store, "cat") == [("k", None)]


def test_empty_query_is_a_plain_search(make_store: Callable[..., Any]) -> None:
    store = make_store(index=index())
    fill(store, "cat")

    assert ranked(store, "") == [("cat", None)]


def test_each_text_of_a_batch_is_embedded_once(make_store: Callable[..., Any]) -> None:
    calls: list[list[str]] = []

    def count(texts: Sequence[str]) -> list[list[float]]:
        calls.append(list(texts))
        return embed(texts)

    store = make_store(index=index(embed=count))
    store.batch([PutOp(("a",), str(n), {"text": "cat"}) for n in range(3)])
    store.batch([SearchOp(("a",), query="cat"), SearchOp(("b",), query="cat"), PutOp(("a",), "3", {"text": "cat"})])

    assert calls == [["cat"], ["cat"], ["cat"]]


def test_async_function_serves_async_calls_only(make_store: Callable[..., Any], kind: str) -> None:
    store = make_store(index=index(embed=aembed))
    if kind.endswith("async"):
        fill(store, "cat")
        assert ranked(store, "cat") == [("cat", 1.0)]
    else:
        with pytest.raises(StoreConfigError, match="the embedding function is async and cannot serve a sync call"):
            fill(store, "cat")
        assert store.get(("a",), "cat") is None


def test_expired_items_are_not_ranked_where_the_store_omits_them(make_store: Callable[..., Any], clock: Any) -> None:
    store = make_store(index=index(), ttl={"omit_expired": True})
    store.put(("a",), "gone", {"text": "cat"}, ttl=1)
    fill(store, "dog")
    clock.advance(minutes=1)

    assert [key for key, _ in ranked(store, "cat")] == ["dog"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0]], "the embedding function gave a vector of 2 numbers, the index has 3"),
        ([], "the embedding function gave 0 vectors for 1 texts"),
        ([[1.0, math.nan, 0.0]], "the embedding function gave a vector with a value that is not finite"),
        ([[1.0, 1e300, 0.0]], "the embedding function gave a vector with a value float32 cannot hold"),
    ],
)
def test_bad_vectors_are_refused_and_nothing_is_stored(
    make_store: Callable[..., Any], vectors: list[list[float]], message: str
) -> None:
    store = make_store(index=index(embed=lambda texts: vectors))

    with pytest.raises(StoreConfigError) as info:
        store.put(("a",), "k", {"text": "cat"})

    assert str(info.value) == message
    assert store.get(("a",), "k") is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"embed": embed}, "the index has dims=None"),
        ({"dims": 0, "embed": embed}, "the index has dims=0"),
        ({"dims": 3}, "an index has no embedding function"),
        ({"dims": 3, "embed": embed, "distance_type": "hamming"}, "the index has the unknown distance_type 'hamming'"),
    ],
)
def test_bad_index_is_refused_when_the_store_is_made(make_store: Callable[..., Any], config: Any, message: str) -> None:
    with pytest.raises(StoreConfigError) as info:
        make_store(index=config)

    assert str(info.value) == message
    assert info.value.hint


def random_embed(size: int) -> Callable[[Sequence[str]], list[list[float]]]:
    def embed(texts: Sequence[str]) -> list[list[float]]:
        return [[random.Random(f"{text}{n}").uniform(-1, 1) for n in range(size)] for text in texts]

    return embed


def fill_at_random(store: Any) -> None:
    store.batch([PutOp(("a", str(n % 3)), str(n), {"text": str(n % 150), "n": n}) for n in range(200)])
    store.put(("b",), "other", {"text": "0"})


def random_searches(store: Any) -> list[Any]:
    found: list[Any] = []
    for query in ("0", "somewhere", "7"):
        found.append([(item.key, item.score) for item in store.search(("a",), query=query, limit=1000)])
        found.append([(item.key, item.score) for item in store.search(("a", "1"), query=query, limit=9, offset=2)])
        narrow = store.search(("a",), query=query, filter={"n": {"$gt": 120}}, limit=20, offset=15)
        found.append([(item.key, item.score) for item in narrow])
    return found


@pytest.mark.parametrize("distance_type", ["cosine", "l2", "ip"])
def test_memory_numpy_plain_python_and_the_extension_give_one_order_and_one_score(
    distance_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = {"dims": 48, "embed": random_embed(48), "fields": ["text"], "distance_type": distance_type}
    memory = InMemoryStore(index=config)
    fill_at_random(memory)
    with (
        SqliteStore.from_conn_string(str(tmp_path / "plain.db"), index=config) as store,
        monkeypatch.context() as patch,
    ):
        patch.setattr(engine_module, "load_extension", lambda connection: False)  # some interpreters could load it
        fill_at_random(store)
        by_numpy = random_searches(store)
        patch.setattr(vector_module, "_numpy", lambda: None)
        by_python = random_searches(store)
    driver = apsw.Connection(str(tmp_path / "extension.db"))
    store = SqliteStore(driver, index=config)  # pyright: ignore[reportArgumentType]
    fill_at_random(store)
    by_extension = random_searches(store)
    assert store._has_extension is True
    store.close()
    driver.close()

    assert by_python == by_numpy
    assert by_extension == by_numpy
    assert random_searches(memory) == by_numpy


def test_file_written_without_the_extension_is_searched_with_it(tmp_path: Path) -> None:
    config: Any = index()
    with SqliteStore.from_conn_string(str(tmp_path / "store.db"), index=config) as store:
        fill(store, "dog", "cat", "")
        without = ranked(store, "cat")
    driver = apsw.Connection(str(tmp_path / "store.db"))
    store = SqliteStore(driver, index=config)  # pyright: ignore[reportArgumentType]

    assert ranked(store, "cat") == without
    assert store._has_extension is True
    assert without == [("cat", 1.0), ("dog", pytest.approx(0.6, abs=1e-6)), ("", 0.0)]
    store.close()
    driver.close()


def test_vectors_of_another_size_in_the_file_are_passed_over(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with SqliteStore.from_conn_string(
        path, index={"dims": 2, "embed": lambda texts: [[1.0, 0.0]] * len(texts)}
    ) as store:
        store.put(("a",), "small", {"text": "cat"})
    with SqliteStore.from_conn_string(path, index=index()) as store:
        fill(store, "cat")

        assert [key for key, _ in ranked(store, "cat")] == ["cat"]
        assert len(store.search(("a",))) == 2


def test_put_by_a_store_without_an_index_takes_the_old_vector_away(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with SqliteStore.from_conn_string(path, index=index()) as indexed, SqliteStore.from_conn_string(path) as plain:
        fill(indexed, "cat", "dog")
        plain.put(("a",), "cat", {"text": "car"})

        assert [key for key, _ in ranked(indexed, "cat")] == ["dog"]


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_plain_python_and_numpy_agree_on_zero_vectors(metric: Any) -> None:
    zero, one = pack_vector([0.0, 0.0], 2), pack_vector([3.0, 4.0], 2)

    for query in (zero, one):
        assert scores(query, [zero, one], metric) == pytest.approx(python_scores(query, [zero, one], metric))
