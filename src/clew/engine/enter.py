"""How a run begins: with input, by continuing, by answering, or by going back to an older checkpoint.

Invariant: whatever the way in, the thread is claimed by one durable statement before anything else happens, and what
the caller gave (input, answers, an update) is part of that statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import get_annotations
from typing import Any, cast

from clew._missing import MISSING
from clew.constants import END, INPUT, INTERRUPT, NULL_TASK_ID, START, TASKS
from clew.engine import effects as fx
from clew.engine.apply import Writes, apply
from clew.engine.plan import Place, pending_by_task, plan, stored_handler
from clew.engine.program import Program, Write
from clew.engine.request import Request, make_step
from clew.engine.resume import answer_map, answered, given_answers
from clew.engine.state import State, empty_state, read, restored_state
from clew.engine.superstep import Steps
from clew.engine.task import Origin, Task, path_text
from clew.errors import EmptyInputError, InvalidUpdateError, UnknownInterruptError
from clew.protocols import Saved, TaskWrites
from clew.types import Command, Send

Pending = dict[str, Sequence[Write]]


@dataclass(slots=True)
class Entry:
    """Where a run stands after it has begun.

    `loaded_step` is the number of the checkpoint that was loaded (-2: none), from which the limit counts.
    `pending` are stored writes by task id that may be reused. `origins` maps task paths to the older tasks they
    replay. `offered` are answers given although no question is stored. `has_passed`: breakpoints were passed.
    """

    state: State
    pending: Mapping[str, Sequence[Write]]
    metadata: Mapping[str, Any]
    parent_id: str = ""
    origins: dict[Any, Origin] = field(default_factory=dict)
    offered: list[Any] = field(default_factory=list)
    has_passed: bool = False
    loaded_step: int = -2


def enter(program: Program, request: Request) -> Steps[Entry]:
    """Load, decide how to begin, claim, and give the state to start from."""
    saved: Saved | None = None
    if request.has_saver:
        saved = yield fx.Load(request.checkpoint_id, request.from_ns)
    if saved is None:
        if request.input is None:
            raise _nothing_to_do(request)
        given: Any = request.input
        if isinstance(request.input, Command) and given.resume is not None:
            raise _nothing_waits(request)
        return (yield from _with_input(program, request, empty_state(program), {}, ""))
    state = restored_state(program, saved)
    pending: Mapping[str, Sequence[Write]] = pending_by_task(saved.pending)
    if _continues(request, saved):
        return (yield from _Continue(program, request, saved, state, dict(pending)).enter())
    if not saved.is_head:
        pending = {}  # the child of an older checkpoint has consumed them
    return (yield from _with_input(program, request, state, pending, saved.checkpoint_id))


def _continues(request: Request, saved: Saved) -> bool:
    """Whether the run goes on from `saved` instead of giving it input.

    A subgraph goes on when its checkpoint was made under the very task that runs it now: the task is being repeated.
    """
    if request.owner:
        return saved.owner == request.owner or request.from_ns is not None or request.checkpoint_id is not None
    return request.input is None or isinstance(request.input, Command)


def _with_input(
    program: Program, request: Request, state: State, pending: Mapping[str, Sequence[Write]], parent_id: str
) -> Steps[Entry]:
    """Apply input; tasks that were still to run on the thread are dropped."""
    writes = list(input_writes(program, request.input))
    if not writes:
        raise _nothing_to_do(request)
    if NULL_TASK_ID in pending:
        state = with_null_writes(program, state, pending[NULL_TASK_ID])
    place = Place(request.ns, 0)
    dropped = [Writes(task.name, (), task.triggers) for task in plan(program, state, place, has_inputs=False).values()]
    applied = apply(program, state, [*dropped, Writes(INPUT, writes)])
    _try_input(program, state, request.input)
    state = applied.state
    state.step += 1
    metadata = {"source": "input", "step": state.step, "parents": request.parents, **request.metadata}
    step = make_step(program, state, applied.changed, applied.ran, metadata, records(pending), request)
    stamp: fx.Stamp = yield fx.Commit(step, claim=not request.owner)
    state.checkpoint_id = stamp.checkpoint_id
    return Entry(state, {}, metadata, parent_id, loaded_step=state.step - 1)


def _try_input(program: Program, state: State, given: Any) -> None:
    """Refuse input that is not an update or has invalid fields, before anything of it is stored."""
    if START not in program.nodes or isinstance(given, Command):
        return
    writes = [write for writer in program.nodes[START].writers for write in writer(given)]
    if program.validate is not None:
        apply(program, state, [Writes(START, writes)])


class _Continue:
    """Going on from a stored checkpoint: plainly, with answers, or as a replay of an older one."""

    __slots__ = ("command", "null_writes", "pending", "program", "request", "saved", "state")

    def __init__(self, program: Program, request: Request, saved: Saved, state: State, pending: Pending) -> None:
        self.program = program
        self.request = request
        self.saved = saved
        self.state = state
        self.pending = pending
        given: Any = request.input
        self.command: Command[Any] | None = given if isinstance(request.input, Command) else None

    def enter(self) -> Steps[Entry]:
        request, saved = self.request, self.saved
        has_answers = bool(request.answers) or (self.command is not None and self.command.resume is not None)
        is_addressed = request.checkpoint_id is not None
        is_superseded = (is_addressed and not saved.is_head) or request.from_ns is not None
        is_travel = is_addressed and not has_answers
        forks = is_superseded or (is_travel and saved.metadata.get("source") not in ("update", "fork"))
        old_tasks = plan(self.program, self.state, Place(request.from_ns or request.ns, 0), has_inputs=False)
        asking = {**old_tasks, **self._handlers(old_tasks)}
        answers, offered = self._answers(asking)
        news = list(command_writes(self.program, self.command)) if self.command is not None else []
        if self.command is not None and self.command.resume is None and not news:
            raise _nothing_to_do(request)
        if self.command is not None and not news and not old_tasks:
            raise _nothing_waits(request)
        kept = self.pending
        if is_superseded:
            kept = {}
        elif is_travel:
            kept = {id: writes for id, writes in self.pending.items() if id == NULL_TASK_ID}
        null_writes = [*kept.get(NULL_TASK_ID, ()), *news]
        if forks:
            entry = yield from self._fork(old_tasks, answers, null_writes, is_superseded and not is_travel)
        else:
            entry = yield from self._resume(asking, answers, kept, null_writes, bool(news))
        entry.offered = offered
        entry.loaded_step = self.state.step
        if request.before or request.after:
            entry.state.seen = {**entry.state.seen, INTERRUPT: dict(entry.state.versions)}
            entry.has_passed = True
        if "values" in request.modes:
            yield fx.Emit("values", read(entry.state.channels, request.outputs))
        return entry

    def _handlers(self, tasks: Mapping[str, Task]) -> dict[str, Task]:
        """Error handlers that stand in for failed tasks; they may have asked too."""
        place = Place(self.request.from_ns or self.request.ns, 0)
        found = (stored_handler(self.program, place, task, self.pending.get(id, ())) for id, task in tasks.items())
        return {handler.id: handler for handler in found if handler is not None}

    def _answers(self, tasks: Mapping[str, Task]) -> tuple[Mapping[str, Any], list[Any]]:
        if self.command is None or self.command.resume is None:
            return self.request.answers, self._offered(tasks)
        answers = answer_map(
            self.command.resume, tasks.values(), self.pending, self.request.thread_id, is_strict=self.request.is_strict
        )
        offered = [] if answers or isinstance(self.command.resume, dict) else [self.command.resume]
        return answers, offered

    def _offered(self, tasks: Mapping[str, Task]) -> list[Any]:
        """The parent's only answer, when an update from outside has replaced the task that asked for it."""
        answers = list(self.request.answers.values())
        is_replaced = self.saved.metadata.get("source") == "update" and not self.pending
        return answers if is_replaced and len(answers) == 1 and len(tasks) == 1 else []

    def _resume(
        self,
        tasks: Mapping[str, Task],
        answers: Mapping[str, Any],
        pending: Pending,
        null_writes: list[Write],
        has_news: bool,
    ) -> Steps[Entry]:
        """Claim the thread where it stands, together with the answers and the command's writes."""
        saving: list[TaskWrites] = []
        for task in tasks.values():
            writes = answered(task.ns, pending.get(task.id, ()), answers)
            if writes is not None:
                pending[task.id] = writes
                saving.append(TaskWrites(task.id, writes, path_text(task.path[:3]), task.name))
        if has_news:
            saving.append(TaskWrites(NULL_TASK_ID, null_writes))
            pending[NULL_TASK_ID] = null_writes
        if not self.request.owner:
            yield fx.Claim(saving)
        elif saving:
            yield fx.SaveWrites(saving)
        state = with_null_writes(self.program, self.state, null_writes) if null_writes else self.state
        return Entry(state, pending, self.saved.metadata, self.saved.parent_id or "")

    def _fork(
        self,
        old_tasks: Mapping[str, Task],
        answers: Mapping[str, Any],
        null_writes: list[Write],
        keeps_answers: bool,
    ) -> Steps[Entry]:
        """Start a branch from the loaded checkpoint; answers and subgraphs move from old tasks to new ones by path."""
        request, program = self.request, self.program
        changed: set[str] = set()
        state = self.state
        if null_writes:
            applied = apply(program, state, [Writes(INPUT, null_writes)])
            changed = applied.changed
            state = _merged_updates(state, applied.state)
        step = state.step + 1
        metadata = {"source": "fork", "step": step, "parents": request.parents, **request.metadata}
        state = State(
            state.channels, state.versions, state.seen, state.version, step, "", state.updated, state.live
        )  # fmt: skip
        stamp: fx.Stamp = yield fx.Commit(
            make_step(program, state, changed, (), metadata, records(self._dropped()), request),
            claim=not request.owner,
        )
        state.checkpoint_id = stamp.checkpoint_id
        entry = Entry(state, {}, metadata, self.saved.checkpoint_id)
        entry.origins = self._origins(old_tasks.values(), keeps_answers)
        if keeps_answers:
            entry.pending = yield from self._moved_answers(state, old_tasks.values(), answers)
        return entry

    def _dropped(self) -> Mapping[str, Sequence[Write]]:
        return self.pending if self.saved.is_head and self.request.from_ns is None else {}

    def _origins(self, old_tasks: Iterable[Task], keeps_answers: bool) -> dict[Any, Origin]:
        named = self.request.origins
        found: dict[Any, Origin] = {}
        for task in old_tasks:
            if task.ns in named:
                found[task.path] = Origin(task.ns, named[task.ns])
            elif keeps_answers or any(ns.startswith(f"{task.ns}|") for ns in named):
                found[task.path] = Origin(task.ns)
        return found

    def _moved_answers(self, state: State, old_tasks: Iterable[Task], answers: Mapping[str, Any]) -> Steps[Pending]:
        moved: Pending = {}
        saving: list[TaskWrites] = []
        new_tasks = {
            task.path: task for task in plan(self.program, state, Place(self.request.ns, 0), has_inputs=False).values()
        }
        for old in old_tasks:
            new = new_tasks.get(old.path)
            stored = self.pending.get(old.id, ())
            writes = answered(old.ns, stored, answers) or stored
            kept = [write for write in writes if given_answers([write]) != ([], {})]
            if new is not None and kept:
                moved[new.id] = kept
                saving.append(TaskWrites(new.id, kept, path_text(new.path[:3]), new.name))
        if saving:
            yield fx.SaveWrites(saving, is_barrier=True)
        return moved


