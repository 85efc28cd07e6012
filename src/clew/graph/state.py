"""Building a graph over a typed state, and compiling it.

Invariant: what can be known to be wrong when the graph is built is an error then, and names the node.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from clew import _langchain, _log
from clew._policies import CachePolicy, RetryPolicy, TimeoutPolicy
from clew.constants import END, NS_END, NS_SEP, START
from clew.errors import GraphError
from clew.graph._branch import BranchSpec, path_name
from clew.graph._schema import Schema, schema_of
from clew.pregel._body import is_async, is_graph
from clew.types import Checkpointer, Command, ensure_valid_checkpointer

if TYPE_CHECKING:
    from clew.graph._compile import CompiledStateGraph

__all__ = ("CompiledStateGraph", "StateGraph", "StateNodeSpec")

StateT = TypeVar("StateT")
DEFAULT_HANDLER = "__default_error_handler__"


@dataclass(slots=True)
class StateNodeSpec:
    """A node as the user added it. `ends` are the nodes its commands may go to, for drawing (labels if a mapping)."""

    action: Any
    input_schema: Any
    metadata: dict[str, Any] | None = None
    retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None
    cache_policy: CachePolicy[Any] | None = None
    error_handler_node: str | None = None
    is_error_handler: bool = False
    ends: tuple[str, ...] | Mapping[str, str] = ()
    defer: bool = False
    timeout: TimeoutPolicy | None = None

    @property
    def runnable(self) -> Any:
        """What runs."""
        return self.action

    def label(self, end: str) -> str | None:
        """What a drawing writes at the edge to one of `ends`."""
        return self.ends.get(end) if isinstance(self.ends, Mapping) else None


@dataclass(slots=True)
class _Defaults:
    retry_policy: Any = None
    cache_policy: Any = None
    error_handler: Any = None
    timeout: Any = None


class StateGraph(Generic[StateT]):
    """A graph whose nodes read and update a shared state.

    `state_schema` is a TypedDict, dataclass or pydantic model, one channel per field (`Annotated[T, reducer]` for a
    field that several nodes write), or a whole value such as `dict`, `list` or `Annotated[list, reducer]`.
    `input_schema` and `output_schema` limit what goes in and comes out; `context_schema` types `runtime.context`.
    """

    def __init__(
        self,
        state_schema: Any,
        context_schema: type | None = None,
        *,
        input_schema: Any = None,
        output_schema: Any = None,
        **deprecated: Any,
    ) -> None:
        if deprecated:
            renamed = {"input": "input_schema", "output": "output_schema", "config_schema": "context_schema"}
            name = sorted(deprecated)[0]
            hint = f"use {renamed[name]}" if name in renamed else None
            raise GraphError(f"StateGraph got an unexpected argument {name!r}", hint=hint)
        self.nodes: dict[str, StateNodeSpec] = {}
        self.edges: set[tuple[str, str]] = set()
        self.waiting_edges: set[tuple[tuple[str, ...], str]] = set()
        self.branches: dict[str, dict[str, BranchSpec]] = {}
        self.schemas: dict[Any, Schema] = {}
        self.channels: dict[str, Any] = {}
        self.managed: dict[str, Any] = {}
        self.state_schema = state_schema
        self.input_schema = state_schema if input_schema is None else input_schema
        self.output_schema = state_schema if output_schema is None else output_schema
        self.context_schema = context_schema
        self.compiled = False
        self.edge_order: list[tuple[Any, str]] = []
        self._defaults = _Defaults()
        for schema in (self.state_schema, self.input_schema, self.output_schema):
            self._add_schema(schema)

    # -- nodes -----------------------------------------------------------------------------------------------------

    def add_node(
        self,
        node: Any,
        action: Any = None,
        *,
        defer: bool = False,
        metadata: dict[str, Any] | None = None,
        input_schema: Any = None,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        cache_policy: CachePolicy[Any] | None = None,
        error_handler: Any = None,
        destinations: Mapping[str, str] | Sequence[str] | None = None,
        timeout: Any = None,
    ) -> Any:
        """Add a function, a compiled graph or a runnable as a node; gives the graph itself.

        The name is `node` if that is a string, else the function's. `input_schema` (or the annotation of the first
        parameter) selects the fields the node reads. `defer` runs the node only when nothing else is left to run.
        `error_handler(state, error: NodeError)` runs when retries are used up. `timeout` is for async nodes only.
        """
        if not isinstance(node, str):
            action, node = node, _action_name(node)
        self._warn_if_compiled("a node")
        self._check_name(node, action)
        limit = TimeoutPolicy.coerce(timeout)
        if limit is not None:
            _check_timeout(node, action)
        hints = _hints(action)
        schema = input_schema or _first_parameter(action, hints)
        resolved = self.state_schema if schema is None else schema
        if schema is not None:
            self._add_schema(schema)
        handler = None
        if error_handler is not None:
            handler = f"__error_handler__{node}"
            self.nodes[handler] = StateNodeSpec(error_handler, resolved, is_error_handler=True)
        ends = _command_ends(hints.get("return")) if destinations is None else destinations
        self.nodes[node] = StateNodeSpec(
            action,
            resolved,
            metadata=metadata,
            retry_policy=retry_policy,
            cache_policy=cache_policy,
            error_handler_node=handler,
            ends=dict(ends) if isinstance(ends, Mapping) else tuple(ends),
            defer=defer,
            timeout=limit,
        )
        return self

    def set_node_defaults(
        self,
        *,
        retry_policy: RetryPolicy | Sequence[RetryPolicy] | None = None,
        cache_policy: CachePolicy[Any] | None = None,
        error_handler: Any = None,
        timeout: Any = None,
    ) -> Any:
        """Policies for nodes that have none of their own; gives the graph itself."""
        given = {"retry_policy": retry_policy, "cache_policy": cache_policy, "error_handler": error_handler}
        for name, value in given.items():
            if value is not None:
                setattr(self._defaults, name, value)
        if timeout is not None:
            self._defaults.timeout = TimeoutPolicy.coerce(timeout)
        return self

    def _check_name(self, node: str, action: Any) -> None:
        if action is None:
            raise GraphError(f"node {node!r} was added without a function to run")
        if node in self.nodes:
            raise GraphError(f"Node `{node}` already present.", hint="give each node a name of its own")
        if node in (START, END):
            raise GraphError(f"Node `{node}` is reserved.")
        for character in (NS_SEP, NS_END):
            if character in node:
                raise GraphError(
                    f"'{character}' is a reserved character and is not allowed in the node names (node {node!r})."
                )

    def _add_schema(self, schema: Any) -> None:
        key = _schema_key(schema)
        if key in self.schemas:
            return
        read = self.schemas[key] = schema_of(schema)
        is_edge = schema is self.input_schema or schema is self.output_schema
        if read.managed and is_edge and schema is not self.state_schema:
            names = ", ".join(read.managed)
            raise GraphError(f"managed values ({names}) cannot be in the input or output schema")
        for name, channel in read.channels.items():
            known = self.channels.get(name)
            if known is None:
                self.channels[name] = channel
            elif known != channel:
                if type(channel).__name__ == "LastValue":
                    continue  # a schema that only reads the field need not repeat its reducer
                if type(known).__name__ != "LastValue":
                    raise GraphError(
                        f"channel {name!r} already exists with a different type: schema"
                        f" {getattr(schema, '__name__', schema)!r} declares another reducer for it"
                    )
                self.channels[name] = channel
        for name, value in read.managed.items():
            known = self.managed.setdefault(name, value)
            if known is not value:
                raise GraphError(f"managed value {name!r} already exists with a different type")

    def schema(self, schema: Any) -> Schema:
        """The channels of one of this graph's schemas."""
        return self.schemas[_schema_key(schema)]

    # -- edges -----------------------------------------------------------------------------------------------------

    def add_edge(self, start_key: str | Sequence[str], end_key: str) -> Any:
        """Run `end_key` after `start_key`; after all of them, if it is a list. Gives the graph itself."""
        self._warn_if_compiled("an edge")
        if isinstance(start_key, str):
            if start_key == END:
                raise GraphError("END cannot be a start node")
            if end_key == START:
                raise GraphError("START cannot be an end node")
            self.edges.add((start_key, end_key))
            self.edge_order.append((start_key, end_key))
            return self
        for start in start_key:
            if start == END:
                raise GraphError("END cannot be a start node")
            if start not in self.nodes:
                raise GraphError(f"Need to add_node `{start}` first", hint="an edge from a list names existing nodes")
        if end_key == START:
            raise GraphError("START cannot be an end node")
        if end_key != END and end_key not in self.nodes:
            raise GraphError(f"Need to add_node `{end_key}` first")
        self.waiting_edges.add((tuple(start_key), end_key))
        self.edge_order.append((tuple(start_key), end_key))
        return self

    def add_conditional_edges(
        self, source: str, path: Any, path_map: Mapping[Any, str] | Sequence[str] | None = None
    ) -> Any:
        """After `source`, go where `path(state)` says: a node name, several, `Send`s, or keys of `path_map`."""
        self._warn_if_compiled("an edge")
        name = path_name(path) or "condition"
        branches = self.branches.setdefault(source, {})
        if name in branches:
            raise GraphError(
                f"Branch with name `{name}` already exists for node `{source}`", hint="give the path function a name"
            )
        branch = branches[name] = BranchSpec.of(path, path_map, infers_schema=True)
        if branch.input_schema is not None:
            self._add_schema(branch.input_schema)
        return self

    def add_sequence(self, nodes: Sequence[Any]) -> Any:
        """Add nodes (functions, or (name, function) pairs) that run one after another."""
        if not nodes:
            raise GraphError("a sequence needs at least one node")
        previous: str | None = None
        for item in nodes:
            name, action = _named(item)
            if name in self.nodes:
                raise GraphError(
                    f"node names must be unique: node with the name {name!r} already exists",
                    hint="give (name, function) pairs to use one function twice",
                )
            self.add_node(name, action)
            if previous is not None:
                self.add_edge(previous, name)
            previous = name
        return self

    def set_entry_point(self, key: str) -> Any:
        """As `add_edge(START, key)`."""
        return self.add_edge(START, key)

    def set_conditional_entry_point(self, path: Any, path_map: Any = None) -> Any:
        """As `add_conditional_edges(START, path, path_map)`."""
        return self.add_conditional_edges(START, path, path_map)

    def set_finish_point(self, key: str) -> Any:
        """As `add_edge(key, END)`."""
        return self.add_edge(key, END)

    def _warn_if_compiled(self, what: str) -> None:
        if self.compiled:
            _log.warn("adding %s to a graph that has been compiled: the compiled graph will not have it", what)

    # -- compiling -------------------------------------------------------------------------------------------------

    @property
    def all_edges(self) -> set[tuple[str, str]]:
        """Every edge, those of joins included."""
        return self.edges | {(start, end) for starts, end in self.waiting_edges for start in starts}

    def validate(self, interrupt: Sequence[str] | None = None) -> Any:
        """Check that every edge, branch and breakpoint names a node, and that there is a way in.

        Raises `GraphError` (a `ValueError`) that names the node.
        """
        sources = {start for start, _ in self.all_edges} | self.branches.keys()
        sources |= {name for name, spec in self.nodes.items() if spec.ends}
        known = f"the nodes are: {', '.join(self._user_nodes())}"
        for source in sorted(sources):
            if source not in self.nodes and source != START:
                raise GraphError(f"Found edge starting at unknown node '{source}'", hint=known)
        if START not in sources:
            raise GraphError(
                "Graph must have an entrypoint: add at least one edge from START to another node",
                hint="for example: builder.add_edge(START, 'first')",
            )
        for start, end in sorted(self.all_edges):
            self._check_target(end, f"Found edge ending at unknown node `{end}` (from '{start}')", known)
        for start, branches in self.branches.items():
            for name, branch in branches.items():
                for end in (branch.ends or {}).values():
                    self._check_target(end, f"At '{start}' node, '{name}' branch found unknown target '{end}'", known)
        for name, spec in self.nodes.items():
            for end in spec.ends:
                self._check_target(end, f"Found edge ending at unknown node `{end}` (destination of '{name}')", known)
        for name in interrupt or ():
            if name not in self.nodes:
                raise GraphError(f"Interrupt node `{name}` not found", hint=known)
        return self

    def _check_target(self, target: str, message: str, hint: str) -> None:
        if target not in self.nodes and target != END:
            raise GraphError(message, hint=hint)

    def _user_nodes(self) -> list[str]:
        return [name for name, spec in self.nodes.items() if not spec.is_error_handler]

    def compile(
        self,
        checkpointer: Checkpointer = None,
        *,
        cache: Any = None,
        store: Any = None,
        interrupt_before: Any = None,
        interrupt_after: Any = None,
        debug: bool = False,
        name: str | None = None,
        require_thread_id: bool = False,
        step_timeout: float | None = None,
    ) -> CompiledStateGraph:
        """Freeze the graph into one that runs.

        `checkpointer`: a saver; for a subgraph also True (memory of its own on the parent's thread), False (nothing
        saved) or None (as the parent). `interrupt_before`/`interrupt_after`: node names, or "*". `step_timeout` is
        in seconds. With `require_thread_id`, running without a thread id is an error instead of a warning.
        """
        ensure_valid_checkpointer(checkpointer)
        named = [*_listed(interrupt_before), *_listed(interrupt_after)]
        self.validate(named)
        self.compiled = True
        from clew.graph._compile import CompiledStateGraph  # late, for start-up time: what runs a graph is loaded here

        return CompiledStateGraph(
            self._with_defaults(),
            checkpointer=checkpointer,
            cache=cache,
            store=store,
            interrupt_before=interrupt_before or (),
            interrupt_after=interrupt_after or (),
            debug=debug,
            name=name or "LangGraph",
            require_thread_id=require_thread_id,
            step_timeout=step_timeout,
        )

    def _with_defaults(self) -> StateGraph[StateT]:
        """A copy whose nodes have the defaults filled in; the builder itself can go on being changed."""
        made = StateGraph.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.nodes = {name: replace(spec) for name, spec in self.nodes.items()}
        defaults = self._defaults
        if defaults.error_handler is not None:
            made.nodes[DEFAULT_HANDLER] = StateNodeSpec(
                defaults.error_handler, self.state_schema, is_error_handler=True
            )
        for name, spec in made.nodes.items():
            if not spec.is_error_handler:
                if defaults.error_handler is not None and spec.error_handler_node is None:
                    spec.error_handler_node = DEFAULT_HANDLER
                spec.cache_policy = spec.cache_policy or defaults.cache_policy
                if spec.timeout is None and defaults.timeout is not None and not _is_sync(spec.action):
                    spec.timeout = defaults.timeout
                elif spec.timeout is None and defaults.timeout is not None:
                    _check_timeout(name, spec.action)
            if spec.retry_policy is None:
                spec.retry_policy = defaults.retry_policy
        return made


