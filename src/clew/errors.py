"""Every error a user of clew can meet, in one closed tree.

Invariant: an error says what, where and why in one lower-case sentence, and `hint` says what to do. Only
`GraphBubbleUp` and its children are not errors: they are control flow, and derive from `BaseException` so that a
node's `except Exception` cannot swallow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from clew.types import Command, Interrupt

__all__ = (
    "AmbiguousResumeError",
    "CheckpointNotFoundError",
    "ClewError",
    "ConfigError",
    "CorruptRecordError",
    "EmptyChannelError",
    "EmptyInputError",
    "EmptyUpdateError",
    "EncryptionError",
    "ErrorCode",
    "GraphBubbleUp",
    "GraphDrained",
    "GraphError",
    "GraphInterrupt",
    "GraphRecursionError",
    "InvalidKeyError",
    "InvalidMessagesError",
    "InvalidQueryError",
    "InvalidTenantError",
    "InvalidThreadIdError",
    "InvalidUpdateError",
    "LoadError",
    "MissingExtraError",
    "MissingKeyError",
    "NoSaverError",
    "NodeCancelledError",
    "NodeError",
    "NodeInterrupt",
    "NodeTimeoutError",
    "ParentCommand",
    "PlaintextError",
    "ResumeError",
    "RunError",
    "RunNotFoundError",
    "SchemaVersionError",
    "SerializationError",
    "StepTimeoutError",
    "StorageError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "SubgraphOverlapError",
    "Suspended",
    "TaskNotFound",
    "ThreadBusyError",
    "ThreadConflictError",
    "ThreadExistsError",
    "ThreadNotFoundError",
    "UnknownInterruptError",
    "UnsafeBindError",
    "UpdateError",
    "is_invalid_resume",
)


class ErrorCode(Enum):
    """Stable codes for errors that documentation and clients refer to."""

    GRAPH_RECURSION_LIMIT = "GRAPH_RECURSION_LIMIT"
    INVALID_CONCURRENT_GRAPH_UPDATE = "INVALID_CONCURRENT_GRAPH_UPDATE"
    INVALID_GRAPH_NODE_RETURN_VALUE = "INVALID_GRAPH_NODE_RETURN_VALUE"
    MULTIPLE_SUBGRAPHS = "MULTIPLE_SUBGRAPHS"
    INVALID_CHAT_HISTORY = "INVALID_CHAT_HISTORY"


class ClewError(Exception):
    """The root of clew's errors.

    `hint` is the remedy, also attached as a note so that a traceback shows it; `code` is an `ErrorCode` or None.
    """

    hint: str | None
    code: ErrorCode | None

    def __init__(self, message: str = "", *, hint: str | None = None, code: ErrorCode | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code
        if hint:
            self.add_note(f"hint: {hint}")


class GraphError(ClewError, ValueError):
    """A graph is built wrongly: an unknown node, a bad schema, a reserved name."""


class MissingExtraError(ClewError, ImportError):
    """A feature needs an optional dependency that is not installed; the hint has the install command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs a package that is not installed", hint=f"install it with: pip install 'clew[{extra}]'"
        )


class UnsafeBindError(ClewError, ValueError):
    """A service without authentication is to listen where others can reach it."""


class LoadError(ClewError, ImportError):
    """What `module:name` or `file.py:name` names cannot be loaded."""


class ConfigError(ClewError, ValueError):
    """A configuration file has what cannot be done; `problems` has one line for each, with the key's path."""

    problems: Sequence[str]

    def __init__(self, file: str, problems: Sequence[str], *, hint: str | None = None) -> None:
        said = problems[0] if len(problems) == 1 else "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{file}: {said}", hint=hint)
        self.problems = problems


class UpdateError(ClewError):
    """A write to the state cannot be accepted."""


class InvalidUpdateError(UpdateError):
    """A channel received a set of writes it cannot take, or a node returned something that is not an update."""


class InvalidMessagesError(InvalidUpdateError, ValueError):
    """Something written to a list of messages is not a message, or names one that is not there."""


