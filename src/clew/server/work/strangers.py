"""Runs that wait and that this process cannot execute: left to a replica that can, while there may be one.

While versions of a service are exchanged, some replicas have a graph, or a key, that others have not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from clew.server.errors import log
from clew.server.registry import Registry
from clew.storage.runs import UNREADABLE, RunRow

LOOK_AGAIN = 20.0  # seconds for which such a run is not looked at
PATIENCE = 600.0  # seconds after which it is taken nevertheless: it ends by saying why it cannot be executed
_MOST = 10_000


class Strangers:
    """The runs that one worker has left to others. `graphs` are those that it has."""

    def __init__(self, graphs: Registry) -> None:
        self._graphs = graphs
        self._seen: dict[str, tuple[float, float]] = {}  # since when, and when it was looked at

    def passed(self) -> list[str]:
        """The ids of runs that are not to be looked at now."""
        now = time.monotonic()
        return [run_id for run_id, (_, looked_at) in self._seen.items() if now - looked_at < LOOK_AGAIN]

    def is_meant(self, run: RunRow) -> bool:
        """Whether this worker takes a run."""
        if UNREADABLE not in run.request and run.request.get("graph_id") in self._graphs:
            return True
        since, _ = self._seen.get(run.run_id, (time.monotonic(), 0.0))
        return time.monotonic() - since >= PATIENCE

    def leave(self, runs: Sequence[RunRow]) -> None:
        """Note runs that were left."""
        now = time.monotonic()
        for run in runs:
            since, _ = self._seen.pop(run.run_id, (now, 0.0))
            if since == now:
                log.warning("run %s waits for a replica that can execute it: %s", run.run_id, _why(run))
            self._seen[run.run_id] = (since, now)
        while len(self._seen) > _MOST:
            del self._seen[next(iter(self._seen))]


def _why(run: RunRow) -> str:
    if UNREADABLE in run.request:
        return f"its request cannot be read here, {run.request[UNREADABLE]}"
    return f"there is no graph {run.request.get('graph_id')!r} here"
