"""Which classes a graph's annotations make known.

Every class that is reachable: the annotation itself, the arguments of generics and unions, the own and inherited
fields of TypedDicts, dataclasses, pydantic models, named tuples and annotated classes, recursively. A subclass is not
reachable through its base: a field annotated `Shape` does not make `Circle` known, since any module could define one
later and the set would not be closed. Write `Circle | Square`, or register the subclasses.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterator
from types import GenericAlias, ModuleType
from typing import Any, Final, ForwardRef, NewType, TypeVar, cast

# Classes of these modules are known anyway, or are not for storing.
_SKIPPED: Final = frozenset(
    {"abc", "builtins", "collections", "collections.abc", "datetime", "decimal", "enum", "fractions", "ipaddress"}
    | {"pathlib", "re", "types", "typing", "typing_extensions", "uuid", "zoneinfo"}
)
_SKIPPED_PACKAGES: Final = frozenset({"langchain_core", "numpy", "pydantic", "pydantic_core"})


def known_types(*annotations: Any) -> frozenset[type]:
    """Every class reachable, recursively, through `annotations`; those that cannot be resolved are passed over."""
    found: set[type] = set()
    seen: set[int] = set()
    kept: list[Any] = []  # keeps annotations made on the way alive, so that their ids stay unique
    waiting: list[tuple[Any, ModuleType | None]] = [(annotation, None) for annotation in annotations]
    while waiting:
        annotation, module = waiting.pop()
        if id(annotation) in seen:
            continue
        seen.add(id(annotation))
        kept.append(annotation)
        if isinstance(annotation, type) and not isinstance(annotation, GenericAlias):
            module = sys.modules.get(annotation.__module__)
            if not _is_skipped(annotation):
                if not typing.is_typeddict(annotation):
                    found.add(annotation)
                waiting += [(part, module) for part in _class_parts(annotation)]
        else:
            try:
                waiting += [(part, module) for part in _form_parts(annotation, module)]
            except Exception:  # `type X = ...` is evaluated here, and may name what exists for type checkers only
                continue
    return frozenset(found)


def _is_skipped(cls: type) -> bool:
    return cls.__module__ in _SKIPPED or cls.__module__.partition(".")[0] in _SKIPPED_PACKAGES


def _class_parts(cls: type) -> Iterator[Any]:
    """The annotations a class consists of: its own and inherited fields', and the arguments of generic bases."""
    yield from _hints(cls)
    for field in getattr(cls, "__pydantic_fields__", {}).values():
        yield field.annotation
    for base in getattr(cls, "__orig_bases__", ()):
        yield from typing.get_args(base)


def _form_parts(annotation: Any, module: ModuleType | None) -> Iterator[Any]:
    """The annotations inside a special form: the arguments of generics, a NewType's type, a TypeVar's bounds."""
    if isinstance(annotation, str | ForwardRef):
        yield from _resolved(annotation if isinstance(annotation, str) else annotation.__forward_arg__, module)
        return
    form: Any = annotation
    if isinstance(form, NewType):
        yield cast("Any", form).__supertype__
    elif isinstance(form, TypeVar):
        yield from (form.__bound__, *form.__constraints__)
    elif isinstance(form, list | tuple):  # the parameters of a Callable
        yield from cast("list[Any]", form)
    elif hasattr(form, "__value__"):  # `type X = ...`
        yield form.__value__
    elif hasattr(form, "__metadata__"):
        yield form.__origin__  # and not the metadata, which are values
    else:
        yield from _arguments(form)


def _arguments(form: Any) -> Iterator[Any]:
    origin = typing.get_origin(form)
    if origin is typing.Literal:
        yield from (type(item) for item in typing.get_args(form))  # enum members
    elif origin is not None:
        yield origin
        yield from typing.get_args(form)


def _hints(cls: type) -> list[Any]:
    """The resolved annotations of `cls`, or, if one of them cannot be, each that can."""
    try:
        return list(typing.get_type_hints(cls, include_extras=True).values())
    except Exception:  # a name that exists only for type checkers, or any failure of user code in an annotation
        return [part for parent in cls.__mro__ for part in _own_hints(parent)]


def _own_hints(cls: type) -> Iterator[Any]:
    module = sys.modules.get(cls.__module__)
    for item in _annotations(cls).values():
        yield from _resolved(item, module, cls) if isinstance(item, str) else [item]


def _annotations(cls: type) -> dict[str, Any]:
    if sys.version_info >= (3, 14):  # where annotations are evaluated when asked for
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


def _resolved(text: str, module: ModuleType | None, cls: type | None = None) -> list[Any]:
    """What an annotation written as a string means in `module`; nothing if it means nothing there."""
    names = {**vars(typing), **(vars(module) if module else {}), **({cls.__name__: cls} if cls else {})}
    try:
        # The text is source code of the module that is being inspected, as get_type_hints evaluates it.
        return [eval(text, names)]
    except Exception:  # likewise
        return []
