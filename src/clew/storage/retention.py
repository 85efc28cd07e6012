"""What retention does to one thread: which steps a policy drops, and dropping them a bounded number at a time.

A thread is pruned in several transactions. Each takes the steps that go from the oldest chain that has some, and of a
chain the newest first: so no more than one step of a chain is ever rewritten, and what is still there can be read at
every moment. The last of them also drops what nothing refers to any more, so that a run of retention that was killed
leaves steps that go, and the next run finds the thread again.

Invariant: a transaction decides by what it reads itself; what was planned before only says where to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from clew.errors import CorruptRecordError
from clew.retention import ThreadUsage, at
from clew.storage import log, upkeep
from clew.storage.leftovers import Found, sweep
from clew.storage.log import Place, Position
from clew.storage.query import Query, Steps
from clew.storage.upkeep import StepKey

NO_AGE = -(2**62)  # microseconds: before every time
START: Position = (-1, 0)
_TASK = ":"  # in the namespace of what ran inside a task


@dataclass(frozen=True, slots=True)
class Limits:
    """A policy about checkpoints whose age was resolved: `since` in microseconds since 1970.

    With `for_each` every namespace keeps its newest checkpoint; without, those of tasks go with the tasks."""

    keep_last: int | None
    since: int | None
    for_each: bool

    @property
    def drops_steps(self) -> bool:
        return self.keep_last is not None or self.since is not None


class LineUsage(NamedTuple):
    """What a namespace takes in storage; `first` and `last` are when its checkpoints were made."""

    thread: str
    line: int
    ns: str
    updated_at: int
    checkpoints: int
    bytes: int
    first: int | None
    last: int | None


class Rule(NamedTuple):
    """Which steps of a namespace go: those with an id below `cut`, and those made before `since`, but not `newest`."""

    newest: bytes
    cut: bytes
    since: int

    def drops(self, id: bytes, created_at: int) -> bool:
        return id != self.newest and (id < self.cut or created_at < self.since)


@dataclass(frozen=True, slots=True)
class LinePlan:
    """What a namespace loses; with `goes` all of it, and itself."""

    usage: LineUsage
    rule: Rule
    checkpoints: int
    bytes: int
    goes: bool = False


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """What a thread loses. `touched` is when it was last written to, `size` how many checkpoints it has."""

    lines: Sequence[LinePlan]
    emptied: frozenset[int]
    touched: int | None
    size: int
    spills: int  # how many large leaves it has

    @property
    def checkpoints(self) -> int:
        return sum(line.checkpoints for line in self.lines)

    @property
    def bytes(self) -> int:
        return sum(line.bytes for line in self.lines)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a thread is pruned: which line of its plan, and behind which of its steps."""

    index: int = 0
    after: Position = START


@dataclass(slots=True)
class Batch:
    """What one transaction did: `dropped` steps in all, of which `checkpoints` of `size` bytes count as gone."""

    cursor: Cursor
    dropped: int = 0
    checkpoints: int = 0
    size: int = 0
    referred: set[bytes] = field(default_factory=set[bytes])  # large leaves that rewritten steps refer to


# Looking


def read_clock() -> Steps[int]:
    """What time it is, in microseconds since 1970: on the database's clock, where replicas share one."""
    return (yield Query("now", ()))[0][0]


def count_threads(tenant: str) -> Steps[int]:
    """How many threads a tenant has."""
    return (yield Query("thread_count", (tenant,)))[0][0]


def next_tenant(after: str) -> Steps[str | None]:
    """The tenant that comes after one, in the order of their names; None after the last."""
    return (yield Query("tenant_next", (after,)))[0][0]


def read_usage(tenant: str, first: str, last: str) -> Steps[list[list[LineUsage]]]:
    """What the threads between two ids take, each as a list of its namespaces."""
    rows = yield Query("line_usage", (tenant, first, last))
    return [list(lines) for _, lines in groupby((LineUsage(*row) for row in rows), key=lambda line: line.thread)]


