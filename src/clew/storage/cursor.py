"""A cursor: a run's place in the log of one namespace.

A cursor moves when an operation is built, since the operations of a session run in the order in which they were
built; only what needs storage to know (row numbers, the epoch) is read when they run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from clew.constants import START
from clew.errors import CheckpointNotFoundError, StorageError
from clew.ids import id_bytes, id_text
from clew.protocols import Committed, HistoryQuery, Saved, Step, TaskWrites
from clew.storage import encode, log
from clew.storage.heads import read_checkpoint
from clew.storage.history import read_history
from clew.storage.loaded import Loaded, saved
from clew.storage.log import Expected, Head, NewStep, Place, Position, StepRow, Waiting
from clew.storage.memo import Memo
from clew.storage.operation import Intent, LogOp, Touch
from clew.storage.plain import STATE_LIMIT, pack_plain
from clew.storage.query import Steps
from clew.storage.records import Spills, pack_step, pack_task
from clew.storage.session import Claim, LogSession
from clew.storage.state import EMPTY, Recent, State
from clew.storage.threads import TITLE_MAX, touch_thread


class LogCursor:
    """A run's place in the log of one namespace."""

    def __init__(self, session: LogSession, ns: str) -> None:
        self.ns = ns
        self.session = session
        self.place = session.saver.place(session.thread_id, ns, session.tenant)
        self._head: Head | None = None  # of the namespace, as loaded; only its line and top branch stay true
        self._tip: Position | None = None  # the namespace's tip once all built operations have run
        self._top_branch = 0
        self.line: int | None = None
        self._has_line = False  # the head row was loaded, or an operation that makes it was built
        self._position: Position | None = None  # where the cursor stands; None: on the empty state
        self._state: State | Recent = EMPTY
        self._memos: dict[str, Memo] = {}

    # Reading

    def load(
        self, *, checkpoint_id: str | None = None, from_ns: str | None = None, opaque: bool = False
    ) -> LogOp[Saved | None]:
        """Read a checkpoint and stand on it; see `clew.protocols.Cursor.load`.

        With `opaque`, values of unknown types are given as `clew.serde.Opaque` instead of refused.
        """

        def steps() -> Steps[Loaded | None]:
            return self._load(None if checkpoint_id is None else id_bytes(checkpoint_id), from_ns)

        def finish(loaded: Loaded | None) -> Saved | None:
            return None if loaded is None else self._saved(loaded, opaque=opaque)

        return LogOp(self.session, steps, kind="load", finish=finish)

    def history(self, query: HistoryQuery, *, opaque: bool = False) -> LogOp[list[Saved]]:
        """List checkpoints, newest first; see `clew.protocols.Cursor.history`."""
        codec = self.session.codec

        def decode(data: bytes) -> Any:
            return codec.decode(data, opaque=opaque)

        def finish(listed: list[Loaded]) -> list[Saved]:
            return [saved(loaded, decode) for loaded in listed]

        return LogOp(self.session, lambda: read_history(self.place, query, decode), kind="read", finish=finish)

    # Writing

    def commit(self, step: Step, *, claim: bool = False, checkpoint_id: str | None = None) -> Committed[None]:
        """Encode `step` as the child of where the cursor stands, and move there."""
        session, before, parent = self.session, self._state, self._position
        # A fork of the newest step leaves its line too: what subgraphs did under that step is not the fork's past.
        starts_branch = parent is None or parent != self._tip or step.metadata.get("source") == "fork"
        branch, seq = self._next_position(starts_branch=starts_branch)
        in_full = starts_branch or session.saver.wants_keyframe(before, seq)
        body = None if in_full or before.size > STATE_LIMIT else pack_plain(step)
        spills: Spills = {}
        if body is not None:
            after = Recent(before, body)
        else:
            after, record = encode.encode_step(before.full(), step, session.codec, in_full=in_full, memos=self._memos)
            body, _, spills = pack_step(record, self.place)
        claiming = self._take_claim(branch if starts_branch else None)
        root = None if self.ns == "" else session.root
        if checkpoint_id is None:
            after.id = id = session.new_id()
        else:
            after.id = id = id_bytes(checkpoint_id)
            session.saw_id(id)
        after.created_at = created_at = time.time_ns() // 1000
        after.key_seq = seq if in_full else before.key_seq
        root_branch, root_seq = (None, None) if root is None else root
        run_id = encode.run_bytes(step.metadata)
        place = self.place
        row = StepRow(branch, seq, after.key_seq, id, root_branch, root_seq, run_id, created_at, body)
        row = place.vault.seal_step(place, row)
        after.since = 0 if in_full else before.since + len(row.body)
        new = NewStep(row, after.since, spills, self._tip, parent if starts_branch else None)
        touch = None if claiming is None else self._touch(created_at, step)
        makes_line = self._takes_line()
        position = (branch, seq)
        self._stand_on(after, position)
        op: LogOp[None] = LogOp(
            session,
            partial(self._commit, new, claiming, touch, makes_line=makes_line),
            kind="commit",
            done=partial(self._remember, after, position),
            size=len(body) + sum(map(len, spills.values())) if spills else len(body),
            intent=Intent(self, claiming, makes_line, spills, step=new, touch=touch),
        )
        return Committed(id_text(id), encode.timestamp(created_at), op)

    def claim(self, writes: Sequence[TaskWrites] = ()) -> LogOp[None]:
        """Take the thread without a new checkpoint, saving `writes` as pending in the same statement."""
        return self._pending_op(writes, "claim")

    def save_writes(self, writes: Sequence[TaskWrites]) -> LogOp[None]:
        """Save writes of tasks of the superstep that follows the checkpoint the cursor stands on."""
        return self._pending_op(writes, "pending")

    # What operations do when they run

    def _load(self, checkpoint_id: bytes | None, from_ns: str | None) -> Steps[Loaded | None]:
        session = self.session
        head = yield from log.read_head(self.place)
        self._note_head(head)
        source, source_head = self.place, head
        if from_ns is not None and from_ns != self.ns:
            source = self.place.at(from_ns)
            source_head = yield from log.read_head(source)
        if source_head is None:
            if checkpoint_id is not None:
                raise self._missing(checkpoint_id, source)
            return self._stand_on_nothing()
        if checkpoint_id is None:
            lineage = None if source.ns == "" else session.lineage
            position = yield from log.newest_on_line(source, source_head, lineage)
            if position is None:
                return self._stand_on_nothing()
            row = None
        else:
            row = yield from log.read_step(source, source_head.line, checkpoint_id)
            if row is None:
                raise self._missing(checkpoint_id, source)
            position = row.position
        loaded = yield from read_checkpoint(session.saver.heads, source, source_head, position, row)
        if source is self.place:
            self._stand_on(loaded.state, position)
            self._tip = None if head is None else head.position
        else:
            self._stand_on(loaded.state, None)
            self._tip = head.position if head is not None and head.seq else None
        if self.ns == "" and source is self.place:
            yield from self._note_root(position)
        return loaded

    def _commit(self, step: NewStep, claiming: Claim | None, touch: Touch | None, *, makes_line: bool) -> Steps[None]:
        session, place = self.session, self.place
        if self.ns == "":
            yield from self._commit_root(step, claiming)
            if touch is not None:
                yield from touch_thread(place, touch)
            return
        if claiming is not None:
            yield from self._run_claim(claiming)
        else:
            yield from log.check_epoch(place, session.root_line, session.epoch)
        line = yield from self._find_line(makes_line=makes_line)
        yield from log.write_step(place, line, (0, 0), step)

    def _commit_root(self, step: NewStep, claiming: Claim | None) -> Steps[None]:
        """Fence, claim and move in one statement: the head row of the root is the thread's fence."""
        session, place = self.session, self.place
        if claiming is None:
            yield from log.write_step(place, session.root_line, (session.epoch, session.epoch), step)
            return
        yield from log.check_guard(place, session.guard)
        expected = claiming.expected
        if expected is None or not claiming.is_known:
            line, epoch = yield from log.claim_thread(
                place, expected, is_known=claiming.is_known, reserve=claiming.reserve
            )
            yield from log.write_step(place, line, (epoch, epoch), step)
        else:
            line, epoch = expected.line, expected.epoch + 1
            yield from log.write_step(place, line, (expected.epoch, epoch), step)
        session.root_line, session.epoch = line, epoch
        self.line = line

    def _save_pending(
        self,
        tasks: Sequence[tuple[bytes, bytes]],
        spills: Spills,
        position: Position,
        claiming: Claim | None,
        touch: Touch | None,
        *,
        makes_line: bool,
    ) -> Steps[None]:
        session, place = self.session, self.place
        if claiming is not None:
            yield from self._run_claim(claiming)
            if touch is not None:
                yield from touch_thread(place, touch)
        else:
            yield from log.check_epoch(place, session.root_line, session.epoch)
        if tasks:
            line = yield from self._find_line(makes_line=makes_line)
            yield from log.write_pending(place, line, position, session.epoch, tasks, spills)

    def _run_claim(self, claiming: Claim) -> Steps[None]:
        session = self.session
        yield from log.check_guard(self.place, session.guard)
        session.root_line, session.epoch = yield from log.claim_thread(
            self.place, claiming.expected, is_known=claiming.is_known, reserve=claiming.reserve
        )

    def _find_line(self, *, makes_line: bool) -> Steps[int]:
        """The number of the namespace's head row; the cursor's first write makes the row if it did not exist.

        An operation makes it each time it is run, so that one whose transaction was rolled back can be run again.
        """
        if self.ns == "":
            return self.session.root_line
        if makes_line:
            line = yield from log.add_head(self.place)
            if line is None:
                head = yield from log.read_head(self.place)
                assert head is not None, "a head row that exists can be read in the same transaction"
                line = head.line
            self.line = line
        assert self.line is not None, "the first write of the cursor has made the row"
        return self.line

    def _takes_line(self) -> bool:
        takes = self.ns != "" and not self._has_line
        self._has_line = True
        return takes

    # Where the cursor and the session stand

    def _next_position(self, *, starts_branch: bool) -> Position:
        if not starts_branch:
            assert self._position is not None, "a cursor on the empty state starts a branch"
            return self._position[0], self._position[1] + 1
        if self._tip is None or self._tip[1] == 0:
            return self._top_branch, 1
        return self._top_branch + 1, 1

    def _stand_on(self, state: State | Recent, position: Position | None) -> None:
        self._state = state
        self._position = position
        if position is not None:
            self._top_branch = max(self._top_branch, position[0])
            self._tip = position
            if self.ns == "":
                self.session.root = position
                self.session.reserved = None
                lineage = self.session.lineage
                if lineage is not None and lineage[0][0] == position[0]:
                    self.session.lineage = (position, *lineage[1:])
                elif lineage is not None:  # a fork of the newest step
                    left_branch, left_seq = lineage[0]
                    self.session.lineage = (position, (left_branch, left_seq - 1), *lineage[1:])

    def _stand_on_nothing(self) -> None:
        head = self._head
        self._state = EMPTY
        self._position = None
        self._tip = None if head is None else head.position
        if self.ns == "":
            branch = 0 if head is None else head.branch
            self.session.root = (branch, 0)
            self.session.lineage = ((branch, 0),)

    def _note_head(self, head: Head | None) -> None:
        session = self.session
        self._head = head
        self.line = None if head is None else head.line
        self._has_line = head is not None
        self._top_branch = 0 if head is None else head.top_branch
        self._tip = None if head is None else head.position
        if head is not None:
            session.saw_id(head.last_id)
        if self.ns == "" and not session.claimed:
            session.is_known = True
            session.expected = (
                None if head is None else Expected(head.line, head.epoch, head.branch, head.seq, head.top_branch)
            )

    def _note_root(self, position: Position) -> Steps[None]:
        """Work out the line of root steps that subgraphs of this run belong to."""
        session, head = self.session, self._head
        assert head is not None, "a step was loaded from it"
        lineage = yield from log.read_lineage(self.place, head.line, position)
        if position == head.position:
            session.root, session.lineage, session.reserved = position, lineage, None
            return
        branch, seq = position
        session.reserved = self._top_branch + 1
        session.root = (session.reserved, 0)
        session.lineage = (session.root, (branch, seq - 1), *lineage[1:])

    def _take_claim(self, branch: int | None = None) -> Claim | None:
        session = self.session
        if session.claimed:
            return None
        session.claimed = True
        reserve = branch if self.ns == "" and branch is not None else session.reserved
        return Claim(session.expected, session.is_known, reserve)

    def _touch(self, at: int, step: Step | None) -> Touch | None:
        """What a claim tells the table of threads, where that is in use: an input (`step`) or an answer has come."""
        titler = self.session.saver.titler
        if titler is None or self.ns or (step is not None and step.metadata.get("source") != "input"):
            return None
        title = None if step is None else titler(step.values.get(START))
        # A message may hold what the column of titles cannot.
        return Touch(at, title and title.replace("\x00", " ").encode("utf-8", "replace").decode()[:TITLE_MAX])

    def _pending_position(self) -> Position:
        if self.ns == "" and self.session.reserved is not None:
            return (self.session.reserved, 0)
        return self._position or (0, 0)

    def _pending_op(self, writes: Sequence[TaskWrites], kind: str) -> LogOp[None]:
        codec, place, position = self.session.codec, self.place, self._pending_position()
        spills: Spills = {}
        tasks: list[tuple[bytes, bytes]] = []
        for write in writes:
            task = encode.encode_task(write, codec)
            body, spilled = pack_task(task, place)
            spills |= spilled
            tasks.append((task.task_id, place.vault.seal_task(place, Waiting(*position, task.task_id, 0, body))))
        claiming = self._take_claim()
        touch = None if claiming is None else self._touch(time.time_ns() // 1000, None)
        makes_line = bool(tasks) and self._takes_line()
        return LogOp(
            self.session,
            lambda: self._save_pending(tasks, spills, position, claiming, touch, makes_line=makes_line),
            kind=kind,
            size=sum(len(body) for _, body in tasks),
            intent=Intent(self, claiming, makes_line, spills, tasks=tasks, position=position, touch=touch),
        )

    def _remember(self, state: State | Recent, position: Position) -> None:
        line = self.session.root_line if self.ns == "" else self.line
        if line is not None:
            self.session.saver.heads.put(self.place, line, position, state)

    def _saved(self, loaded: Loaded, *, opaque: bool) -> Saved:
        codec = self.session.codec

        def decode(data: bytes) -> Any:
            return codec.decode(data, opaque=opaque)

        try:
            self._memos.clear()
            return saved(loaded, decode, self._memos)
        except StorageError as error:
            error.add_note(f"in checkpoint {id_text(loaded.id)} of thread {self.place.thread!r}")
            raise

    def _missing(self, checkpoint_id: bytes, place: Place) -> CheckpointNotFoundError:
        where = f" in namespace {place.ns!r}" if place.ns else ""
        return CheckpointNotFoundError(
            f"thread {place.thread!r} has no checkpoint {id_text(checkpoint_id)!r}{where}",
            hint="list the thread's checkpoints with get_state_history",
        )
