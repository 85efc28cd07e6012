"""The doctor: reads every stored step of a thread and says what is wrong with it. Needs no user's type."""

from __future__ import annotations

from dataclasses import dataclass, field

from clew.errors import StorageError
from clew.ids import id_text
from clew.storage import log
from clew.storage.log import Place, Position, StepRow, Waiting
from clew.storage.query import Query, Steps
from clew.storage.state import Replay


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, and what."""

    thread_id: str
    ns: str
    checkpoint_id: str | None
    message: str


@dataclass(slots=True)
class Report:
    """What `verify` found: how much it read, and the problems in it."""

    threads: int = 0
    steps: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])

    @property
    def is_intact(self) -> bool:
        return not self.problems


def verify_thread(root: Place, report: Report) -> Steps[Report]:
    """Check every chain of a thread: gapless, readable, and giving the state whose fingerprint was stored."""
    report.threads += 1
    for line, ns, branch, seq, _ in (yield Query("head_list", (root.tenant, root.thread))):
        yield from _Check(root.at(ns), line, (branch, seq), report).run()
    return report


class _Check:
    """The check of one namespace."""

    def __init__(self, place: Place, line: int, tip: Position, report: Report) -> None:
        self._place = place
        self._line = line
        self._tip = tip
        self._report = report

    def run(self) -> Steps[None]:
        tenant = self._place.tenant
        keys = yield Query("step_rows", (tenant, self._line))
        positions = {(row[0], row[1]) for row in keys}
        if self._tip[1] and self._tip not in positions:
            self._problem(None, f"the newest step {self._tip} is missing")
        if keys:
            newest = max(keys, key=lambda row: row[3])
            if (newest[0], newest[1]) != self._tip:
                self._problem(newest[3], "the head does not point at the newest checkpoint")
        for branch in sorted({row[0] for row in keys}):
            yield from self._branch(branch, [row for row in keys if row[0] == branch])
        for fields in (yield Query("pending_list", (tenant, self._line))):
            try:
                yield from log.read_task(self._place, Waiting(*fields))
            except StorageError as error:
                self._problem(None, str(error))

    def _branch(self, branch: int, keys: list[tuple[object, ...]]) -> Steps[None]:
        replay: Replay | None = None
        previous: int | None = None
        key_seq: int | None = None
        for key in keys:
            seq = int(str(key[1]))
            rows = yield from log.read_chain(self._place, self._line, branch, seq, seq)
            self._report.steps += 1
            if not rows or not isinstance(key[3], bytes) or rows[0].checkpoint_id != key[3]:
                self._problem(None, f"step {seq} of branch {branch} is listed in one place and missing in another")
                replay, previous = None, seq
                continue
            row = rows[0]
            if row.seq == row.key_seq:
                replay, key_seq = Replay(), row.seq
            elif row.key_seq != key_seq:
                self._problem(row.checkpoint_id, f"its keyframe {row.key_seq} is missing")
                replay = None
            elif previous != row.seq - 1:
                self._problem(row.checkpoint_id, f"the steps between {previous} and {row.seq} are missing")
                replay = None
            previous = row.seq
            replay = yield from self._step(row, replay)

    def _step(self, row: StepRow, replay: Replay | None) -> Steps[Replay | None]:
        """Read one step; gives the replay to go on with, or None if what builds on this step cannot be checked."""
        try:
            record = yield from log.read_record(self._place, row)
            if replay is None:
                return None
            log.advance(replay, row, record)
        except StorageError as error:
            self._problem(row.checkpoint_id, str(error))
            return None
        if not replay.is_intact():
            self._problem(row.checkpoint_id, "its state is not the one that was stored")
        return replay

    def _problem(self, checkpoint_id: bytes | None, message: str) -> None:
        id = None if checkpoint_id is None else id_text(checkpoint_id)
        self._report.problems.append(Problem(self._place.thread, self._place.ns, id, message))
