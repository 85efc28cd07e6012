"""One attempt at a task: call the node, turn its result into writes, let its branches choose.

The generator yields what to call and is sent the result, so the blocking and the asyncio driver share these rules.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, cast

from clew.engine.plan import Ticks
from clew.engine.program import Body, Branch, Program, Write
from clew.engine.state import read
from clew.engine.task import Task
from clew.errors import ParentCommand
from clew.types import Command

Attempt = Generator[tuple[Body, Any], Any, list[Write]]


def attempt(program: Program, task: Task, explicit: list[Write]) -> Attempt:
    """The writes of one attempt. `explicit` are writes the node makes by itself while it runs."""
    try:
        result = yield task.node.body, task.input
    except ParentCommand as up:
        result = addressed_here(up)
    writes = node_writes(task, result, explicit)
    for branch in task.node.branches:
        given = _fresh(program, task, branch, writes)
        if branch.passes_result:
            given = _overlaid(result, given)
        choice = yield branch.body, given
        writes.extend(branch.route(choice))
    return writes


def node_writes(task: Task, result: Any, explicit: list[Write]) -> list[Write]:
    """What a node's result means for the channels, after what the node wrote by itself."""
    writes = list(explicit)
    for writer in task.node.writers:
        writes.extend(writer(result))
    return writes


def addressed_here(up: ParentCommand) -> Command[Any]:
    """The command of a subgraph whose closest parent is this graph."""
    return replace(up.args[0], graph=None)


def _overlaid(result: Any, given: Any) -> Any:
    """The state over what the node returned, so that fields only the result has are visible; where both are dicts."""
    if type(result) is dict and type(given) is dict:
        return cast("dict[Any, Any]", result) | cast("dict[Any, Any]", given)
    return given


def _fresh(program: Program, task: Task, branch: Branch, writes: Sequence[Write]) -> Any:
    """The state with the task's own writes visible; for a task made by `Send`, the graph's state, not its input."""
    state = task.state
    assert state is not None
    if isinstance(branch.channels, str):
        names: tuple[str, ...] = (branch.channels,)
    else:
        names = branch.channels
    own: dict[str, list[Any]] = {}
    for name, value in writes:
        if name in names and name in state.channels:
            own.setdefault(name, []).append(value)
    channels = state.channels
    if own:
        channels = dict(channels)
        for name, values in own.items():
            channel = channels[name].copy()
            channel.update(values)
            channels[name] = channel
    if isinstance(branch.channels, str):
        given = read(channels, branch.channels)
    else:
        given = read(channels, tuple(name for name in names if name in channels))
        for name in names:
            if name not in channels and name in program.managed:
                given[name] = program.managed[name].get(Ticks(task.step, task.stop))
    return given if branch.mapper is None else branch.mapper(given)