class EmptyUpdateError(InvalidUpdateError, ValueError):
    """An update of a thread's state was asked for without saying what to update."""


class EmptyChannelError(UpdateError):
    """A channel was read that has never been written."""


class RunError(ClewError):
    """A run cannot go on."""


class GraphRecursionError(RunError, RecursionError):
    """A run reached its `recursion_limit` (in supersteps) before it finished; its last checkpoint is saved."""


class EmptyInputError(RunError):
    """A run was started with nothing to do: no input, and nothing pending on the thread."""


class TaskNotFound(RunError):  # noqa: N818 - the field's public name
    """A task that was asked for does not exist in the current superstep."""


class GraphDrained(RunError):  # noqa: N818 - the field's public name
    """A run stopped at a superstep boundary because a drain was requested; `invoke(None, config)` continues it."""

    def __init__(self, reason: str = "shutdown") -> None:
        super().__init__(f"graph drained: {reason}", hint="continue it with invoke(None, config)")
        self.reason = reason


class StepTimeoutError(RunError, TimeoutError):
    """A superstep took longer than the graph's `step_timeout` (seconds)."""


class SubgraphOverlapError(RunError):
    """One stateful subgraph was called twice at the same time inside one node."""


class NodeCancelledError(RunError):
    """A node raised `asyncio.CancelledError` by itself, without having been cancelled."""

    def __init__(self, node: str, message: str | None = None) -> None:
        super().__init__(message or f"node {node!r} raised asyncio.CancelledError")
        self.node = node


class NodeTimeoutError(RunError):
    """A node ran longer than its policy allows.

    `kind` says which limit fired ("run" or "idle"), `timeout` is that limit and `elapsed` the time since the attempt
    began, all in seconds. Not a `TimeoutError`, so that the default retry policy retries it.
    """

    def __init__(
        self,
        node: str,
        elapsed: float,
        *,
        kind: Literal["idle", "run"],
        idle_timeout: float | None = None,
        run_timeout: float | None = None,
    ) -> None:
        limit = {"idle": idle_timeout, "run": run_timeout}.get(kind)
        if limit is None:
            raise ValueError(f"{kind}_timeout is required when kind={kind!r}")
        what = "idle timeout" if kind == "idle" else "run timeout"
        super().__init__(f"node {node!r} exceeded its {what} of {limit:.3f}s (elapsed: {elapsed:.3f}s)")
        self.node = node
        self.elapsed = elapsed
        self.kind: Literal["idle", "run"] = kind
        self.timeout: float = limit
        self.idle_timeout = idle_timeout
        self.run_timeout = run_timeout


class ResumeError(ClewError):
    """A thread cannot be continued as asked."""


class NoSaverError(ResumeError, ValueError, RuntimeError):
    """The operation needs a checkpointer and the graph was compiled without one."""


class InvalidThreadIdError(ResumeError, ValueError):
    """A thread id is missing, empty, over 255 characters, or holds NUL or a lone surrogate."""


class InvalidTenantError(ResumeError, ValueError):
    """A tenant is no text, too long, holds NUL or a lone surrogate, or is not the one the saver is bound to."""


class CheckpointNotFoundError(ResumeError, ValueError):
    """The checkpoint asked for does not exist on this thread."""


class AmbiguousResumeError(ResumeError, RuntimeError):
    """A single resume value was given while several interrupts wait."""


class UnknownInterruptError(ResumeError):
    """A strict resume does not match the interrupts that wait; nothing was written.

    `reason`: "not_pending" (`interrupt_ids` lists what does not wait), "empty_map", or "ambiguous".
    `pending_ids` lists the interrupts that still wait for an answer.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Literal["not_pending", "empty_map", "ambiguous"],
        interrupt_ids: Sequence[str] = (),
        pending_ids: Sequence[str] = (),
    ) -> None:
        waiting = ", ".join(pending_ids) or "none"
        super().__init__(message, hint=f"interrupts that wait for an answer: {waiting}")
        self.reason = reason
        self.interrupt_ids = tuple(interrupt_ids)
        self.pending_ids = tuple(pending_ids)


class StorageError(ClewError):
    """The saver, the store or the cache cannot do what was asked."""


class StorageUnavailableError(StorageError, ConnectionError):
    """The database cannot be reached, or kept refusing for as long as the saver may try; run it again later."""


class StorageTimeoutError(StorageError, TimeoutError):
    """The database or its pool of connections did not do it in time; nothing is half done."""


class InvalidQueryError(StorageError, ValueError):
    """A saver was asked for what makes no sense, such as a limit that is no number or an id that no storage can keep;
    nothing was read or written."""


class ThreadNotFoundError(StorageError, LookupError):
    """There is no such thread, or it is somebody else's, which is the same to the caller."""


