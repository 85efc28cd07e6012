"""The table of threads: whose each is, what it is called, when it was last used. Rules over named queries; no I/O.

Invariant: a thread of another owner does not exist for a caller who names one; no rule returns or changes its row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import ormsgpack

from clew.errors import CorruptRecordError, ThreadExistsError, ThreadNotFoundError
from clew.serde.compress import pack, unpack
from clew.storage import upkeep
from clew.storage.log import Place, Waiting
from clew.storage.operation import Touch
from clew.storage.query import Query, Row, Steps

TITLE_MAX = 500  # characters
PAGE = 200  # rows that are looked through at a time where a filter cannot be asked of the database
_NEWEST = 2**62
_LAST = "\U0010ffff" * 256  # after every thread id
_TASK = b"thread row"  # the name under which a sealed row is bound to its thread


class ThreadRow(NamedTuple):
    """A row of the table of threads. Times in microseconds since 1970, `ttl_minutes` in minutes."""

    thread: str
    user_id: str
    status: str
    archived: int
    created_at: int
    updated_at: int
    active_at: int
    last_message_at: int | None
    archived_at: int | None
    ttl_minutes: int | None
    ttl_strategy: str | None
    title: str | None
    metadata: Mapping[str, Any]


class Only(Protocol):
    """Which of an owner's threads exist for a caller, by their metadata; the others are to it as another owner's."""

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the metadata of each must contain; what a database is asked for."""
        ...

    def fits(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a thread with this metadata is one of them."""
        ...

    def made(self, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The metadata of a thread to make, so that it is one of them; raises if it cannot be."""
        ...


def add_thread(place: Place, row: ThreadRow, *, if_exists: str, only: Only | None = None) -> Steps[ThreadRow]:
    """Make a thread; `if_exists` "do_nothing" gives the one that is there, if it has the same owner."""
    text, sealed = _kept(place, row.title, row.metadata)
    added = yield Query(
        "thread_add",
        (
            place.tenant,
            place.thread,
            row.user_id,
            row.status,
            row.created_at,
            row.ttl_minutes,
            row.ttl_strategy,
            *text,
            sealed,
        ),
    )
    if added[0][0]:
        return row
    found = yield from find_thread(place, row.user_id, only)
    if if_exists == "do_nothing" and found is not None:
        return found
    raise ThreadExistsError(
        f"thread {place.thread!r} exists already",
        hint="choose another id, or if_exists='do_nothing' for one of your own",
    )


def find_thread(place: Place, user_id: str | None, only: Only | None = None) -> Steps[ThreadRow | None]:
    """A thread of `user_id`, or of anyone, one of `only`; None if there is none."""
    return seen_thread(place, (yield Query("thread_get", (place.tenant, place.thread))), user_id, only)


def seen_thread(place: Place, rows: Sequence[Row], user_id: str | None, only: Only | None = None) -> ThreadRow | None:
    """The thread that the query "thread_get" has given, for a caller to whom it exists."""
    if not rows:
        return None
    row = read_row(place, rows[0])
    return row if user_id in (None, row.user_id) and (only is None or only.fits(row.metadata)) else None


def get_thread(place: Place, user_id: str | None, only: Only | None = None) -> Steps[ThreadRow]:
    """A thread of `user_id`, or of anyone; raises `ThreadNotFoundError`."""
    found = yield from find_thread(place, user_id, only)
    if found is None:
        raise ThreadNotFoundError(f"there is no thread {place.thread!r}", hint="list the threads there are")
    return found


def change_thread(
    place: Place, user_id: str | None, changes: Mapping[str, Any], now: int, only: Only | None = None
) -> Steps[ThreadRow]:
    """Set fields of a thread; `metadata` is merged into what is there."""
    row = yield from get_thread(place, user_id, only)
    fields = dict(changes)
    if "metadata" in fields:
        fields["metadata"] = {**row.metadata, **fields["metadata"]}
    if "archived" in fields and fields["archived"] != row.archived:
        fields["archived_at"] = now if fields["archived"] else None
    if fields.pop("is_active", False):
        fields["active_at"] = now
        yield Query("thread_active", (place.tenant, place.thread, now))
    row = row._replace(**fields, updated_at=now)
    text, sealed = _kept(place, row.title, row.metadata)
    yield Query(
        "thread_set",
        (
            place.tenant,
            place.thread,
            row.user_id,
            row.status,
            row.archived,
            row.updated_at,
            row.archived_at,
            row.ttl_minutes,
            row.ttl_strategy,
            *text,
            sealed,
        ),
    )
    return row


def remove_thread(place: Place, user_id: str | None, only: Only | None = None) -> Steps[None]:
    """Delete a thread and everything that was stored on it, in one transaction."""
    yield from get_thread(place, user_id, only)
    yield from upkeep.delete_thread(place.tenant, place.thread)


def copy_thread(
    source: Place,
    target: Place,
    user_id: str | None,
    now: int,
    metadata: Mapping[str, Any] | None = None,
    only: Only | None = None,
) -> Steps[ThreadRow]:
    """Copy a thread with everything that is stored on it to one that does not exist yet; `metadata` takes the place of
    its own."""
    row = yield from get_thread(source, user_id, only)
    copied = row._replace(
        thread=target.thread, created_at=now, updated_at=now, active_at=now, archived=0, archived_at=None,
        metadata=row.metadata if metadata is None else metadata,
    )  # fmt: skip
    yield from add_thread(target, copied, if_exists="raise")
    if row.last_message_at is not None:
        yield Query("thread_touch", (target.tenant, target.thread, now))
    yield from upkeep.copy_thread(source, target)
    return copied._replace(last_message_at=None if row.last_message_at is None else now)


def touch_thread(place: Place, touch: Touch) -> Steps[None]:
    """A message came on a thread; does nothing where it is not in the table."""
    yield Query("thread_touch", (place.tenant, place.thread, touch.at))
    if touch.title is None:
        return
    if place.vault.keys is None:
        yield Query("thread_title", (place.tenant, place.thread, touch.title, touch.title.casefold()))
        return
    row = yield from find_thread(place, None)
    if row is not None and row.title is None:
        yield from change_thread(place, None, {"title": touch.title}, touch.at)


def archived_threads(root: Place, before: int) -> Steps[list[str]]:
    """The threads that were archived before a time, in microseconds since 1970."""
    rows = yield from _all_rows(root, archived=1)
    return [row[0] for row in rows if row[8] is not None and row[8] < before]


def is_archived(place: Place) -> Steps[bool]:
    """Whether a thread is archived."""
    rows = yield Query("thread_get", (place.tenant, place.thread))
    return bool(rows) and bool(rows[0][3])


def delete_archived(place: Place, before: int) -> Steps[bool]:
    """Delete a thread, if it was archived before a time and was not taken out since; gives whether it was."""
    rows = yield Query("thread_get", (place.tenant, place.thread))
    if not rows or not rows[0][3] or rows[0][8] is None or rows[0][8] >= before:
        return False
    if (yield Query("thread_busy", (place.tenant, place.thread, 2**61)))[0][0]:
        return False
    yield from upkeep.delete_thread(place.tenant, place.thread)
    return True


def rows_to_rekey(root: Place) -> Steps[list[str]]:
    """The threads whose row is not under the current key."""
    keys, found = root.vault.keys, list[str]()
    assert keys is not None, "only asked where there is a key"
    for archived in (0, 1):
        rows = yield from _all_rows(root, archived=archived)
        found += [row[0] for row in rows if row[-1] is None or not keys.is_current(row[-1])]
    return found


def rekey_row(place: Place) -> Steps[int]:
    """Put a thread's row under the current key; gives how many rows were changed."""
    row = yield from find_thread(place, None)
    if row is None:
        return 0
    yield from change_thread(place, None, {}, row.updated_at)
    return 1


def _all_rows(root: Place, *, archived: int) -> Steps[list[Row]]:
    found: list[Row] = []
    active_at, thread = _NEWEST, _LAST
    while True:
        params = (root.tenant, None, archived, None, None, None, PAGE, 0, None, active_at, thread)
        rows = yield Query("thread_page_everyones_recent_before", params)
        found += rows
        if len(rows) < PAGE:
            return found
        active_at, thread = rows[-1][6], rows[-1][0]


def _kept(
    place: Place, title: str | None, metadata: Mapping[str, Any]
) -> tuple[tuple[str | None, str | None, str | None], bytes | None]:
    """Title and metadata as the row keeps them: in columns of their own, or sealed."""
    if place.vault.keys is None:
        return (title, None if title is None else title.casefold(), json.dumps(metadata)), None
    body = pack(ormsgpack.packb((title, json.dumps(metadata))))
    return (None, None, None), place.vault.seal_task(place, Waiting(0, 0, _TASK, 0, body))


def read_row(place: Place, fields: Row) -> ThreadRow:
    """A row as it is stored."""
    *rest, title, metadata, body = fields
    if body is not None:
        title, metadata = ormsgpack.unpackb(unpack(place.vault.open_task(place, Waiting(0, 0, _TASK, 0, body))))
    elif place.vault.keys is not None and not place.vault.keys.accepts_plaintext:
        raise CorruptRecordError(
            f"the row of thread {place.thread!r} is not encrypted, and this saver has a key",
            hint="accept_plaintext=True reads what was written before there was one",
        )
    return ThreadRow._make((*rest, title, json.loads(metadata or "{}")))
