"""A small cache of the newest states, so that a run on a known thread reads one row instead of a chain.

Never trusted by itself: an entry counts only if the head row that was just read names its row and its checkpoint.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from clew.storage.log import Place, Position
from clew.storage.state import State


class Heads:
    """The least recently used states, in encoded form, bounded by bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Place, tuple[int, Position, State]] = OrderedDict()

    def get(self, place: Place, line: int, position: Position, id: bytes | None) -> State | None:
        """The state of the step at `position`, if it is the one cached and has this id."""
        with self._lock:
            entry = self._entries.get(place)
            if entry is None or entry[0] != line or entry[1] != position or entry[2].id != id:
                return None
            self._entries.move_to_end(place)
            return entry[2]

    def put(self, place: Place, line: int, position: Position, state: State) -> None:
        """Keep the state of the newest step of a namespace."""
        with self._lock:
            old = self._entries.pop(place, None)
            if old is not None:
                self._size -= _weight(old[2])
            self._entries[place] = (line, position, state)
            self._size += _weight(state)
            while self._size > self._limit and self._entries:
                _, dropped = self._entries.popitem(last=False)
                self._size -= _weight(dropped[2])

    def drop(self, tenant: str, thread: str) -> None:
        """Forget a thread."""
        with self._lock:
            for place in [known for known in self._entries if (known.tenant, known.thread) == (tenant, thread)]:
                self._size -= _weight(self._entries.pop(place)[2])


def _weight(state: State) -> int:
    return state.size + 50 * sum(len(value.data) for value in state.values.values() if value.kind == 0) + 1000
