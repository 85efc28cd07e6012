"""Getting a run ready: where it belongs (root or nested), which thread and saver, what it streams.

Invariant: everything a run needs is decided here, before the engine starts; nothing of it changes while it runs.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from clew import _langchain
from clew._scope import Chain, RunScope, TaskScope, current
from clew.constants import (
    CONF,
    CONFIG_KEY_CHECKPOINT_ID,
    CONFIG_KEY_CHECKPOINT_MAP,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_CHECKPOINT_TENANT,
    CONFIG_KEY_STRICT_RESUME,
    CONFIG_KEY_TASK_ID,
    INTERRUPT,
    NS_SEP,
)
from clew.drivers.saving import Saving
from clew.engine.request import Request
from clew.errors import ErrorCode, InvalidThreadIdError, SubgraphOverlapError
from clew.ids import thread_id as checked_thread_id
from clew.pregel._config import Config, as_names, configurable, merged, recursion_limit, saved_metadata, shown_metadata
from clew.pregel._stream import Shaper, debug_event, engine_modes
from clew.pregel._tenant import open_session, shown_tenant, tenant_of
from clew.warnings import MissingThreadIdWarning

if TYPE_CHECKING:
    from clew.pregel.main import Pregel

_NO_MODES: frozenset[str] = frozenset()
_ADDRESS = frozenset(
    (CONFIG_KEY_CHECKPOINT_NS, CONFIG_KEY_CHECKPOINT_ID, CONFIG_KEY_CHECKPOINT_MAP, CONFIG_KEY_TASK_ID)
)


@dataclass(slots=True)
class Options:
    """The keyword arguments of `invoke` and `stream`."""

    context: Any = None
    stream_mode: str | Sequence[str] = "values"
    print_mode: str | Sequence[str] = ()
    output_keys: str | Sequence[str] | None = None
    interrupt_before: Any = None
    interrupt_after: Any = None
    durability: Any = None
    control: Any = None
    subgraphs: bool = False
    version: str = "v1"
    is_quiet: bool = False


class Prepared:
    """One run, ready to be driven. `close` must be called when it has ended, however it ended."""

    __slots__ = ("is_live", "limit", "parent", "release", "request", "saving", "scope", "shaper")

    def __init__(self, scope: RunScope, request: Request, saving: Saving | None, shaper: Shaper) -> None:
        self.scope = scope
        self.request = request
        self.saving = saving
        self.shaper = shaper
        self.is_live = False
        self.limit: int | None = None
        self.parent: TaskScope | None = None
        self.release: Callable[[], None] | None = None

    def close(self) -> None:
        """Let another call of the same stateful subgraph begin."""
        if self.release is not None:
            self.release()


def prepare(graph: Pregel, given: Any, config: Config | None, options: Options) -> Prepared:
    """Decide everything about a run; no I/O."""
    parent = _parent_of(config)
    if parent is None:
        own = merged(_inherited(graph.checkpointer), graph.config, config)
    else:
        own = merged(parent.config(), graph.config, config)
    shaper = Shaper(
        options.stream_mode,
        with_ns=options.subgraphs,
        is_v2=options.version == "v2",
        print_mode=options.print_mode,
        output_mapper=graph.output_mapper,
    )
    scope = RunScope(name=own.get("run_name") or graph.name, config=own)
    scope.durability = options.durability or (parent.run.durability if parent else None) or "async"
    if scope.durability not in ("sync", "async", "exit"):
        raise ValueError(f"unknown durability {scope.durability!r}; use 'sync', 'async' or 'exit'")
    release = _place(graph, scope, own, parent)
    _surround(graph, scope, own, parent, options)
    request = _request(graph, scope, given, own, parent, options, shaper)
    saving = None
    if scope.saver is not None:
        is_memoryless = parent is not None and graph.checkpointer is not True
        saving = Saving(scope.session.cursor(scope.ns), scope.durability, keeps_quiet=is_memoryless)
    prepared = Prepared(scope, request, saving, shaper)
    prepared.parent = parent
    prepared.release = release
    prepared.limit = own.get("max_concurrency")
    wanted = shaper.wanted | (parent.run.nested_modes if parent else _NO_MODES)
    prepared.is_live = not options.is_quiet and bool(wanted & {"custom", "messages"} or options.subgraphs)
    return prepared


def _inherited(saver: Any) -> Config | None:
    """The config of the `Runnable` that calls, without what addresses a checkpoint of its own thread."""
    config = _langchain.inherited_config()
    if config is None or CONF not in config:
        return config
    dropped = _ADDRESS | {CONFIG_KEY_CHECKPOINT_TENANT} if getattr(saver, "tenant", "") else _ADDRESS
    return {**config, CONF: {key: value for key, value in configurable(config).items() if key not in dropped}}


def _parent_of(config: Config | None) -> TaskScope | None:
    """The task this run is nested in, unless the config names a thread or a tenant of its own."""
    parent = current.get()
    if parent is None:
        return None
    given = configurable(config)
    if CONFIG_KEY_TASK_ID in given:
        return parent
    thread, tenant = given.get("thread_id"), given.get("checkpoint_tenant")
    if thread is not None and str(thread) != parent.run.thread_id:
        return None
    if tenant is not None and tenant != (parent.run.tenant or getattr(parent.run.session, "tenant", "")):
        return None
    return parent


def _place(graph: Pregel, scope: RunScope, config: dict[str, Any], parent: TaskScope | None) -> Any:
    """Find the run's thread, namespace and saver."""
    scope.tenant = tenant_of(config, graph.checkpointer)
    if parent is not None and parent.run.saver is not None:
        return _place_nested(graph, scope, parent)
    if parent is not None:
        scope.ns = _numbered(parent, parent.ns)
        scope.unsaved_reason = parent.run.unsaved_reason
    saver = graph.checkpointer if graph.checkpointer is not True and graph.checkpointer is not False else None
    if graph.checkpointer is True and parent is None:
        raise RuntimeError(
            "checkpointer=True gives a subgraph memory of its own on its parent's thread; a root graph needs a saver"
        )
    thread = configurable(config).get("thread_id")
    if saver is None:
        if thread is not None:
            scope.thread_id = str(thread)
        return None
    if thread is None:
        _without_thread(graph, scope)
        return None
    scope.ns = ""
    scope.thread_id = checked_thread_id(thread)
    scope.saver = saver
    scope.session = open_session(saver, scope.thread_id, graph.program.types, scope.tenant)
    return None


