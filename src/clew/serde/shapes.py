"""How the values of known classes are taken apart, and put together again without running their code.

A payload is `[name, content...]`. When the class has changed since, a field it gained takes its default, one it lost
is dropped where there is no place for it, and a gained field without a default is a typed error.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from clew.serde import rules
from clew.serde._objects import Anatomy
from clew.serde.rules import Pack, Refused, Rule, type_name

if TYPE_CHECKING:
    from clew.serde.registry import Shape


def rule_for(shape: Shape) -> Rule:
    """The rule for `shape`'s class, by what kind of class it is."""
    cls: Any = shape.cls
    name = shape.name
    if shape.encode is not None and shape.decode is not None:
        return _custom_rule(name, shape.encode, shape.decode)
    if issubclass(cls, enum.Enum):
        return _enum_rule(cls, name)
    if _is_named_tuple(cls):
        return _named_tuple_rule(cls, name)
    if issubclass(cls, BaseException):
        return _exception_rule(cls, name)
    if dataclasses.is_dataclass(cls):
        return _object_rule(shape.cls, name, _dataclass_defaults(shape.cls))
    if hasattr(cls, "__pydantic_fields__"):
        from clew.serde.models import model_rule  # late: an optional dependency, present if the class is

        return model_rule(cls, name)
    return _object_rule(cls, name, {})


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cast("Any", cls), "_fields")


def _custom_rule(name: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> Rule:
    def reduce(value: Any, pack: Pack) -> Any:
        try:
            return [name, encode(value)]
        except Exception as error:
            raise Refused(f"a value of type {name!r} cannot be stored: its encode function failed: {error}") from error

    return Rule(rules.NAMED, reduce, lambda content: decode(content[1]))


def _enum_rule(cls: type[enum.Enum], name: str) -> Rule:
    if issubclass(cls, enum.Flag):
        return Rule(rules.NAMED, lambda value, pack: [name, value.value], lambda content: cls(content[1]))
    members = cls.__members__

    def restore(content: Any) -> Any:
        member = members.get(content[1])
        if member is None:
            raise Refused(
                f"the stored enum member {content[1]!r} is not in {type_name(cls)!r}",
                hint="keep former members as aliases",
            )
        return member

    return Rule(rules.NAMED, lambda value, pack: [name, value.name], restore)


def _named_tuple_rule(cls: Any, name: str) -> Rule:
    fields: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = getattr(cls, "_field_defaults", {})

    def reduce(value: Any, pack: Pack) -> Any:
        items = [*tuple[Any, ...].__iter__(value)]
        state = getattr(value, "__dict__", None)
        return [name, items, state] if state else [name, items]

    def restore(content: Any) -> Any:
        items = [*content[1]]
        for field in fields[len(items) :]:
            if field not in defaults:
                raise _missing_field(cls, field)
            items.append(defaults[field])
        if len(items) > len(fields):
            raise Refused(f"a stored {type_name(cls)!r} has {len(items)} items, the class has {len(fields)}")
        value = cast("Any", tuple.__new__)(cls, items)
        if len(content) > 2:
            value.__dict__.update(content[2])
        return value

    return Rule(rules.NAMED, reduce, restore)


def _exception_rule(cls: type[BaseException], name: str) -> Rule:
    base = next(parent for parent in cls.__mro__ if parent.__module__ == "builtins")

    def reduce(value: Any, pack: Pack) -> Any:
        return [name, [*value.args], {**value.__dict__}] if value.__dict__ else [name, [*value.args]]

    def restore(content: Any) -> Any:
        error = cast("Any", base.__new__)(cls, *content[1])
        error.args = tuple(content[1])
        if len(content) > 2:
            error.__dict__.update(content[2])
        return error

    return Rule(rules.NAMED, reduce, restore)


def _object_rule(cls: type, name: str, defaults: dict[str, Callable[[], Any] | None]) -> Rule:
    anatomy = Anatomy.of(cls)

    def reduce(value: Any, pack: Pack) -> Any:
        state = anatomy.state(value)
        return [name, state] if anatomy.base is object else [name, state, anatomy.content(value)]

    def restore(content: Any) -> Any:
        state: dict[str, Any] = content[1]
        for field, default in defaults.items():
            if field not in state:
                if default is None:
                    raise _missing_field(cls, field)
                state[field] = default()
        return anatomy.build(state, content[2] if len(content) > 2 else None)

    return Rule(rules.NAMED, reduce, restore)


def _dataclass_defaults(cls: type) -> dict[str, Callable[[], Any] | None]:
    """For each field that must be present after restoring, what makes its default; None where it has none.

    A field with `init=False` and no default may be absent, as it may be before storing.
    """
    defaults: dict[str, Callable[[], Any] | None] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = lambda value=field.default: value
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory
        elif field.init:
            defaults[field.name] = None
    return defaults


def _missing_field(cls: type, field: str) -> Refused:
    return Refused(
        f"a stored {type_name(cls)!r} lacks the field {field!r}, which the class now requires",
        hint="give the field a default",
    )
