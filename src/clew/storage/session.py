"""A session: one run (or one read) on one thread, and what all its cursors share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clew.ids import new_checkpoint_id, new_node
from clew.serde import Codec
from clew.storage.log import Expected, Position

if TYPE_CHECKING:
    from clew.storage.cursor import LogCursor
    from clew.storage.saver import LogSaver


Guard = tuple[str, str, int]
"""A run of the service, the worker that has it, and the run's epoch."""


class LogSession:
    """One run (or one read) on one thread."""

    def __init__(self, saver: LogSaver, thread_id: str, codec: Codec, tenant: str) -> None:
        self.saver = saver
        self.tenant = tenant
        self.thread_id = thread_id
        self.codec = codec
        self.error: BaseException | None = None  # what made a write fail: the session is over
        self.submitted = 0  # writes that nobody waits for ...
        self.settled = 0  # ... and how many of them are done
        self.parked: deque[Any] | None = None  # writes that wait for a lock of somebody else's, in order
        self.home: Any = None  # where its writes wait on an event loop, if they did
        self.in_lane = 0  # writes that were queued for the saver's threads and are not done
        self.claimed = False  # a claim was built, and is in order before everything that follows
        self.is_known = False  # the root's head was loaded
        self.expected: Expected | None = None  # the root's head as loaded; None: there was none
        self.root: Position | None = None  # the root step that subgraphs run under
        self.lineage: tuple[Position, ...] | None = None
        self.reserved: int | None = None  # the branch that a run which stands on an old step will begin
        self.newest_id: bytes | None = None
        self.node = new_node()
        self.guard: Guard | None = None  # the claim holds only while a worker has this run
        self.root_line = 0  # known once the claim has run
        self.epoch = 0

    def cursor(self, ns: str = "") -> LogCursor:
        return self.saver.cursor(self, ns)

    def new_id(self) -> bytes:
        """An id above every one that the session has seen."""
        self.newest_id = new_checkpoint_id(self.newest_id, self.node)
        return self.newest_id

    def saw_id(self, id: bytes | None) -> None:
        """Take note of an id that new ones must be above."""
        if id is not None and (self.newest_id is None or id > self.newest_id):
            self.newest_id = id


@dataclass(frozen=True, slots=True)
class Claim:
    """What a session's first write does before anything else."""

    expected: Expected | None
    is_known: bool
    reserve: int | None
