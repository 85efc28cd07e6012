"""A conditional edge: a function that chooses, and what its choices mean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin, get_type_hints

from clew import _langchain
from clew.constants import END, START, TASKS
from clew.errors import InvalidUpdateError
from clew.types import Send

if TYPE_CHECKING:
    from clew.engine.program import Body, Write


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """A conditional edge as the user gave it. `ends` maps choices to nodes, for routing and for drawing."""

    path: Any
    ends: Mapping[Any, str] | None
    input_schema: Any = None

    @classmethod
    def of(cls, path: Any, path_map: Any, *, infers_schema: bool) -> BranchSpec:
        """Read a path function: its map is given, or is the `Literal` it says it returns."""
        ends: dict[Any, str] | None = None
        if isinstance(path_map, Mapping):
            ends = dict(cast("Mapping[Any, str]", path_map))
        elif path_map is not None:
            ends = {name: name for name in path_map}
        hints = _hints(path)
        if ends is None:
            ends = _literal(hints.get("return"))
        schema = _first_parameter(path, hints) if infers_schema else None
        return cls(path, ends, schema)

    def body(self) -> Body:
        """How drivers call the path."""
        from clew.pregel._body import body_of  # late, for start-up time: asked for when a graph is compiled

        return body_of(self.path)

    def router(self, source: str, known: frozenset[str]) -> Callable[[Any], Sequence[Write]]:
        """What turns a choice into writes; pure."""
        from clew.graph._writers import known_branch  # late, for start-up time: asked for when a graph is compiled

        ends = self.ends or None

        def route(choice: Any) -> Sequence[Write]:
            choices = cast("Sequence[Any]", choice if isinstance(choice, (list, tuple)) else [choice])
            writes: list[Write] = []
            for item in choices:
                target = item if isinstance(item, Send) or ends is None else _mapped(ends, item, source)
                if target is None or target == START:
                    raise ValueError(f"the branch after node {source!r} did not return a valid destination: {item!r}")
                if isinstance(target, Send):
                    if target.node == END:
                        raise InvalidUpdateError(f"Cannot send a packet to the END node (branch after node {source!r})")
                    known_branch(source, target.node, known)
                    writes.append((TASKS, target))
                elif target != END:
                    writes.append((known_branch(source, target, known), None))
            return writes

        return route


def _mapped(ends: Mapping[Any, str], choice: Any, source: str) -> Any:
    try:
        return ends[choice]
    except (KeyError, TypeError):
        known = ", ".join(repr(end) for end in ends)
        raise InvalidUpdateError(
            f"the branch after node {source!r} returned {choice!r}, which its path map does not have",
            hint=f"it has {known}",
        ) from None


def path_name(path: Any) -> str:
    """The name under which a path function is kept, one per source node."""
    if _langchain.is_runnable(path):
        return path.get_name()
    return getattr(path, "__name__", None) or type(path).__name__


def _hints(path: Any) -> dict[str, Any]:
    is_plain = inspect.isfunction(path) or inspect.ismethod(path)
    function = path if is_plain else getattr(cast("Any", type(path)), "__call__", path)  # noqa: B004 - the function itself is wanted
    try:
        return get_type_hints(function)
    except Exception:
        return {}  # annotations are help, not a requirement


def _literal(annotation: Any) -> dict[Any, str] | None:
    if get_origin(annotation) is Literal:
        return {name: name for name in get_args(annotation)}
    for argument in get_args(annotation) if get_origin(annotation) in (list, Sequence) else ():
        return _literal(argument)
    return None


def _first_parameter(path: Any, hints: Mapping[str, Any]) -> Any:
    try:
        first = next(iter(inspect.signature(path).parameters))
    except (StopIteration, TypeError, ValueError):
        return None
    hint = hints.get(first)
    return hint if inspect.isclass(hint) and getattr(hint, "__annotations__", None) else None
