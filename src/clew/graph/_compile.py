"""Lowering a state graph to a program, and the compiled graph users run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clew._policies import RetryPolicy
from clew.channels.base import BaseChannel
from clew.channels.ephemeral_value import EphemeralValue
from clew.channels.last_value import LastValueAfterFinish
from clew.channels.named_barrier_value import NamedBarrierValue, NamedBarrierValueAfterFinish
from clew.constants import END, START, TAG_HIDDEN
from clew.engine.program import Body, Branch, Node, Write, Writer
from clew.graph._known import KnownTypes
from clew.graph._schema import ROOT, field_validator, mapper_of
from clew.graph._writers import branch_channel, control_writer, state_writer
from clew.pregel._body import body_of, subgraphs_of
from clew.pregel.main import Pregel

if TYPE_CHECKING:
    from clew.graph.state import StateGraph, StateNodeSpec


@dataclass(slots=True)
class _Parts:
    """What edges and branches add to a node while the graph is lowered."""

    triggers: list[str] = field(default_factory=list)
    writers: list[Writer] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)


class CompiledStateGraph(Pregel):
    """A state graph that runs. `builder` is the graph it was compiled from."""

    stream_mode = "updates"

    def __init__(self, builder: StateGraph[Any], *, interrupt_before: Any, interrupt_after: Any, **kwargs: Any) -> None:
        self.builder = builder
        nodes, channels = _lowered(builder)
        output = _names(builder, builder.output_schema)
        super().__init__(
            nodes=nodes,
            channels=channels,
            managed=builder.managed,
            input_channels=START,
            output_channels=output,
            stream_channels=ROOT if list(builder.channels) == [ROOT] else list(builder.channels),
            interrupt_before_nodes=interrupt_before,
            interrupt_after_nodes=interrupt_after,
            context_schema=builder.context_schema,
            types=KnownTypes(builder).found(),
            validate=field_validator(builder.state_schema),
            output_mapper=mapper_of(builder.output_schema, [output] if isinstance(output, str) else output),
            **kwargs,
        )

    def get_input_schema(self, config: Any = None) -> Any:
        """A pydantic model of the input."""
        from clew.graph._jsonschema import schema_model  # late: needs pydantic

        return schema_model(self.builder, self.builder.input_schema, self.get_name("Input"))

    def get_output_schema(self, config: Any = None) -> Any:
        """A pydantic model of the output."""
        from clew.graph._jsonschema import schema_model  # late: needs pydantic

        return schema_model(self.builder, self.builder.output_schema, self.get_name("Output"))

    @property
    def input_schema(self) -> Any:
        """A pydantic model of the input."""
        return self.get_input_schema()

    @property
    def output_schema(self) -> Any:
        """A pydantic model of the output."""
        return self.get_output_schema()

    def get_input_jsonschema(self, config: Any = None) -> dict[str, Any]:
        """JSON Schema of the input."""
        from clew.graph._jsonschema import schema_json  # late: needs pydantic

        return schema_json(self.builder, self.builder.input_schema, self.get_name("Input"))

    def get_output_jsonschema(self, config: Any = None) -> dict[str, Any]:
        """JSON Schema of the output."""
        from clew.graph._jsonschema import schema_json  # late: needs pydantic

        return schema_json(self.builder, self.builder.output_schema, self.get_name("Output"))

    def get_context_jsonschema(self) -> dict[str, Any] | None:
        """JSON Schema of the context, None when the graph has no context schema."""
        if self.context_schema is None:
            return None
        from pydantic import TypeAdapter  # late: only asked for by tools

        return TypeAdapter(self.context_schema).json_schema()

    def get_graph(self, config: Any = None, *, xray: bool | int = False) -> Any:
        """The graph as a drawing: `draw_mermaid()`, `draw_svg()`, `draw_ascii()`; `xray` expands subgraphs."""
        from clew.graph._draw import drawn  # late: drawing is not needed to run

        return drawn(self, xray)

    async def aget_graph(self, config: Any = None, *, xray: bool | int = False) -> Any:
        """As `get_graph`."""
        return self.get_graph(config, xray=xray)


def _names(builder: StateGraph[Any], schema: Any) -> str | list[str]:
    names = list(builder.schema(schema).channels)
    return ROOT if names == [ROOT] else names


def _lowered(builder: StateGraph[Any]) -> tuple[dict[str, Node], dict[str, BaseChannel[Any, Any, Any]]]:
    channels: dict[str, BaseChannel[Any, Any, Any]] = dict(builder.channels)
    channels[START] = EphemeralValue(builder.input_schema)
    parts: dict[str, _Parts] = {START: _Parts()} | {name: _Parts([branch_channel(name)]) for name in builder.nodes}
    known = frozenset(builder.nodes)
    for name, spec in builder.nodes.items():
        deferred = LastValueAfterFinish[Any](Any) if spec.defer else None
        channels[branch_channel(name)] = EphemeralValue(Any, guard=False) if deferred is None else deferred
    for starts, end in builder.edge_order:
        _attach_edge(builder, parts, channels, starts, end)
    for source, branches in builder.branches.items():
        for name, spec in branches.items():
            schema = builder.state_schema if spec.input_schema is None else spec.input_schema
            read = builder.schema(schema)
            names = read.names
            branch = Branch(
                name=name,
                body=spec.body(),
                channels=ROOT if names == [ROOT] else tuple(names),
                mapper=mapper_of(schema, names),
                route=spec.router(source, known),
                passes_result=spec.input_schema is None,
            )
            parts[source].branches.append(branch)
    inputs = list(builder.schema(builder.input_schema).channels)
    nodes = {START: _start_node(parts[START], inputs, known)}
    fields = [*builder.channels, *builder.managed]
    for name, spec in builder.nodes.items():
        nodes[name] = _node(builder, name, spec, parts[name], fields, known)
    return nodes, channels


def _attach_edge(
    builder: StateGraph[Any],
    parts: Mapping[str, _Parts],
    channels: dict[str, BaseChannel[Any, Any, Any]],
    starts: str | Sequence[str],
    end: str,
) -> None:
    if end == END:
        return
    if isinstance(starts, str):
        writes: Sequence[Write] = ((branch_channel(end), None),)
        parts[starts].writers.append(lambda _result: writes)
        return
    name = f"join:{'+'.join(starts)}:{end}"
    barrier = NamedBarrierValueAfterFinish if builder.nodes[end].defer else NamedBarrierValue
    if name not in channels:
        channels[name] = barrier(str, set(starts))
        parts[end].triggers.append(name)
        for start in starts:
            arrived: Sequence[Write] = ((name, start),)
            parts[start].writers.append(lambda _result, arrived=arrived: arrived)


def _start_node(parts: _Parts, fields: Sequence[str], known: frozenset[str]) -> Node:
    def given(value: Any, _scope: Any) -> Any:
        return value

    async def agiven(value: Any, _scope: Any) -> Any:
        return value

    return Node(
        name=START,
        body=Body(given, agiven),
        triggers=(START,),
        channels=START,
        writers=(state_writer(START, fields), control_writer(START, known), *parts.writers),
        branches=tuple(parts.branches),
        tags=(TAG_HIDDEN,),
        hidden=True,
    )


def _node(
    builder: StateGraph[Any],
    name: str,
    spec: StateNodeSpec,
    parts: _Parts,
    fields: Sequence[str],
    known: frozenset[str],
) -> Node:
    names = builder.schema(spec.input_schema).names
    retry = spec.retry_policy
    return Node(
        name=name,
        body=body_of(spec.action),
        triggers=tuple(parts.triggers),
        channels=ROOT if names == [ROOT] else tuple(names),
        mapper=mapper_of(spec.input_schema, names),
        writers=(state_writer(name, fields), control_writer(name, known), *parts.writers),
        branches=tuple(parts.branches),
        retry=() if retry is None else ((retry,) if isinstance(retry, RetryPolicy) else tuple(retry)),
        cache=spec.cache_policy,
        timeout=spec.timeout,
        error_handler=spec.error_handler_node,
        metadata=spec.metadata or {},
        subgraphs=subgraphs_of(spec.action),
        cache_identity=_identity(spec.action),
    )


def _identity(action: Any) -> str:
    """Names a function across processes, for the cache."""
    module = getattr(action, "__module__", None) or type(action).__module__
    name = getattr(action, "__qualname__", None) or type(action).__qualname__
    return f"{module}.{name}"