def read_page(tenant: str, after: str, limit: int) -> Steps[list[list[LineUsage]]]:
    """What the next `limit` threads take."""
    names = yield Query("thread_page", (tenant, after, limit))
    return (yield from read_usage(tenant, names[0][0], names[-1][0])) if names else []


def thread_usage(lines: Sequence[LineUsage], tenant: str) -> ThreadUsage:
    """What a thread takes, for people; raises `CorruptRecordError` if its times are none."""
    _check(lines)
    first = min((line.first for line in lines if line.first is not None), default=None)
    touched = touched_at(lines)
    try:
        return ThreadUsage(
            lines[0].thread,
            sum(line.checkpoints for line in lines),
            sum(line.checkpoints > 0 for line in lines),
            sum(line.bytes for line in lines),
            None if first is None else at(first),
            None if touched is None else at(touched),
            tenant,
        )
    except OverflowError as error:
        raise _damaged(lines) from error


def touched_at(lines: Iterable[LineUsage]) -> int | None:
    """When a thread was last written to; None if it never had a checkpoint."""
    return max((time for line in lines for time in (line.updated_at, line.last) if time), default=None)


def may_lose(lines: Sequence[LineUsage], limits: Limits) -> bool:
    """Whether a thread is worth a closer look."""
    root = next((line.first for line in lines if not line.ns), None)
    return any(
        _may_drop(line, limits)
        or _is_emptied(line, limits)
        or (_is_of_task(line, limits) and root is not None and line.last is not None and line.last < root)
        for line in lines
        if limits.drops_steps
    )


def plan_thread(root: Place, limits: Limits, *, deletes: bool) -> Steps[ThreadPlan]:
    """What a thread loses; before it is deleted, all but the newest of each namespace."""
    found = yield from read_usage(root.tenant, root.thread, root.thread)
    lines = found[0] if found else []
    _check(lines)
    oldest: bytes | None = None
    plans: list[LinePlan] = []
    for line in sorted(lines, key=lambda line: (line.ns != "", line.line)):
        newest = yield Query("step_list", (root.tenant, line.line, None, 1))
        if not newest:
            continue
        rule = yield from _rule(root.tenant, line, newest[0][3], limits, deletes=deletes)
        if not line.ns and limits.drops_steps and not deletes:
            kept = yield Query("step_oldest_kept", (root.tenant, line.line, *rule))
            oldest = kept[0][0]
        if _is_of_task(line, limits) and oldest is not None and rule.newest < oldest:
            whole = Rule(rule.newest, rule.newest, NO_AGE)
            plans.append(LinePlan(line, whole, line.checkpoints, line.bytes, goes=True))
        elif deletes or _may_drop(line, limits):
            count, size = (yield Query("step_doomed", (root.tenant, line.line, *rule)))[0]
            if count:
                plans.append(LinePlan(line, rule, count, size))
    emptied = frozenset(line.line for line in lines if _is_emptied(line, limits))
    spills = yield Query("spill_sizes", (root.tenant, root.thread))
    size = sum(line.checkpoints for line in lines)
    return ThreadPlan(plans, emptied, touched_at(lines), size, len(spills))


# Dropping


def prune_some(root: Place, plan: ThreadPlan, cursor: Cursor, limit: int) -> Steps[Batch]:
    """Drop at most `limit` steps of those that go, from where `cursor` is."""
    batch = Batch(cursor)
    while batch.cursor.index < len(plan.lines) and batch.dropped < limit:
        line = plan.lines[batch.cursor.index]
        # A backend that locks rows locks the namespace here: no run moves its head meanwhile.
        if not (yield Query("head_place", (root.tenant, line.usage.line))):
            batch.cursor = Cursor(batch.cursor.index + 1)
        elif line.goes:
            if not (yield from _drop_namespace(root, line, batch, limit)):
                break
        else:
            yield from _prune_window(root.at(line.usage.ns), line, batch, limit)
    return batch


