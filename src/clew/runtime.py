"""The object a node may ask for: context, store, stream writer, and where it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from clew.store.base import BaseStore

__all__ = ("BaseUser", "ExecutionInfo", "RunControl", "Runtime", "ServerInfo", "get_runtime")

ContextT = TypeVar("ContextT")


class BaseUser(Protocol):
    """Who is asking, as an authenticated server knows it."""

    @property
    def identity(self) -> str:
        """The user's id."""
        ...


@dataclass(frozen=True, slots=True)
class ExecutionInfo:
    """Where a node runs; `node_first_attempt_time` is in seconds since the epoch, attempts count from 1."""

    checkpoint_id: str
    checkpoint_ns: str
    task_id: str
    thread_id: str | None = None
    run_id: str | None = None
    node_attempt: int = 1
    node_first_attempt_time: float | None = None

    def patch(self, **overrides: Any) -> ExecutionInfo:
        """A copy with fields replaced."""
        return replace(self, **overrides)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server knows about the run."""

    assistant_id: str
    graph_id: str
    user: BaseUser | None = None


class RunControl:
    """Asks a run, from any thread, to stop at the next superstep boundary. Make a new one for each run."""

    __slots__ = ("_drain_reason",)

    def __init__(self) -> None:
        self._drain_reason: str | None = None

    def request_drain(self, reason: str = "shutdown") -> None:
        """Stop the run at the next superstep boundary with `GraphDrained`; its thread can be continued."""
        self._drain_reason = reason

    @property
    def drain_requested(self) -> bool:
        """Whether `request_drain` was called."""
        return self._drain_reason is not None

    @property
    def drain_reason(self) -> str | None:
        """The reason given, or None."""
        return self._drain_reason


def no_stream_writer(_value: Any) -> None:
    """The writer of a run whose custom stream nobody reads."""


def no_heartbeat() -> None:
    """The heartbeat of a node without an idle timeout."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Runtime(Generic[ContextT]):
    """What a node may reach; ask for it with a parameter `runtime: Runtime[Context]`.

    `previous` is the entrypoint's last saved value on the thread (functional API). `heartbeat()` says that a node
    with an idle timeout is still making progress.
    """

    context: ContextT = field(default=None)  # pyright: ignore[reportAssignmentType] - None is "no context"
    store: BaseStore | None = None
    stream_writer: Callable[[Any], None] = no_stream_writer
    heartbeat: Callable[[], None] = no_heartbeat
    previous: Any = None
    execution_info: ExecutionInfo | None = None
    server_info: ServerInfo | None = None
    control: RunControl | None = None

    def merge(self, other: Runtime[ContextT]) -> Runtime[ContextT]:
        """A copy in which whatever `other` has takes precedence."""
        return Runtime(
            context=other.context or self.context,
            store=other.store or self.store,
            stream_writer=self.stream_writer if other.stream_writer is no_stream_writer else other.stream_writer,
            heartbeat=self.heartbeat if other.heartbeat is no_heartbeat else other.heartbeat,
            previous=self.previous if other.previous is None else other.previous,
            execution_info=other.execution_info or self.execution_info,
            server_info=other.server_info or self.server_info,
            control=other.control or self.control,
        )

    def override(self, **overrides: Any) -> Runtime[ContextT]:
        """A copy with fields replaced."""
        return replace(self, **overrides)

    def patch_execution_info(self, **overrides: Any) -> Runtime[ContextT]:
        """A copy whose execution info has fields replaced; needs one to be set."""
        if self.execution_info is None:
            raise RuntimeError("cannot patch execution_info before it has been set")
        return replace(self, execution_info=self.execution_info.patch(**overrides))

    @property
    def drain_requested(self) -> bool:
        """Whether the run was asked to stop at the next superstep boundary."""
        return self.control is not None and self.control.drain_requested

    @property
    def drain_reason(self) -> str | None:
        """Why, or None."""
        return None if self.control is None else self.control.drain_reason


def get_runtime(context_schema: type[ContextT] | None = None) -> Runtime[ContextT]:
    """The runtime of the node this is called in; `context_schema` only tells type checkers its context's type."""
    from clew._scope import current_task  # late: the scope imports this module

    return current_task("get_runtime()").runtime()
