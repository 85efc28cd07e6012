"""Search by meaning with pgvector: every index, type and distance, and what a server may lack."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from clew.errors import StorageError
from clew.store.base import PutOp, StoreConfigError
from clew.store.memory import InMemoryStore
from clew.store.postgres import PostgresStore
from clew.store.postgres._schema import lacks_extension, read_facts

WORDS = {"cat": (1.0, 0.0, 0.0), "kitten": (0.9, 0.1, 0.0), "dog": (0.6, 0.8, 0.0), "car": (0.0, 0.0, 2.0)}


def embed(texts: Sequence[str]) -> list[list[float]]:
    return [list(WORDS.get(text, (0.0, 0.0, 0.0))) for text in texts]


def embed_at_random(texts: Sequence[str]) -> list[list[float]]:
    return [[random.Random(f"{text} {n}").uniform(-1, 1) for n in range(16)] for text in texts]


def index(**changes: Any) -> Any:
    return {"dims": 3, "embed": embed, "fields": ["text"], **changes}


@pytest.fixture
def raw(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


KINDS: list[dict[str, Any]] = [
    {},
    {"kind": "flat"},
    {"kind": "hnsw", "m": 8, "ef_construction": 32},
    {"kind": "ivfflat", "nlist": 1},
    {"kind": "hnsw", "vector_type": "halfvec"},
    {"kind": "flat", "vector_type": "halfvec"},
]


@pytest.mark.parametrize("distance_type", ["cosine", "l2", "inner_product"])
def test_every_index_finds_what_memory_finds(database: str, distance_type: str) -> None:
    config = {"dims": 16, "embed": embed_at_random, "fields": ["text", "other"], "distance_type": distance_type}
    ops = [PutOp(("a", str(n % 3)), str(n), {"text": str(n), "other": f"o{n}", "n": n}) for n in range(120)]
    memory = InMemoryStore(index=config)  # type: ignore[arg-type]
    memory.batch(ops)
    for kind in KINDS:
        told: Any = {**config, "ann_index_config": kind}
        with PostgresStore.from_conn_string(database, schema="of " + str(KINDS.index(kind)), index=told) as store:
            store.batch(ops)
            for options in ({"limit": 5}, {"limit": 4, "offset": 3, "filter": {"n": {"$gt": 60}}}):
                expected = memory.search(("a",), query="7", **options)  # type: ignore[arg-type]
                found = store.search(("a",), query="7", **options)  # type: ignore[arg-type]
                assert [item.key for item in found] == [item.key for item in expected]
                tolerance = 5e-3 if kind.get("vector_type") == "halfvec" else 2e-6
                scores = [item.score for item in expected]
                assert [item.score for item in found] == pytest.approx(scores, abs=tolerance)


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
def test_index_is_used_without_being_asked_for(database: str, raw: psycopg.Connection[Any], kind: str) -> None:
    told: Any = {"dims": 16, "embed": embed_at_random, "fields": ["text"], "ann_index_config": {"kind": kind}}
    with PostgresStore.from_conn_string(database, index=told, max_size=1) as store:
        store.batch([PutOp(("a",), str(n), {"text": str(n), "n": n}) for n in range(2000)])
        raw.execute("analyze")
        for _ in range(8):  # more than the server makes plans for one prepared statement
            found = store.search(("a",), query="7", limit=10)
        narrow = store.search(("a",), query="7", filter={"n": {"$lt": 30}}, limit=20)
        with store.conn.connection() as connection:
            connection.execute("select pg_stat_force_next_flush()")

    [(scans,)] = raw.execute(f"select idx_scan from pg_stat_user_indexes where indexrelname ~ '{kind}'").fetchall()
    assert scans >= 8
    assert [found[0].key, len(found)] == ["7", 10]
    assert len(narrow) == 20
    assert all(item.value["n"] < 30 for item in narrow)


def test_small_namespace_in_a_large_index_is_searched_to_its_end(database: str) -> None:
    config: Any = {"dims": 16, "embed": embed_at_random, "fields": ["text"]}
    with PostgresStore.from_conn_string(database, index=config, max_size=1) as store:
        store.batch([PutOp(("large",), str(n), {"text": str(n)}) for n in range(1000)])
        store.batch([PutOp(("small",), str(n), {"text": f"other {n}"}) for n in range(7)])

        assert len(store.search(("small",), query="7")) == 7
        assert store.search(("none",), query="7") == []
        assert store.with_tenant("other").search(("large",), query="7") == []


def test_vectors_without_a_length_come_last(database: str) -> None:
    with PostgresStore.from_conn_string(database, index=index(ann_index_config={"kind": "flat"})) as store:
        for word in ("nothing", "car", "cat"):
            store.put(("a",), word, {"text": word})

        found = [(item.key, item.score) for item in store.search(("a",), query="cat")]

    assert found == [("cat", 1.0), ("car", 0.0), ("nothing", 0.0)]


def test_stores_with_different_indexes_share_one_database(database: str) -> None:
    small = {"dims": 2, "embed": lambda texts: [[1.0, 0.0]] * len(texts), "fields": ["text"]}
    with (
        PostgresStore.from_conn_string(database, index=small) as two,  # type: ignore[arg-type]
        PostgresStore.from_conn_string(database, index=index()) as three,
        PostgresStore.from_conn_string(database, index=index(distance_type="l2")) as far,
        PostgresStore.from_conn_string(database) as plain,
    ):
        two.put(("a",), "small", {"text": "cat"})
        three.put(("a",), "large", {"text": "cat"})
        assert [item.key for item in three.search(("a",), query="cat")] == ["large"]
        assert [(item.key, item.score) for item in far.search(("a",), query="cat")] == [("large", 0.0)]
        assert [item.key for item in two.search(("a",), query="cat")] == ["small"]
        assert len(plain.search(("a",), query="cat")) == 2

        plain.put(("a",), "large", {"text": "dog"})
        assert three.search(("a",), query="cat") == []


def test_vector_of_an_older_value_is_never_found(database: str) -> None:
    """A store that was ready before the table of vectors was made does not know that it has to delete them."""
    with PostgresStore.from_conn_string(database) as plain:
        plain.setup()
        with PostgresStore.from_conn_string(database, index=index()) as store:
            store.put(("a",), "k", {"text": "cat"})
            plain.put(("a",), "k", {"text": "car"})
            assert store.search(("a",), query="cat") == []
            store.put(("a",), "k", {"text": "dog"})
            assert [item.value for item in store.search(("a",), query="cat")] == [{"text": "dog"}]
            plain.delete(("a",), "k")
            assert store.search(("a",), query="cat") == []


def test_extension_may_be_in_a_schema_of_its_own(database: str, raw: psycopg.Connection[Any]) -> None:
    raw.execute('create schema "ext ension"')
    raw.execute('create extension vector schema "ext ension"')
    for n, kind in enumerate(KINDS):
        told = index(ann_index_config=kind)
        with PostgresStore.from_conn_string(database, index=told, schema=f"s{n}") as store:
            store.put(("a",), "k", {"text": "cat"})
            assert [item.score for item in store.search(("a",), query="cat")] == [1.0]


def test_role_that_may_not_make_the_extension_is_told(database: str, raw: psycopg.Connection[Any]) -> None:
    name = str(psycopg.conninfo.conninfo_to_dict(database)["dbname"]) + "_owner"
    raw.execute(f'create role "{name}" login')
    raw.execute(f'grant all on schema public to "{name}"')
    as_role = make_conninfo(database, user=name)
    try:
        with (
            PostgresStore.from_conn_string(as_role, index=index()) as store,
            pytest.raises(StoreConfigError, match="needs the extension pgvector, which this role may not make") as info,
        ):
            store.put(("a",), "k", {"text": "cat"})
        assert info.value.hint == "let a superuser run: create extension vector"
        raw.execute("create extension vector")
        with PostgresStore.from_conn_string(as_role, index=index()) as store:
            store.put(("a",), "k", {"text": "cat"})
            assert len(store.search(("a",), query="cat")) == 1
    finally:
        raw.execute(f'drop owned by "{name}"')
        raw.execute(f'drop role "{name}"')


def test_server_without_the_extension_is_a_typed_error(database: str) -> None:
    told = index(ann_index_config={"vector_type": "halfvec"})
    with PostgresStore.from_conn_string(database, index=told) as store:
        wanted = store._wanted
        facts = store._database.run(lambda: read_facts(wanted))
        with pytest.raises(StoreConfigError, match="the server does not have the extension pgvector"):
            lacks_extension(replace(facts, extension=None, can_have_extension=False), wanted)
        with pytest.raises(StoreConfigError, match="this server's pgvector has no halfvec"):
            lacks_extension(replace(facts, extension="public", extension_version=(0, 6, 2)), wanted)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ann_index_config": {"kind": "diskann"}}, "the index has the unknown kind 'diskann'"),
        ({"ann_index_config": {"vector_type": "bit"}}, "the index has the unknown vector_type 'bit'"),
        ({"ann_index_config": {"m": "16); drop table x --"}}, "the parameter 'm' of the index is"),
        ({"ann_index_config": {"kind": "ivfflat", "nlist": 0}}, "the parameter 'nlist' of the index is 0"),
        ({"ann_index_config": {"kind": "flat", "m": 4}}, "a flat index has no parameter 'm'"),
        ({"dims": 2001}, "pgvector can index a vector of at most 2000 dimensions, not 2001"),
        (
            {"dims": 4001, "ann_index_config": {"vector_type": "halfvec"}},
            "pgvector can index a halfvec of at most 4000 dimensions, not 4001",
        ),
    ],
)
def test_index_that_cannot_be_is_refused_before_anything_is_connected(config: Any, message: str) -> None:
    with pytest.raises(StorageError, match="connection string"), PostgresStore.from_conn_string("?", index=index()):
        pass
    with pytest.raises(StoreConfigError) as info:
        PostgresStore(None, index=index(**config))  # pyright: ignore[reportArgumentType]

    assert str(info.value).startswith(message)
    assert info.value.hint
