"""The nouns users meet: commands, sends, interrupts, policies, snapshots and stream parts.

Invariant: nothing here does I/O or knows the engine; `interrupt()` only talks to the task it is called in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypedDict, TypeVar, Union, cast, final

from clew._overwrite import Overwrite
from clew._policies import CachePolicy, RetryPolicy, TimeoutPolicy
from clew.constants import INTERRUPT, NS_SEP
from clew.errors import GraphInterrupt, mark_invalid_resume

if TYPE_CHECKING:
    from clew.protocols import Saver

__all__ = (
    "All",
    "CacheKey",
    "CachePolicy",
    "CheckpointPayload",
    "CheckpointStreamPart",
    "CheckpointTask",
    "Checkpointer",
    "Command",
    "CustomStreamPart",
    "DebugPayload",
    "DebugStreamPart",
    "Durability",
    "GraphOutput",
    "Interrupt",
    "MessagesStreamPart",
    "Overwrite",
    "PregelTask",
    "RetryPolicy",
    "Send",
    "StateSnapshot",
    "StateUpdate",
    "StreamMode",
    "StreamPart",
    "StreamWriter",
    "TaskPayload",
    "TaskResultPayload",
    "TasksStreamPart",
    "TimeoutPolicy",
    "UpdatesStreamPart",
    "ValuesStreamPart",
    "ensure_valid_checkpointer",
    "interrupt",
)

Durability = Literal["sync", "async", "exit"]
"""When a superstep must be durable: before the next one starts, while it runs, or when the run ends."""

All = Literal["*"]
"""Stands for every node in `interrupt_before` and `interrupt_after`."""

Checkpointer = Union[None, bool, "Saver"]
"""A saver; for a subgraph also True (own memory on the thread), False (none) or None (as the parent)."""

StreamMode = Literal["values", "updates", "checkpoints", "tasks", "debug", "messages", "custom"]
"""What a stream shows: states, nodes' writes, checkpoints, tasks, both with times, messages, or what nodes show."""
StreamWriter = Callable[[Any], None]
"""Shows a value to whoever streams mode "custom"."""

Config = dict[str, Any]
"""A run's configuration, with langchain-core's `RunnableConfig` keys."""


def ensure_valid_checkpointer(checkpointer: Any) -> Checkpointer:
    """Give `checkpointer` back, or raise `TypeError` when it cannot save checkpoints."""
    if checkpointer in (None, True, False) or hasattr(checkpointer, "session"):
        return checkpointer
    raise TypeError(
        f"the checkpointer is a {type(checkpointer).__name__}, which cannot save checkpoints; pass a saver"
        " (InMemorySaver, SqliteSaver, ...), True, False or None. A saver's from_conn_string is a context manager:"
        " use `with SqliteSaver.from_conn_string(...) as saver`"
    )


class Send:
    """Ask for one task of `node` in the next superstep, with `arg` as its input instead of the graph's state."""

    __slots__ = ("arg", "node", "timeout")

    node: str
    arg: Any
    timeout: TimeoutPolicy | None

    def __init__(self, /, node: str, arg: Any, *, timeout: float | timedelta | TimeoutPolicy | None = None) -> None:
        self.node = node
        self.arg = arg
        self.timeout = None if timeout is None else TimeoutPolicy.coerce(timeout)

    def __hash__(self) -> int:
        return hash((self.node, self.arg, self.timeout))

    def __repr__(self) -> str:
        timeout = "" if self.timeout is None else f", timeout={self.timeout!r}"
        return f"Send(node={self.node!r}, arg={self.arg!r}{timeout})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Send)
            and self.node == other.node
            and self.arg == other.arg
            and self.timeout == other.timeout
        )


N = TypeVar("N", bound=Hashable)