def _without_thread(graph: Pregel, scope: RunScope) -> None:
    hint = 'pass config={"configurable": {"thread_id": "..."}}'
    if graph.require_thread_id:
        raise InvalidThreadIdError(
            f"graph {graph.name!r} has a checkpointer and requires a thread id, and none was given", hint=hint
        )
    scope.unsaved_reason = f"the run has no thread id, so nothing is saved; {hint}"
    warnings.warn(
        f"graph {graph.name!r} has a checkpointer, but no thread_id was given: this run is not saved and will not be"
        f" remembered. To fix it, {hint}",
        MissingThreadIdWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """The stack level of the caller's code, for warnings."""
    level, frame = 2, sys._getframe(2)  # pyright: ignore[reportPrivateUsage] - how warnings find the user's line
    while frame is not None and frame.f_globals.get("__name__", "").startswith("clew."):
        level += 1
        frame = frame.f_back
    return level


def _place_nested(graph: Pregel, scope: RunScope, parent: TaskScope) -> Any:
    run = parent.run
    scope.thread_id, scope.tenant = run.thread_id, run.tenant
    if graph.checkpointer is False:
        scope.ns = _numbered(parent, parent.ns)
        scope.unsaved_reason = f"subgraph {graph.name!r} was compiled with checkpointer=False"
        return None
    scope.saver, scope.session = run.saver, run.session
    if graph.checkpointer is not True:
        scope.ns = _numbered(parent, parent.ns)
        return None
    stable = NS_SEP.join(segment.partition(":")[0] for segment in parent.ns.split(NS_SEP))
    return _enter_stateful(graph, scope, parent, stable)


def _numbered(parent: TaskScope, ns: str) -> str:
    """The namespace of the next nested graph that this attempt calls: the first has the node's, others a number."""
    reserved = _reserved.get()
    index = reserved[1] if reserved is not None and reserved[0] is parent else _next_number(parent)
    return f"{ns}{NS_SEP}{index}" if index else ns


def _next_number(parent: TaskScope) -> int:
    with parent.run.lock:
        if parent.subgraphs is None:
            parent.subgraphs = _Nested()
        index = parent.subgraphs.count
        parent.subgraphs.count = index + 1
    return index


_reserved: ContextVar[tuple[TaskScope, int] | None] = ContextVar("clew_reserved_call", default=None)


def contexts_of_calls(count: int) -> list[Context]:
    """A context for each of several calls that begin on threads of their own, in any order.

    Inside of a node each call has its number as a nested graph beforehand, so that its answers find it again.
    """
    contexts = [copy_context() for _ in range(count)]
    parent = current.get()
    if parent is not None:
        for context in contexts:
            context.run(_reserved.set, (parent, _next_number(parent)))
    return contexts


class _Nested:
    """The nested graphs that one attempt of a task has called."""

    __slots__ = ("active", "count")

    def __init__(self) -> None:
        self.count = 0
        self.active: list[Any] = []


def _enter_stateful(graph: Pregel, scope: RunScope, parent: TaskScope, stable: str) -> Callable[[], None]:
    """Reserve the namespace of a stateful subgraph for the time of this call.

    Refused when the call overlaps with another of the same subgraph in the node, and when another task of the same
    superstep has used the namespace: whose memory came first would depend on which was faster.
    """
    scope.ns = _numbered(parent, stable)
    nested: _Nested = parent.subgraphs
    chain = (*parent.run.chain, (parent.task.checkpoint_id, parent.task.id))
    used = parent.run.stateful
    with parent.run.lock:
        if graph in nested.active or _is_beside(used.get(scope.ns, ()), chain):
            raise _overlap(graph, parent)
        if nested.active:
            warnings.warn(
                f"node {parent.task.name!r} runs several stateful subgraphs (checkpointer=True) at once; each keeps its"
                " history by the order of the calls, which could change. To name them, add each to a graph of its own"
                " under a unique node name",
                UserWarning,
                stacklevel=_outside(),
            )
        nested.active.append(graph)
        used[scope.ns] = chain

    def release() -> None:
        with parent.run.lock:
            if graph in nested.active:
                nested.active.remove(graph)

    return release


def _is_beside(one: Chain, other: Chain) -> bool:
    """Whether two calls belong to different tasks of one superstep, at the level where they part."""
    for (checkpoint, task), (other_checkpoint, other_task) in zip(one, other, strict=False):
        if checkpoint != other_checkpoint:
            return False
        if task != other_task:
            return True
    return False


def _overlap(graph: Pregel, parent: TaskScope) -> SubgraphOverlapError:
    return SubgraphOverlapError(
        f"node {parent.task.name!r} calls the stateful subgraph {graph.name!r} again before its earlier call has ended"
        f" (superstep {parent.task.step})",
        hint="call it one after another, compile it without checkpointer=True, or wrap each use in a graph of its own"
        " under a unique node name",
        code=ErrorCode.MULTIPLE_SUBGRAPHS,
    )


def _surround(
    graph: Pregel, scope: RunScope, config: dict[str, Any], parent: TaskScope | None, options: Options
) -> None:
    """Store, cache, context, control and streams: the graph's own, or those of the run around it."""
    above = parent.run if parent else None
    scope.store = (above.store if above else None) or graph.store
    scope.cache = (above.cache if above else None) or graph.cache
    scope.cache_tenant = getattr(scope.session, "tenant", "") or scope.tenant or (above.cache_tenant if above else "")
    scope.control = options.control or (above.control if above else None)
    scope.server_info = above.server_info if above else None
    scope.hold = above.hold if above else None
    if options.context is not None:
        scope.context = graph.coerce_context(options.context)
    elif above is not None:
        scope.context = above.context
    elif graph.context_schema is not None and (given := configurable(config).get("__pregel_context")) is not None:
        scope.context = graph.coerce_context(given)
    run_id = config.get("run_id")
    scope.run_id = str(run_id) if run_id is not None else (above.run_id if above else None)
    scope.task_metadata = shown_metadata(config)
    scope.has_langchain = "langchain_core.runnables.config" in sys.modules
    if parent is not None and above is not None:
        if "messages" in above.nested_modes:
            scope.message_handlers = above.message_handlers
        scope.parents = {**above.parents, above.ns: parent.task.checkpoint_id}
        scope.chain = (*above.chain, (parent.task.checkpoint_id, parent.task.id))
        scope.stateful, scope.lock = above.stateful, above.lock
        scope.origins = above.origins


def _request(
    graph: Pregel,
    scope: RunScope,
    given: Any,
    config: dict[str, Any],
    parent: TaskScope | None,
    options: Options,
    shaper: Shaper,
) -> Request:
    outputs = graph.program.output_channels if options.output_keys is None else _names(options.output_keys)
    wanted = _NO_MODES if options.is_quiet else shaper.wanted
    if parent is not None:
        wanted |= parent.run.nested_modes
    request = Request(
        given,
        thread_id=scope.thread_id if scope.saver is not None else "",
        tenant=shown_tenant(scope.saver, scope.session),
        ns=scope.ns,
        has_saver=scope.saver is not None,
        has_cache=scope.cache is not None,
        limit=recursion_limit(config),
        modes=engine_modes(wanted),
        before=graph.interrupt_before_nodes
        if options.interrupt_before is None
        else as_names(options.interrupt_before, "interrupt_before", graph.program.nodes),
        after=graph.interrupt_after_nodes
        if options.interrupt_after is None
        else as_names(options.interrupt_after, "interrupt_after", graph.program.nodes),
        control=scope.control,
        parents=scope.parents,
        metadata=saved_metadata({**config, "run_id": scope.run_id}) if scope.saver is not None else {},
        task_metadata=scope.task_metadata,
        outputs=outputs,
    )
    if parent is None:
        given = configurable(config)
        if scope.saver is not None:
            _address(request, scope, given)
        request.is_strict = bool(given.get(CONFIG_KEY_STRICT_RESUME))
    else:
        request.owner = parent.task.id
        request.answers = parent.task.inside or {}
        _address_nested(graph, request, scope, parent)
    return request


def _names(value: str | Sequence[str]) -> str | tuple[str, ...]:
    return value if isinstance(value, str) else tuple(value)


def _address(request: Request, scope: RunScope, given: Mapping[str, Any]) -> None:
    """Where a root run starts; a config that addresses a subgraph's checkpoint starts its parents where they stood."""
    where: Mapping[str, str] = given.get("checkpoint_map") or {}
    ns = given.get("checkpoint_ns") or ""
    id = given.get("checkpoint_id")
    if ns and id:
        where = {**where, ns: id}
        id = where.get("")
    elif where and where.get("") is not None and id is None:
        id = where[""]
    request.checkpoint_id = id or None
    request.origins = scope.origins = {name: at for name, at in where.items() if name} if ns else {}


def _address_nested(graph: Pregel, request: Request, scope: RunScope, parent: TaskScope) -> None:
    origins = scope.origins
    request.origins = origins
    if not origins and parent.task.origin is None:
        return
    if graph.checkpointer is True:
        request.checkpoint_id = origins.get(scope.ns)
        if request.checkpoint_id is not None:
            scope.origins = {name: at for name, at in origins.items() if name != scope.ns}
    elif parent.task.origin is not None:
        suffix = scope.ns[len(parent.ns) :]
        from_ns = parent.task.origin.ns + suffix
        request.from_ns = from_ns
        request.checkpoint_id = origins.get(from_ns)


def show_function(prepared: Prepared, put: Callable[[Any], None]) -> Callable[[str, Any, int], None]:
    """What the driver calls for what the engine emits: shape it for this run's reader and for the run around it."""
    scope, shaper, parent = prepared.scope, prepared.shaper, prepared.parent
    ns = tuple(scope.ns.split(NS_SEP)) if scope.ns else ()
    own = shaper.wanted
    above = parent.run if parent is not None and parent.run.nested_modes else None

    def deliver(mode: str, data: Any) -> None:
        if mode in own:
            shaper.show(put, ns, mode, data)
        if above is not None and mode in above.nested_modes and above.emit is not None:
            above.emit(ns, mode, data)

    def show(mode: str, data: Any, step: int) -> None:
        if mode == "interrupts":
            values, interrupts = data
            before = cast("dict[str, Any]", values if isinstance(values, dict) else {})
            shown = {**before, INTERRUPT: interrupts}
            deliver("values", shown)
        elif mode == "messages":
            _show_messages(prepared, put, *data)
        else:
            deliver(mode, data)
            if mode in ("checkpoints", "tasks"):
                deliver("debug", debug_event(mode, data, step))

    return show


def _show_messages(
    prepared: Prepared, put: Callable[[Any], None], task: Any, writes: Sequence[tuple[str, Any]]
) -> None:
    """Show the messages a finished task wrote, unless they were streamed: to this run's reader in its place among
    the run's events, to readers of runs around it as they come."""
    scope, shaper = prepared.scope, prepared.shaper
    if not scope.message_handlers:
        return
    metadata: dict[str, Any] = {**(scope.trace.metadata if scope.trace is not None else {})}
    metadata.update(TaskScope(scope, task).metadata())
    own = scope.message_handlers[0] if "messages" in shaper.wanted else None

    def show(at: tuple[str, ...], part: tuple[Any, dict[str, Any]]) -> None:
        shaper.show(put, at, "messages", part)

    for handler in scope.message_handlers:
        handler.finish_node(metadata, writes, show if handler is own else None)
