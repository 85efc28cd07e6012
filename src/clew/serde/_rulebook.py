"""Which rule is for a class or a code.

Modules of rules are imported when first needed: most processes store plain data only. Those of optional libraries
are imported for a value, whose library is loaded then, or for one of their own codes; never by a name in the bytes.
"""

from __future__ import annotations

import sys
from typing import Any, Final, NoReturn

from clew.serde import own, rules
from clew.serde._plain import dict_from_pairs
from clew.serde._watch import tell_blocked
from clew.serde.registry import Shape, TypeRegistry
from clew.serde.rules import Refused, Rule, type_name


class RuleBook:
    """The rules for the classes and codes a codec has met, and how the others are found."""

    __slots__ = ("readers", "types", "writers")

    def __init__(self, types: TypeRegistry) -> None:
        self.types: Final = types
        self.writers: Final[dict[type, Rule]] = {}
        self.readers: Final[dict[int, Rule]] = {
            rules.NAMED: Rule(rules.NAMED, _never_reduced, self._restore_named),
            rules.PAIRS: Rule(rules.PAIRS, _never_reduced, dict_from_pairs),
            rules.TEXT: Rule(rules.TEXT, _never_reduced, _text_from_bytes),
        }

    def writer(self, cls: type) -> Rule:
        """The rule that stores values of exactly `cls`; `Refused` if there is none."""
        rule = self.writers.get(cls)
        if rule is None:
            rule = _find_writer(cls, self.types)
            self.writers[cls] = rule
        return rule

    def reader(self, code: int) -> Rule:
        """The rule that restores payloads of `code`; `Refused` if there is none."""
        rule = self.readers.get(code)
        if rule is None:
            rule = _find_reader(code, self.types)
            self.readers[code] = rule
        return rule

    def _restore_named(self, content: Any) -> Any:
        name = content[0]
        shape = None
        if type(name) is str:
            shape = (own.types() if name.startswith(own.PREFIX) else self.types).shape_named(name)
        if shape is None:
            short = str(name).rpartition(":")[2]
            tell_blocked(str(name))
            raise Refused(
                f"stored bytes hold a value of type {name!r}, which is not known here",
                hint=f"make it known with clew.serde.register({short}), or name it in the graph's schema",
            )
        return shape.rule.restore(content)


def _find_writer(cls: type, types: TypeRegistry) -> Rule:
    """The rule that stores values of exactly `cls`; `Refused` if there is none."""
    from clew.serde import exceptions, standard  # late: they import a dozen modules, needed once a value has them

    rule = standard.writers(types).get(cls) or exceptions.closed_writer(cls)
    if rule is not None:
        return rule
    shape = own.types().shape_of(cls) if cls.__module__.startswith("clew.") else None
    shape = shape or types.shape_of(cls)
    if shape is not None:
        return shape.rule
    rule = exceptions.open_writer(cls) or _foreign_writer(cls)
    if rule is None:
        raise Refused(f"a value of type {type_name(cls)!r} cannot be stored", hint=_remedy(cls))
    return rule


def _find_reader(code: int, types: TypeRegistry) -> Rule:
    """The rule that restores payloads of `code`; `Refused` if there is none."""
    from clew.serde import exceptions, standard  # late: they import a dozen modules, needed once bytes have them

    rule = standard.readers(types).get(code) or exceptions.readers().get(code) or _foreign_reader(code)
    if rule is None:
        raise Refused(
            f"stored bytes hold a value of unknown type code {code}",
            hint="they were written by a newer clew, or are not clew's",
        )
    return rule


def _remedy(cls: type) -> str | None:
    """What to do about an unknown class: register it, with functions if its content is hidden, or do without it."""
    try:
        _ = Shape(cls, cls.__name__).rule
    except Refused as refused:
        if cls.__module__.partition(".")[0] in sys.stdlib_module_names:
            return "keep it out of the state: store what it is made from, and make it again where it is needed"
        return refused.hint
    return f"make it known with clew.serde.register({cls.__name__}), or name it in the graph's schema"


def _foreign_writer(cls: type) -> Rule | None:
    """The rule for a class of an optional library; the library is loaded already, since a value of it exists."""
    match cls.__module__.partition(".")[0]:
        case "numpy":
            from clew.serde import arrays  # late: optional dependency

            return arrays.writer(cls)
        case "pydantic" | "pydantic_core":
            from clew.serde import models  # late: optional dependency

            return models.value_writers().get(cls)
        case "langchain_core":
            from clew.serde import langchain  # late: optional dependency

            return langchain.writers().get(cls)
        case _:
            return None


def _foreign_reader(code: int) -> Rule | None:
    """The rule for a code that belongs to an optional library; imports that one library."""
    if code in (rules.ARRAY, rules.SCALAR):
        from clew.serde import arrays  # late: optional dependency

        return arrays.reader(code)
    if code in (rules.SECRET, rules.URL):
        from clew.serde import models  # late: optional dependency

        return models.value_readers()[code]
    if rules.LANGCHAIN_FIRST <= code <= rules.LANGCHAIN_LAST:
        from clew.serde import langchain  # late: optional dependency

        return langchain.readers().get(code)
    return None


def _never_reduced(value: Any, pack: rules.Pack) -> NoReturn:
    raise AssertionError("this code is written by the codec itself")


def _text_from_bytes(content: Any) -> str:
    return bytes.decode(content, "utf-8", "surrogatepass")
