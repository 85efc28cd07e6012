"""A compiled graph: run it, stream it, look at its threads, change them.

Invariant: the sync and the async methods share every decision; they differ only in the driver they call.
"""

from __future__ import annotations

import copy as copying
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from clew import _langchain
from clew._observing import watched
from clew._policies import CachePolicy, RetryPolicy
from clew.constants import INTERRUPT, TASKS
from clew.drivers.sync import SyncDriver
from clew.engine.program import Node, Program, lower
from clew.engine.run import Outcome, run
from clew.engine.state import read
from clew.errors import GraphError, GraphInterrupt
from clew.pregel._config import Config, as_names, merged
from clew.pregel._prepare import Options, Prepared, contexts_of_calls, prepare, show_function
from clew.pregel._stream import last_value
from clew.pregel._threads import ThreadMethods
from clew.types import Checkpointer, GraphOutput, Send, ensure_valid_checkpointer
from clew.warnings import ClewDeprecationWarning


class Pregel(ThreadMethods, _langchain.RunnableFace):
    """A graph lowered to a program, with what it runs on: checkpointer, store, cache.

    Usually made by `StateGraph.compile` or `entrypoint`; the constructor takes a program's parts: `nodes` (from
    `NodeBuilder`) and `channels` by name, and which channels are input, output and streamed (by default all).
    """

    is_clew_graph = True

    def __init__(
        self,
        *,
        nodes: Mapping[str, Any],
        channels: Mapping[str, Any],
        input_channels: str | Sequence[str],
        output_channels: str | Sequence[str],
        stream_channels: str | Sequence[str] | None = None,
        managed: Mapping[str, Any] | None = None,
        interrupt_before_nodes: Any = (),
        interrupt_after_nodes: Any = (),
        step_timeout: float | None = None,
        debug: bool | None = None,
        checkpointer: Checkpointer = None,
        store: Any = None,
        cache: Any = None,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] = (),
        cache_policy: CachePolicy[Any] | None = None,
        context_schema: type | None = None,
        config: Config | None = None,
        name: str = "LangGraph",
        require_thread_id: bool = False,
        types: frozenset[type] = frozenset(),
        validate: Callable[[str, Any], Any] | None = None,
        output_mapper: Callable[[Any], Any] | None = None,
    ) -> None:
        built = {key: node.build(key) if hasattr(node, "build") else node for key, node in nodes.items()}
        retry = (retry_policy,) if isinstance(retry_policy, RetryPolicy) else tuple(retry_policy)
        known = _channels(channels)
        _check_channels(name, built, known, managed or {}, (input_channels, output_channels, stream_channels or ()))
        self.program: Program = lower(
            name=name,
            nodes=built,
            channels=known,
            managed=managed or {},
            input_channels=input_channels,
            output_channels=output_channels,
            stream_channels=list(channels) if stream_channels is None else stream_channels,
            step_timeout=step_timeout,
            retry=retry,
            cache=cache_policy,
            types=types,
            validate=validate,
        )
        self.name = name
        self.checkpointer = ensure_valid_checkpointer(checkpointer)
        self.store = store
        self.cache = cache
        self.context_schema = context_schema
        self.config = dict(config) if config else None
        self.debug = bool(debug)
        self.interrupt_before_nodes = as_names(interrupt_before_nodes, "interrupt_before", built)
        self.interrupt_after_nodes = as_names(interrupt_after_nodes, "interrupt_after", built)
        self.require_thread_id = require_thread_id
        self.output_mapper = output_mapper
        if cache is not None:
            cache.learn(types)
        _langchain.adopt(type(self))

    # -- what it is made of ----------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The program's nodes by name."""
        return self.program.nodes

    @property
    def channels(self) -> Mapping[str, Any]:
        """The program's channels by name."""
        return self.program.channels

    @property
    def input_channels(self) -> str | Sequence[str]:
        """The channels that input is written to."""
        return self.program.input_channels

    @property
    def output_channels(self) -> str | Sequence[str]:
        """The channels that output is read from."""
        return self.program.output_channels

    @property
    def stream_channels_asis(self) -> str | Sequence[str]:
        """The channels that snapshots and streams show."""
        return self.program.stream_channels

    @property
    def step_timeout(self) -> float | None:
        """Seconds a superstep may take; None: any. Can be set."""
        return self.program.step_timeout

    @step_timeout.setter
    def step_timeout(self, seconds: float | None) -> None:
        self.program = replace(self.program, step_timeout=seconds)

    def copy(self, update: Mapping[str, Any] | None = None) -> Any:
        """A copy with attributes replaced."""
        made = copying.copy(self)
        for key, value in (update or {}).items():
            setattr(made, key, value)
        return made

    def with_config(self, config: Config | None = None, **kwargs: Any) -> Any:
        """A copy whose runs start from this config."""
        return self.copy({"config": merged(self.config, config, kwargs)})

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The graph's name."""
        own = name or self.name
        return f"{own}{suffix}" if suffix else own

    def validate(self) -> Any:
        """Give the graph itself; building it has validated it."""
        return self

    def coerce_context(self, context: Any) -> Any:
        """A run's context as the context schema has it; a dict becomes a dataclass or pydantic object."""
        schema = self.context_schema
        if isinstance(context, dict) and isinstance(schema, type) and not _is_typed_dict(schema) and schema is not dict:
            return schema(**cast("dict[str, Any]", context))
        return cast("Any", context)

    # -- running ---------------------------------------------------------------------------------------------------

    def invoke(
        self,
        input: Any,
        config: Config | None = None,
        *,
        context: Any = None,
        stream_mode: str | Sequence[str] = "values",
        print_mode: str | Sequence[str] = (),
        output_keys: str | Sequence[str] | None = None,
        interrupt_before: Any = None,
        interrupt_after: Any = None,
        durability: Any = None,
        control: Any = None,
        version: str = "v1",
        **deprecated: Any,
    ) -> Any:
        """Run the graph to its end, or to a question, and give its output.

        `input` is the graph's input, `None` to continue the thread, or a `Command`. With `version="v1"` the output is
        a dict which has `"__interrupt__"` when questions wait; with "v2" it is a `GraphOutput`. A `stream_mode` other
        than "values" gives the list of that stream's chunks instead.

        Raises what a node raised, unwrapped; `GraphRecursionError`, `ThreadConflictError` and other `ClewError`s.
        """
        options = Options(
            context, stream_mode, print_mode, output_keys, interrupt_before, interrupt_after,
            _durability(durability, deprecated), control, version=version,
            is_quiet=stream_mode == "values" and not print_mode,
        )  # fmt: skip
        if not options.is_quiet:
            chunks = list(self._stream(input, config, options))
            return last_value(chunks, version) if stream_mode == "values" else chunks
        prepared = prepare(self, input, config, options)
        try:
            outcome = self._drive(prepared)
        finally:
            prepared.close()
        return self._output(prepared, outcome)

    async def ainvoke(
        self,
        input: Any,
        config: Config | None = None,
        *,
        context: Any = None,
        stream_mode: str | Sequence[str] = "values",
        print_mode: str | Sequence[str] = (),
        output_keys: str | Sequence[str] | None = None,
        interrupt_before: Any = None,
        interrupt_after: Any = None,
        durability: Any = None,
        control: Any = None,
        version: str = "v1",
        **deprecated: Any,
    ) -> Any:
        """As `invoke`, under asyncio."""
        options = Options(
            context, stream_mode, print_mode, output_keys, interrupt_before, interrupt_after,
            _durability(durability, deprecated), control, version=version,
            is_quiet=stream_mode == "values" and not print_mode,
        )  # fmt: skip
        if not options.is_quiet:
            chunks = [chunk async for chunk in self._astream(input, config, options)]
            return last_value(chunks, version) if stream_mode == "values" else chunks
        prepared = prepare(self, input, config, options)
        try:
            outcome = await self._adrive(prepared)
        finally:
            prepared.close()
        return self._output(prepared, outcome)

    def stream(
        self,
        input: Any,
        config: Config | None = None,
        *,
        context: Any = None,
        stream_mode: str | Sequence[str] | None = None,
        print_mode: str | Sequence[str] = (),
        output_keys: str | Sequence[str] | None = None,
        interrupt_before: Any = None,
        interrupt_after: Any = None,
        durability: Any = None,
        control: Any = None,
        subgraphs: bool = False,
        debug: bool | None = None,
        version: str = "v1",
        **deprecated: Any,
    ) -> Iterator[Any]:
        """Run the graph and yield what `stream_mode` asks for, as it happens.

        One mode gives its data, a list of modes `(mode, data)`; with `subgraphs` the namespace comes first. With
        `version="v2"` every chunk is a dict `{"type", "ns", "data"}`. Closing the iterator stops the run at once.
        """
        mode = self.stream_mode if stream_mode is None else stream_mode
        shown = self.program.stream_channels if output_keys is None else output_keys
        options = Options(
            context, mode, print_mode, shown, interrupt_before, interrupt_after,
            _durability(durability, deprecated), control, subgraphs, version,
        )  # fmt: skip
        return self._stream(input, config, options)

    def astream(
        self,
        input: Any,
        config: Config | None = None,
        *,
        context: Any = None,
        stream_mode: str | Sequence[str] | None = None,
        print_mode: str | Sequence[str] = (),
        output_keys: str | Sequence[str] | None = None,
        interrupt_before: Any = None,
        interrupt_after: Any = None,
        durability: Any = None,
        control: Any = None,
        subgraphs: bool = False,
        debug: bool | None = None,
        version: str = "v1",
        **deprecated: Any,
    ) -> AsyncIterator[Any]:
        """As `stream`, under asyncio."""
        mode = self.stream_mode if stream_mode is None else stream_mode
        shown = self.program.stream_channels if output_keys is None else output_keys
        options = Options(
            context, mode, print_mode, shown, interrupt_before, interrupt_after,
            _durability(durability, deprecated), control, subgraphs, version,
        )  # fmt: skip
        return self._astream(input, config, options)

    stream_mode: str | Sequence[str] = "values"

    def batch(
        self,
        inputs: Sequence[Any],
        config: Config | Sequence[Config] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Run the graph on several inputs at once, each with its own config if a list is given; outputs in order.

        With `return_exceptions`, errors and interrupts take the place of their output.
        """
        from concurrent.futures import ThreadPoolExecutor  # late: only batches need a pool

        if not inputs:
            return []
        configs = _configs(config, len(inputs))
        workers = next((c["max_concurrency"] for c in configs if c.get("max_concurrency")), min(32, len(inputs)))
        contexts = contexts_of_calls(len(inputs))

        def one(index: int) -> Any:
            try:
                return contexts[index].run(self.invoke, inputs[index], configs[index], **kwargs)
            except BaseException as error:
                if return_exceptions and not isinstance(error, (KeyboardInterrupt, SystemExit)):
                    return error
                raise

        with ThreadPoolExecutor(workers, thread_name_prefix="clew-batch") as pool:
            return list(pool.map(one, range(len(inputs))))

    async def abatch(
        self,
        inputs: Sequence[Any],
        config: Config | Sequence[Config] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """As `batch`, under asyncio."""
        import asyncio  # late: asyncio is not needed to run synchronously

        if not inputs:
            return []
        configs = _configs(config, len(inputs))
        limit = next((c["max_concurrency"] for c in configs if c.get("max_concurrency")), None)
        gate = asyncio.Semaphore(limit or len(inputs))

        async def one(index: int) -> Any:
            async with gate:
                try:
                    return await self.ainvoke(inputs[index], configs[index], **kwargs)
                except BaseException as error:
                    if return_exceptions and not isinstance(error, (KeyboardInterrupt, SystemExit)):
                        return error
                    raise

        return list(await asyncio.gather(*(one(index) for index in range(len(inputs)))))

    # -- how it is driven ------------------------------------------------------------------------------------------

    def _check_sync(self) -> None:
        """Refuse, before anything runs, what could not be run to its end."""
        if self.program.async_only:
            raise TypeError(
                f"node {self.program.async_only[0]!r} of graph {self.name!r} is async only; use ainvoke, astream or"
                " abatch"
            )

    def _drive(self, prepared: Prepared) -> Outcome:
        self._check_sync()
        driver = SyncDriver(
            self.program, prepared.scope, prepared.saving, _show_nothing, limit=prepared.limit
        )  # fmt: skip
        if prepared.parent is not None and prepared.parent.run.nested_modes:
            driver.show = show_function(prepared, driver.output.append)
        self._connect(prepared, driver, None)
        trace = self._start_trace(prepared)
        steps = driver.drive(watched(run(self.program, prepared.request), prepared.scope))
        try:
            while True:
                next(steps)
        except StopIteration as stop:
            return _end_trace(trace, prepared, stop.value)
        except BaseException as error:
            if trace is not None:
                trace.fail(error)
            raise

    async def _adrive(self, prepared: Prepared) -> Outcome:
        from clew.drivers.aio import AsyncDriver  # late: asyncio is not needed to run synchronously

        driver = AsyncDriver(self.program, prepared.scope, prepared.saving, _show_nothing, limit=prepared.limit)
        if prepared.parent is not None and prepared.parent.run.nested_modes:
            driver.show = show_function(prepared, driver.output.append)
        self._connect(prepared, driver, None)
        trace = await self._astart_trace(prepared)
        try:
            outcome = await driver.finish(watched(run(self.program, prepared.request), prepared.scope))
        except BaseException as error:
            if trace is not None:
                await trace.afail(error)
            raise
        await _aend_trace(trace, prepared, outcome)
        return outcome

    def _stream(self, given: Any, config: Config | None, options: Options) -> Iterator[Any]:
        self._check_sync()
        prepared = prepare(self, given, config, options)
        driver = SyncDriver(
            self.program, prepared.scope, prepared.saving, _show_nothing, is_live=prepared.is_live, limit=prepared.limit
        )
        driver.show = show_function(prepared, driver.output.append)
        self._connect(prepared, driver, options)
        trace: Any = None
        try:
            trace = self._start_trace(prepared)
            outcome = yield from driver.drive(watched(run(self.program, prepared.request), prepared.scope))
        except BaseException as error:
            if trace is not None:
                trace.fail(error)
            raise
        finally:
            prepared.close()
        _settle(prepared, _end_trace(trace, prepared, outcome))

    async def _astream(self, given: Any, config: Config | None, options: Options) -> AsyncIterator[Any]:
        from clew.drivers.aio import AsyncDriver  # late: asyncio is not needed to run synchronously

        prepared = prepare(self, given, config, options)
        driver = AsyncDriver(
            self.program, prepared.scope, prepared.saving, _show_nothing, is_live=prepared.is_live, limit=prepared.limit
        )
        driver.show = show_function(prepared, driver.output.append)
        self._connect(prepared, driver, options)
        trace: Any = None
        outcome: Outcome | None = None
        chunks = None
        try:
            trace = await self._astart_trace(prepared)
            chunks = driver.drive(watched(run(self.program, prepared.request), prepared.scope))
            async for chunk in chunks:
                if type(chunk) is Outcome:
                    outcome = chunk
                else:
                    yield chunk
        except BaseException as error:
            if trace is not None:
                await trace.afail(error)
            raise
        finally:
            if chunks is not None:
                await chunks.aclose()
            prepared.close()
        assert outcome is not None
        await _aend_trace(trace, prepared, outcome)
        _settle(prepared, outcome)

    def _connect(self, prepared: Prepared, driver: Any, options: Options | None) -> None:
        """Wire what running nodes show (custom events, messages, nested graphs) to this run's reader."""
        scope, shaper, parent = prepared.scope, prepared.shaper, prepared.parent
        own = shaper.wanted if options is not None else frozenset[str]()
        above = parent.run if parent is not None and parent.run.emit is not None else None
        with_subgraphs = options is not None and options.subgraphs
        above_modes = above.nested_modes if above is not None else frozenset[str]()
        if not own & {"custom", "messages"} and not with_subgraphs and not above_modes:
            return
        ns = tuple(scope.ns.split("|")) if scope.ns else ()

        def emit(at: tuple[str, ...], mode: str, data: Any) -> None:
            if mode in own and (with_subgraphs or at == ns):
                shaper.show(driver.put_live, at, mode, data)
            if above is not None and mode in above_modes and above.emit is not None:
                above.emit(at, mode, data)

        scope.emit = emit
        scope.has_custom = "custom" in own or "custom" in above_modes
        scope.nested_modes = (own if with_subgraphs else frozenset()) | above_modes
        if "messages" in own:
            handler = _langchain.messages_handler(
                lambda at, data: shaper.show(driver.put_live, at, "messages", data),
                subgraphs=with_subgraphs,
                parent_ns=ns,
                watch_nodes=False,
            )
            if handler is not None:
                scope.message_handlers = [handler, *scope.message_handlers]

    def _start_trace(self, prepared: Prepared) -> Any:
        scope = prepared.scope
        handlers = [h for h in scope.message_handlers if prepared.parent is None or h not in _above(prepared)]
        if not _langchain.may_listen(scope.config, handlers):
            return None
        trace = _langchain.start_graph_run(scope.config, self.name, prepared.request.input, handlers)
        return self._inside(scope, trace)

    async def _astart_trace(self, prepared: Prepared) -> Any:
        scope = prepared.scope
        handlers = [h for h in scope.message_handlers if prepared.parent is None or h not in _above(prepared)]
        if not _langchain.may_listen(scope.config, handlers):
            return None
        trace = await _langchain.astart_graph_run(scope.config, self.name, prepared.request.input, handlers)
        return self._inside(scope, trace)

    def _inside(self, scope: Any, trace: Any) -> Any:
        if trace is not None:
            scope.trace = trace
            scope.config = trace.config
        return trace

    def _output(self, prepared: Prepared, outcome: Outcome) -> Any:
        """The output of a run, in the caller's version."""
        _settle(prepared, outcome)
        value = read(outcome.state.channels, prepared.request.outputs)
        if prepared.shaper.is_v2:
            return GraphOutput(self.output_mapper(value) if self.output_mapper else value, outcome.interrupts)
        if outcome.interrupts:
            questions = list(outcome.interrupts)
            values = cast("dict[str, Any]", value if isinstance(value, dict) else {})
            return {**values, INTERRUPT: questions}
        return value


def _above(prepared: Prepared) -> Sequence[Any]:
    return prepared.parent.run.message_handlers if prepared.parent is not None else ()


def _show_nothing(_mode: str, _data: Any, _step: int) -> None:
    pass


def _end_trace(trace: Any, prepared: Prepared, outcome: Outcome) -> Outcome:
    if trace is not None:
        if outcome.error is None:
            trace.end(read(outcome.state.channels, prepared.request.outputs))
        else:
            trace.fail(outcome.error)
    return outcome


async def _aend_trace(trace: Any, prepared: Prepared, outcome: Outcome) -> None:
    if trace is not None:
        if outcome.error is None:
            await trace.aend(read(outcome.state.channels, prepared.request.outputs))
        else:
            await trace.afail(outcome.error)


def _settle(prepared: Prepared, outcome: Outcome) -> None:
    """Raise what a node raised, without the engine's frames; a nested run passes its questions on to its parent."""
    if outcome.error is not None:
        raise outcome.error
    if outcome.status == "interrupted" and prepared.parent is not None and prepared.request.owner:
        raise GraphInterrupt(outcome.interrupts)


def _configs(config: Config | Sequence[Config] | None, count: int) -> list[Config]:
    if config is None or isinstance(config, Mapping):
        return [config or {}] * count
    if len(config) != count:
        raise ValueError(f"{len(config)} configs were given for {count} inputs")
    return list(config)


def _durability(durability: Any, deprecated: dict[str, Any]) -> Any:
    during = deprecated.pop("checkpoint_during", None)
    deprecated.pop("debug", None)  # accepted everywhere; stream_mode="debug" is what shows something
    if deprecated:
        raise TypeError(f"unexpected keyword argument {sorted(deprecated)[0]!r}")
    if during is None:
        return durability
    warnings.warn("checkpoint_during is deprecated; use durability", ClewDeprecationWarning, stacklevel=3)
    if durability is not None:
        raise ValueError("give either durability or checkpoint_during, not both")
    return "async" if during else "exit"


def _is_typed_dict(schema: type) -> bool:
    return hasattr(schema, "__total__") and issubclass(schema, dict)


def _check_channels(
    graph: str,
    nodes: Mapping[str, Node],
    channels: Mapping[str, Any],
    managed: Mapping[str, Any],
    ways: Sequence[str | Sequence[str]],
) -> None:
    """Refuse a program in which a node or a way in or out names a channel that there is not."""
    hint = f"the channels are: {', '.join(name for name in channels if not name.startswith('__'))}"
    for node in nodes.values():
        for trigger in node.triggers:
            if trigger not in channels:
                raise GraphError(f"node {node.name!r} subscribes to unknown channel {trigger!r}", hint=hint)
        for name in _several(node.channels):
            if name not in channels and name not in managed:
                raise GraphError(f"node {node.name!r} reads unknown channel {name!r}", hint=hint)
    for what, names in zip(("input", "output", "stream"), ways, strict=True):
        for name in _several(names):
            if name not in channels:
                raise GraphError(f"{what} channel {name!r} of graph {graph!r} does not exist", hint=hint)


def _several(names: str | Sequence[str]) -> Sequence[str]:
    return (names,) if isinstance(names, str) else names


def _channels(channels: Mapping[str, Any]) -> dict[str, Any]:
    """The channels, plus the one that carries `Send`s."""
    from clew.channels.topic import Topic  # late: start-up time

    made = dict(channels)
    if TASKS not in made:
        made[TASKS] = Topic(Send, accumulate=False)
    return made
