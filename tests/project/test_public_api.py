"""The public names: module for module those of the field's standard, but for what is left out on purpose.

Every name that the peer's module exports has to be importable from the module of the same place here.
"""

from __future__ import annotations

import importlib
import warnings

import pytest

# Modules whose `__all__` is compared, with the peer's names that are not offered (yet) and why.
COMPARED: dict[str, dict[str, str]] = {
    "channels": {},
    "channels.any_value": {},
    "channels.base": {},
    "channels.binop": {},
    "channels.delta": {},
    "channels.ephemeral_value": {},
    "channels.last_value": {},
    "channels.named_barrier_value": {},
    "channels.topic": {},
    "channels.untracked_value": {},
    "constants": {
        "CONF": "a private constant",
        "TASKS": "a private constant",
        "CONFIG_KEY_CHECKPOINTER": "a private constant",
    },
    "errors": {},
    "func": {},
    "graph": {"MessageGraph": "deprecated where it comes from"},
    "graph.message": {"MessageGraph": "deprecated where it comes from"},
    "graph.state": {},
    "managed": {},
    "pregel": {},
    "runtime": {},
    "types": {
        "PregelExecutableTask": "a private record of the peer's engine",
        "TracePolicy": "belongs to tracing, which is not offered yet",
        "omit_payload": "belongs to tracing, which is not offered yet",
    },
}
# Modules without `__all__` there: what their documentation says to import.
DOCUMENTED: dict[str, tuple[str, ...]] = {
    "cache.base": ("BaseCache",),
    "cache.memory": ("InMemoryCache",),
    "cache.sqlite": ("SqliteCache",),
    "checkpoint.base": (
        "BaseCheckpointSaver",
        "Checkpoint",
        "CheckpointMetadata",
        "CheckpointTuple",
        "create_checkpoint",
        "copy_checkpoint",
        "empty_checkpoint",
        "get_checkpoint_id",
        "WRITES_IDX_MAP",
    ),
    "checkpoint.memory": ("InMemorySaver", "MemorySaver"),
    "checkpoint.serde.base": ("SerializerProtocol",),
    "checkpoint.serde.jsonplus": ("JsonPlusSerializer",),
    "checkpoint.sqlite": ("SqliteSaver",),
    "checkpoint.sqlite.aio": ("AsyncSqliteSaver",),
    "config": ("get_config", "get_store", "get_stream_writer"),
    "store.base": (
        "BaseStore",
        "GetOp",
        "IndexConfig",
        "InvalidNamespaceError",
        "Item",
        "ListNamespacesOp",
        "MatchCondition",
        "NOT_PROVIDED",
        "Op",
        "PutOp",
        "Result",
        "SearchItem",
        "SearchOp",
        "TTLConfig",
    ),
    "store.memory": ("InMemoryStore",),
    "store.postgres": ("AsyncPostgresStore", "PoolConfig", "PostgresStore"),
    "store.postgres.aio": ("AsyncPostgresStore", "PoolConfig", "PostgresIndexConfig"),
    "store.postgres.base": (
        "ANNIndexConfig",
        "HNSWConfig",
        "IVFFlatConfig",
        "PoolConfig",
        "PostgresIndexConfig",
        "PostgresStore",
    ),
    "store.sqlite": ("SqliteStore", "AsyncSqliteStore"),
}


def exported(module: str) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own deprecations
        return set(importlib.import_module(f"langgraph.{module}").__all__)


@pytest.mark.parametrize("module", COMPARED)
def test_every_name_the_peer_exports_is_here(module: str) -> None:
    ours = importlib.import_module(f"clew.{module}")
    wanted = exported(module) - COMPARED[module].keys()

    assert sorted(name for name in wanted if not hasattr(ours, name)) == []


@pytest.mark.parametrize("module", COMPARED)
def test_names_left_out_are_still_names_of_the_peer(module: str) -> None:
    assert COMPARED[module].keys() <= exported(module)


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_documented_name_is_here(module: str) -> None:
    peer = importlib.import_module(f"langgraph.{module}")
    ours = importlib.import_module(f"clew.{module}")

    assert [name for name in DOCUMENTED[module] if not hasattr(peer, name)] == []
    assert [name for name in DOCUMENTED[module] if not hasattr(ours, name)] == []


@pytest.mark.parametrize("module", [*COMPARED, *DOCUMENTED])
def test_module_says_what_it_exports(module: str) -> None:
    ours = importlib.import_module(f"clew.{module}")

    assert [name for name in ours.__all__ if not hasattr(ours, name)] == []
