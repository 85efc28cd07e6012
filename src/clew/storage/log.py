"""The rules of the log: loading, committing, claiming, saving writes. Generators over named queries; no I/O.

The log of a thread has one `head` row per namespace: the tip of its newest branch, which is the only one that grows.
A step that does not follow the tip begins a branch of its own, with a full value, so no chain of differences crosses
branches and a fork can never see what happened on another one afterwards. The head row of the root namespace also
carries the epoch, which fences every namespace of the thread.

Invariant: a write checks its fence first, and raises `ThreadConflictError` before it has changed anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clew import _failpoints
from clew.errors import CorruptRecordError, EncryptionError, SchemaVersionError, ThreadConflictError
from clew.ids import id_text
from clew.storage.query import Query, Row, Steps
from clew.storage.records import Spills, StepRecord, TaskRecord, unpack_step, unpack_task
from clew.storage.state import Replay, State
from clew.storage.vault import Vault

Position = tuple[int, int]  # branch and seq


class Head(NamedTuple):
    """The head row of one namespace. `last_id` is the largest checkpoint id it has had, `parent_id` that of the step
    before the tip, if it was not pruned."""

    line: int
    epoch: int
    branch: int
    seq: int
    key_seq: int
    top_branch: int
    since: int
    last_id: bytes | None
    root_branch: int | None
    root_seq: int | None
    parent_id: bytes | None

    @property
    def position(self) -> Position:
        return (self.branch, self.seq)


class StepRow(NamedTuple):
    """A row of the table `step`."""

    branch: int
    seq: int
    key_seq: int
    checkpoint_id: bytes
    root_branch: int | None
    root_seq: int | None
    run_id: bytes | None
    created_at: int
    body: bytes

    @property
    def position(self) -> Position:
        return (self.branch, self.seq)


class Place(NamedTuple):
    """Which namespace of which thread, and what its bodies are wrapped in."""

    tenant: str
    thread: str
    ns: str
    vault: Vault

    @property
    def root(self) -> Place:
        return self.at("")

    def of(self, thread: str) -> Place:
        """The root namespace of another thread."""
        return Place(self.tenant, thread, "", self.vault)

    def at(self, ns: str) -> Place:
        """Another namespace of the thread."""
        return Place(self.tenant, self.thread, ns, self.vault)


class Waiting(NamedTuple):
    """A row of the table `pending`: the writes of one task that wait behind the step at a position."""

    branch: int
    seq: int
    task_id: bytes
    epoch: int
    body: bytes

    @property
    def position(self) -> Position:
        return (self.branch, self.seq)


@dataclass(frozen=True, slots=True)
class Expected:
    """The head as a session loaded it: what must still hold for its first write to pass."""

    line: int
    epoch: int
    branch: int
    seq: int
    top_branch: int


@dataclass(slots=True)
class NewStep:
    """A step that was built: its row, the row its cursor expects at the head, and where its branch forks off."""

    row: StepRow
    since: int
    spills: Spills
    expected: Position | None  # the head this step follows or forks beside; None: the namespace must be empty
    origin: Position | None = None  # the step it forked from, for the first step of a branch


def conflict(place: Place) -> ThreadConflictError:
    """The error of a run that has lost its thread."""
    return ThreadConflictError(
        f"another run has taken thread {place.thread!r}; this run has stopped and saved nothing more",
        hint="run it again: it goes on from the thread's newest checkpoint",
    )


# Heads and claims


def read_head(place: Place) -> Steps[Head | None]:
    """The head row of a namespace."""
    rows = yield Query("head_read", (place.tenant, place.thread, place.ns))
    if not rows:
        return None
    *fields, strays = rows[0]
    # Either the step with the largest id is elsewhere, or what was a number is none: a flipped bit can change its kind.
    if strays or not are_numbers(fields[:7]):
        raise CorruptRecordError(
            f"the head of thread {place.thread!r} does not point at its newest checkpoint",
            hint="restore the database from a backup; `clew doctor` shows what can still be read",
        )
    return Head(*fields)


def claim_thread(
    place: Place, expected: Expected | None, *, is_known: bool, reserve: int | None
) -> Steps[tuple[int, int]]:
    """Raise the thread's epoch; gives the line of its root namespace and the new epoch.

    With `is_known`, the root's head must still be `expected` (None: must not exist); without, whatever it is now is
    taken. `reserve` is a branch that the caller will begin.
    """
    if not is_known:
        head = yield from read_head(place.root)
        expected = None if head is None else Expected(head.line, head.epoch, head.branch, head.seq, head.top_branch)
    if expected is None:
        line = yield from add_head(place.root, epoch=1)
        if line is None:
            raise conflict(place)
        return line, 1
    top = expected.top_branch if reserve is None else max(reserve, expected.top_branch)
    fence = (place.tenant, expected.line, expected.epoch, expected.branch, expected.seq)
    if not (yield Query("head_claim", (expected.epoch + 1, top, *fence)))[0][0]:
        raise conflict(place)
    return expected.line, expected.epoch + 1


def check_guard(place: Place, guard: tuple[str, str, int] | None) -> Steps[None]:
    """Raise if a run of the service is no longer its worker's (`guard`: run, worker, the run's epoch)."""
    if guard is not None and not (yield Query("run_guard", (place.tenant, *guard))):
        raise conflict(place)


def check_epoch(place: Place, line: int, epoch: int) -> Steps[None]:
    """Raise unless the thread is still in `epoch`."""
    if not (yield Query("head_check", (place.tenant, line, epoch))):
        raise conflict(place)


def add_head(place: Place, *, epoch: int = 0) -> Steps[int | None]:
    """Make the head row of a namespace that has no step yet; None if it exists already."""
    added = yield Query("head_add", (place.tenant, place.thread, place.ns, epoch))
    if not added[0][0]:
        return None
    rows = yield Query("head_line", (place.tenant, place.thread, place.ns))
    return rows[0][0]


# Writing


def write_step(place: Place, line: int, epoch: tuple[int, int], step: NewStep, *, clears: bool = True) -> Steps[None]:
    """Append a step or begin a branch, moving the head; `epoch` is the one expected and the one to set.

    `clears` drops what was pending behind the step before: this one has consumed it.
    """
    row = step.row
    before = step.expected or (0, 0)
    # A difference takes its keyframe from the head row: pruning may have moved it since the cursor was loaded.
    key_seq = row.key_seq if row.key_seq == row.seq else None
    moved = yield Query(
        "head_move",
        (
            epoch[1],
            row.branch,
            row.seq,
            key_seq,
            row.branch,
            step.since,
            row.checkpoint_id,
            row.root_branch,
            row.root_seq,
            row.created_at,
            place.tenant,
            line,
            epoch[0],
            *before,
        ),
    )
    if not moved[0][0]:
        raise conflict(place)
    _failpoints.hit("commit.statement")
    yield Query("step_add", (place.tenant, line, *row[:2], key_seq, *row[3:]))
    if step.origin is not None:
        yield Query("fork_add", (place.tenant, line, row.branch, *step.origin))
    if clears:
        yield Query("pending_clear", (place.tenant, line, row.branch, row.seq - 1))
    yield from write_spills(place, step.spills)


def write_pending(
    place: Place, line: int, position: Position, epoch: int, tasks: Sequence[tuple[bytes, bytes]], spills: Spills
) -> Steps[None]:
    """Save tasks' writes (task id, body) behind the step at `position`; replaces what a task has there."""
    for task_id, body in tasks:
        yield Query("pending_put", (place.tenant, line, *position, task_id, epoch, body))
        _failpoints.hit("pending.statement")
    yield from write_spills(place, spills)