def _schema_key(schema: Any) -> Any:
    try:
        hash(schema)
    except TypeError:
        return id(schema)
    return schema


def _listed(names: Any) -> Sequence[str]:
    if names is None or names == "*":
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


def _named(item: Any) -> tuple[str, Any]:
    """A node of a sequence: a (name, function) pair, or a function that gives its own name."""
    return cast("tuple[str, Any]", item) if isinstance(item, tuple) else (_action_name(item), item)


def _action_name(action: Any) -> str:
    if is_graph(action) or _langchain.is_runnable(action):
        return action.get_name()
    return getattr(action, "__name__", None) or type(action).__name__


def _is_sync(action: Any) -> bool:
    return not is_graph(action) and not _langchain.is_runnable(action) and not is_async(action)


def _check_timeout(node: str, action: Any) -> None:
    if _is_sync(action):
        raise GraphError(
            f"node {node!r} is sync and cannot have a timeout: a running function cannot be cancelled",
            hint="make it an async function, or limit the call it waits for",
        )


def _hints(action: Any) -> dict[str, Any]:
    function = action
    if not (inspect.isfunction(action) or inspect.ismethod(action)):
        function = getattr(cast("Any", type(action)), "__call__", None)  # noqa: B004 - the function itself is wanted
        if not inspect.isfunction(function) or is_graph(action) or _langchain.is_runnable(action):
            return {}
    try:
        return get_type_hints(function)
    except Exception:
        return {}  # annotations of a node are help, not a requirement


def _first_parameter(action: Any, hints: Mapping[str, Any]) -> Any:
    """The schema a node asks for by annotating its first parameter, if that is a class with fields."""
    if not hints:
        return None
    try:
        first = next(iter(inspect.signature(action).parameters))
    except (StopIteration, TypeError, ValueError):
        return None
    hint = hints.get(first)
    if not inspect.isclass(hint):
        return None
    try:
        return hint if get_type_hints(hint) else None
    except Exception:
        return None


def _command_ends(annotation: Any) -> tuple[str, ...]:
    """Where a node's commands may go, from `-> Command[Literal["a", "b"]]`."""
    import types

    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    for option in options:
        if get_origin(option) is Command:
            inner = get_args(option)
            if inner and get_origin(inner[0]) is Literal:
                return get_args(inner[0])
    return ()


def __getattr__(name: str) -> Any:
    if name == "CompiledStateGraph":
        from clew.graph._compile import CompiledStateGraph  # late: building needs nothing of what runs

        return CompiledStateGraph
    raise AttributeError(f"module 'clew.graph.state' has no attribute {name!r}")