def finish_thread(root: Place, plan: ThreadPlan, cursor: Cursor, limit: int, found: Found) -> Steps[tuple[Batch, int]]:
    """The last transaction on a thread: as `prune_some`, then drop what is left over. Gives also the bytes of that.

    `found` is what was seen of the thread's large leaves before.
    """
    yield Query("head_list", (root.tenant, root.thread))
    batch = yield from prune_some(root, plan, cursor, limit)
    freed = 0
    if batch.cursor.index >= len(plan.lines):
        found.hashes.update(batch.referred)
        found.doomed.clear()  # what is still there stays, whatever was planned
        freed = yield from sweep(root, found, plan.emptied)
    return batch, freed


def delete_untouched(root: Place, touched: int | None) -> Steps[int | None]:
    """Delete a thread that was not written to since `touched` and has no run that waits or runs; gives the bytes of
    its large leaves, None if it was left alone."""
    yield Query("thread_get", (root.tenant, root.thread))  # no run is made on it from here on
    if (yield Query("thread_busy", (root.tenant, root.thread, 2**61)))[0][0]:
        return None
    heads = yield Query("head_list", (root.tenant, root.thread))
    if not heads or (yield Query("thread_touched", (root.tenant, root.thread)))[0][0] > (touched or 0):
        return None
    freed = yield from spilled_bytes(root)
    yield from upkeep.delete_thread(root.tenant, root.thread)
    return freed


def spilled_bytes(root: Place) -> Steps[int]:
    """How many bytes a thread's large leaves take."""
    return sum(size for _, size in (yield Query("spill_sizes", (root.tenant, root.thread))))


def dry_sweep(root: Place, plan: ThreadPlan, window: int) -> Steps[int]:
    """How many bytes of large leaves would go with the steps that go."""
    found = Found()
    for line in plan.lines:
        found.doomed[line.usage.line] = None if line.goes else line.rule.drops
        place, after, is_last = root.at(line.usage.ns), START, line.goes
        while not is_last:
            keys, is_last = yield from _window(place, line.usage.line, after, window)
            for chain in _chains(keys):
                kept = {key.position for key in chain if not line.rule.drops(key.checkpoint_id, key.created_at)}
                found.hashes |= yield from upkeep.close_holes(place, line.usage.line, chain, kept, is_dry=True)
            after = keys[-1].position if keys else after
    return (yield from sweep(root, found, plan.emptied, is_dry=True))


# One namespace


def _prune_window(place: Place, line: LinePlan, batch: Batch, limit: int) -> Steps[None]:
    """Look at the next chains of a namespace and drop what goes, within the limit."""
    tenant, number = place.tenant, line.usage.line
    tip = yield Query("step_list", (tenant, number, None, 1))
    keys, is_last = yield from _window(place, number, batch.cursor.after, max(limit, 64))
    if not tip or not keys:
        batch.cursor = Cursor(batch.cursor.index + 1)
        return
    rule = line.rule._replace(newest=tip[0][3])
    after, room, doomed = batch.cursor.after, limit - batch.dropped, list[StepKey]()
    is_whole = True
    for chain in _chains(keys):
        going = [key for key in chain if rule.drops(key.checkpoint_id, key.created_at)]
        is_whole = len(going) <= room
        chosen = going if is_whole else going[len(going) - room :]
        if chosen:
            kept = {key.position for key in chain} - {key.position for key in chosen}
            batch.referred |= yield from upkeep.close_holes(place, number, chain, kept)
            doomed += chosen
            room -= len(chosen)
        if not is_whole:
            break
        after = chain[-1].position
    if doomed:
        yield from upkeep.drop_steps(place, number, doomed)
        yield from upkeep.reset_head(tenant, number)
        batch.dropped += len(doomed)
        if not line.goes:
            batch.checkpoints += len(doomed)
            batch.size += sum(key.size for key in doomed)
    is_done = is_whole and is_last
    batch.cursor = Cursor(batch.cursor.index + 1) if is_done else Cursor(batch.cursor.index, after)


