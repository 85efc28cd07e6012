"""The API reference: pages of Markdown from the docstrings and signatures of the public modules.

`python -m tools.reference` writes them into docs/reference; a test compares what is there with what would be written.
The modules are parsed, not imported. A member inherited from a private class is shown with the class that has it; one
inherited from a public class is named, and shown there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import griffe

from tools import http_reference

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
WIDTH = 100  # of a signature on one line

MODULES = (
    "clew.graph", "clew.graph.state", "clew.graph.message", "clew.types", "clew.func", "clew.runtime", "clew.config",
    "clew.pregel", "clew.channels", "clew.managed",
    "clew.checkpoint.base", "clew.checkpoint.memory", "clew.checkpoint.sqlite", "clew.checkpoint.sqlite.aio",
    "clew.checkpoint.postgres", "clew.checkpoint.postgres.aio", "clew.checkpoint.serde.base",
    "clew.checkpoint.serde.jsonplus", "clew.checkpoint.serde.encrypted",
    "clew.threads", "clew.retention",
    "clew.store.base", "clew.store.memory", "clew.store.sqlite", "clew.store.sqlite.aio", "clew.store.postgres",
    "clew.store.postgres.aio",
    "clew.cache.base", "clew.cache.memory", "clew.cache.sqlite",
    "clew.server", "clew.telemetry", "clew.testing", "clew.errors", "clew.warnings", "clew.serde",
)  # fmt: skip
DOCUMENTED = {"clew.checkpoint.base": ("clew.checkpoint._face.CheckpointSaver",)}  # private, and what users meet
_DUNDERS = {"__call__", "__enter__", "__aenter__", "__iter__", "__aiter__", "__await__"}


@dataclass(slots=True)
class Reference:
    """All pages, and the public names that have no docstring."""

    pages: dict[str, str] = field(default_factory=dict[str, str])
    undocumented: list[str] = field(default_factory=list[str])


def build() -> Reference:
    """Read the package, and write every page in memory."""
    package: Any = griffe.load("clew", search_paths=[str(ROOT / "src")], resolve_aliases=True)
    reference = Reference()
    shown: dict[str, str] = {}
    public = {each.path for module in MODULES for _, each in _exported(package, module)}
    for module in MODULES:
        lines = [f"# `{module}`", "", _text(_member(package, module)), ""]
        for name, thing in _exported(package, module):
            at = shown.setdefault(thing.path, module)
            if at == module:
                lines += _section(reference, module, name, thing, public)
            else:
                lines += [f"## `{name}`", "", f"The one of [`{at}`]({at}.md).", ""]
        reference.pages[f"{module}.md"] = "\n".join(lines).rstrip() + "\n"
    return reference


def _member(package: Any, path: str) -> Any:
    return package if path == "clew" else package[path.removeprefix("clew.")]


def _final(thing: Any) -> Any:
    """What a name stands for; the name itself where that is another package's."""
    try:
        return thing.final_target if thing.is_alias else thing
    except griffe.AliasResolutionError:
        return thing


def _exported(package: Any, module: str) -> Iterator[tuple[str, Any]]:
    """What a module offers, in the order in which it says so; without `__all__`, what it defines."""
    found = _member(package, module)
    if found.exports is not None:
        names = sorted({str(name) for name in found.exports})
    else:
        names = [name for name, member in found.members.items() if _is_own(name, member)]
    for name in names:
        if name in found.members:
            thing = _final(found.members[name])
            if thing.is_alias or not (thing.kind is griffe.Kind.MODULE or _is_type_variable(thing)):
                yield name, thing
    for path in DOCUMENTED.get(module, ()):
        yield path.rpartition(".")[2], _final(_member(package, path))


def _is_type_variable(thing: Any) -> bool:
    return thing.kind is griffe.Kind.ATTRIBUTE and str(thing.value).startswith("TypeVar(")


def _is_own(name: str, member: Any) -> bool:
    return not name.startswith("_") and not member.is_alias and member.kind is not griffe.Kind.MODULE


# -- one public name ---------------------------------------------------------------------------------------------------


def _section(reference: Reference, module: str, name: str, thing: Any, public: set[str]) -> Iterator[str]:
    yield from (f"## `{name}`", "")
    if thing.is_alias:
        yield from (f"`{thing.target_path}`.", "")
        return
    if thing.kind is griffe.Kind.ATTRIBUTE:
        yield from _code(_assignment(name, thing))
    elif thing.kind is griffe.Kind.CLASS:
        yield from _code(_class(name, thing))
    else:
        yield from _code(_signature(_prefix(thing) + name, thing.parameters, thing.returns))
    text = _text(thing)
    if not text:
        reference.undocumented.append(f"{module}.{name}")
    yield from (text, "")
    if thing.kind is griffe.Kind.CLASS:
        yield from _members(reference, module, name, thing, public)


