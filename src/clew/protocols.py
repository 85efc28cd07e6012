"""What the engine's drivers and the storage layer say to each other.

Drivers (floor 3) and storage (floor 2) do not import each other; both import this. A `Session` is one run on one
thread, a `Cursor` is the run's place in the log of one namespace of that thread. Cursor methods build operations:
encoding happens at once, on the caller's thread (so a node that later mutates its state in place cannot change what
is stored); reading and writing happen when a saver runs the operation.

Invariants:
- an `Op` is run at most once, by exactly one of `Saver.run`, `Saver.arun` or `Saver.submit`;
- operations of one session reach storage in the order in which they were built;
- a write operation that finds that another run has the thread raises `ThreadConflictError`, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from clew.errors import InvalidQueryError

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class TaskWrites:
    """What one task wrote in a superstep: `writes` are (channel, value) pairs in the order they were made.

    `path` is the task's path rendered as a sortable string. Reserved channels (`__interrupt__`, `__resume__`,
    `__error__`, ...) carry what happened to the task rather than what it produced.
    """

    task_id: str
    writes: Sequence[tuple[str, Any]]
    path: str = ""
    name: str = ""


@dataclass(slots=True)
class Step:
    """One checkpoint on its way to storage: the state after a superstep, as the engine knows it.

    `values` holds the checkpointed value of every channel in `changed` that has one; a channel in `changed` but not
    in `values` became empty. `versions` and `seen` are complete; `ran` names the nodes whose entry in `seen` moved and
    `changed` the channels whose version moved since the step before. `updated` are the channels whose update can
    trigger nodes in the next superstep (None: not known, plan by versions). `writes` are the writes that this step
    consumed. `owner` is the id of the parent's task that a subgraph's run belongs to ("" in a root graph).
    """

    metadata: Mapping[str, Any]
    values: Mapping[str, Any]
    versions: Mapping[str, Any]
    seen: Mapping[str, Mapping[str, Any]]
    changed: Iterable[str]
    ran: Iterable[str] = ()
    updated: Sequence[str] | None = None
    writes: Sequence[TaskWrites] = ()
    owner: str = ""


@dataclass(slots=True)
class Saved:
    """One checkpoint as read back. `pending` are writes stored against it that no later step has consumed.

    For a checkpoint that has a child, `pending` are the writes its (newest) child consumed, so that history can show
    each task's result. `position` is opaque and belongs to the saver; `is_head` is true for the thread's newest
    checkpoint of the namespace. `created_at` is ISO 8601 in UTC. `opaque` names values of unknown types, if any.
    """

    checkpoint_id: str
    parent_id: str | None
    created_at: str
    metadata: dict[str, Any]
    values: dict[str, Any]
    versions: dict[str, Any]
    seen: dict[str, dict[str, Any]]
    updated: tuple[str, ...] | None
    pending: list[TaskWrites]
    owner: str = ""
    ns: str = ""
    is_head: bool = True
    position: Any = None


class Op(Protocol[T_co]):
    """One storage operation, encoded and ready to run. `result_type` is what running it gives."""

    __slots__ = ()


@dataclass(slots=True)
class Committed(Generic[T]):
    """A commit that was built: the id and time its checkpoint has, and the operation that makes it durable."""

    checkpoint_id: str
    created_at: str
    op: Op[T]


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which checkpoints of a namespace to list, newest first.

    `before` is a checkpoint id, exclusive; `filter` is equality on top-level metadata keys; `limit` counts
    checkpoints after filtering (None: all).
    """

    before: str | None = None
    limit: int | None = None
    filter: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Refuse, before anything is read, what is no number or no dict: `InvalidQueryError`."""
        if self.limit is not None and type(self.limit) is not int:
            raise InvalidQueryError(
                f"the limit of a listing is of type {type(self.limit).__name__!r}", hint="give a whole number, or None"
            )
        if not isinstance(self.filter, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - a caller's value
            raise InvalidQueryError(
                f"the filter of a listing is of type {type(self.filter).__name__!r}", hint="give a dict"
            )


class Cursor(Protocol):
    """A run's place in the log of one namespace. Not thread-safe; a run's driver owns it."""

    ns: str

    def load(self, *, checkpoint_id: str | None = None, from_ns: str | None = None) -> Op[Saved | None]:
        """Read a checkpoint and stand on it; the next `commit` becomes its child.

        Without `checkpoint_id`: the newest checkpoint of this namespace that belongs to the line of root checkpoints
        the session stands on (for the root namespace: the newest of the thread). With `checkpoint_id`: exactly that
        one, and `CheckpointNotFoundError` when the namespace does not have it. `from_ns` reads the checkpoint from
        another namespace of the thread and stands on it as on a fork (the next commit starts this namespace's own
        branch). Gives None when there is nothing, and stands on the empty state then.
        """
        ...

    def commit(self, step: Step, *, claim: bool = False, checkpoint_id: str | None = None) -> Committed[None]:
        """Encode `step` as the child of where the cursor stands, and move there.

        `checkpoint_id` gives the checkpoint an id the caller made with `clew.ids.checkpoint_id` (it is above the
        thread's largest); without it the cursor makes one.

        Appends when the cursor stands on the head of its namespace, else starts a branch (with a full value). With
        `claim` the same statement takes the thread for this session, if nobody else moved it since it was loaded.
        """
        ...

    def claim(self, writes: Sequence[TaskWrites] = ()) -> Op[None]:
        """Take the thread without a new checkpoint (a resume), saving `writes` as pending in the same statement."""
        ...

    def save_writes(self, writes: Sequence[TaskWrites]) -> Op[None]:
        """Save writes of tasks of the superstep that follows the checkpoint the cursor stands on.

        A task that has writes already has them replaced.
        """
        ...

    def history(self, query: HistoryQuery) -> Op[list[Saved]]:
        """List checkpoints, newest first (all branches, in the order they were committed)."""
        ...


class Session(Protocol):
    """One run (or one read) on one thread. `error` is what made one of its writes fail, after which none is made;
    `tenant` is whose thread it is."""

    tenant: str
    thread_id: str
    error: BaseException | None

    def cursor(self, ns: str = "") -> Cursor:
        """The cursor of a namespace; asking again for the same namespace gives a new, independent cursor."""
        ...


class Hold(Protocol):
    """The lease on a run of the service, as far as the process that executes it can know without asking."""

    def is_sure(self) -> bool:
        """Whether it still holds, by this process's own clock."""
        ...

    async def made_sure(self) -> None:
        """Wait until it does again; cancelled if the run was lost."""
        ...


class Saver(Protocol):
    """What drivers need of a checkpointer. Thread-safe; serves sync and async callers and any event loop.

    `tenant` is whose threads it serves unless a call says otherwise ("": those of callers that set none).
    """

    tenant: str

    def session(self, thread_id: str, *, types: frozenset[type] = frozenset(), tenant: str | None = None) -> Session:
        """Open a run on a thread; no I/O. `types` are the classes the graph's annotations make known.

        `tenant` is whose thread it is (None: the saver's); a saver that has a tenant refuses another one with
        `InvalidTenantError`. Nothing of another tenant is ever found: its threads, checkpoints and runs do not exist.
        """
        ...

    def run(self, op: Op[T]) -> T:
        """Run an operation and wait for it (a write: until it is durable)."""
        ...

    async def arun(self, op: Op[T]) -> T:
        """Run an operation without blocking the event loop."""
        ...

    def submit(self, session: Session, op: Op[None]) -> None:
        """Queue a write of `session` behind its earlier ones and return at once.

        Bounded by `is_behind`: a caller on an event loop that is told so waits for the write instead.

        If it fails, every later `run`, `arun`, `submit`, `flush` or `aflush` of the session raises that error.
        """
        ...

    def is_behind(self, session: Session) -> bool:
        """Whether so much waits to be written that a run should not get further ahead of it."""
        ...

    def flush(self, session: Session) -> None:
        """Wait until every submitted write of the session is durable; raise if one failed."""
        ...

    async def aflush(self, session: Session) -> None:
        """As `flush`, without blocking the event loop."""
        ...