def _drop_namespace(root: Place, line: LinePlan, batch: Batch, limit: int) -> Steps[bool]:
    """Drop a namespace as a whole; False if it has to wait for the next transaction."""
    tenant, number = root.tenant, line.usage.line
    newest = yield Query("step_list", (tenant, number, None, 1))
    if newest and newest[0][3] == line.rule.newest:
        left = (yield Query("step_doomed", (tenant, number, *line.rule)))[0][0] + 1
        if left > limit:
            index = batch.cursor.index
            yield from _prune_window(root.at(line.usage.ns), line, batch, limit)
            if batch.cursor.index > index:  # all but the newest are gone: the next turn drops it
                batch.cursor = Cursor(index)
            return True
        if batch.dropped and left > limit - batch.dropped:
            return False
        yield from upkeep.drop_line(tenant, number)
        batch.dropped += left
        batch.checkpoints += line.checkpoints
        batch.size += line.bytes
    batch.cursor = Cursor(batch.cursor.index + 1)
    return True


def _window(place: Place, line: int, after: Position, size: int) -> Steps[tuple[list[StepKey], bool]]:
    """The next whole chains of a namespace, about `size` steps, and whether they are its last."""
    rows = yield Query("step_keys", (place.tenant, line, *after, size))
    keys = [StepKey(*row) for row in rows]
    if not all(log.are_numbers((*key[:3], key.created_at)) and type(key.checkpoint_id) is bytes for key in keys):
        raise CorruptRecordError(f"thread {place.thread!r} has steps whose place cannot be read")
    if len(keys) < size:
        return keys, True
    last = _chain(keys[-1])
    if _chain(keys[0]) != last:
        return [key for key in keys if _chain(key) != last], False
    while len(rows) == size:
        rows = yield Query("step_keys", (place.tenant, line, *keys[-1].position, size))
        more = [key for row in rows if _chain(key := StepKey(*row)) == last]
        keys += more
        if len(more) < len(rows):
            return keys, False
    return keys, True


def _chains(keys: Iterable[StepKey]) -> Iterable[list[StepKey]]:
    return (list(chain) for _, chain in groupby(keys, key=_chain))


def _chain(key: StepKey) -> tuple[int, int]:
    return key.branch, key.key_seq


def _rule(tenant: str, line: LineUsage, newest: bytes, limits: Limits, *, deletes: bool) -> Steps[Rule]:
    if deletes:
        return Rule(newest, newest, NO_AGE)
    cut = b""
    if limits.keep_last is not None and line.checkpoints > limits.keep_last:
        cut = (yield Query("step_list", (tenant, line.line, None, limits.keep_last)))[-1][3]
    return Rule(newest, cut, NO_AGE if limits.since is None else limits.since)


def _may_drop(line: LineUsage, limits: Limits) -> bool:
    if line.checkpoints < 2:
        return False
    is_long = limits.keep_last is not None and line.checkpoints > limits.keep_last
    return is_long or (limits.since is not None and line.first is not None and line.first < limits.since)


def _is_of_task(line: LineUsage, limits: Limits) -> bool:
    """Whether a namespace is that of a task and nothing but its task can ask for it."""
    return _TASK in line.ns and not limits.for_each


def _is_emptied(line: LineUsage, limits: Limits) -> bool:
    """Whether a namespace of a subgraph has lost all its steps, so long ago that no run stands on it."""
    if not line.ns or line.checkpoints or limits.since is None:
        return False
    return 0 < line.updated_at < limits.since


def _check(lines: Sequence[LineUsage]) -> None:
    for line in lines:
        times = (line.updated_at, line.first or 0, line.last or 0)
        if not log.are_numbers((*times, line.bytes)):
            raise _damaged(lines)


def _damaged(lines: Sequence[LineUsage]) -> CorruptRecordError:
    return CorruptRecordError(
        f"thread {lines[0].thread!r} has times or sizes that are none",
        hint="`clew doctor` shows what can still be read",
    )
