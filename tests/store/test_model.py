"""Random histories: the SQLite store and the memory store answer every operation alike."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clew.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp, TTLConfig
from clew.store.memory import InMemoryStore
from clew.store.sqlite import SqliteStore

from .faces import Clock

LABELS = st.sampled_from(["a", "b", "ab", "a-", "%", "*"])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
PREFIXES = st.lists(LABELS, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "l", "K"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["x", "y", 1.5])
VALUES = st.dictionaries(st.sampled_from(["n", "m"]), SCALARS | st.dictionaries(st.just("d"), SCALARS), max_size=2)
CONDITIONS = SCALARS | st.dictionaries(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), SCALARS)
FILTERS = st.none() | st.dictionaries(st.sampled_from(["n", "m", "n.d"]), CONDITIONS, max_size=2)
MATCHES = st.lists(st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PREFIXES), max_size=2).map(tuple)
TTLS = st.none() | st.integers(0, 3)

OPS = (
    st.builds(PutOp, NAMESPACES, KEYS, st.none() | VALUES, st.none(), TTLS)
    | st.builds(GetOp, NAMESPACES, KEYS, st.booleans())
    | st.builds(SearchOp, PREFIXES, FILTERS, st.just(1000), st.just(0), st.none(), st.booleans())
    | st.builds(ListNamespacesOp, MATCHES, st.none() | st.integers(1, 3), st.integers(0, 5), st.integers(0, 2))
)
HISTORIES = st.lists(st.tuples(st.lists(OPS, max_size=4), st.sampled_from([0.0, 0.5, 1.0, 2.0])), max_size=8)


def comparable(result: Any) -> Any:
    """A result without the order in which searches give their items, which is the store's own."""
    if isinstance(result, list) and result and not isinstance(result[0], tuple):
        return sorted((item.dict() for item in result), key=repr)
    return result


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.booleans())
def test_stores_answer_alike(history: list[tuple[list[Any], float]], omits: bool) -> None:
    clock = Clock()
    config: TTLConfig = {"omit_expired": omits}
    memory = InMemoryStore(clock=clock, ttl=config)
    with SqliteStore.from_conn_string(":memory:", clock=clock, ttl=config) as sqlite:
        for ops, minutes in history:
            expected = [comparable(result) for result in memory.batch(ops)]
            assert [comparable(result) for result in sqlite.batch(ops)] == expected
            clock.advance(minutes=minutes)
        assert sqlite.sweep_ttl() == memory.sweep_ttl()
        assert comparable(sqlite.search((), limit=1000)) == comparable(memory.search((), limit=1000))
