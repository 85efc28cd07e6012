"""What surrounds a running node: its run and its task, found through a context variable.

Invariant: a scope belongs to one attempt of one task; nested graphs, `interrupt()`, `get_config()` and task calls all
find their parent here and nowhere else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from clew.constants import CONF, CONFIG_KEY_RUNTIME, CONFIG_KEY_TASK_ID
from clew.errors import NoSaverError
from clew.runtime import ExecutionInfo, RunControl, Runtime, ServerInfo, no_heartbeat, no_stream_writer

if TYPE_CHECKING:
    from clew.protocols import Hold
    from clew.types import CacheKey

Emit = Callable[[tuple[str, ...], str, Any], None]


Chain = tuple[tuple[str, str], ...]
"""The tasks a nested run is inside of, outermost first: (checkpoint id, task id) of each."""


class RunScope:
    """One run: what it was given, and what nested graphs inherit from it.

    `ns` is the run's namespace ("" at the root); `emit` shows something to whoever streams the root run (None: nobody
    does); `nested_modes` are the modes that nested graphs should show; `parents` maps namespaces above to their
    checkpoint ids. `unsaved_reason` says why there is no saver although the graph has one. `tenant` is whose thread it
    is, if the caller said so.
    """

    __slots__ = (
        "cache", "cache_tenant", "chain", "config", "context", "control", "durability", "emit", "has_custom",
        "has_langchain", "hold", "lock", "message_handlers", "name", "nested_modes", "ns", "observer", "origins",
        "parents", "run_id", "saver", "server_info", "session", "stateful", "store", "task_metadata", "tenant",
        "thread_id", "trace", "unsaved_reason",
    )  # fmt: skip

    def __init__(self, *, name: str, config: Mapping[str, Any], ns: str = "") -> None:
        self.name = name
        self.config = config
        self.ns = ns
        self.thread_id = ""
        self.tenant: str | None = None
        self.run_id: str | None = None
        self.saver: Any = None
        self.session: Any = None
        self.unsaved_reason = "the graph was compiled without a checkpointer"
        self.durability = "async"
        self.store: Any = None
        self.cache: Any = None
        self.cache_tenant = ""
        self.context: Any = None
        self.control: RunControl | None = None
        self.server_info: ServerInfo | None = None
        self.hold: Hold | None = None  # asked before nodes are started
        self.emit: Emit | None = None
        self.has_custom = False
        self.nested_modes: frozenset[str] = frozenset()
        self.parents: Mapping[str, str] = {}
        self.origins: Mapping[str, str] = {}
        self.task_metadata: Mapping[str, Any] = {}
        self.has_langchain = False
        self.trace: Any = None
        self.observer: Any = None  # see `clew._observing`
        self.message_handlers: list[Any] = []
        self.lock = threading.Lock()
        self.chain: Chain = ()
        self.stateful: dict[str, Chain] = {}

    def cache_place(self, key: CacheKey) -> tuple[tuple[str, ...], str]:
        """Where the cache keeps a task's writes; tenants do not see each other's."""
        return key.ns, f"{key.key}:{self.cache_tenant}" if self.cache_tenant else key.key


class TaskScope:
    """One attempt of one task. `task` is the engine's task; `call` starts a child task and gives its future.

    `callbacks` are those of the node's own run in a trace, once it has begun: what it starts belongs under it.
    """

    __slots__ = (
        "call", "callbacks", "calls", "explicit", "first_attempt_time", "interrupts", "progress", "run", "subgraphs",
        "task",
    )  # fmt: skip

    def __init__(self, run: RunScope, task: Any) -> None:
        self.run = run
        self.task = task
        self.call: Callable[[Any], Any] | None = None
        self.callbacks: Any = None
        self.calls = 0
        self.interrupts = 0
        self.explicit: list[tuple[str, Any]] = []
        self.subgraphs: Any = None
        self.progress: Callable[[bool], None] | None = None
        self.first_attempt_time: float | None = None

    @property
    def ns(self) -> str:
        """The task's namespace."""
        return self.task.ns

    @property
    def resume(self) -> Sequence[Any]:
        """Answers to the task's questions, in order."""
        return self.task.resume

    def next_interrupt(self) -> int:
        """The number of this question within the attempt, from 0."""
        index = self.interrupts
        self.interrupts = index + 1
        return index

    def next_call(self) -> int:
        """The number of this call of a child task within the attempt, from 0."""
        with self.run.lock:
            index = self.calls
            self.calls = index + 1
        return index

    def require_saver(self) -> None:
        """Raise `NoSaverError` when questions cannot be asked, because nothing would remember the answer's place."""
        if self.run.saver is None:
            raise NoSaverError(
                f"interrupt() was called in node {self.task.name!r}, but {self.run.unsaved_reason}",
                hint="compile the graph with a checkpointer, and pass"
                ' config={"configurable": {"thread_id": "..."}}; a subgraph with checkpointer=False cannot interrupt',
            )

    def writer(self) -> Callable[[Any], None]:
        """The writer for `stream_mode="custom"`."""
        emit = self.run.emit
        progress = self.progress
        if emit is None or not self.run.has_custom:
            if progress is None:
                return no_stream_writer
            return lambda _value: progress(False)
        ns = tuple(self.run.ns.split("|")) if self.run.ns else ()

        def write(value: Any) -> None:
            if progress is not None:
                progress(False)
            emit(ns, "custom", value)

        return write

    def heartbeat(self) -> Callable[[], None]:
        """What `runtime.heartbeat()` does in this attempt."""
        progress = self.progress
        return no_heartbeat if progress is None else lambda: progress(True)

    def runtime(self) -> Runtime[Any]:
        """The runtime object of this attempt."""
        run, task = self.run, self.task
        return Runtime(
            context=run.context,
            store=run.store,
            stream_writer=self.writer(),
            heartbeat=self.heartbeat(),
            previous=task.previous,
            execution_info=ExecutionInfo(
                task.checkpoint_id,
                task.ns,
                task.id,
                run.thread_id or None,
                run.run_id,
                task.attempt,
                self.first_attempt_time,
            ),
            server_info=run.server_info,
            control=run.control,
        )

    def metadata(self) -> dict[str, Any]:
        """Trace metadata of the task; the `langgraph_` keys are the field's names, which users filter on."""
        task = self.task
        return {
            **(self.run.config.get("metadata") or {}),
            **task.node.metadata,
            "langgraph_step": task.step,
            "langgraph_node": task.name,
            "langgraph_triggers": tuple(task.triggers),
            "langgraph_path": task.path,
            "langgraph_checkpoint_ns": task.ns,
        }

    def config(self) -> dict[str, Any]:
        """The task's configuration; passing it to a nested graph is the same as passing none."""
        run, task = self.run, self.task
        own: dict[str, Any] = {
            **run.config,
            "metadata": self.metadata(),
            CONF: {
                **(run.config.get(CONF) or {}),
                "checkpoint_ns": task.ns,
                "checkpoint_id": None,
                "checkpoint_map": {**run.parents, run.ns: task.checkpoint_id},
                CONFIG_KEY_TASK_ID: task.id,
                CONFIG_KEY_RUNTIME: self.runtime(),
                "__pregel_send": self.explicit.extend,
            },
        }
        if self.callbacks is not None:
            own["callbacks"] = self.callbacks
        if run.thread_id:
            own[CONF]["thread_id"] = run.thread_id
        if run.tenant is not None:
            own[CONF]["checkpoint_tenant"] = run.tenant
        if task.node.tags:
            own["tags"] = [*(run.config.get("tags") or ()), *task.node.tags]
        return own


current: ContextVar[TaskScope | None] = ContextVar("clew_task", default=None)


def current_task(what: str) -> TaskScope:
    """The scope of the node this is called in; `what` names the caller in the error when there is none."""
    scope = current.get()
    if scope is None:
        raise RuntimeError(f"{what} was called outside of a node or task of a running graph")
    return scope
