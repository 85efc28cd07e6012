"""What callback handlers and tracers see of a graph: a run for the graph, and one inside it for each node.

langchain-core has a manager for blocking callers and one for asyncio; each function here has a twin for that reason
alone. Invariant: a run that was started is ended or failed exactly once, and before a node's run fails, the runs of
tools and retrievers still open inside it are failed, because langchain-core ends those on `Exception` only and
neither an interrupt nor a cancellation is one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForChainRun,
    AsyncCallbackManagerForRetrieverRun,
    AsyncCallbackManagerForToolRun,
    BaseCallbackHandler,
    BaseCallbackManager,
    CallbackManager,
    CallbackManagerForChainRun,
    CallbackManagerForRetrieverRun,
    CallbackManagerForToolRun,
)
from langchain_core.runnables.config import get_async_callback_manager_for_config, get_callback_manager_for_config
from langchain_core.tracers._streaming import _StreamingCallbackHandler  # how `astream_events` listens

from clew._langchain.messages import MessagesStreamHandler
from clew.constants import CONF, CONFIG_KEY_TASK_ID

Config: TypeAlias = Mapping[str, Any]
ChainRun: TypeAlias = CallbackManagerForChainRun | AsyncCallbackManagerForChainRun
_OWN_RUN_ONLY = ("run_name", "run_id")
_TRACED = ("thread_id", "checkpoint_id", "checkpoint_ns", "task_id", "run_id", "assistant_id", "graph_id")


@dataclass(slots=True)
class _OpenRun:
    kind: str
    parent_run_id: UUID | None
    tags: list[str] | None
    metadata: dict[str, Any] | None


class _OpenRuns(BaseCallbackHandler):
    """The runs inside a node that langchain-core may leave open, in the order they were started."""

    run_inline = True
    ignore_llm = ignore_chat_model = ignore_chain = ignore_custom_event = True  # type: ignore[assignment]  # properties there

    def __init__(self) -> None:
        self.runs: dict[UUID, _OpenRun] = {}

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **kwargs: Any) -> None:
        self.runs[run_id] = _open_run("tool", kwargs)

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **kwargs: Any) -> None:
        self.runs[run_id] = _open_run("retriever", kwargs)

    def _close(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self.runs.pop(run_id, None)

    on_tool_end = on_tool_error = on_retriever_end = on_retriever_error = _close


def _open_run(kind: str, started: Mapping[str, Any]) -> _OpenRun:
    return _OpenRun(kind, started.get("parent_run_id"), started.get("tags"), started.get("metadata"))


@dataclass(slots=True)
class Run:
    """A run of a graph, a node or a task that callbacks were told of.

    `config` is what to give to the code inside: its `callbacks` make runs started there children of this one.
    """

    manager: ChainRun
    config: dict[str, Any]
    open_runs: _OpenRuns | None = field(default=None)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata this run was started with."""
        return self.manager.metadata

    def child_config(self, config: Config, tag: str) -> dict[str, Any]:
        """`config` with callbacks under which a child run starts, tagged `tag`."""
        return {**config, "callbacks": self.manager.get_child(tag)}

    def start_child(self, config: Config, name: str, input: Any, tag: str) -> Run:
        """Tell callbacks that a node (or task) starts inside this run.

        `config` is the node's, with its own tags and metadata (`node_metadata`); `tag` is "graph:step:<superstep>".
        """
        child_config = self.child_config(config, tag)
        manager = get_callback_manager_for_config(cast("Any", child_config))
        return _node_run(manager.on_chain_start(cast("Any", None), input, name=name), config)

    async def astart_child(self, config: Config, name: str, input: Any, tag: str) -> Run:
        """As `start_child`, for a run started by `astart_graph_run`."""
        child_config = self.child_config(config, tag)
        manager = get_async_callback_manager_for_config(cast("Any", child_config))
        return _node_run(await manager.on_chain_start(cast("Any", None), input, name=name), config)

    def end(self, output: Any) -> None:
        """Tell callbacks that the run finished with `output`."""
        manager = cast("CallbackManagerForChainRun", self.manager)
        if self.open_runs is not None:
            for handler in _streaming(manager.handlers):
                for _ in handler.tap_output_iter(manager.run_id, iter((output,))):
                    pass
        manager.on_chain_end(output)

    async def aend(self, output: Any) -> None:
        """As `end`, for a run started by a function whose name begins with `a`."""
        manager = cast("AsyncCallbackManagerForChainRun", self.manager)
        if self.open_runs is not None:
            for handler in _streaming(manager.handlers):
                async for _ in handler.tap_output_aiter(manager.run_id, _once(output)):
                    pass
        await manager.on_chain_end(output)

    def fail(self, error: BaseException) -> None:
        """Tell callbacks that `error` ended the run (an interrupt too), and with it what is still open inside."""
        for run_id, run in self._still_open():
            match run.kind:
                case "tool":
                    CallbackManagerForToolRun(**self._manager_fields(run_id, run)).on_tool_error(error)
                case _:
                    CallbackManagerForRetrieverRun(**self._manager_fields(run_id, run)).on_retriever_error(error)
        cast("CallbackManagerForChainRun", self.manager).on_chain_error(error)

    async def afail(self, error: BaseException) -> None:
        """As `fail`, for a run started by a function whose name begins with `a`."""
        for run_id, run in self._still_open():
            match run.kind:
                case "tool":
                    await AsyncCallbackManagerForToolRun(**self._manager_fields(run_id, run)).on_tool_error(error)
                case _:
                    manager = AsyncCallbackManagerForRetrieverRun(**self._manager_fields(run_id, run))
                    await manager.on_retriever_error(error)
        await cast("AsyncCallbackManagerForChainRun", self.manager).on_chain_error(error)

    def _still_open(self) -> list[tuple[UUID, _OpenRun]]:
        """Innermost first."""
        return [] if self.open_runs is None else list(reversed(self.open_runs.runs.items()))

    def _manager_fields(self, run_id: UUID, run: _OpenRun) -> dict[str, Any]:
        handlers = list(self.manager.handlers)  # those of the surrounding context are here only
        handlers += [handler for handler in self.manager.inheritable_handlers if handler not in handlers]
        return {
            "run_id": run_id,
            "handlers": handlers,
            "inheritable_handlers": handlers,
            "parent_run_id": run.parent_run_id,
            "tags": run.tags,
            "metadata": run.metadata,
        }