def _members(reference: Reference, module: str, name: str, cls: Any, public: set[str]) -> Iterator[str]:
    shown, inherited = _shown(cls, public)
    for member_name, member in shown:
        if member.kind is griffe.Kind.ATTRIBUTE and "property" not in member.labels:
            continue  # the class's own docstring says what its fields are
        text = _text(member) or _inherited_text(cls, member_name)
        if not text:
            reference.undocumented.append(f"{module}.{name}.{member_name}")
        yield from (f"### `{name}.{member_name}`", "")
        if "property" in member.labels:
            returns = f" -> {member.annotation}" if member.annotation is not None else ""
            yield from _code(f"{member_name}{returns}  # property")
        else:
            kind = next((f"@{label}\n" for label in ("classmethod", "staticmethod") if label in member.labels), "")
            yield from _code(kind + _signature(_prefix(member) + member_name, member.parameters, member.returns))
        yield from (text, "")
    for base, names in inherited.items():
        yield from (f"From `{base}`: {', '.join(f'`{each}`' for each in names)}.", "")


def _shown(cls: Any, public: set[str]) -> tuple[list[tuple[str, Any]], dict[str, list[str]]]:
    """The members to show here, and those that are shown with a public class that this one inherits from, by class."""
    shown = {name: _final(member) for name, member in cls.members.items() if _is_public(name, member)}
    inherited: dict[str, list[str]] = {}
    is_above = False  # what comes after a public class in the order of inheritance is shown with that class
    above = ""
    for base in _order(cls):
        if base.path in public:
            is_above, above = True, base.name
        for name, member in base.members.items():
            if not _is_public(name, member) or name in shown or any(name in names for names in inherited.values()):
                continue
            if not is_above:
                shown[name] = _final(member)
            elif not _is_field(member):
                inherited.setdefault(above, []).append(name)
    return list(shown.items()), inherited


def _order(cls: Any) -> list[Any]:
    try:
        return cls.mro()
    except ValueError:  # a base that is computed
        return []


def _is_public(name: str, member: Any) -> bool:
    final = _final(member)
    if final.is_alias or final.kind not in (griffe.Kind.FUNCTION, griffe.Kind.ATTRIBUTE):
        return False
    if name.startswith("test_"):  # a check of a conformance kit says what it checks by its name
        return False
    return (name in _DUNDERS and bool(_text(final))) if name.startswith("_") else True


def _is_field(member: Any) -> bool:
    return member.kind is griffe.Kind.ATTRIBUTE and "property" not in member.labels


def _inherited_text(cls: Any, name: str) -> str:
    return next((_text(base.members[name]) for base in _order(cls) if name in base.members), "")


# -- how it is written -------------------------------------------------------------------------------------------------


def _text(thing: Any) -> str:
    return "" if thing.docstring is None else thing.docstring.value.strip()


def _code(text: str) -> tuple[str, ...]:
    text = re.sub(r"'([^'\"\\]*)'", r'"\1"', text)
    return ("```py", text, "```", "")  # not "python": the tests of the documentation run those


def _prefix(function: Any) -> str:
    return "async def " if "async" in function.labels else "def "


def _assignment(name: str, thing: Any) -> str:
    value = "" if thing.value is None else f" = {thing.value}"
    kind = "" if thing.annotation is None else f": {thing.annotation}"
    line = f"{name}{kind}{value}"
    return line if len(line) <= 2 * WIDTH else f"{name}{kind} = ..."


def _class(name: str, cls: Any) -> str:
    """How an object is made; of a class of data that nobody makes by calling it, the fields."""
    init = cls.all_members.get("__init__")
    if init is not None and not init.is_alias and init.parent is not None and len(init.parameters) > 1:
        return _signature(f"class {name}", init.parameters, None)
    bases = ", ".join(str(base) for base in cls.bases if not str(base).startswith(("_", "Generic")))
    fields = [
        f"    {key}: {member.annotation}"
        for base in reversed([cls, *_order(cls)])
        for key, member in base.members.items()
        if not key.startswith("_") and _is_field(member) and member.annotation is not None
    ]
    head = f"class {name}({bases})" if bases else f"class {name}"
    return "\n".join([f"{head}:", *fields]) if fields else head


def _signature(name: str, parameters: Any, returns: Any) -> str:
    parts = list(_parts(parameters)) if parameters is not None else []
    end = f" -> {returns}" if returns is not None else ""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) <= WIDTH or not parts:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){end}"])


def _parts(parameters: Any) -> Iterator[str]:
    """Each parameter as source, with the markers `/` and `*` between them, without `self`."""
    kinds = griffe.ParameterKind
    had_star = False
    given = [each for number, each in enumerate(parameters) if number or each.name not in ("self", "cls")]
    for number, each in enumerate(given):
        if each.kind is kinds.keyword_only and not had_star:
            had_star = True
            yield "*"
        had_star = had_star or each.kind is kinds.var_positional
        stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(each.kind, "")
        kind = f": {each.annotation}" if each.annotation is not None else ""
        default = ""
        if each.default is not None and not stars:
            default = f" = {each.default}" if kind else f"={each.default}"
        yield f"{stars}{each.name}{kind}{default}"
        is_last = number + 1 == len(given) or given[number + 1].kind is not kinds.positional_only
        if each.kind is kinds.positional_only and is_last:
            yield "/"


def main() -> None:
    """Write the pages; says what has no docstring."""
    reference = build()
    reference.pages["http.md"] = http_reference.page()
    for name, text in reference.pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for old in FOLDER.glob("clew.*.md"):
        if old.name not in reference.pages:
            old.unlink()
    if reference.undocumented:
        raise SystemExit("without a docstring:\n  " + "\n  ".join(reference.undocumented))


if __name__ == "__main__":
    main()
