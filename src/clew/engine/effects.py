"""What the engine asks of a driver, and what a driver tells the engine. A closed set.

Replies: Load gives `Saved | None`; Commit gives `Stamp`; Wait gives a list of events, at least one; LookUp gives a
dict of task id to writes; all others give None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clew.engine.program import Node, Write
from clew.engine.task import Call, Task
from clew.protocols import Step, TaskWrites
from clew.types import Interrupt


@dataclass(slots=True)
class Load:
    """Read the checkpoint to start from (see `protocols.Cursor.load`)."""

    checkpoint_id: str | None = None
    from_ns: str | None = None


@dataclass(slots=True)
class Commit:
    """Save a checkpoint; with `claim`, take the thread with it. Answered with the id and time it got."""

    step: Step
    claim: bool = False


@dataclass(slots=True)
class Claim:
    """Take the thread without a new checkpoint, saving `writes` against the loaded one."""

    writes: Sequence[TaskWrites] = ()


@dataclass(slots=True)
class SaveWrites:
    """Save what tasks of the current superstep wrote; `is_barrier` asks for durability whatever the mode."""

    writes: Sequence[TaskWrites]
    is_barrier: bool = False


@dataclass(slots=True)
class Flush:
    """Wait until everything saved so far is durable; `is_final` ends the run (nothing follows)."""

    is_final: bool = False
    is_failed: bool = False


@dataclass(slots=True)
class Start:
    """Start tasks; each after `delay` seconds, plus up to one random second with `has_jitter`.

    `is_alone`: one task, beside which nothing runs, so that nothing waits for it to end but the engine.
    """

    tasks: Sequence[Task]
    delay: float = 0.0
    has_jitter: bool = False
    is_alone: bool = False


@dataclass(slots=True)
class Wait:
    """Wait for events of running tasks; `timeout` seconds counted from the superstep's first Start, None: for ever."""

    timeout: float | None = None


@dataclass(slots=True)
class Cancel:
    """Cancel what runs; the engine goes on waiting until every task has reported its end."""


@dataclass(slots=True)
class Resolve:
    """Answer a call that a task made of a child task."""

    call: Call
    value: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class LookUp:
    """Ask the cache for the writes of tasks that have a cache key."""

    tasks: Sequence[Task]


@dataclass(slots=True)
class Remember:
    """Put a finished task's writes into the cache."""

    task: Task


@dataclass(slots=True)
class Emit:
    """Show something to whoever streams this run; `step` is the superstep it belongs to."""

    mode: str
    data: Any
    step: int = 0


Effect = Load | Commit | Claim | SaveWrites | Flush | Start | Wait | Cancel | Resolve | LookUp | Remember | Emit


class Left(BaseException):
    """Thrown into the engine when nobody waits for the run any more: it stops what runs, and saves what finishes."""


@dataclass(slots=True)
class Stamp:
    """The id and ISO 8601 time a checkpoint got."""

    checkpoint_id: str
    created_at: str


@dataclass(slots=True)
class Finished:
    """A task ended well; for a child task `writes` is its return value under `__return__`."""

    task: Task
    writes: Sequence[Write]


@dataclass(slots=True)
class Failed:
    """A task raised."""

    task: Task
    error: BaseException


@dataclass(slots=True)
class Interrupted:
    """A task asked questions; `writes` is what it wrote explicitly before it asked."""

    task: Task
    interrupts: tuple[Interrupt, ...]
    writes: Sequence[Write] = ()


@dataclass(slots=True)
class Cancelled:
    """A task was stopped because the engine asked for it."""

    task: Task


@dataclass(slots=True)
class Called:
    """A running task called a child task and waits for `Resolve`."""

    call: Call


@dataclass(slots=True)
class TimedOut:
    """The superstep took longer than the step timeout."""


Event = Finished | Failed | Interrupted | Cancelled | Called | TimedOut
__all__ = [
    "Call",
    "Called",
    "Cancel",
    "Cancelled",
    "Claim",
    "Commit",
    "Effect",
    "Emit",
    "Event",
    "Failed",
    "Finished",
    "Flush",
    "Interrupted",
    "Load",
    "LookUp",
    "Node",
    "Remember",
    "Resolve",
    "SaveWrites",
    "Stamp",
    "Start",
    "Task",
    "TimedOut",
    "Wait",
]
