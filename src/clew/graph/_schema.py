"""From a state schema to channels: one per annotated field, or one root channel for a whole-value schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import Any, NotRequired, Required, cast, get_args, get_origin, get_type_hints

from clew.channels.base import BaseChannel
from clew.channels.binop import BinaryOperatorAggregate
from clew.channels.delta import DeltaChannel
from clew.channels.last_value import LastValue
from clew.errors import GraphError
from clew.managed.base import is_managed_value

ROOT = "__root__"


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema's channels and managed values by field name, in the order of its fields; `hints` are its annotations."""

    channels: Mapping[str, BaseChannel[Any, Any, Any]]
    managed: Mapping[str, Any]
    hints: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """Every field, channels and managed values in the order of the schema."""
        return list(self.hints) if self.hints else list(self.channels)


def schema_of(schema: Any) -> Schema:
    """Read a TypedDict, dataclass, pydantic model or whole-value schema.

    Raises `GraphError` for a reducer that does not take two arguments, and for annotations that cannot be resolved.
    """
    if not hasattr(schema, "__annotations__"):
        return Schema({ROOT: _channel(ROOT, schema)}, {}, {})
    try:
        hints = get_type_hints(schema, include_extras=True)
    except NameError as error:
        raise GraphError(
            f"the annotations of schema {getattr(schema, '__name__', schema)!r} cannot be resolved: {error}",
            hint="define the names it uses at module level, or before the graph is built",
        ) from error
    hints = {name: hint for name, hint in hints.items() if name != "__slots__" and not _is_class_variable(hint)}
    fields: dict[str, Any] = {name: _field(name, hint) for name, hint in hints.items()}
    return Schema(
        {name: cast("Any", field) for name, field in fields.items() if isinstance(field, BaseChannel)},
        {name: field for name, field in fields.items() if not isinstance(field, BaseChannel)},
        hints,
    )


def _is_class_variable(hint: Any) -> bool:
    from typing import ClassVar

    return get_origin(hint) is ClassVar


def _field(name: str, annotation: Any) -> Any:
    return _managed(annotation) or _channel(name, annotation)


def _managed(annotation: Any) -> Any:
    metadata = getattr(annotation, "__metadata__", ())
    if metadata:
        last = get_origin(metadata[-1]) or metadata[-1]
        if is_managed_value(last):
            return last
    arguments = get_args(annotation)
    return _managed(arguments[0]) if get_origin(annotation) is not None and arguments else None


def _channel(name: str, annotation: Any) -> BaseChannel[Any, Any, Any]:
    if get_origin(annotation) in (Required, NotRequired):
        annotation = get_args(annotation)[0]
    channel = _declared(annotation) or _reduced(name, annotation) or LastValue(annotation)
    channel.key = name
    return channel


def _declared(annotation: Any) -> BaseChannel[Any, Any, Any] | None:
    """A channel given in the annotation itself, as an instance or as a class."""
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, DeltaChannel):
            return DeltaChannel(item.reducer, _bare(annotation), snapshot_frequency=item.snapshot_frequency)
        if isinstance(item, BaseChannel):
            return cast("BaseChannel[Any, Any, Any]", item).copy()
        if inspect.isclass(item) and issubclass(item, BaseChannel):
            return cast("type[BaseChannel[Any, Any, Any]]", item)(_bare(annotation))
    return None


def _bare(annotation: Any) -> Any:
    origin = getattr(annotation, "__origin__", annotation)
    return get_args(origin)[0] if get_origin(origin) in (Required, NotRequired) else origin


def _reduced(name: str, annotation: Any) -> BinaryOperatorAggregate[Any] | None:
    metadata = getattr(annotation, "__metadata__", ())
    if not metadata or not callable(metadata[-1]):
        return None
    reducer = metadata[-1]
    try:
        signature = inspect.signature(reducer)
    except ValueError:
        return BinaryOperatorAggregate(annotation, reducer)  # a built-in whose signature cannot be read
    positional = [p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) != 2:
        raise GraphError(
            f"Invalid reducer signature. Expected (a, b) -> c. Got {signature} for field {name!r}",
            hint="a reducer takes the current value and the update, and gives the new value",
        )
    return BinaryOperatorAggregate(annotation, reducer)


def is_pydantic(schema: Any) -> bool:
    """Whether a schema is a pydantic model class; pydantic is not imported to find out."""
    return inspect.isclass(schema) and hasattr(schema, "model_validate") and hasattr(schema, "model_fields")


def mapper_of(schema: Any, names: Sequence[str]) -> Callable[[Any], Any] | None:
    """What makes a schema's object of a dict of its fields; None where the dict itself is the value."""
    if list(names) == [ROOT]:
        return None
    if is_pydantic(schema) or (inspect.isclass(schema) and is_dataclass(schema)):
        return partial(_construct, schema)
    return None


def _construct(schema: Any, values: Mapping[str, Any]) -> Any:
    return schema(**values)


def field_validator(schema: Any) -> Callable[[str, Any], Any] | None:
    """For a pydantic state: what checks a field's value after its reducer; raises `InvalidUpdateError`."""
    if not is_pydantic(schema):
        return None
    from clew.graph._validation import FieldValidator  # late: only pydantic states need pydantic

    return FieldValidator(schema)
