"""A run of retention over a database, as a generator of operations: it waits nowhere, so both drivers share it.

Invariant: what a thread's bytes make impossible costs that thread its pruning, never the run its end.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from clew.errors import CorruptRecordError, EncryptionError, SchemaVersionError
from clew.retention import (
    Retention,
    RetentionProgress,
    RetentionReport,
    SkippedThread,
    ThreadRetention,
    moment,
)
from clew.storage import leftovers
from clew.storage import retention as rules
from clew.storage.leftovers import Found
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.retention import START, Batch, Cursor, Limits, LineUsage, ThreadPlan
from clew.storage.threads import archived_threads, delete_archived, is_archived

if TYPE_CHECKING:
    from clew.storage.log import Place

T = TypeVar("T")

BATCH = 500  # checkpoints that one transaction drops at most
_PAGE = 100  # threads looked at together
_LONGEST_PAUSE = 0.25  # seconds

Work = Generator[LogOp[Any], Any, T]
OnProgress = Callable[[RetentionProgress], object]


class MakeOp(Protocol):
    """How a saver makes an operation."""

    def __call__(self, thread: str, steps: Callable[[], Steps[Any]], *, kind: str = "read") -> LogOp[Any]: ...


class Access(NamedTuple):
    """How one tenant's threads are reached: the place of a thread, operations, and who is told of what was deleted."""

    root: Callable[[str], Place]
    op: MakeOp
    forget: Callable[[str], object]