class ThreadExistsError(StorageError):
    """A thread with that id is there already."""


class ThreadBusyError(StorageError):
    """A run was not made, since the thread has one that waits or runs."""


class RunNotFoundError(StorageError, LookupError):
    """There is no such run on the thread."""


class ThreadConflictError(StorageError):
    """Another run has taken the thread; this run has stopped and published nothing after that."""


class SchemaVersionError(StorageError):
    """The database was written by a newer clew, or its tables are missing."""


class SerializationError(StorageError, TypeError):
    """A value cannot be stored, or stored bytes cannot be read; `path` is the place inside the value."""

    def __init__(self, message: str = "", *, hint: str | None = None, path: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path


class CorruptRecordError(StorageError):
    """A stored record fails its checksum or cannot be parsed; only its thread is affected."""


class EncryptionError(StorageError):
    """What is stored and the keys at hand do not go together; `key_id` is the key it is about, if one is."""

    def __init__(self, message: str = "", *, hint: str | None = None, key_id: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.key_id = key_id


class InvalidKeyError(EncryptionError, ValueError):
    """A key cannot be used as it was given: its size, its id, or which one of several encrypts."""


class MissingKeyError(EncryptionError):
    """Stored data is encrypted with a key that was not given; `key_id` names it."""


class PlaintextError(EncryptionError):
    """A key is set, and what is stored is not encrypted: it was written before, or put there by somebody else."""


class GraphBubbleUp(BaseException):
    """Control flow that passes through user code to the engine; not an error."""


class GraphInterrupt(GraphBubbleUp):
    """A node asked a question with `interrupt()`; `interrupts` are the questions."""

    def __init__(self, interrupts: Sequence[Interrupt] = ()) -> None:
        super().__init__(tuple(interrupts))

    @property
    def interrupts(self) -> tuple[Interrupt, ...]:
        """The questions asked, in order."""
        return self.args[0]


Suspended = GraphInterrupt
"""Another name of `GraphInterrupt`."""


class NodeInterrupt(GraphInterrupt):
    """Deprecated: raise a question from a node; use `clew.types.interrupt` instead."""

    def __init__(self, value: Any, id: str | None = None) -> None:
        from clew.types import Interrupt  # late: types imports errors

        super().__init__([Interrupt(value=value) if id is None else Interrupt(value=value, id=id)])


class ParentCommand(GraphBubbleUp):
    """A `Command(graph=Command.PARENT)` on its way from a subgraph to the graph it addresses."""

    args: tuple[Command[Any]]

    def __init__(self, command: Command[Any]) -> None:
        super().__init__(command)


@dataclass(frozen=True, slots=True)
class NodeError:
    """What a node-level error handler is told: the node that failed and the exception it raised."""

    node: str
    error: BaseException


_INVALID_RESUME = "_clew_invalid_resume"


def mark_invalid_resume(error: BaseException, interrupt_id: str) -> None:
    """Mark `error` as caused by an answer that does not match the `response_schema` of the interrupt with this id."""
    setattr(error, _INVALID_RESUME, interrupt_id)


def refused_answer(error: BaseException) -> str | None:
    """The id of the interrupt whose answer was refused, if that is what `error` says."""
    return getattr(error, _INVALID_RESUME, None)


def is_invalid_resume(error: BaseException) -> bool:
    """Whether `error` was raised because a resume value did not match the interrupt's `response_schema`."""
    return refused_answer(error) is not None
