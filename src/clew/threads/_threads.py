"""The table of threads, over a saver: each method once for both ways of waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

from clew.checkpoint._face import CheckpointSaver
from clew.errors import InvalidQueryError, StorageError
from clew.ids import new_id
from clew.ids import thread_id as check_thread_id
from clew.storage import threads as rules
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.session import LogSession
from clew.storage.thread_lists import Sought, count_sought, search_threads
from clew.storage.threads import TITLE_MAX, Only, ThreadRow
from clew.threads._kept import is_unkept, kept
from clew.threads._titles import first_words

T = TypeVar("T")

Status = Literal["idle", "busy", "interrupted", "error"]
"""What a thread is at: nothing, a run, a question that waits for its answer, or a run that failed."""
Titler = Callable[[Any], str | None]
LIMIT = 1000
SORTS = ("thread_id", "status", "created_at", "updated_at", "state_updated_at")
USER_MAX = 255


class _Everyone:
    """The type of `EVERYONE`."""

    def __repr__(self) -> str:
        return "EVERYONE"


EVERYONE: Final = _Everyone()
"""In place of a user: threads of every owner, for maintenance. Never pass what a request says."""


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread. Lists are in the order of `last_message_at`, or of `created_at` where no message came, or of a change
    to its state by hand."""

    id: str
    user_id: str
    title: str | None
    status: Status
    archived: bool
    created_at: datetime
    updated_at: datetime
    last_message_at: datetime | None
    archived_at: datetime | None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ttl_minutes: int | None = None
    ttl_strategy: Literal["delete", "keep_latest"] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of threads, and where the next one begins (None: there is none)."""

    threads: tuple[Thread, ...]
    next: str | None


class Threads:
    """The threads in a saver's database.

    `storage` is a saver of clew. Every call says whose threads it is about: by `user_id`, by the owner that this object
    is bound to (`of`), or `EVERYONE`; one that says nothing is refused. Another user's thread does not exist: there is
    no way to tell it from one that was never made.

    From then on a run of the saver keeps the time of a thread's last message, and its title if it has none: `titler`
    is given the run's input and gives one, or None; by default it is the beginning of the first message of a human.
    That travels with the statement that starts a run.
    """

    def __init__(self, storage: CheckpointSaver, *, titler: Titler | None = first_words) -> None:
        if not isinstance(storage, CheckpointSaver):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise TypeError(f"storage is a {type(storage).__name__}, not a saver of clew")
        self.storage = storage
        self._owner: str | _Everyone | None = None
        self._only: Only | None = None
        for saver in (storage, storage.original):
            if saver is not None:
                saver.titler = titler or _untitled

    def of(self, user_id: str | _Everyone, *, only: Only | None = None) -> Threads:
        """The threads of one user, or of `EVERYONE`; with `only`, those whose metadata fit: the others do not exist."""
        bound = object.__new__(Threads)
        bound.storage = self.storage
        bound._owner = _user(user_id)
        bound._only = only
        return bound

    # Each operation, blocking

    def create(
        self,
        thread_id: str | None = None,
        *,
        user_id: str | _Everyone | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        if_exists: Literal["raise", "do_nothing"] = "raise",
        ttl_minutes: int | None = None,
        ttl_strategy: Literal["delete", "keep_latest"] | None = None,
    ) -> Thread:
        """Make a thread; without `thread_id` with a UUID of version 7 as its id.

        Raises `ThreadExistsError` if there is one, unless `if_exists` is "do_nothing" and it is the same user's.
        """
        return self.storage.run(self._create(thread_id, user_id, title, metadata, if_exists, ttl_minutes, ttl_strategy))

    def get(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """A thread; raises `ThreadNotFoundError`."""
        return self.storage.run(self._get(thread_id, user_id))

    def list(
        self,
        *,
        user_id: str | _Everyone | None = None,
        archived: bool = False,
        status: Status | None = None,
        metadata: Mapping[str, Any] | None = None,
        text: str | None = None,
        limit: int = 20,
        after: str | None = None,
    ) -> Page:
        """A page of threads, recently active first. `text` is looked for in titles, whatever its case; `metadata` must
        be contained in a thread's; `after` is `Page.next` of the page before. At most 1,000 at a time."""
        return self.storage.run(self._list(user_id, archived, status, metadata, text, limit, after))

    def search(self, *, user_id: str | _Everyone | None = None, **wanted: Any) -> tuple[Thread, ...]:
        """Threads by number: from the `offset`th on, `limit` (20) at most. Filters are `archived` (None: both),
        `status`, `metadata`, `text` and `ids`; `sort_by` is "thread_id", "status", "created_at", "updated_at" or
        "state_updated_at", `is_descending` (True). Of long lists, `list` gives the later pages sooner."""
        return self.storage.run(self._search(user_id, wanted))

    def count(self, *, user_id: str | _Everyone | None = None, **wanted: Any) -> int:
        """How many threads there are; filters as in `search`."""
        return self.storage.run(self._count(user_id, wanted))

    def rename(self, thread_id: str, title: str | None, *, user_id: str | _Everyone | None = None) -> Thread:
        """Set a thread's title; None has the next message title it."""
        return self.storage.run(self._change(thread_id, user_id, {"title": _title(title)}))

    def update(
        self,
        thread_id: str,
        *,
        user_id: str | _Everyone | None = None,
        title: str | None = None,
        archived: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: Status | None = None,
        ttl_minutes: int | None = None,
        ttl_strategy: Literal["delete", "keep_latest"] | None = None,
        is_active: bool = False,
    ) -> Thread:
        """Merge `metadata` into a thread's, and set what else is given. With `is_active` it comes first in lists, as if
        a message had come."""
        return self.storage.run(
            self._change(
                thread_id,
                user_id,
                _given(title, archived, metadata, status, ttl_minutes, ttl_strategy, is_active=is_active),
            )
        )

    def archive(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """Take a thread out of lists; its checkpoints stay."""
        return self.storage.run(self._change(thread_id, user_id, {"archived": 1}))

    def unarchive(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """Put a thread back into lists."""
        return self.storage.run(self._change(thread_id, user_id, {"archived": 0}))

    def transfer(self, thread_id: str, to: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """Give a thread to another user."""
        return self.storage.run(self._change(thread_id, user_id, {"user_id": _user_id(to)}))

    def delete(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> None:
        """Delete a thread and everything that was stored on it, in one transaction."""
        self.storage.run(self._delete(thread_id, user_id))

    def copy(
        self,
        thread_id: str,
        target_id: str | None = None,
        *,
        user_id: str | _Everyone | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """Copy a thread with its whole history to one that does not exist yet; its metadata too, if none is given."""
        return self.storage.run(self._copy(thread_id, target_id, user_id, metadata))

    # The same on an event loop

    async def acreate(
        self,
        thread_id: str | None = None,
        *,
        user_id: str | _Everyone | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        if_exists: Literal["raise", "do_nothing"] = "raise",
        ttl_minutes: int | None = None,
        ttl_strategy: Literal["delete", "keep_latest"] | None = None,
    ) -> Thread:
        """As `create`."""
        return await self.storage.arun(
            self._create(thread_id, user_id, title, metadata, if_exists, ttl_minutes, ttl_strategy)
        )

    async def aget(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """As `get`."""
        return await self.storage.arun(self._get(thread_id, user_id))

    async def alist(
        self,
        *,
        user_id: str | _Everyone | None = None,
        archived: bool = False,
        status: Status | None = None,
        metadata: Mapping[str, Any] | None = None,
        text: str | None = None,
        limit: int = 20,
        after: str | None = None,
    ) -> Page:
        """As `list`."""
        return await self.storage.arun(self._list(user_id, archived, status, metadata, text, limit, after))

    async def asearch(self, *, user_id: str | _Everyone | None = None, **wanted: Any) -> tuple[Thread, ...]:
        """As `search`."""
        return await self.storage.arun(self._search(user_id, wanted))

    async def acount(self, *, user_id: str | _Everyone | None = None, **wanted: Any) -> int:
        """As `count`."""
        return await self.storage.arun(self._count(user_id, wanted))

    async def arename(self, thread_id: str, title: str | None, *, user_id: str | _Everyone | None = None) -> Thread:
        """As `rename`."""
        return await self.storage.arun(self._change(thread_id, user_id, {"title": _title(title)}))

    async def aupdate(
        self,
        thread_id: str,
        *,
        user_id: str | _Everyone | None = None,
        title: str | None = None,
        archived: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: Status | None = None,
        ttl_minutes: int | None = None,
        ttl_strategy: Literal["delete", "keep_latest"] | None = None,
        is_active: bool = False,
    ) -> Thread:
        """As `update`."""
        return await self.storage.arun(
            self._change(
                thread_id,
                user_id,
                _given(title, archived, metadata, status, ttl_minutes, ttl_strategy, is_active=is_active),
            )
        )

    async def aarchive(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """As `archive`."""
        return await self.storage.arun(self._change(thread_id, user_id, {"archived": 1}))

    async def aunarchive(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """As `unarchive`."""
        return await self.storage.arun(self._change(thread_id, user_id, {"archived": 0}))

    async def atransfer(self, thread_id: str, to: str, *, user_id: str | _Everyone | None = None) -> Thread:
        """As `transfer`."""
        return await self.storage.arun(self._change(thread_id, user_id, {"user_id": _user_id(to)}))

    async def adelete(self, thread_id: str, *, user_id: str | _Everyone | None = None) -> None:
        """As `delete`."""
        await self.storage.arun(self._delete(thread_id, user_id))

    async def acopy(
        self,
        thread_id: str,
        target_id: str | None = None,
        *,
        user_id: str | _Everyone | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """As `copy`."""
        return await self.storage.arun(self._copy(thread_id, target_id, user_id, metadata))

    # What each is

    def _create(
        self,
        thread_id: str | None,
        user_id: str | _Everyone | None,
        title: str | None,
        metadata: Mapping[str, Any] | None,
        if_exists: str,
        ttl_minutes: int | None,
        ttl_strategy: Any,
    ) -> LogOp[Thread]:
        if if_exists not in ("raise", "do_nothing"):
            raise ValueError(f"if_exists is {if_exists!r}, not 'raise' or 'do_nothing'")
        id, owner, now = new_id() if thread_id is None else check_thread_id(thread_id), self._whose(user_id), _now()
        only = self._only
        held = kept((metadata or {}) if only is None else only.made(metadata or {}))
        row = ThreadRow(
            id, owner or "", "idle", 0, now, now, now, None, None, _minutes(ttl_minutes), _strategy(ttl_strategy),
            _title(title), held,
        )  # fmt: skip
        place = self.storage.place(id)
        return self._op(id, lambda: rules.add_thread(place, row, if_exists=if_exists, only=only), "thread", _thread)

    def _get(self, thread_id: str, user_id: str | _Everyone | None) -> LogOp[Thread]:
        id, owner = check_thread_id(thread_id), self._whose(user_id)
        return self._op(id, lambda: rules.get_thread(self.storage.place(id), owner, self._only), "row", _thread)

    def _list(
        self,
        user_id: str | _Everyone | None,
        archived: bool,
        status: str | None,
        metadata: Mapping[str, Any] | None,
        text: str | None,
        limit: int,
        after: str | None,
    ) -> LogOp[Page]:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidQueryError(f"limit is {limit!r}, not a number from 1 to {LIMIT}")
        if text is not None and (not isinstance(text, str) or is_unkept(text)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidQueryError("text is not a text without NUL and lone surrogates, and no title has those")
        before = None if after is None else _position(after)
        wanted = Sought(
            self._whose(user_id), bool(archived), status, text, None if metadata is None else kept(metadata),
            limit=limit, before=before, only=self._only,
        )  # fmt: skip

        def finish(rows: Any) -> Page:
            last = rows[-1] if len(rows) == limit else None
            return Page(tuple(map(_thread, rows)), None if last is None else f"{last.active_at}:{last.thread}")

        return self._op("", lambda: search_threads(self.storage.place(""), wanted), "read", finish)

    def _search(self, user_id: str | _Everyone | None, wanted: Mapping[str, Any]) -> LogOp[tuple[Thread, ...]]:
        sought = _sought(self._whose(user_id), wanted)._replace(only=self._only)
        place = self.storage.place("")
        return self._op("", lambda: search_threads(place, sought), "read", lambda rows: tuple(map(_thread, rows)))

    def _count(self, user_id: str | _Everyone | None, wanted: Mapping[str, Any]) -> LogOp[int]:
        sought = _sought(self._whose(user_id), wanted)._replace(only=self._only)
        return self._op("", lambda: count_sought(self.storage.place(""), sought), "read", int)

    def _change(self, thread_id: str, user_id: str | _Everyone | None, changes: Mapping[str, Any]) -> LogOp[Thread]:
        id, owner, now = check_thread_id(thread_id), self._whose(user_id), _now()
        place = self.storage.place(id)
        return self._op(id, lambda: rules.change_thread(place, owner, changes, now, self._only), "thread", _thread)

    def _delete(self, thread_id: str, user_id: str | _Everyone | None) -> LogOp[None]:
        id, owner = check_thread_id(thread_id), self._whose(user_id)
        place = self.storage.place(id)

        def finish(_: Any) -> None:
            self.storage.heads.drop(place.tenant, id)

        return self._op(id, lambda: rules.remove_thread(place, owner, self._only), "delete", finish)

    def _copy(
        self,
        thread_id: str,
        target_id: str | None,
        user_id: str | _Everyone | None,
        metadata: Mapping[str, Any] | None,
    ) -> LogOp[Thread]:
        id, owner, now = check_thread_id(thread_id), self._whose(user_id), _now()
        target = self.storage.place(new_id() if target_id is None else check_thread_id(target_id))
        source, only = self.storage.place(id), self._only
        held = None if metadata is None else kept(metadata)
        return self._op(
            target.thread, lambda: rules.copy_thread(source, target, owner, now, held, only), "copy", _thread
        )

    def _op(self, thread: str, steps: Callable[[], Steps[Any]], kind: str, finish: Callable[[Any], T]) -> LogOp[T]:
        session = LogSession(self.storage, thread, self.storage.codec(frozenset()), self.storage.tenant)
        return LogOp(session, steps, kind=kind, finish=finish)

    def _whose(self, user_id: str | _Everyone | None) -> str | None:
        """The owner a call is about; None: everyone."""
        owner = self._owner if user_id is None else _user(user_id)
        if owner is None:
            raise StorageError(
                "the call does not say whose threads it is about",
                hint="pass user_id=..., or use threads.of(user_id); threads.of(EVERYONE) is for maintenance",
            )
        if isinstance(self._owner, str) and owner != self._owner:
            raise StorageError(f"these are the threads of user {self._owner!r}, and the call names another one")
        return None if isinstance(owner, _Everyone) else owner


def _thread(row: ThreadRow) -> Thread:
    strategy: Any = row.ttl_strategy
    status: Any = row.status
    return Thread(
        row.thread, row.user_id, row.title, status, bool(row.archived), _time(row.created_at), _time(row.updated_at),
        None if row.last_message_at is None else _time(row.last_message_at),
        None if row.archived_at is None else _time(row.archived_at), row.metadata, row.ttl_minutes, strategy,
    )  # fmt: skip


def _sought(owner: str | None, wanted: Mapping[str, Any]) -> Sought:
    """What a search asks for, checked."""
    sought = Sought(owner, **wanted)
    for name, number, least in (("limit", sought.limit, 1), ("offset", sought.offset, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number < 2**31:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidQueryError(f"{name} is {number!r}, not a whole number from {least}")
    if sought.sort_by is not None and sought.sort_by not in SORTS:
        raise InvalidQueryError(f"sort_by is {sought.sort_by!r}, not one of {', '.join(SORTS)}")
    if sought.text is not None and is_unkept(sought.text):
        raise InvalidQueryError("text holds a NUL character or a lone surrogate, which no title does")
    metadata = None if sought.metadata is None else kept(sought.metadata)
    ids = None if sought.ids is None else [check_thread_id(id) for id in sought.ids]
    return sought._replace(metadata=metadata, ids=ids)


def _given(
    title: Any,
    archived: Any,
    metadata: Mapping[str, Any] | None,
    status: Any,
    ttl_minutes: Any,
    ttl_strategy: Any,
    *,
    is_active: bool,
) -> dict[str, Any]:
    changes: dict[str, Any] = {"is_active": True} if is_active else {}
    if title is not None:
        changes["title"] = _title(title)
    if archived is not None:
        changes["archived"] = int(bool(archived))
    if metadata is not None:
        changes["metadata"] = kept(metadata)
    if status is not None:
        if status not in ("idle", "busy", "interrupted", "error"):
            raise ValueError(f"status is {status!r}, not 'idle', 'busy', 'interrupted' or 'error'")
        changes["status"] = status
    if ttl_minutes is not None:
        changes["ttl_minutes"] = _minutes(ttl_minutes)
    if ttl_strategy is not None:
        changes["ttl_strategy"] = _strategy(ttl_strategy)
    return changes


def _user(user_id: str | _Everyone) -> str | _Everyone:
    return user_id if isinstance(user_id, _Everyone) else _user_id(user_id)


def _user_id(user_id: Any) -> str:
    if not isinstance(user_id, str) or not user_id or len(user_id) > USER_MAX or is_unkept(user_id):
        raise InvalidQueryError(
            f"user_id is {user_id!r}, not a text of 1 to {USER_MAX} characters without NUL and lone surrogates"
        )
    return user_id


def _title(title: Any) -> str | None:
    if title is None:
        return None
    if not isinstance(title, str) or len(title) > TITLE_MAX or is_unkept(title):
        raise InvalidQueryError(f"a title is a text of at most {TITLE_MAX} characters without NUL and lone surrogates")
    return title


def _minutes(minutes: Any) -> int | None:
    if minutes is None:
        return None
    if isinstance(minutes, bool) or not isinstance(minutes, int) or not 0 < minutes < 2**31:
        raise InvalidQueryError(f"ttl_minutes is {minutes!r}, not a whole number above 0")
    return minutes


def _strategy(strategy: Any) -> str | None:
    if strategy not in (None, "delete", "keep_latest"):
        raise InvalidQueryError(f"ttl_strategy is {strategy!r}, not 'delete' or 'keep_latest'")
    return strategy


def _position(after: str) -> tuple[int, str]:
    micros, _, thread = after.partition(":")
    if not micros.isdecimal() or not thread or len(micros) > 18 or is_unkept(thread):
        raise InvalidQueryError(f"after is {after!r}, not the `next` of a page")
    return int(micros), thread


def _untitled(_: Any) -> str | None:
    return None


def _now() -> int:
    return time.time_ns() // 1000


def _time(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