class RetentionRun:
    """One run: `work` yields operations and is sent what they give."""

    def __init__(
        self,
        access: Callable[[str], Access],
        tenant: str,
        policy: Retention,
        *,
        dry_run: bool = False,
        batch: int = BATCH,
        thread_ids: Sequence[str] | None = None,
        on_progress: OnProgress | None = None,
        is_strict: bool = False,
    ) -> None:
        """`access` is asked once for each tenant: `tenant`, and if that is nobody and no threads are named, every one.
        With `is_strict` a thread that cannot be read ends the run, and each namespace is kept for its own sake."""
        if batch < 1:
            raise ValueError(f"batch is {batch}; a transaction drops at least 1 checkpoint")
        self._access = access
        self._tenant = tenant
        self._policy = policy
        self._dry_run = dry_run
        self._batch = batch
        self._thread_ids = thread_ids
        self._on_progress = on_progress
        self._is_strict = is_strict
        self._now: int | None = None
        self._limits = Limits(None, None, is_strict)
        self._deleted_before: int | None = None
        self._archived_before: int | None = None
        self._archived: set[str] = set()  # threads that go since they were put away, of the current tenant
        self._examined = self._total = 0
        self._details: list[ThreadRetention] = []
        self._skipped: list[SkippedThread] = []
        self._checkpoints = 0
        self._bytes = 0

    def work(self) -> Work[RetentionReport]:
        """Look at every thread, or those named, and drop what the policy says."""
        tenant: str | None = self._tenant
        covers_all = tenant == "" and self._thread_ids is None
        while tenant is not None:
            yield from self._begin(tenant)
            yield from self._named(self._thread_ids) if self._thread_ids is not None else self._all()
            yield from self._unused()
            tenant = (yield self._op("", lambda after=tenant: rules.next_tenant(after))) if covers_all else None
        return RetentionReport(self._dry_run, self._examined, tuple(self._details), tuple(self._skipped))

    def _begin(self, tenant: str) -> Work[None]:
        """Go over to a tenant's threads."""
        self._tenant = tenant
        self._root, self._op, self._forget = self._access(tenant)
        if self._thread_ids is not None:
            self._total = len(self._thread_ids)
        else:
            self._total += yield self._op("", lambda: rules.count_threads(tenant))
        if self._now is None:
            policy = self._policy
            self._now = now = yield self._op("", rules.read_clock)
            older, deleted = policy.older_than, policy.delete_threads_older_than
            self._limits = Limits(policy.keep_last, None if older is None else moment(older, now), self._is_strict)
            self._deleted_before = None if deleted is None else moment(deleted, now)
            archived = policy.delete_archived_older_than
            self._archived_before = None if archived is None else moment(archived, now)
        if self._archived_before is not None:
            before = self._archived_before
            found = set[str]((yield self._op("", lambda: archived_threads(self._root(""), before))))
            self._archived = found if self._thread_ids is None else found & set(self._thread_ids)

    def _named(self, thread_ids: Sequence[str]) -> Work[None]:
        for thread in dict.fromkeys(thread_ids):
            for lines in (yield self._op(thread, lambda t=thread: rules.read_usage(self._tenant, t, t))):
                yield from self._examine(lines)

    def _all(self) -> Work[None]:
        after = ""
        while page := (yield self._page_op(after)):
            for lines in page:
                yield from self._examine(lines)
            after = page[-1][0].thread

    def _unused(self) -> Work[None]:
        """Drop what was put away and never had a checkpoint."""
        for thread in sorted(self._archived):
            root, before = self._root(thread), self._archived_before
            assert before is not None, "else none was looked for"
            if self._dry_run or (yield self._op(thread, lambda p=root, b=before: delete_archived(p, b), kind="delete")):
                self._details.append(ThreadRetention(thread, 0, 0, is_deleted=True, tenant=self._tenant))

    def _page_op(self, after: str) -> LogOp[list[list[LineUsage]]]:
        return self._op("", lambda: rules.read_page(self._tenant, after, _PAGE))

    def _examine(self, lines: list[LineUsage]) -> Work[None]:
        thread = lines[0].thread
        try:
            lost = yield from self._thread(lines)
            self._archived.discard(thread)
        except (CorruptRecordError, EncryptionError, SchemaVersionError) as error:
            if self._is_strict:
                raise
            self._skipped.append(SkippedThread(thread, str(error), self._tenant))
        else:
            if lost is not None:
                self._details.append(lost)
        self._examined += 1
        self._note(0, 0)

    def _note(self, checkpoints: int, bytes: int) -> None:
        """Count what went, and say how far the run is."""
        self._checkpoints += checkpoints
        self._bytes += bytes
        if self._on_progress is not None:
            self._on_progress(RetentionProgress(self._examined, self._total, self._checkpoints, self._bytes))

    # One thread

    def _thread(self, lines: list[LineUsage]) -> Work[ThreadRetention | None]:
        """Do to one thread what the policy says; gives what it lost."""
        deletes = self._deletes(lines)
        if not deletes and not rules.may_lose(lines, self._limits):
            return None
        root = self._root(lines[0].thread)
        if self._dry_run:
            return (yield from self._look(root, lines, deletes=deletes))
        if deletes:
            return (yield from self._delete(root, lines))
        plan: ThreadPlan = yield self._plan_op(root, deletes=False)
        if not plan.lines and not plan.emptied:
            return None
        lost = yield from self._prune(root, plan, finishes=True)
        return lost if lost.checkpoints else None

    def _deletes(self, lines: list[LineUsage]) -> bool:
        touched = rules.touched_at(lines)
        if self._deleted_before is not None and touched is not None and touched < self._deleted_before:
            return True
        if lines[0].thread in self._archived:
            return True
        chosen = self._policy.delete_if
        return chosen is not None and bool(chosen(rules.thread_usage(lines, self._tenant)))

    def _plan_op(self, root: Place, *, deletes: bool) -> LogOp[ThreadPlan]:
        return self._op(root.thread, lambda: rules.plan_thread(root, self._limits, deletes=deletes))

    def _look(self, root: Place, lines: list[LineUsage], *, deletes: bool) -> Work[ThreadRetention | None]:
        """What a thread would lose."""
        if deletes:
            spills: int = yield self._op(root.thread, lambda: rules.spilled_bytes(root))
            lost = _deleted(lines, spills, self._tenant)
        else:
            plan: ThreadPlan = yield self._plan_op(root, deletes=False)
            freed = 0
            if plan.spills:
                freed = yield self._op(root.thread, lambda: rules.dry_sweep(root, plan, self._batch))
            lost = ThreadRetention(
                root.thread, plan.checkpoints, plan.bytes + freed, is_deleted=False, tenant=self._tenant
            )
        self._note(lost.checkpoints, lost.bytes)
        return lost if lost.checkpoints or lost.is_deleted else None

    def _delete(self, root: Place, lines: list[LineUsage]) -> Work[ThreadRetention | None]:
        """Delete a thread; one with many checkpoints is pruned to its newest ones first."""
        if root.thread in self._archived and not (yield self._op(root.thread, lambda: is_archived(root))):
            return None  # it was taken out again meanwhile
        pruned: ThreadRetention | None = None
        if sum(line.checkpoints for line in lines) > self._batch:
            try:
                plan: ThreadPlan = yield self._plan_op(root, deletes=True)
                pruned = yield from self._prune(root, plan, finishes=False)
            except (CorruptRecordError, EncryptionError, SchemaVersionError):
                pass  # what cannot be read can be deleted
        touched = rules.touched_at(lines)
        spills: int | None = yield self._op(root.thread, lambda: rules.delete_untouched(root, touched), kind="delete")
        if spills is None:
            return pruned
        self._forget(root.thread)
        lost = _deleted(lines, spills, self._tenant)
        known = (0, 0) if pruned is None else (pruned.checkpoints, pruned.bytes)
        self._note(lost.checkpoints - known[0], lost.bytes - known[1])
        return lost

    def _prune(self, root: Place, plan: ThreadPlan, *, finishes: bool) -> Work[ThreadRetention]:
        """Drop what goes, batch by batch; with `finishes` the last one drops what is left over, too."""
        limit, cursor, left, checkpoints, size = self._batch, Cursor(), plan.checkpoints, 0, 0
        while cursor.index < len(plan.lines) or (finishes and left >= 0):
            freed = 0
            is_last = left <= limit or cursor.index >= len(plan.lines)  # others may have dropped what was planned to go
            if finishes and is_last:
                batch, freed = yield from self._finish(root, plan, cursor)
                left = -1 if batch.cursor.index >= len(plan.lines) else left
            else:
                batch = yield self._op(
                    root.thread, lambda at=cursor: rules.prune_some(root, plan, at, limit), kind="prune"
                )
            cursor, left = batch.cursor, left - batch.dropped
            checkpoints, size = checkpoints + batch.checkpoints, size + batch.size + freed
            self._note(batch.checkpoints, batch.size + freed)
        return ThreadRetention(root.thread, checkpoints, size, is_deleted=False, tenant=self._tenant)

    def _finish(self, root: Place, plan: ThreadPlan, cursor: Cursor) -> Work[tuple[Batch, int]]:
        """The last batch of a thread. A long thread's steps are looked through before, without keeping anybody out."""
        found = Found({line.usage.line: None if line.goes else line.rule.drops for line in plan.lines})
        if plan.spills and plan.size > self._batch:
            for line, ns, top in (yield self._op(root.thread, lambda: leftovers.read_tops(root))):
                place, after = root.at(ns), START
                found.seen[line] = (top, set())
                while after is not None and not found.goes(line):
                    after = yield self._op(root.thread, lambda p=place, n=line, a=after: leftovers.look(p, n, a, found))
        return (
            yield self._op(
                root.thread, lambda: rules.finish_thread(root, plan, cursor, self._batch, found), kind="prune"
            )
        )


