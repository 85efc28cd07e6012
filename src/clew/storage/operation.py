"""One storage operation, built and ready to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from clew.storage.query import Steps

if TYPE_CHECKING:
    from clew.storage.cursor import LogCursor
    from clew.storage.log import NewStep, Position
    from clew.storage.records import Spills
    from clew.storage.session import Claim, LogSession

T = TypeVar("T")

_READS = ("read", "load", "row")


class Touch(NamedTuple):
    """What a run that begins says to the table of threads: that a message came (microseconds since 1970), and a title
    for a thread that has none."""

    at: int
    title: str | None


@dataclass(slots=True)
class Intent:
    """What a write of a run comes to, for a backend that has a quicker way than the operation's rule.

    One step or some tasks' writes, in the cursor's namespace; `claim` is taken first; `makes_line` says that the
    namespace has no head row before. `call` is for the backend to keep what it made of this.
    """

    cursor: LogCursor
    claim: Claim | None
    makes_line: bool
    spills: Spills
    step: NewStep | None = None
    tasks: Sequence[tuple[bytes, bytes]] = ()
    position: Position = (0, 0)  # behind which the tasks' writes wait
    touch: Touch | None = None
    call: Any = None

    @property
    def appends(self) -> NewStep | None:
        """The step, if this does nothing but append one to the root namespace's newest branch, the commonest by far:
        that can be taken in one go, where the session's fence and the step's hold."""
        if self.claim is not None or self.step is None or self.step.origin is not None or self.cursor.ns:
            return None
        return None if self.spills or self.step.row.seq == 1 else self.step


class LogOp(Generic[T]):
    """One operation: `steps()` makes the rule anew for each attempt, `finish` turns its result into what is given.

    `kind` is "read", "load" (a read of one checkpoint) or "row" (of one row, by its key), or names a write. `done` runs
    after a write is durable. `size` is about how many bytes it keeps in memory while it waits.
    """

    __slots__ = ("done", "finish", "intent", "is_write", "kind", "session", "size", "steps")

    def __init__(
        self,
        session: LogSession,
        steps: Callable[[], Steps[Any]],
        *,
        kind: str,
        finish: Callable[[Any], T] | None = None,
        done: Callable[[], None] | None = None,
        size: int = 0,
        intent: Intent | None = None,
    ) -> None:
        self.intent = intent
        self.session = session
        self.steps = steps
        self.kind = kind
        self.is_write = kind not in _READS
        self.finish = finish
        self.done = done
        self.size = size

    @property
    def tenant(self) -> str:
        """Whose rows it reads or writes."""
        return self.session.tenant
