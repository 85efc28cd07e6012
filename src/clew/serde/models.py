"""Pydantic models: stored as written, restored without validation.

Kept exactly: field values, which fields were set, extra values and private attributes. Cached properties are not.
Pydantic's own secrets and URLs are always known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from clew.serde import rules
from clew.serde.rules import Pack, Refused, Rule, type_name

_set = object.__setattr__


def model_rule(cls: Any, name: str) -> Rule:
    """The rule for the pydantic (version 2) model class `cls`, stored as `name`."""
    fields: tuple[str, ...] = tuple(cls.__pydantic_fields__)
    allows_extra = cls.model_config.get("extra") == "allow"

    def reduce(value: Any, pack: Pack) -> Any:
        own = value.__dict__
        stored = {field: own[field] for field in fields if field in own}
        extra = value.__pydantic_extra__ or None
        were_set = value.__pydantic_fields_set__
        present = {**stored, **extra} if extra else stored
        unset = [field for field in present if field not in were_set] or None
        surplus = sorted(field for field in were_set if field not in present) or None
        content = [name, stored, unset, extra, value.__pydantic_private__, surplus]
        while content[-1] is None:
            content.pop()
        return content

    def restore(content: Any) -> Any:
        stored: dict[str, Any]
        extra: dict[str, Any] | None
        _, stored, unset, extra, private, surplus = content + [None] * (6 - len(content))
        were_set = {*stored, *(extra or ())}.difference(unset or ()).union(surplus or ())
        own = {field: stored[field] if field in stored else _default(cls, field) for field in fields}
        if allows_extra:
            lost = {field: item for field, item in stored.items() if field not in own}
            extra = {**lost, **(extra or {})}
        value = cls.__new__(cls)
        _set(value, "__dict__", own)
        _set(value, "__pydantic_fields_set__", were_set)
        _set(value, "__pydantic_extra__", extra)
        _set(value, "__pydantic_private__", private if private is not None else _private_defaults(cls))
        return value

    return Rule(rules.NAMED, reduce, restore)


def _default(cls: Any, field: str) -> Any:
    info = cls.__pydantic_fields__[field]
    if info.is_required():
        raise Refused(
            f"a stored {type_name(cls)!r} lacks the field {field!r}, which the class now requires",
            hint="give the field a default",
        )
    make: Callable[..., Any] = info.get_default
    return make(call_default_factory=not getattr(info, "default_factory_takes_validated_data", False))


def _private_defaults(cls: Any) -> dict[str, Any] | None:
    """What private attributes the class has gained since the value was stored; None if it has none."""
    from pydantic_core import PydanticUndefined  # late: optional dependency, present if a model is

    attributes = cls.__private_attributes__
    if not attributes:
        return None
    made = {name: attribute.get_default() for name, attribute in attributes.items()}
    return {name: item for name, item in made.items() if item is not PydanticUndefined}


@cache
def value_writers() -> dict[type, Rule]:
    """The rule for each of pydantic's own types that are values."""
    found = value_readers()
    return {cls: found[code] for code, classes in _value_classes().items() for cls in classes.values()}


@cache
def value_readers() -> dict[int, Rule]:
    """The rule for each code of pydantic's own types; `Refused` if pydantic is not installed."""
    secrets, urls = (_value_classes()[code] for code in (rules.SECRET, rules.URL))
    return {
        rules.SECRET: Rule(
            rules.SECRET,
            lambda value, pack: [type(value).__name__, value.get_secret_value()],
            lambda content: secrets[content[0]](content[1]),
        ),
        rules.URL: Rule(
            rules.URL,
            lambda value, pack: [type(value).__name__, str(value)],
            lambda content: urls[content[0]](content[1]),
        ),
    }


@cache
def _value_classes() -> dict[int, dict[str, Any]]:
    try:
        from pydantic import networks, types  # late: optional dependency
        from pydantic_core import MultiHostUrl, Url
    except ImportError as error:
        raise Refused(
            "stored bytes hold a pydantic value, and pydantic is not installed",
            hint="install it with: pip install pydantic",
        ) from error
    named = [
        item for item in vars(networks).values() if isinstance(item, type) and item.__name__.endswith(("Url", "Dsn"))
    ]
    urls = {cls.__name__: cls for cls in (Url, MultiHostUrl, *named)}
    return {rules.SECRET: {cls.__name__: cls for cls in (types.SecretStr, types.SecretBytes)}, rules.URL: urls}
