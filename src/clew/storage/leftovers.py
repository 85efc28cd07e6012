"""What a thread no longer needs: large leaves that nothing refers to, writes that wait for nothing, forks of nothing.

A thread of any length is looked through a page at a time before the transaction that drops; that one only reads what
has changed since.

Invariant: who rewrites steps in the middle of a branch so that they refer to other leaves (a checkpoint that is
replaced, another key) raises the namespace's top branch, and what was seen of it is seen anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from clew.storage import log, upkeep
from clew.storage.log import Place, Position, StepRow
from clew.storage.query import Query, Row, Steps

PAGE = 256  # steps read at a time, with their bodies
Drops = Callable[[bytes, int], bool]  # a checkpoint's id and when it was made


@dataclass(slots=True)
class Found:
    """What was seen of a thread's large leaves: hashes that something refers to, and which steps were looked at.

    `doomed` says of namespaces which of their steps go; None: all of them.
    """

    doomed: dict[int, Drops | None] = field(default_factory=dict[int, "Drops | None"])
    seen: dict[int, tuple[int, set[Position]]] = field(default_factory=dict[int, tuple[int, set[Position]]])
    hashes: set[bytes] = field(default_factory=set[bytes])

    def goes(self, line: int) -> bool:
        """Whether a namespace goes as a whole."""
        return self.doomed.get(line, _nothing) is None

    def drops(self, line: int) -> Drops:
        """Which steps of a namespace go."""
        return self.doomed.get(line) or _nothing


def read_tops(root: Place) -> Steps[list[tuple[int, str, int]]]:
    """The namespaces of a thread: line, name, top branch."""
    return [(line, ns, top) for line, ns, _, _, top in (yield Query("head_list", (root.tenant, root.thread)))]


def look(place: Place, line: int, after: Position, found: Found) -> Steps[Position | None]:
    """Look at the next page of a namespace's steps; gives where to go on, None at the end."""
    rows = yield Query("step_page", (place.tenant, line, *after, PAGE))
    drops, positions = found.drops(line), found.seen.setdefault(line, (0, set()))[1]
    for row in map(StepRow._make, rows):
        if not drops(row.checkpoint_id, row.created_at):
            found.hashes.update(upkeep.step_spills(place, row))
            positions.add(row.position)
    return (rows[-1][0], rows[-1][1]) if len(rows) == PAGE else None


def sweep(root: Place, found: Found, emptied: frozenset[int], *, is_dry: bool = False) -> Steps[int]:
    """Drop everything that is left over; gives the bytes of the large leaves among it. `emptied` are namespaces that
    had no step any more."""
    tenant, thread = root.tenant, root.thread
    stored: dict[bytes, int] = dict((yield Query("spill_sizes", (tenant, thread))))
    for line, ns, branch, seq, top in (yield Query("head_list", (tenant, thread))):
        if found.goes(line):
            continue
        place = root.at(ns)
        if stored:
            yield from _look_again(place, line, top, found)
        pending = yield from _sweep_pending(place, line, top, found, is_dry=is_dry)
        for row in pending if stored else ():
            found.hashes.update(upkeep.task_spills(place, row))
        if is_dry:
            continue
        if line in emptied and seq == 0 and not pending:
            yield from upkeep.drop_line(tenant, line)
        else:
            yield from _sweep_forks(tenant, line, branch)
    unused = stored.keys() - found.hashes
    if not is_dry:
        for hash in unused:
            yield Query("spill_drop", (tenant, thread, hash))
    return sum(stored[hash] for hash in unused)


def _look_again(place: Place, line: int, top: int, found: Found) -> Steps[None]:
    """Look at the steps of a namespace that were not looked at before."""
    known, positions = found.seen.get(line, (0, set[Position]()))
    if not positions or known != top:
        after: Position | None = (-1, 0)
        while after is not None:
            after = yield from look(place, line, after, found)
        return
    drops = found.drops(line)
    for key in (yield from upkeep.read_keys(place.tenant, line)):
        if key.position not in positions and not drops(key.checkpoint_id, key.created_at):
            for row in (yield from log.read_chain(place, line, key.branch, key.seq, key.seq)):
                found.hashes.update(upkeep.step_spills(place, row))


def _sweep_pending(place: Place, line: int, top: int, found: Found, *, is_dry: bool) -> Steps[list[Row]]:
    """Drop writes that wait behind nothing; gives those that stay.

    Nothing ever reads what waits behind a branch that was reserved once it has begun or a later one was reserved, or
    for a checkpoint that would be older than every one there is.
    """
    rows = yield Query("pending_list", (place.tenant, line))
    if not rows:
        return []
    drops = found.drops(line)
    keys = [key for key in (yield from upkeep.read_keys(place.tenant, line)) if not drops(*_id_and_time(key))]
    positions = {key.position for key in keys}
    oldest = min((key.checkpoint_id for key in keys), default=b"")
    kept: list[Row] = []
    for row in rows:
        branch, seq, id = row[:3]
        if seq:
            waits = (branch, seq) in positions
        elif branch < 0:
            waits = id[:16] >= oldest
        else:
            waits = branch == top and (branch, 1) not in positions
        if waits:
            kept.append(row)
        elif not is_dry:
            yield Query("pending_drop", (place.tenant, line, *row[:3]))
    return kept


def _sweep_forks(tenant: str, line: int, tip: int) -> Steps[None]:
    """Forget where branches forked off that are gone, as is everything that forked off them."""
    origins = {branch: origin for branch, origin, _ in (yield Query("fork_list", (tenant, line)))}
    if not origins:
        return
    needed = {branch for (branch,) in (yield Query("step_branches", (tenant, line)))} | {tip}
    for branch in list(needed):
        while (origin := origins.get(branch)) is not None and origin not in needed:
            needed.add(origin)
            branch = origin
    for branch in origins.keys() - needed:
        yield Query("fork_drop", (tenant, line, branch))


def _id_and_time(key: upkeep.StepKey) -> tuple[bytes, int]:
    return key.checkpoint_id, key.created_at


def _nothing(id: bytes, created_at: int) -> bool:
    return False