@dataclass(kw_only=True, slots=True, frozen=True)
class Command(Generic[N]):
    """Update the state, choose where to go next, or answer an interrupt.

    `graph`: None for this graph, `Command.PARENT` for the closest parent. `update`: as a node's return value.
    `resume`: one value for the only waiting interrupt, or a dict of interrupt id to value. `goto`: node names and
    `Send`s, one or several.
    """

    graph: str | None = None
    update: Any | None = None
    resume: dict[str, Any] | Any | None = None
    goto: Send | Sequence[Send | N] | N = ()  # the empty tuple: nowhere

    PARENT: ClassVar[Literal["__parent__"]] = "__parent__"

    def __repr__(self) -> str:
        given = ((f.name, getattr(self, f.name)) for f in fields(self))
        return f"Command({', '.join(f'{name}={value!r}' for name, value in given if value)})"


def interrupt_id(task_ns: str, answered: int) -> str:
    """The id of the question a task asks after `answered` of its questions have been answered."""
    import xxhash  # late: only runs that ask need it

    text = f"{task_ns}{NS_SEP}{answered}" if answered else task_ns
    return xxhash.xxh3_128_hexdigest(text.encode())


@final
@dataclass(init=False, slots=True)
class Interrupt:
    """A question a node asked: its value, the id that answers it, and a JSON Schema for the answer, if given."""

    value: Any
    id: str
    response_schema: type | dict[str, Any] | None = None

    def __init__(
        self, value: Any, id: str = "placeholder-id", *, response_schema: type | dict[str, Any] | None = None
    ) -> None:
        self.value = value
        self.id = id
        self.response_schema = response_schema

    def __hash__(self) -> int:
        return hash(self.id)

    @classmethod
    def from_ns(cls, value: Any, ns: str, *, response_schema: type | dict[str, Any] | None = None) -> Interrupt:
        """The first question of the task with namespace `ns`."""
        return cls(value, interrupt_id(ns, 0), response_schema=response_schema)


def interrupt(value: Any, *, response_schema: dict[str, Any] | type | None = None) -> Any:
    """Ask a question from inside a node, and give the answer once there is one.

    The first call stops the run: `value` is surfaced to the caller, the thread is saved, and the node starts again
    from its top when the run is resumed with `Command(resume=...)`. Several calls in one node are answered in
    order. `response_schema`: a JSON Schema dict (shown to clients, answers unchecked), or a pydantic model, TypedDict
    or dataclass (shown as JSON Schema; the validated answer is returned). Needs a checkpointer and a thread id.

    Raises `GraphInterrupt` (a `BaseException`) when there is no answer yet; `pydantic.ValidationError` when the
    answer does not fit the schema (nothing is saved, the question can be answered again).
    """
    from clew._scope import current_task  # late: the scope imports types

    task = current_task("interrupt()")
    task.require_saver()
    adapter = None
    if response_schema is not None and not isinstance(response_schema, dict):
        from pydantic import TypeAdapter  # late: only schemas that validate need it

        adapter = TypeAdapter(response_schema)
    index = task.next_interrupt()
    if index < len(task.resume):
        answer = task.resume[index]
        if adapter is None:
            return answer
        try:
            return adapter.validate_python(answer)
        except Exception as error:
            mark_invalid_resume(error, interrupt_id(task.ns, index))
            raise
    schema = adapter.json_schema() if adapter else response_schema
    raise GraphInterrupt((Interrupt(value, interrupt_id(task.ns, len(task.resume)), response_schema=schema),))


class StateUpdate(NamedTuple):
    """One update of `bulk_update_state`: values as a node would return them, and the node to act as."""

    values: dict[str, Any] | None
    as_node: str | None = None
    task_id: str | None = None


class PregelTask(NamedTuple):
    """A task of a superstep as a snapshot shows it."""

    id: str
    name: str
    path: tuple[str | int | tuple[Any, ...], ...]
    error: BaseException | None = None
    interrupts: tuple[Interrupt, ...] = ()
    state: Config | StateSnapshot | None = None
    result: Any | None = None


class CacheKey(NamedTuple):
    """Where a task's writes are cached: namespace, key, and time to live in seconds (None: for ever)."""

    ns: tuple[str, ...]
    key: str
    ttl: int | None


