"""What a run shows that is gone on with: what its first worker stored and did not show any more, and nothing twice.

A step is stored before it is shown, so that a worker may be lost in between. What modes "values" and "updates" show of
the graph itself follows from the run's checkpoints: it is made from them again. What nodes show while they run is
theirs to show again, when they run again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from clew.server.formats import encoded
from clew.server.work.queue import RunQueue
from clew.storage.runs import RunRow

_MODES = ("values", "updates")
_PAGE = 50
Json = Mapping[str, Any]
Chunk = tuple[tuple[str, ...], str, Any]


class Repeated:
    """Passes on what the engine shows, except for what the run has shown already."""

    def __init__(self, show: Callable[[Chunk], None], shown: Counter[bytes]) -> None:
        self._show = show
        self._shown = shown  # and not matched by anything that was made again
        self._is_own = False  # it goes on from a checkpoint of its own
        self._has_begun = False

    def catch_up(self, stored: Sequence[tuple[str, Any]] | None) -> None:
        """Show what was stored and not shown; None: there is no checkpoint of the run's."""
        self._is_own = stored is not None
        for mode, data in stored or ():
            if not self._take(mode, data):
                self._show(((), mode, data))

    def show(self, chunk: Chunk) -> None:
        """Take a chunk of the engine's stream."""
        ns, mode, data = chunk
        if not ns and mode == "values" and not self._has_begun:  # where it goes on from
            self._has_begun = True
            if self._is_own or self._take(mode, data):
                return
        elif not ns and mode == "updates" and "__metadata__" in data:  # of a task that the first worker has finished
            data = {name: update for name, update in data.items() if name != "__metadata__"}
            if self._take(mode, data):
                return
        self._show((ns, mode, data))

    def _take(self, mode: str, data: Any) -> bool:
        key = _key(mode, encoded(data))
        if not self._shown[key]:
            return False
        self._shown[key] -= 1
        return True


async def shown_by(queue: RunQueue, run: RunRow) -> Counter[bytes]:
    """What a run has shown of the graph itself, by its bytes."""
    found: Counter[bytes] = Counter()
    after = 0
    while events := await queue.events(run, after, _PAGE):
        after = events[-1][0]
        found.update(_key(name, data) for _, name, data in events if name in _MODES)
    return found


async def stored_by(graph: Any, run: RunRow) -> list[tuple[str, Any]] | None:
    """What a run's checkpoints would have shown, in order: mode and data; None if there are none."""
    modes = [mode for mode in run.request.get("stream_mode") or () if mode in _MODES]
    if not modes:
        return None
    steps: list[list[tuple[str, Any]]] = []
    after: Any = None
    async for state in graph.aget_state_history({"configurable": {"thread_id": run.thread}}):
        if after is not None and after.metadata.get("source") == "loop":
            steps.append([shown for shown in _shown(graph, state, after) if shown[0] in modes])
        if state.metadata.get("run_id") != run.run_id:
            break
        after = state
    return None if after is None else [shown for step in reversed(steps) for shown in step]


def _shown(graph: Any, before: Any, after: Any) -> list[tuple[str, Any]]:
    """What the step between two states shows."""
    nodes = graph.program.nodes
    ended = [task for task in before.tasks if task.result is not None]
    shown: list[tuple[str, Any]] = [
        ("updates", {task.name: _update(task.result)})
        for task in ended
        if task.name in nodes and not nodes[task.name].hidden
    ]
    if any(task.result for task in ended):
        shown.append(("values", after.values))
    return shown


def _update(result: Any) -> Any:
    """A task's stored result as mode "updates" shows it."""
    if not isinstance(result, Mapping):
        return result
    writes = [(channel, one) for channel, value in cast("Json", result).items() for one in _writes(value)]
    if len(writes) > len(cast("Json", result)):
        return [{channel: value} for channel, value in writes]
    return dict(writes) or None


def _writes(value: Any) -> list[Any]:
    return cast("Json", value)["$writes"] if isinstance(value, dict) and "$writes" in value else [value]


def _key(mode: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, person=mode.encode()).digest()