def records(pending: Mapping[str, Sequence[Write]]) -> list[TaskWrites]:
    """Stored writes of tasks that will not go on, for the step that drops them: history still shows them."""
    return [TaskWrites(id, writes) for id, writes in pending.items()]


def with_null_writes(program: Program, state: State, writes: Sequence[Write]) -> State:
    """The state with writes applied that belong to no task (a command's update and goto)."""
    return _merged_updates(state, apply(program, state, [Writes(INPUT, writes)]).state)


def _merged_updates(before: State, after: State) -> State:
    after.updated = None if before.updated is None else before.updated | (after.updated or frozenset())
    return after


def input_writes(program: Program, given: Any) -> Iterator[Write]:
    """Input as writes to the input channels; nothing for None."""
    if given is None:
        return
    if isinstance(program.input_channels, str):
        yield (program.input_channels, given)
        return
    if not isinstance(given, dict):
        raise TypeError(f"expected the input to be a dict of input channels, got {type(given).__name__}")
    for name, value in cast("dict[Any, Any]", given).items():  # user data
        if name in program.input_channels:
            yield (name, value)


def command_writes(program: Program, command: Command[Any]) -> Iterator[Write]:
    """A command's goto and update as writes that belong to no task; raises when it names an unknown node."""
    if command.graph == Command.PARENT:
        raise InvalidUpdateError("there is no parent graph to send this command to")
    goto: Any = command.goto
    targets = cast("Sequence[Any]", goto if isinstance(goto, (list, tuple)) else [goto])
    for target in targets if goto else ():
        name = target.node if isinstance(target, Send) else target
        if isinstance(name, str) and name != END and name not in program.nodes:
            raise unknown_node(name, "the goto of a command", program)
        if isinstance(target, Send):
            yield (TASKS, target)
        elif isinstance(target, str):
            if target != END:
                yield (f"branch:to:{target}", START)
        else:
            raise TypeError(f"in Command.goto, expected Send or str, got {type(target).__name__}")
    yield from update_pairs(command.update)


