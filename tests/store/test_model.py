"""Random histories: the SQLite, PostgreSQL and memory stores answer every operation alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp, SearchOp, TTLConfig
from clew.store.base._filter import compile_filter
from clew.store.memory import InMemoryStore
from clew.store.postgres import PostgresStore
from clew.store.postgres._narrow import narrowed
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


# Values and filters that the server sees in another way than Python, or not at all.
NUMBERS = st.sampled_from(
    [0, 1, -1, 1.0, 0.1, -0.0, 1e23, 10**23, 99999999999999991611392, 2**53, 2**53 + 1, 2.0**53, 10**200, float("inf")]
)
ODD = NUMBERS | st.sampled_from([Decimal(1), Decimal("0.1"), float("nan"), "", "\x00", "\ud800", "é", "x" * 300, b"x"])
LEAVES = SCALARS | ODD
NAMES = st.sampled_from(["n", "m", "n.m", "m.n.n", "", "é", "\x00", "$", "'"])
DEEP_VALUES = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=2) | st.lists(inner, max_size=2))
)
OPERATIONS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"), LEAVES),
        "$in": st.lists(LEAVES, max_size=3),
        "$nin": st.lists(LEAVES, max_size=2),
        "$exists": st.booleans(),
    },
)
FIELD_CONDITIONS = st.recursive(
    LEAVES | OPERATIONS,
    lambda inner: (
        st.builds(lambda part: {"$not": part}, inner)
        | st.builds(lambda parts: {"$or": parts}, st.lists(inner, min_size=1, max_size=2))
        | st.dictionaries(NAMES.filter(lambda name: not name.startswith("$")), inner, max_size=2)
        | st.lists(inner, max_size=2)
    ),
    max_leaves=4,
)
DEEP_FILTERS = st.dictionaries(NAMES.filter(lambda name: not name.startswith("$")), FIELD_CONDITIONS, max_size=2)

_tenants = itertools.count(1)


@pytest.fixture(scope="module")
def postgres(connections: Any) -> Iterator[PostgresStore]:
    """A store of which each example takes a tenant."""
    clock = Clock()
    _, pool = connections
    store = PostgresStore(pool, schema="test_model", clock=clock)
    yield store
    store.close()
    with pool.connection() as connection:
        connection.execute("drop schema test_model cascade")


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.booleans())
def test_stores_answer_alike(postgres: PostgresStore, history: list[tuple[list[Any], float]], omits: bool) -> None:
    clock = Clock()
    config: TTLConfig = {"omit_expired": omits}
    memory = InMemoryStore(clock=clock, ttl=config)
    server = PostgresStore(postgres.conn, schema="test_model", clock=clock, ttl=config, tenant=str(next(_tenants)))
    with SqliteStore.from_conn_string(":memory:", clock=clock, ttl=config) as sqlite:
        for ops, minutes in history:
            expected = [comparable(result) for result in memory.batch(ops)]
            assert [comparable(result) for result in sqlite.batch(ops)] == expected
            assert [comparable(result) for result in server.batch(ops)] == expected
            clock.advance(minutes=minutes)
        swept = memory.sweep_ttl()
        assert (sqlite.sweep_ttl(), server.sweep_ttl()) == (swept, swept)
        left = comparable(memory.search((), limit=1000))
        assert comparable(sqlite.search((), limit=1000)) == left
        assert comparable(server.search((), limit=1000)) == left
    server.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(DEEP_VALUES, max_size=4), st.lists(DEEP_FILTERS, max_size=4))
def test_server_lets_everything_through_that_a_filter_accepts(
    postgres: PostgresStore, values: list[dict[str, Any]], filters: list[dict[str, Any]]
) -> None:
    store = postgres.with_tenant(str(next(_tenants)))
    store.batch([PutOp(("a",), str(n), value) for n, value in enumerate(values)])
    filters += [{name: {"$eq": part}} for value in values for name, part in value.items() if not name.startswith("$")]

    found = store.batch([SearchOp(("a",), filter, limit=1000) for filter in filters])

    for filter, items in zip(filters, found, strict=True):
        accepts = compile_filter(filter)
        expected = {str(n) for n, value in enumerate(values) if accepts is None or accepts(value)}
        assert (filter, {item.key for item in items}) == (filter, expected)  # type: ignore[union-attr]


def test_conditions_hold_nothing_of_a_filter_but_its_shape() -> None:
    evil = "x') or true --"
    condition = narrowed({evil: {"$in": [evil, 1]}, f"a.{evil}": evil, "b": {evil: {"$gt": 5}}, "c": {"$gt": 5}})

    assert evil not in condition.sql
    assert set(condition.sql) <= set("abcdefghijklmnopqrstuvwxyz() ->=@[]'?:|<")
    assert condition.params.count(evil) >= 3