def write_spills(place: Place, spills: Spills) -> Steps[None]:
    """Keep leaves by their content, once per thread."""
    for hash, body in spills.items():
        yield Query("spill_add", (place.tenant, place.thread, hash, body))


# Reading


def read_chain(place: Place, line: int, branch: int, first: int, last: int) -> Steps[list[StepRow]]:
    """The rows of a branch from `first` to `last`, in order."""
    rows = yield Query("step_chain", (place.tenant, line, branch, first, last))
    return [StepRow(*row) for row in rows]


def read_step(place: Place, line: int, checkpoint_id: bytes) -> Steps[StepRow | None]:
    """The row of a checkpoint, or None."""
    rows = yield Query("step_find", (place.tenant, line, checkpoint_id))
    return StepRow(*rows[0]) if rows else None


def check_chain(place: Place, rows: Sequence[StepRow], first: int, last: int) -> None:
    """Raise unless `rows` are the whole chain from the keyframe at `first` to `last`."""
    check_all(place, rows, first, last)
    if rows[0].key_seq != first:
        raise CorruptRecordError(
            f"thread {place.thread!r} misses the full value that stored steps from {first} on build on",
            hint="`clew doctor` shows what can still be read",
        )


def are_numbers(columns: Iterable[object]) -> bool:
    """Whether columns that hold whole numbers still do."""
    return all(type(column) is int for column in columns)


