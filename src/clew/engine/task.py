"""A task: one node in one superstep, its identity and its place.

Invariant: a task's id depends only on the checkpoint it starts from, its namespace and its path, so a run that is
continued after a crash finds the writes of the tasks that had finished.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import xxhash

from clew._policies import CachePolicy, RetryPolicy, TimeoutPolicy
from clew.constants import NS_END, NS_SEP
from clew.engine.program import Node, Write
from clew.engine.state import State
from clew.errors import NodeError
from clew.types import CacheKey

Path = tuple[Any, ...]


@dataclass(slots=True, eq=False)
class Task:
    """One node in one superstep.

    `ns` is the namespace of what runs inside of it; `order` sorts tasks of a superstep for applying; `writes` is None
    until it has ended well; `resume` are the answers it has for its questions, in order, and `inside` those for
    questions of subgraphs and child tasks, by id. `attempt` counts from 1. `origin` is set when the task replays one
    of an older checkpoint: subgraphs inside of it start from the older task's namespace.
    """

    id: str
    name: str
    path: Path
    ns: str
    order: tuple[Any, ...]
    node: Node
    input: Any
    triggers: Sequence[str]
    step: int
    stop: int
    resume: Sequence[Any] = ()
    inside: Mapping[str, Any] | None = None
    origin: Origin | None = None
    writes: Sequence[Write] | None = None
    attempt: int = 1
    cache_key: CacheKey | None = None
    timeout: TimeoutPolicy | None = None
    error: NodeError | None = None
    retry: tuple[RetryPolicy, ...] = ()
    call: Call | None = None
    is_cached: bool = False
    previous: Any = None
    parent: Task | None = None
    checkpoint_id: str = ""
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where subgraphs of a replayed task start: the older task's namespace, and a checkpoint in it if one is named."""

    ns: str
    checkpoint_id: str | None = None


@dataclass(slots=True, eq=False)
class Call:
    """A running task's call of a child task (`@task`). `future` is the driver's; `index` counts the parent's calls."""

    parent: Task
    index: int
    name: str
    node: Node
    input: Any
    future: Any
    retry: tuple[RetryPolicy, ...] = ()
    cache: CachePolicy[Any] | None = None
    timeout: TimeoutPolicy | None = None


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """Tasks in the order in which their writes are applied."""
    return sorted(tasks, key=_order)


def _order(task: Task) -> tuple[Any, ...]:
    return task.order


def task_id(checkpoint_id: str, ns: str, step: int, name: str, *parts: str) -> str:
    """A task's id, in the form of a UUID; the hash is xxh3-128 over its identity."""
    digest = xxhash.xxh3_128_hexdigest(f"{checkpoint_id}\0{ns}\0{step}\0{name}\0{chr(0).join(parts)}".encode())
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}"


def child_ns(parent_ns: str, name: str) -> str:
    """The namespace of a node inside the graph at `parent_ns`."""
    return f"{parent_ns}{NS_SEP}{name}" if parent_ns else name


def task_ns(node_ns: str, id: str) -> str:
    """The namespace of one task of a node."""
    return f"{node_ns}{NS_END}{id}"


def path_text(path: Any) -> str:
    """A task path as a string whose order is the paths' order."""
    if isinstance(path, (tuple, list)):
        parts = cast("Sequence[Any]", path)
        return f"~{', '.join([part if type(part) is str else path_text(part) for part in parts])}"
    if isinstance(path, int):
        return f"{int(path):010d}"
    return str(path)
