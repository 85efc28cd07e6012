"""What a node's result means: updates of the state, and where to go. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from clew.constants import END, START, TASKS
from clew.engine.enter import annotated_names, update_pairs, written_fields
from clew.engine.program import Write
from clew.errors import ErrorCode, InvalidUpdateError, ParentCommand
from clew.graph._schema import ROOT
from clew.types import Command, Send

_BRANCH = "branch:to:"


def branch_channel(node: str) -> str:
    """The channel whose update makes a node run."""
    return f"{_BRANCH}{node}"


def state_writer(node: str, names: Sequence[str]) -> Callable[[Any], Sequence[Write]]:
    """Writes of a node's result to the state's fields."""
    if list(names) == [ROOT]:
        return _root_writes
    known = frozenset(names)

    def write(result: Any) -> Sequence[Write]:
        given: Any = result  # `result` loses its type when it is narrowed
        if result is None:
            return ()
        if isinstance(result, dict):
            return [(name, value) for name, value in given.items() if name in known]
        if isinstance(result, Command):
            if result.graph == Command.PARENT:
                return ()
            return [(name, value) for name, value in update_pairs(result.update) if name in known]
        several = _with_commands(result)
        if several is not None:
            return [pair for item in several for pair in write(item)]
        if isinstance(result, Send) or annotated_names(cast("type[Any]", type(result))):
            return written_fields(result, names)
        what = "the input is" if node == START else f"node {node!r} returned"
        raise InvalidUpdateError(
            f"{what} {result!r} of type {type(result).__name__}: Expected dict, got {result}",
            hint=f"{'give' if node == START else 'return'} a dict of the fields to update, a Command, or None",
            code=ErrorCode.INVALID_GRAPH_NODE_RETURN_VALUE,
        )

    return write


def _root_writes(result: Any) -> Sequence[Write]:
    if result is None:
        return ()
    if isinstance(result, Command):
        return () if result.graph == Command.PARENT else update_pairs(result.update)
    several = _with_commands(result)
    if several is not None:
        return [
            pair for item in several for pair in (_root_writes(item) if isinstance(item, Command) else [(ROOT, item)])
        ]
    return ((ROOT, result),)


def _with_commands(result: Any) -> Sequence[Any] | None:
    """The items of a result that is several, some of them commands; None for any other result."""
    if not isinstance(result, (list, tuple)):
        return None
    items = cast("Sequence[Any]", result)  # user data
    return items if any(isinstance(item, Command) for item in items) else None


def control_writer(node: str, nodes: Iterable[str]) -> Callable[[Any], Sequence[Write]]:
    """Writes for where a node's `Command`s and `Send`s say to go; unknown nodes are refused."""
    known = frozenset(nodes)

    def write(result: Any) -> Sequence[Write]:
        given: Any = result  # `result` loses its type when it is narrowed
        if result is None or type(result) is dict:
            return ()
        if isinstance(result, Send):
            return (_send(node, result, known),)
        if isinstance(result, Command):
            return _goto(node, given, known)
        if isinstance(result, (list, tuple)):
            commands: list[Command[Any]] = [item for item in given if isinstance(item, Command)]
            return [pair for command in commands for pair in _goto(node, command, known)]
        return ()

    return write


def _goto(node: str, command: Command[Any], known: frozenset[str]) -> Sequence[Write]:
    if command.graph == Command.PARENT:
        raise ParentCommand(command)
    if command.graph is not None:
        raise InvalidUpdateError(
            f"node {node!r} sent a command to graph {command.graph!r}, which does not exist",
            hint="graph is None for this graph, or Command.PARENT for the closest parent",
        )
    goto = command.goto
    targets = [goto] if isinstance(goto, (Send, str)) else goto
    writes: list[Write] = []
    for target in targets:
        if isinstance(target, Send):
            writes.append(_send(node, target, known))
        elif isinstance(target, str):
            if target != END:
                writes.append((known_branch(node, target, known), None))
        else:
            raise InvalidUpdateError(f"node {node!r} goes to {target!r}, which is neither a node name nor a Send")
    return writes


def _send(node: str, send: Send, known: frozenset[str]) -> Write:
    if send.node == END:
        raise InvalidUpdateError(f"node {node!r} sent a packet to the END node: Cannot send a packet to the END node")
    known_branch(node, send.node, known)
    return (TASKS, send)


def known_branch(source: str, target: str, known: frozenset[str]) -> str:
    """The channel that makes `target` run; raises when there is no such node."""
    if target not in known:
        names = ", ".join(sorted(name for name in known if not name.startswith("__")))
        raise InvalidUpdateError(
            f"node {source!r} goes to {target!r}, which is not a node of the graph", hint=f"the nodes are: {names}"
        )
    return branch_channel(target)