def _deleted(lines: Sequence[LineUsage], spills: int, tenant: str) -> ThreadRetention:
    checkpoints, size = sum(line.checkpoints for line in lines), sum(line.bytes for line in lines)
    return ThreadRetention(lines[0].thread, checkpoints, size + spills, is_deleted=True, tenant=tenant)


# Drivers


def run_work(work: Work[T], run: Callable[[LogOp[Any]], Any]) -> T:
    """Run the operations of `work`, leaving others as much time with the database as it takes itself."""
    try:
        op = next(work)
        while True:
            begun = time.monotonic()
            try:
                given = run(op)
            except Exception as error:
                op = work.throw(error)
            else:
                op, done = work.send(given), op
                time.sleep(_pause(done, begun))
    except StopIteration as stop:
        return stop.value


async def arun_work(work: Work[T], run: Callable[[LogOp[Any]], Awaitable[Any]]) -> T:
    """As `run_work`, without blocking the event loop."""
    import asyncio  # late, for start-up time: whoever awaits this has loaded it

    try:
        op = next(work)
        while True:
            begun = time.monotonic()
            try:
                given = await run(op)
            except Exception as error:
                op = work.throw(error)
            else:
                op, done = work.send(given), op
                await asyncio.sleep(_pause(done, begun))
    except StopIteration as stop:
        return stop.value


def _pause(op: LogOp[Any], begun: float) -> float:
    return min(time.monotonic() - begun, _LONGEST_PAUSE) if op.is_write else 0.0
