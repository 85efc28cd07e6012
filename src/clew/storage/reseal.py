"""Encrypted rows that move or get another key: each is opened where it was and sealed for where it will be.

Works on bytes; no user's type is needed. Large leaves are named by a keyed hash that is their thread's own, so they get
new names, too, and the records that refer to them are changed.

Invariant: every transaction leaves a thread readable; rows under the old key and under the new one may stand side by
side, and a leaf that rows still refer to by its old name stays until none does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

import ormsgpack

from clew.errors import CorruptRecordError
from clew.serde.compress import pack, unpack
from clew.storage import log
from clew.storage.log import Place, Position, StepRow, Waiting
from clew.storage.plain import MARK
from clew.storage.query import Query, Steps

if TYPE_CHECKING:
    from clew.serde.keys import KeyRing

BATCH = 64  # rows whose bodies are in memory at once
Span = tuple[int, int, int]  # branch, first and last seq
Part = tuple[int, str, Span]  # line and namespace, and which of its steps


class _Spills:
    """The large leaves of one thread on their way to another one, or to another key: a new name for each old one."""

    def __init__(self, source: Place, target: Place) -> None:
        self._source = source
        self._target = target
        self._names: dict[bytes, bytes] = {}

    def renamed(self, names: list[bytes]) -> Steps[list[bytes]]:
        """The new names of leaves, which are stored under them if they were not yet."""
        for name in names:
            if name not in self._names:
                source, target = self._source, self._target
                content = (yield from log.read_spills(source, [name]))[name]
                new = target.vault.content_hash(target, content)
                body = target.vault.seal_spill(target, new, content)
                yield from log.write_spills(target, {new: body})
                self._names[name] = new
        return [self._names[name] for name in names]

    def step(self, place: Place, row: StepRow) -> Steps[StepRow]:
        """A row as it is stored at the place it goes to; itself if it is there under the current key, and names
        nothing that got another name."""
        source = self._source.at(place.ns)
        before = source.vault.open_step(source, row)
        envelope = yield from self._envelope(before, 2)
        if envelope is before and self._stays(row.body):
            return row
        return place.vault.seal_step(place, row._replace(body=envelope))

    def task(self, place: Place, row: Waiting) -> Steps[bytes]:
        """The body of a pending row, likewise."""
        source = self._source.at(place.ns)
        before = source.vault.open_task(source, row)
        envelope = yield from self._envelope(before, 1)
        if envelope is before and self._stays(row.body):
            return row.body
        return place.vault.seal_task(place, row._replace(body=envelope))

    def _stays(self, body: bytes) -> bool:
        keys = self._target.vault.keys
        return self._source is self._target and keys is not None and keys.is_current(body)

    def _envelope(self, envelope: bytes, arrays: int) -> Steps[bytes]:
        """The same record with the new names of its leaves, which are the last thing in the last of its arrays."""
        record = unpack(envelope)
        if record.startswith(MARK):
            return envelope  # a small plain step has none
        try:
            parts: list[list[Any]] = ormsgpack.unpackb(bytes((0x90 | arrays,)) + record)
        except (ValueError, TypeError) as error:
            raise CorruptRecordError(f"a stored record cannot be parsed: {error}") from error
        names: list[bytes] = parts[-1][-1]
        if not names:
            return envelope
        new = yield from self.renamed(names)
        if new == names:
            return envelope
        parts[-1][-1] = new
        return pack(b"".join(map(ormsgpack.packb, parts)))


def copy_line(source: Place, target: Place, line: int, copied: int) -> Steps[None]:
    """Copy the steps and the pending writes of a namespace, row by row, for another thread."""
    spills = _Spills(source, target)
    for branch, first, last in _spans((yield Query("step_rows", (source.tenant, line)))):
        for row in (yield from log.read_chain(source, line, branch, first, last)):
            moved = yield from spills.step(target, row)
            yield Query("step_add", (target.tenant, copied, *moved))
    for fields in (yield Query("pending_list", (source.tenant, line))):
        row = Waiting(*fields)
        body = yield from spills.task(target, row)
        yield Query("pending_put", (target.tenant, copied, *row.position, row.task_id, row.epoch, body))


# Another key


class Rekeying:
    """One thread's way to the current key, in transactions of about `BATCH` rows each."""

    def __init__(self, root: Place, keys: KeyRing) -> None:
        self._root = root
        self._keys = keys
        self._renames = False

    @property
    def renames(self) -> bool:
        """Whether there are leaves under old names, which are to be swept at the end."""
        return self._renames

    def open(self) -> Steps[list[Part]]:
        """What is to be looked at."""
        root = self._root
        for (name,) in (yield Query("spill_list", (root.tenant, root.thread))):
            rows = yield Query("spill_read", (root.tenant, root.thread, name))
            self._renames = self._renames or any(not self._keys.is_current(body) for (body,) in rows)
        parts: list[Part] = []
        for line, ns, *_ in (yield Query("head_list", (root.tenant, root.thread))):
            parts += [(line, ns, span) for span in _spans((yield Query("step_rows", (root.tenant, line))))]
        return parts

    def steps(self, part: Part) -> Steps[int]:
        """Rewrite the steps of one part that need it; gives their number."""
        line, ns, span = part
        place, spills, changed = self._root.at(ns), _Spills(self._root, self._root), 0
        top = yield from self._top_branch(line)
        if top is None:
            return 0
        for row in (yield from log.read_chain(place, line, *span)):
            if not self._is_due(row.body):
                continue
            sealed = yield from spills.step(place, row)
            if sealed is not row:
                yield Query("step_rewrite", (row.key_seq, sealed.body, place.tenant, line, *row.position))
                changed += 1
        if changed:  # what retention has seen of the namespace's leaves does not hold any more: see `leftovers`
            yield Query("head_branch", (top + 1, place.tenant, line))
        return changed

    def pending(self) -> Steps[int]:
        """Rewrite the pending writes that need it; gives their number."""
        root, spills, changed = self._root, _Spills(self._root, self._root), 0
        for line, ns, *_ in (yield Query("head_list", (root.tenant, root.thread))):
            place = root.at(ns)
            for fields in (yield Query("pending_list", (root.tenant, line))):
                row = Waiting(*fields)
                if not self._is_due(row.body):
                    continue
                body = yield from spills.task(place, row)
                if body is not row.body:
                    yield Query("pending_put", (place.tenant, line, *row.position, row.task_id, row.epoch, body))
                    changed += 1
        return changed

    def _is_due(self, body: bytes) -> bool:
        """Whether a row has to be opened: it is under another key, or may name a leaf that is."""
        return self._renames or not self._keys.is_current(body)

    def _top_branch(self, line: int) -> Steps[int | None]:
        """The namespace's top branch, None if it is gone; locks the thread's heads where a backend locks rows."""
        rows = yield Query("head_list", (self._root.tenant, self._root.thread))
        return next((top for found, *_, top in rows if found == line), None)


def _spans(rows: Iterable[tuple[Any, ...]]) -> Generator[Span]:
    """Rows of `step_rows` as (branch, first, last), each of no more than a batch."""
    positions: Iterable[Position] = ((row[0], row[1]) for row in rows)
    for branch, group in groupby(positions, key=lambda position: position[0]):
        seqs = [seq for _, seq in group]
        for start in range(0, len(seqs), BATCH):
            part = seqs[start : start + BATCH]
            yield branch, part[0], part[-1]
