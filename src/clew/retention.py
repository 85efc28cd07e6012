"""How long checkpoints and threads are kept: the policy that `saver.retain` applies to a database, and its report.

Plain data; what a policy does to stored threads is in `clew.storage.retention`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from clew.errors import InvalidQueryError

__all__ = (
    "Retention",
    "RetentionProgress",
    "RetentionReport",
    "SkippedThread",
    "ThreadRetention",
    "ThreadTtl",
    "ThreadUsage",
)

_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ThreadUsage:
    """What a thread takes in storage, all its namespaces together. `bytes` are those of its checkpoints as stored;
    `updated_at` is when it was last written to, None if it never had a checkpoint."""

    thread_id: str
    checkpoints: int
    namespaces: int
    bytes: int
    created_at: datetime | None
    updated_at: datetime | None
    tenant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What to drop from a database; whatever a field says goes, and at least one must say something.

    `keep_last` keeps that many checkpoints of each namespace of a thread. `older_than` drops checkpoints that were made
    before a time, or longer ago than a duration. The newest checkpoint of a graph always stays, and so does what a
    stateful subgraph remembers; what ran inside a task goes with the checkpoint that the task belongs to.
    `delete_threads_older_than` deletes whole threads that nothing was written to since; `delete_archived_older_than`
    those that were archived before (`clew.threads`); `delete_if` those it says yes to, whatever their age. Raises
    ValueError if the fields make no sense.
    """

    keep_last: int | None = None
    older_than: timedelta | datetime | None = None
    delete_threads_older_than: timedelta | datetime | None = None
    delete_archived_older_than: timedelta | datetime | None = None
    delete_if: Callable[[ThreadUsage], bool] | None = None

    def __post_init__(self) -> None:
        if self.keep_last is not None and type(self.keep_last) is not int:
            raise InvalidQueryError(f"keep_last is of type {type(self.keep_last).__name__!r}, not a whole number")
        if self.keep_last is not None and self.keep_last < 1:
            raise ValueError(f"keep_last is {self.keep_last}; the newest checkpoint always stays, so it is at least 1")
        for name, age in (
            ("older_than", self.older_than),
            ("delete_threads_older_than", self.delete_threads_older_than),
            ("delete_archived_older_than", self.delete_archived_older_than),
        ):
            if isinstance(age, datetime) and age.tzinfo is None:
                raise ValueError(f"{name} is a time without a time zone, which names no moment")
            if isinstance(age, timedelta) and age < timedelta(0):
                raise ValueError(f"{name} is {age}, a duration that ends in the future")
        deletes = (self.delete_threads_older_than, self.delete_archived_older_than, self.delete_if)
        if (self.keep_last, self.older_than, *deletes) == (None,) * 5:
            raise ValueError(
                "a retention policy says what goes: keep_last, older_than, delete_threads_older_than,"
                " delete_archived_older_than, delete_if"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadTtl:
    """How long threads live after they were last used, and what becomes of them then.

    `default` is for those that do not say it themselves (`ttl_minutes`, `ttl_strategy`), in whole minutes; None: those
    live for ever. `strategy` "delete" deletes them, "keep_latest" leaves their newest checkpoints. `sweep_limit` is how
    many are dealt with at a time; a service does so each `sweep_every`. Raises ValueError if the fields make no sense.
    """

    default: timedelta | None = None
    strategy: Literal["delete", "keep_latest"] = "delete"
    sweep_limit: int = 1000
    sweep_every: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if self.default is not None and self.default < timedelta(minutes=1):
            raise ValueError(f"default is {self.default}, and the shortest time to live is a minute")
        if self.strategy not in ("delete", "keep_latest"):
            raise ValueError(f"strategy is {self.strategy!r}, not 'delete' or 'keep_latest'")
        if self.sweep_limit < 1:
            raise ValueError(f"sweep_limit is {self.sweep_limit}; a sweep deals with at least 1 thread")
        if self.sweep_every <= timedelta(0):
            raise ValueError(f"sweep_every is {self.sweep_every}, not a duration above 0")

    @property
    def minutes(self) -> int | None:
        """The default in minutes."""
        return None if self.default is None else self.default // timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ThreadRetention:
    """What one thread lost. `bytes` are those of the rows that went, as stored."""

    thread_id: str
    checkpoints: int
    bytes: int
    is_deleted: bool
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class SkippedThread:
    """A thread that was left alone where something in it could not be read, and why."""

    thread_id: str
    message: str
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class RetentionProgress:
    """How far a retention run is: `threads` of the `of` that are known by now are done."""

    threads: int
    of: int
    checkpoints: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a retention run dropped, or with `dry_run` would drop. `details` has a line for each thread that loses
    something; `skipped` those that cannot be read. `bytes` are those of the rows that go, as stored: a file gets
    smaller by about as much, less what the checkpoints that stay have to say in full afterwards."""

    dry_run: bool
    examined: int
    details: tuple[ThreadRetention, ...]
    skipped: tuple[SkippedThread, ...]

    @property
    def threads(self) -> int:
        """How many threads lose something."""
        return len(self.details)

    @property
    def deleted_threads(self) -> int:
        """How many of them go as a whole."""
        return sum(one.is_deleted for one in self.details)

    @property
    def checkpoints(self) -> int:
        """How many checkpoints go."""
        return sum(one.checkpoints for one in self.details)

    @property
    def bytes(self) -> int:
        """How many bytes of rows go."""
        return sum(one.bytes for one in self.details)


def moment(age: timedelta | datetime, now: int) -> int:
    """The time that `age` means, in microseconds since 1970; `now` likewise."""
    return now - age // _MICROSECOND if isinstance(age, timedelta) else (age - _1970) // _MICROSECOND


def at(micros: int) -> datetime:
    """A time given in microseconds since 1970."""
    return _1970 + timedelta(microseconds=micros)