def check_all(place: Place, rows: Sequence[StepRow], first: int, last: int) -> None:
    """Raise unless `rows` are every step of their branch from `first` to `last`."""
    if not are_numbers((first, last)) or [row.seq for row in rows] != list(range(first, last + 1)):
        raise CorruptRecordError(
            f"thread {place.thread!r} misses stored steps between {first} and {last}",
            hint="`clew doctor` shows what can still be read",
        )


def replay_rows(place: Place, rows: Iterable[StepRow]) -> Steps[State]:
    """The state after the last of `rows`, of which the first is a keyframe."""
    replay = Replay()
    for row in rows:
        record = yield from read_record(place, row)
        advance(replay, row, record)
    return replay.state()


def advance(replay: Replay, row: StepRow, record: StepRecord) -> None:
    """Take a replay one row further; raises `CorruptRecordError` if the row does not continue it."""
    try:
        replay.step(
            record,
            key_seq=row.key_seq,
            is_keyframe=row.seq == row.key_seq,
            id=row.checkpoint_id,
            created_at=row.created_at,
            size=len(row.body),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CorruptRecordError(
            f"checkpoint {id_text(row.checkpoint_id)} does not fit the step before it: {error}",
            hint="`clew doctor` shows what is damaged; fork the thread from an earlier checkpoint",
        ) from error


def read_record(place: Place, row: StepRow) -> Steps[StepRecord]:
    """A row's record, with its spilled leaves in place; an error names the checkpoint and its thread."""
    try:
        body = place.vault.open_step(place, row)
        record = unpack_step(body)
        if record.spills:
            spilled = yield from read_spills(place, record.spills)
            record = unpack_step(body, spilled)
    except (CorruptRecordError, SchemaVersionError) as error:
        raise type(error)(
            _unreadable(place, row, error),
            hint=error.hint or "`clew doctor` shows what is damaged; fork the thread from an earlier checkpoint",
        ) from error
    except EncryptionError as error:
        raise type(error)(_unreadable(place, row, error), hint=error.hint, key_id=error.key_id) from error
    return record


def _unreadable(place: Place, row: StepRow, error: Exception) -> str:
    return f"checkpoint {id_text(row.checkpoint_id)} of thread {place.thread!r} cannot be read: {error}"


def read_spills(place: Place, hashes: Iterable[bytes]) -> Steps[dict[bytes, bytes]]:
    """The contents of spilled leaves by hash."""
    spilled: dict[bytes, bytes] = {}
    for hash in hashes:
        rows: list[Row] = yield Query("spill_read", (place.tenant, place.thread, hash))
        if not rows:
            raise CorruptRecordError(f"thread {place.thread!r} misses a large value that a stored step refers to")
        spilled[hash] = place.vault.open_spill(place, hash, rows[0][0])
    return spilled


def read_pending(place: Place, line: int, position: Position) -> Steps[list[TaskRecord]]:
    """The writes saved behind the step at `position`, in the order of their tasks' paths."""
    rows = yield Query("pending_read", (place.tenant, line, *position))
    tasks: list[TaskRecord] = []
    for row in rows:
        tasks.append((yield from read_task(place, Waiting(*position, *row))))
    return sorted(tasks, key=lambda task: (task.path, task.task_id))


def read_task(place: Place, row: Waiting) -> Steps[TaskRecord]:
    """A pending row's writes, with their spilled leaves in place; an error names the thread."""
    try:
        body = place.vault.open_task(place, row)
        task, missing = unpack_task(body)
        if missing:
            task, _ = unpack_task(body, (yield from read_spills(place, missing)))
    except (CorruptRecordError, SchemaVersionError) as error:
        raise type(error)(_unreadable_writes(place, error), hint=error.hint) from error
    except EncryptionError as error:
        raise type(error)(_unreadable_writes(place, error), hint=error.hint, key_id=error.key_id) from error
    return task


def _unreadable_writes(place: Place, error: Exception) -> str:
    return f"pending writes of thread {place.thread!r} cannot be read: {error}"


def read_children(place: Place, line: int, position: Position) -> Steps[list[StepRow]]:
    """The steps whose parent is the step at `position`, newest first."""
    branch, seq = position
    children = yield from read_chain(place, line, branch, seq + 1, seq + 1)
    for forked, *origin in (yield Query("fork_list", (place.tenant, line))):
        if tuple(origin) == position:
            children += yield from read_chain(place, line, forked, 1, 1)
    return sorted(children, key=lambda row: row.checkpoint_id, reverse=True)


def read_parent_id(place: Place, line: int, position: Position) -> Steps[bytes | None]:
    """The id of the step before the one at `position`; None if there is none, or it was pruned."""
    branch, seq = position
    if seq == 1:
        origin = (yield from read_origins(place, line)).get(branch)
        if origin is None:
            return None
        branch, seq = origin[0], origin[1] + 1
    rows = yield Query("step_id", (place.tenant, line, branch, seq - 1))
    return rows[0][0] if rows else None


def read_origins(place: Place, line: int) -> Steps[dict[int, Position]]:
    """Where each branch that forked from another one did so."""
    return origins_in((yield origins_of(place, line)))


def origins_of(place: Place, line: int) -> Query:
    """What asks for that."""
    return Query("fork_list", (place.tenant, line))


def origins_in(rows: Sequence[Row]) -> dict[int, Position]:
    """What the answer says."""
    return {branch: (parent_branch, parent_seq) for branch, parent_branch, parent_seq in rows}


def read_lineage(place: Place, line: int, position: Position) -> Steps[tuple[Position, ...]]:
    """The branches that lead to `position`, each with the last seq that belongs to the line.

    Of an ancestor branch that is what came strictly before the fork: what a subgraph did under the step that was
    forked from belongs to the other future.
    """
    lineage = [position]
    if position[0] == 0:
        return (position,)
    origins = yield from read_origins(place, line)
    while (origin := origins.get(lineage[-1][0])) is not None:
        lineage.append((origin[0], origin[1] - 1))
    return tuple(lineage)


def is_on_line(lineage: Iterable[Position], position: tuple[int | None, int | None]) -> bool:
    """Whether a step that ran under the root step at `position` belongs to a line of root steps."""
    branch, seq = position
    if branch is None or seq is None:
        return True
    return any(branch == known and seq <= last for known, last in lineage)


def newest_on_line(place: Place, head: Head, lineage: Sequence[Position] | None) -> Steps[Position | None]:
    """The position of a namespace's newest step that belongs to the session's line of root steps."""
    if head.seq == 0:
        return None
    if lineage is None or is_on_line(lineage, (head.root_branch, head.root_seq)):
        return head.position
    rows = yield Query("step_roots", (place.tenant, head.line))
    for branch, seq, root_branch, root_seq in rows:
        if is_on_line(lineage, (root_branch, root_seq)):
            return (branch, seq)
    return None
