"""The one door between clew and langchain-core, which is an optional dependency.

Invariant: importing this module imports nothing of langchain-core, and asking whether something is a `Runnable` or
whether callbacks listen does not either. Functions that do import it are called only when one of these says so, or
by a feature that is langchain-core's (stream mode "messages", `graph | parser`).

How a driver uses it, with `a` twins under asyncio::

    run = start_graph_run(config, graph.name, input, handlers) if may_listen(config, handlers) else None
    node = run.start_child(node_config, name, state, f"graph:step:{step}") if run else None
    config = node.config if node else node_config
    context.run(set_child_config, config)            # in the node's own context
    node.end(update)  |  node.fail(error)            # an interrupt is a failure in the trace
    run.end(output)   |  run.fail(error)             # a graph that waits for an answer has ended
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from clew.errors import MissingExtraError

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable

    from clew._langchain.messages import Emit, MessagesStreamHandler
    from clew._langchain.runs import Run

Config = Mapping[str, Any]
_TRACING = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2")


def missing_extra(error: ImportError, feature: str) -> ImportError:
    """The error to raise for `error`: the extra's if langchain-core is what is not installed, else `error` itself."""
    is_extra = (error.name or "").partition(".")[0] == "langchain_core"
    return MissingExtraError(feature, "langchain") if is_extra else error


def is_runnable(thing: Any) -> bool:
    """Whether `thing` is a langchain-core `Runnable` (a compiled graph is not one, unless `adopt` was called)."""
    module = sys.modules.get("langchain_core.runnables.base")
    return module is not None and isinstance(thing, module.Runnable)


def invoke_runnable(runnable: Any, input: Any, config: Config) -> Any:
    """Run a `Runnable` as a node or a path function."""
    return runnable.invoke(input, config)


async def ainvoke_runnable(runnable: Any, input: Any, config: Config) -> Any:
    """As `invoke_runnable`, under asyncio."""
    return await runnable.ainvoke(input, config)


def may_listen(config: Config, handlers: Sequence[Any] = ()) -> bool:
    """Whether a graph's run may have listeners: callbacks in the config or around the caller, or a tracer.

    False costs a few dictionary look-ups; a true answer is settled by `start_graph_run`, which costs 10 us.
    """
    if handlers or config.get("callbacks") or "langchain_core.callbacks" in sys.modules:
        return True
    return any(os.environ.get(name, "").lower() in ("true", "1") for name in _TRACING)


def inherited_config() -> Config | None:
    """The config of the `Runnable` that calls, if the caller runs inside of one."""
    module = sys.modules.get("langchain_core.runnables.config")
    return None if module is None else module.var_child_runnable_config.get()


def set_child_config(config: Config) -> None:
    """Let models and chains called in this context without a config inherit `config`; a driver gives each node its own.

    With a tracer among the callbacks, functions traced by LangSmith itself become children of the node's run too.
    """
    module = sys.modules.get("langchain_core.runnables.config")
    if module is None:
        return
    if config.get("callbacks"):
        module._set_config_context(config)  # private, but kept stable for this use
    else:
        module.var_child_runnable_config.set(config)


def start_graph_run(config: Config, name: str, input: Any, handlers: Sequence[BaseCallbackHandler] = ()) -> Run | None:
    """See `clew._langchain.runs.start_graph_run`."""
    from clew._langchain import runs  # late: imports langchain-core

    return runs.start_graph_run(config, name, input, handlers)


async def astart_graph_run(
    config: Config, name: str, input: Any, handlers: Sequence[BaseCallbackHandler] = ()
) -> Run | None:
    """See `clew._langchain.runs.astart_graph_run`."""
    from clew._langchain import runs  # late: imports langchain-core

    return await runs.astart_graph_run(config, name, input, handlers)


def node_metadata(
    *, step: int, node: str, triggers: Sequence[str], path: tuple[Any, ...], checkpoint_ns: str
) -> dict[str, Any]:
    """The metadata by which callbacks, traces and streams of messages know a node, under the field's names."""
    return {
        "langgraph_step": step,
        "langgraph_node": node,
        "langgraph_triggers": triggers,
        "langgraph_path": path,
        "langgraph_checkpoint_ns": checkpoint_ns,
    }


def messages_handler(
    emit: Emit, *, subgraphs: bool = False, parent_ns: tuple[str, ...] | None = None, watch_nodes: bool = True
) -> MessagesStreamHandler | None:
    """A handler for `start_graph_run` that streams messages (see `MessagesStreamHandler`).

    None without langchain-core: a graph cannot have messages then.
    """
    try:
        from clew._langchain.messages import MessagesStreamHandler  # late: imports langchain-core
    except ModuleNotFoundError as error:
        if isinstance(missing_extra(error, "stream mode messages"), MissingExtraError):
            return None
        raise
    return MessagesStreamHandler(emit, subgraphs=subgraphs, parent_ns=parent_ns, watch_nodes=watch_nodes)


def new_messages(update: Any, seen: set[str]) -> list[BaseMessage]:
    """See `clew._langchain.messages.new_messages`; nothing without langchain-core, as there are no messages then."""
    if "langchain_core.messages" not in sys.modules:
        return []
    from clew._langchain import messages  # late: imports langchain-core

    return messages.new_messages(update, seen)


def merge_callbacks(base: Any, new: Any) -> Any:
    """Callbacks that call both `base` and `new`, each None, a list of handlers or a manager; neither is changed."""
    if not base or not new:
        return new or base
    if isinstance(base, list) and isinstance(new, list):
        return [*cast("list[Any]", base), *cast("list[Any]", new)]
    merged = (new if isinstance(base, list) else base).copy()
    others = cast("Any", base if isinstance(base, list) else new)
    for handler in getattr(others, "inheritable_handlers", others):
        merged.add_handler(handler, inherit=True)
    return merged


def as_runnable(graph: Any) -> Runnable[Any, Any]:
    """A compiled graph as a `Runnable`, without a run of its own in the trace."""
    return _runnables("using a graph as a runnable").as_runnable(graph)


def compose(first: Any, second: Any) -> Runnable[Any, Any]:
    """`first | second`, where either may be a compiled graph."""
    return _runnables("composing a graph with |").compose(first, second)


def adopt(graph_class: type) -> None:
    """Make graphs of this class count as `Runnable`s, so that `prompt | graph` works; nothing if none is loaded.

    `Runnable.__or__` refuses what is neither a `Runnable` nor callable without asking the right-hand side. The class
    stays free of langchain-core's base class. Call it when a graph is compiled; doing it again is free.
    """
    module = sys.modules.get("langchain_core.runnables.base")
    if module is not None and not issubclass(graph_class, module.Runnable):
        module.Runnable.register(graph_class)


class RunnableFace:
    """For compiled graphs: `|`, and every other method of `Runnable` that the class does not have itself.

    Those are looked up only if langchain-core is loaded, and act on `as_runnable(self)`.
    """

    __slots__ = ()

    def __or__(self, other: Any) -> Runnable[Any, Any]:
        return compose(self, other)

    def __ror__(self, other: Any) -> Runnable[Any, Any]:
        return compose(other, self)

    if not TYPE_CHECKING:  # a type checker would take every name for defined

        def __getattr__(self, name: str) -> Any:
            module = sys.modules.get("langchain_core.runnables.base")
            if module is None or name.startswith("_") or not hasattr(module.Runnable, name):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return getattr(as_runnable(self), name)


def _runnables(feature: str) -> Any:
    try:
        from clew._langchain import runnables  # late: imports langchain-core
    except ModuleNotFoundError as error:
        raise missing_extra(error, feature) from error
    return runnables