def start_graph_run(config: Config, name: str, input: Any, handlers: Sequence[BaseCallbackHandler] = ()) -> Run | None:
    """Tell the callbacks of `config`, the tracers of the environment and `handlers` that a graph starts.

    None when nobody listens. `name` is used unless the config has a `run_name`. `handlers` hear of what happens
    inside the graph only, not of the graph itself.
    """
    manager = get_callback_manager_for_config(cast("Any", config))
    if not _prepare(manager, config) and not handlers:
        return None
    started = manager.on_chain_start(
        cast("Any", None), input, name=config.get("run_name") or name, run_id=config.get("run_id")
    )
    return _graph_run(started, config, handlers)


async def astart_graph_run(
    config: Config, name: str, input: Any, handlers: Sequence[BaseCallbackHandler] = ()
) -> Run | None:
    """As `start_graph_run`, under asyncio."""
    manager = get_async_callback_manager_for_config(cast("Any", config))
    if not _prepare(manager, config) and not handlers:
        return None
    started = await manager.on_chain_start(
        cast("Any", None), input, name=config.get("run_name") or name, run_id=config.get("run_id")
    )
    return _graph_run(started, config, handlers)


def _prepare(manager: CallbackManager | AsyncCallbackManager, config: Config) -> bool:
    """Make `manager` ready for a graph's run; gives whether anybody listens.

    What addresses the run in the configurable becomes metadata, by which users find it in a trace.

    A graph that is not run as a task of the graph around it has a namespace of its own that starts at the root, so a
    stream of the outer graph's own messages would take its messages for the outer graph's: it does not get them.
    """
    configurable: Config = config.get(CONF) or {}
    if CONFIG_KEY_TASK_ID not in configurable:
        manager.handlers = [handler for handler in manager.handlers if not _streams_one_graph(handler)]
        manager.inheritable_handlers = [
            handler for handler in manager.inheritable_handlers if not _streams_one_graph(handler)
        ]
    known: dict[str, Any] = {key: configurable[key] for key in _TRACED if configurable.get(key)}
    known["ls_integration"] = "clew"
    manager.add_metadata({key: value for key, value in known.items() if key not in manager.metadata})
    return bool(manager.handlers)


def _streams_one_graph(handler: BaseCallbackHandler) -> bool:
    return isinstance(handler, MessagesStreamHandler) and not handler.subgraphs


def _graph_run(manager: ChainRun, config: Config, handlers: Sequence[BaseCallbackHandler]) -> Run:
    manager.inheritable_handlers = [*manager.inheritable_handlers, *handlers]
    return Run(manager, _config_inside(config, manager.get_child()))


def _node_run(manager: ChainRun, config: Config) -> Run:
    open_runs = _OpenRuns()
    manager.inheritable_handlers = [*manager.inheritable_handlers, open_runs]
    return Run(manager, _config_inside(config, manager.get_child("seq:step:1")), open_runs)


def _config_inside(config: Config, callbacks: BaseCallbackManager) -> dict[str, Any]:
    """`config` for what runs inside a run: the name and id were that run's own."""
    inside = {key: value for key, value in config.items() if key not in _OWN_RUN_ONLY}
    return {**inside, "callbacks": callbacks}


def _streaming(handlers: Sequence[BaseCallbackHandler]) -> list[_StreamingCallbackHandler[Any]]:
    """The handlers that want each run's output as a stream (`astream_events`)."""
    return [
        handler
        for handler in handlers
        if isinstance(handler, _StreamingCallbackHandler) and not isinstance(handler, MessagesStreamHandler)
    ]


async def _once(value: Any) -> AsyncIterator[Any]:
    yield value
