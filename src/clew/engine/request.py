"""What is asked of a run, and the checkpoint it makes of a state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clew.engine.program import Program
from clew.engine.state import State, checkpoint_values, tracked_writes
from clew.protocols import Step, TaskWrites
from clew.types import All


@dataclass(slots=True)
class Request:
    """What is asked of a run.

    `input` is None (continue), a `Command`, or input for the graph. `owner` is the id of the parent's task in a
    subgraph ("" in a root graph), `answers` the answers by question id that the parent has for this subgraph.
    `checkpoint_id` and `from_ns` say where to start if not at the head. `modes` are the stream modes that somebody
    reads. `parents` maps the namespaces above to their checkpoint ids. `metadata` goes into every checkpoint.
    `tenant` is in the configs that are shown, if the caller has to name it.
    """

    input: Any
    thread_id: str = ""
    tenant: str | None = None
    ns: str = ""
    has_saver: bool = False
    has_cache: bool = False
    checkpoint_id: str | None = None
    from_ns: str | None = None
    owner: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    limit: int = 10007
    modes: frozenset[str] = frozenset()
    before: All | Sequence[str] = ()
    after: All | Sequence[str] = ()
    control: Any = None
    is_strict: bool = False
    parents: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    task_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: str | tuple[str, ...] = ()


def make_step(
    program: Program,
    state: State,
    changed: Iterable[str],
    ran: Iterable[str],
    metadata: Mapping[str, Any],
    written: Sequence[TaskWrites],
    request: Request,
) -> Step:
    """The checkpoint of `state`, ready to be saved."""
    if not request.has_saver:
        return UNSAVED
    if program.untracked:
        written = [_tracked(program, task) for task in written]
    return Step(
        metadata=metadata,
        values=checkpoint_values(program, state, changed),
        versions=state.versions,
        seen=state.seen,
        changed=changed,
        ran=ran,
        updated=None if state.updated is None else tuple(sorted(state.updated)),
        writes=written,
        owner=request.owner,
    )


UNSAVED = Step({}, {}, {}, {}, ())


def _tracked(program: Program, task: TaskWrites) -> TaskWrites:
    return TaskWrites(task.task_id, tracked_writes(program, task.writes), task.path, task.name)