class StateSnapshot(NamedTuple):
    """The state of a thread at one checkpoint.

    `next` names the nodes that run next, `config` reads this snapshot again, `tasks` are the tasks of the next
    superstep with their results, errors and interrupts so far, `interrupts` all of those tasks' interrupts.
    """

    values: dict[str, Any] | Any
    next: tuple[str, ...]
    config: Config
    metadata: dict[str, Any] | None
    created_at: str | None
    parent_config: Config | None
    tasks: tuple[PregelTask, ...]
    interrupts: tuple[Interrupt, ...]


OutputT = TypeVar("OutputT")


@dataclass(frozen=True)
class GraphOutput(Generic[OutputT]):
    """What `invoke(version="v2")` gives: the output, and the interrupts that wait (empty when finished)."""

    value: OutputT
    interrupts: tuple[Interrupt, ...] = ()

    def __getitem__(self, key: str) -> Any:
        if key == INTERRUPT:
            return self.interrupts
        value: Any = self.value
        if isinstance(value, dict):
            return value[key]  # pyright: ignore[reportUnknownVariableType] - user data
        try:
            return getattr(value, key)
        except AttributeError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        if key == INTERRUPT:
            return bool(self.interrupts)
        if isinstance(self.value, Mapping):
            return key in cast("Mapping[Any, Any]", self.value)  # user data
        return isinstance(key, str) and hasattr(self.value, key)


class TaskPayload(TypedDict, total=False):
    """A task that starts (`stream_mode="tasks"`); `metadata` only when there is any."""

    id: str
    name: str
    input: Any
    triggers: Sequence[str]
    metadata: dict[str, Any]


class TaskResultPayload(TypedDict):
    """A task that ended (`stream_mode="tasks"`)."""

    id: str
    name: str
    error: Any
    interrupts: list[dict[str, Any]]
    result: dict[str, Any]


class CheckpointTask(TypedDict, total=False):
    """A task inside a `CheckpointPayload`: with `error`, or with `result`, or still to run."""

    id: str
    name: str
    error: Any
    result: Any
    interrupts: tuple[dict[str, Any], ...]
    state: Any


class CheckpointPayload(TypedDict):
    """A checkpoint that was made (`stream_mode="checkpoints"`), in the shape of `get_state`."""

    config: Config | None
    metadata: dict[str, Any]
    values: Any
    next: list[str]
    parent_config: Config | None
    tasks: list[CheckpointTask]


class DebugPayload(TypedDict):
    """What `stream_mode="debug"` wraps around a checkpoint or task event; `timestamp` is ISO 8601 in UTC."""

    step: int
    timestamp: str
    type: Literal["checkpoint", "task", "task_result"]
    payload: Any


class _Part(TypedDict):
    ns: tuple[str, ...]


class ValuesStreamPart(_Part):
    """v2 part of mode "values"; `interrupts` are those raised so far in this superstep."""

    type: Literal["values"]
    data: Any
    interrupts: tuple[Interrupt, ...]


class UpdatesStreamPart(_Part):
    """v2 part of mode "updates"."""

    type: Literal["updates"]
    data: dict[str, Any]


class MessagesStreamPart(_Part):
    """v2 part of mode "messages": (message or chunk, metadata)."""

    type: Literal["messages"]
    data: tuple[Any, dict[str, Any]]


class CustomStreamPart(_Part):
    """v2 part of mode "custom": whatever the writer was given."""

    type: Literal["custom"]
    data: Any


class CheckpointStreamPart(_Part):
    """v2 part of mode "checkpoints"."""

    type: Literal["checkpoints"]
    data: CheckpointPayload


class TasksStreamPart(_Part):
    """v2 part of mode "tasks"."""

    type: Literal["tasks"]
    data: TaskPayload | TaskResultPayload


class DebugStreamPart(_Part):
    """v2 part of mode "debug"."""

    type: Literal["debug"]
    data: DebugPayload


StreamPart = (
    ValuesStreamPart
    | UpdatesStreamPart
    | MessagesStreamPart
    | CustomStreamPart
    | CheckpointStreamPart
    | TasksStreamPart
    | DebugStreamPart
)
"""A chunk of a stream with `version="v2"`: its `type` is the mode."""
