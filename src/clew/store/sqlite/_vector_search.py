"""Ranking by vectors in SQLite, with the sqlite-vec extension where it can be loaded and without it where not.

Vectors are plain blobs in a plain table, so a file never depends on the extension. Invariant: both ways give the same
order and the same scores. The extension computes in float32, so what it ranks first is scored again exactly.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from clew.store._connection import Connection
from clew.store.base._vector import Metric, scores
from clew.store.sqlite import _sql

_CHUNK: Final = 1024  # vectors in memory at a time
_PAGE: Final = 64  # items that are scored again together
_EXTENSION_SQL: Final = {"cosine": _sql.COSINE_SCORES, "l2": _sql.L2_SCORES}  # sqlite-vec has no dot product

Ranking = Iterator[tuple[int, float]]  # item ids with their scores, the closest first


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """What to rank: the vectors of the items in a range of namespaces that are still alive, against one vector."""

    vector: bytes
    metric: Metric
    low: bytes
    high: bytes
    alive: float
    window: int

    def parameters(self) -> dict[str, Any]:
        """The parameters of a statement that finds the vectors."""
        return {"low": self.low, "high": self.high, "alive": self.alive, "size": len(self.vector)}


def load_extension(connection: Connection) -> bool:
    """Load sqlite-vec into the connection; whether that worked.

    It does not where the package is missing, or where this Python's sqlite3 was built without extensions.
    """
    enable: Callable[[bool], Any] | None = getattr(connection, "enable_load_extension", None)
    load: Callable[[str], Any] | None = getattr(connection, "load_extension", None)
    if enable is None or load is None:
        return False
    try:
        sqlite_vec: Any = importlib.import_module("sqlite_vec")  # late and untyped: optional
    except ImportError:
        return False
    try:
        enable(True)
        load(sqlite_vec.loadable_path())
    except Exception:  # any driver's error: the exact way needs no extension
        return False
    finally:
        enable(False)
    return True


def rank(connection: Connection, query: VectorQuery, *, has_extension: bool) -> Ranking:
    """The items by the closest of their vectors, the closest first; of equally close ones the oldest first."""
    if has_extension and query.metric in _EXTENSION_SQL:
        return _ranked_by_extension(connection, query)
    return _ranked(_exact_scores(connection, query))


def _exact_scores(connection: Connection, query: VectorQuery) -> dict[int, float]:
    rows = iter(connection.execute(_sql.VECTORS, query.parameters()))
    best: dict[int, float] = {}
    while chunk := list(islice(rows, _CHUNK)):
        found = scores(query.vector, [vector for _, vector in chunk], query.metric)
        for (item, _), score in zip(chunk, found, strict=True):
            best[item] = max(score, best.get(item, score))
    return best


def _ranked_by_extension(connection: Connection, query: VectorQuery) -> Ranking:
    sql = _EXTENSION_SQL[query.metric]
    rows = connection.execute(sql, {**query.parameters(), "query": query.vector})
    roughly = iter(_ranked({item: score or 0.0 for item, score in rows}))
    while page := list(islice(roughly, query.window + _PAGE)):
        yield from _ranked({item: _score_of_item(connection, item, query) for item, _ in page})


def _score_of_item(connection: Connection, item: int, query: VectorQuery) -> float:
    rows = connection.execute(_sql.VECTORS_OF_ITEM, (item, len(query.vector)))
    return max(scores(query.vector, [vector for (vector,) in rows], query.metric))


def _ranked(best: dict[int, float]) -> Ranking:
    return iter(sorted(best.items(), key=lambda entry: (-entry[1], entry[0])))