def unknown_node(name: str, where: str, program: Program) -> InvalidUpdateError:
    """The error for a goto or Send to a node that does not exist."""
    known = ", ".join(repr(node) for node in program.nodes if not node.startswith("__"))
    return InvalidUpdateError(f"unknown node {name!r} in {where}", hint=f"the graph's nodes are {known}")


def update_pairs(update: Any) -> list[Write]:
    """A command's update as (channel, value) pairs; a value that is no mapping goes to the root channel."""
    if update is None:
        return []
    given: Any = update
    if isinstance(update, dict):
        return list(given.items())
    if isinstance(update, (list, tuple)) and all(_is_pair(pair) for pair in given):
        return list(given)
    names = annotated_names(cast("Any", type(given)))
    if names:
        return written_fields(update, names)
    return [("__root__", update)]


def _is_pair(value: Any) -> bool:
    pair: Any = value
    return isinstance(value, tuple) and len(pair) == 2 and isinstance(pair[0], str)


def annotated_names(cls: type) -> tuple[str, ...]:
    """Names of the fields a schema class declares, bases first; empty for a class without annotations."""
    found: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        if base.__module__ != "builtins":
            found.update(dict.fromkeys(get_annotations(base)))
    return tuple(name for name in found if not name.startswith("__"))


def written_fields(value: Any, names: Iterable[str]) -> list[Write]:
    """The fields of an object that count as written.

    Of a pydantic model, a field that is None counts only if it was set or None is not its default.
    """
    is_set = getattr(value, "model_fields_set", None)
    pairs = [(name, getattr(value, name, MISSING)) for name in names]
    if is_set is None:
        return [(name, item) for name, item in pairs if item is not MISSING]
    fields = cast("Mapping[str, Any]", type(value).model_fields)
    return [
        (name, item)
        for name, item in pairs
        if item is not MISSING
        and (item is not None or name in is_set or (name in fields and fields[name].default is not None))
    ]


def _nothing_to_do(request: Request) -> EmptyInputError:
    where = f"thread {request.thread_id!r} has nothing to continue" if request.thread_id else "there is no input"
    return EmptyInputError(
        f"received no input: {where}", hint="pass input, or the config of a thread that has been started"
    )


def _nothing_waits(request: Request) -> UnknownInterruptError:
    return UnknownInterruptError(
        f"cannot resume: thread {request.thread_id!r} has no question that waits for an answer", reason="not_pending"
    )
