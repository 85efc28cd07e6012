"""The two libraries under one name, so that every workload is written once.

Their public modules differ only by prefix: `library.module("graph")` is `clew.graph` or `langgraph.graph`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
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
