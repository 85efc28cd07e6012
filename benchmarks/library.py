"""The two libraries under one name, so that every workload is written once.

Their public modules differ only by prefix: `library.module("graph")` is `clew.graph` or `langgraph.graph`.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

CLEW = "clew"
PEER = "langgraph"
LIBRARIES = (PEER, CLEW)


@dataclass(frozen=True, slots=True)
class Library:
    """One of the two, by its import prefix."""

    prefix: str

    def module(self, path: str) -> ModuleType:
        """The public module at `path`, such as `checkpoint.sqlite`."""
        return importlib.import_module(f"{self.prefix}.{path}")

    def state_graph(self, schema: Any) -> Any:
        return self.module("graph").StateGraph(schema)

    def memory_saver(self) -> Any:
        return self.module("checkpoint.memory").InMemorySaver()

    @contextmanager
    def sqlite_saver(self, path: Path, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Iterator[Any]:
        """A saver on the database at `path`, in WAL mode; FULL is what both libraries have by default."""
        saver_class = self.module("checkpoint.sqlite").SqliteSaver
        settings = {"synchronous": synchronous} if self.prefix == CLEW else {}
        with saver_class.from_conn_string(str(path), **settings) as saver:
            if self.prefix == PEER:
                saver.setup()
                saver.conn.execute(f"pragma synchronous = {synchronous}")
            yield saver

    @contextmanager
    def postgres_saver(self, conninfo: str, connections: int = 16) -> Iterator[Any]:
        """A saver on the database, ready, through a pool of that many connections; each library's recommended way."""
        saver_class = self.module("checkpoint.postgres").PostgresSaver
        if self.prefix == CLEW:
            with saver_class.from_conn_string(conninfo, max_size=connections) as saver:
                saver.setup()
                yield saver
            return
        from psycopg_pool import ConnectionPool  # an optional dependency

        with ConnectionPool(conninfo, min_size=connections, max_size=connections, kwargs=_peer_options()) as pool:
            pool.wait()
            saver = saver_class(pool)
            saver.setup()
            yield saver

    @contextmanager
    def postgres_store(self, conninfo: str, connections: int = 1, **options: Any) -> Iterator[Any]:
        """A store on the database, ready, through a pool of that many connections; each library's recommended way."""
        store_class = self.module("store.postgres").PostgresStore
        pool = {"min_size": connections, "max_size": connections}
        with store_class.from_conn_string(conninfo, pool_config=pool, **options) as store:
            store.setup()
            yield store

    @asynccontextmanager
    async def async_postgres_saver(self, conninfo: str, connections: int = 16) -> AsyncIterator[Any]:
        """The same for asyncio."""
        saver_class = self.module("checkpoint.postgres.aio").AsyncPostgresSaver
        if self.prefix == CLEW:
            async with saver_class.from_conn_string(conninfo, max_size=connections) as saver:
                await saver.setup()
                yield saver
            return
        from psycopg_pool import AsyncConnectionPool  # an optional dependency

        options: Any = {"min_size": connections, "max_size": connections, "kwargs": _peer_options()}
        async with AsyncConnectionPool(conninfo, **options) as pool:
            await pool.wait()
            saver = saver_class(pool)
            await saver.setup()
            yield saver


def _peer_options() -> dict[str, Any]:
    """What LangGraph's own `from_conn_string` connects with."""
    from psycopg.rows import dict_row  # an optional dependency

    return {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
