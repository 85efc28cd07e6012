"""The saver's face for callers that address checkpoints by id: the field's method names over the log."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from clew.checkpoint._expiry import expiry
from clew.checkpoint._reencryption import reencryption
from clew.checkpoint._retention import BATCH, Access, OnProgress, RetentionRun, Work, arun_work, run_work
from clew.checkpoint._tuples import check_names, checkpoint_tuple, config_of, matches
from clew.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    RunnableConfig,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from clew.ids import check_namespace, id_bytes
from clew.ids import thread_id as check_thread_id
from clew.protocols import HistoryQuery
from clew.retention import Retention, RetentionReport, ThreadTtl
from clew.serde import Codec
from clew.storage import direct, upkeep, verify
from clew.storage import retention as rules
from clew.storage.history import read_history
from clew.storage.loaded import Loaded
from clew.storage.log import Place
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.saver import LogSaver
from clew.storage.session import LogSession

T = TypeVar("T")

_FOREIGN = "langgraph"
_FOREIGN_TYPES = ("Command", "Interrupt", "Overwrite", "Send")


class CheckpointSaver(LogSaver, BaseCheckpointSaver[int]):
    """A saver with both faces: `clew.protocols.Saver` for runs, and checkpoints by id.

    Where LangGraph is loaded, its graphs accept this object as one of their savers.
    """

    # What a backend brings; see clew.protocols.Saver

    def run(self, op: LogOp[T]) -> T:
        """Run an operation and wait for it."""
        raise NotImplementedError

    async def arun(self, op: LogOp[T]) -> T:
        """Run an operation without blocking the event loop."""
        raise NotImplementedError

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride] - isinstance() reads it
        """This class, also a saver of LangGraph's where that is loaded: it checks with isinstance."""
        base = sys.modules.get(f"{_FOREIGN}.checkpoint.base")
        return type(self) if base is None else _also(type(self), base.BaseCheckpointSaver)

    @property
    def serde(self) -> Codec:
        """What encodes values."""
        return self._codec()

    # Reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` addresses with all that belongs to it; the newest one without an id."""
        return self.run(self._get_op(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await self.arun(self._get_op(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first: of one thread, or of all with `config` None."""
        yield from self.run(self._list_op(config, filter, before, limit))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        for found in await self.arun(self._list_op(config, filter, before, limit)):
            yield found

    def threads(self) -> Sequence[upkeep.ThreadSummary]:
        """Every thread in storage, the one used last first."""
        return self.run(self._op("", lambda: upkeep.list_threads(self.tenant)))

    async def athreads(self) -> Sequence[upkeep.ThreadSummary]:
        """As `threads`."""
        return await self.arun(self._op("", lambda: upkeep.list_threads(self.tenant)))

    def verify(self, thread_id: str | None = None) -> verify.Report:
        """Read every stored step of a thread, or of all, and report what is wrong; nothing is changed."""
        report = verify.Report()
        for name in self._names(thread_id):
            self.run(self._verify_op(name, report))
        return report

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint as the child of the one `config` addresses; gives the config that addresses it."""
        return self.run(self._put_op(config, checkpoint, metadata, new_versions))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `put`."""
        return await self.arun(self._put_op(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store a task's writes behind the checkpoint that `config` addresses."""
        self.run(self._put_writes_op(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await self.arun(self._put_writes_op(config, writes, task_id, task_path))

    # Maintenance

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread with all its namespaces; a run on it stops with `ThreadConflictError`."""
        self.run(self._delete_op(thread_id))
        self._freed()

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        await self.arun(self._delete_op(thread_id))
        await self._afreed()

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove every checkpoint that the runs made; what is left reads as before."""
        self.run(self._delete_runs_op(run_ids))
        self._freed()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await self.arun(self._delete_runs_op(run_ids))
        await self._afreed()

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread's whole history, with what is pending, to a thread that does not exist yet."""
        self.run(self._copy_op(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        await self.arun(self._copy_op(source_thread_id, target_thread_id))

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | datetime | None = None,
    ) -> None:
        """Shorten threads. The newest checkpoint of each namespace always stays, unless `strategy` is "delete".

        `keep_last` keeps that many of each namespace; `older_than` drops those made before a time, or longer ago than
        a duration; with both, what either would drop goes. With neither, only the newest stays.
        """
        work = self._prune_work(thread_ids, strategy, keep_last, older_than)
        run_work(work, self.run)
        self._freed()

    async def aprune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | datetime | None = None,
    ) -> None:
        """As `prune`."""
        work = self._prune_work(thread_ids, strategy, keep_last, older_than)
        await arun_work(work, self.arun)
        await self._afreed()

    def retain(
        self,
        policy: Retention,
        *,
        dry_run: bool = False,
        batch: int = BATCH,
        thread_ids: Sequence[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> RetentionReport:
        """Apply a retention policy to every thread, or those named; runs may go on meanwhile. A saver that is bound to
        no tenant covers the threads of all.

        With `dry_run` nothing is changed, and the report says what would go. A transaction drops at most `batch`
        checkpoints, and writers have their turn between two of them. `on_progress` is called after each. A thread
        that cannot be read is left as it is, and reported.
        """
        work = self._retention(
            policy, dry_run=dry_run, batch=batch, thread_ids=thread_ids, on_progress=on_progress
        ).work()
        report = run_work(work, self.run)
        if report.details and not dry_run:
            self._freed()
        return report

    async def aretain(
        self,
        policy: Retention,
        *,
        dry_run: bool = False,
        batch: int = BATCH,
        thread_ids: Sequence[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> RetentionReport:
        """As `retain`."""
        work = self._retention(
            policy, dry_run=dry_run, batch=batch, thread_ids=thread_ids, on_progress=on_progress
        ).work()
        report = await arun_work(work, self.arun)
        if report.details and not dry_run:
            await self._afreed()
        return report

    def expire(
        self, ttl: ThreadTtl | None = None, *, dry_run: bool = False, on_progress: OnProgress | None = None
    ) -> RetentionReport:
        """Deal with threads of the table of threads whose time to live is over: their own, or `ttl`'s default. At most
        `ttl.sweep_limit` of them; one that has a run which waits or runs is left alone. Covers the saver's tenant.
        """
        report = run_work(self._expiry(ttl, dry_run=dry_run, on_progress=on_progress), self.run)
        if report.details and not dry_run:
            self._freed()
        return report

    async def aexpire(
        self, ttl: ThreadTtl | None = None, *, dry_run: bool = False, on_progress: OnProgress | None = None
    ) -> RetentionReport:
        """As `expire`."""
        report = await arun_work(self._expiry(ttl, dry_run=dry_run, on_progress=on_progress), self.arun)
        if report.details and not dry_run:
            await self._afreed()
        return report

    def reencrypt(self, thread_ids: Sequence[str] | None = None) -> int:
        """Rewrite what is not encrypted with the current key, on the given threads or on all; gives how many rows.
        With `thread_ids` None, a saver that is bound to no tenant covers the threads of all.

        Runs on the threads go on meanwhile. It works in small transactions; if it was interrupted, call it again. Once
        it gives 0, and no process writes with an older key any more, older keys are needed no longer.

        Raises:
            EncryptionError: There is no key, a row's key is not given, or a row is not encrypted and that is refused.
        """
        return run_work(self._reencryption(thread_ids), self.run)

    async def areencrypt(self, thread_ids: Sequence[str] | None = None) -> int:
        """As `reencrypt`."""
        return await arun_work(self._reencryption(thread_ids), self.arun)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> CheckpointSaver:
        """A saver on the same storage that also knows the classes named by (module, class) pairs.

        Only classes of modules that are loaded are known: no name is ever imported.
        """
        types = set[type]()
        for module, *path in extra_allowlist:
            found: Any = sys.modules.get(module)
            for name in path[0].split(".") if path else ():
                found = getattr(found, name, None)
            if isinstance(found, type):
                types.add(found)
        clone = self._clone()
        clone.types = self.types.extended(types)
        clone._codecs = {}
        return clone

    # The operations, each once for both ways of waiting

    def _op(
        self,
        thread: str,
        steps: Callable[[], Steps[Any]],
        *,
        kind: str = "read",
        finish: Callable[[Any], T] | None = None,
    ) -> LogOp[T]:
        return LogOp(LogSession(self, thread, self._codec(), self.tenant), steps, kind=kind, finish=finish)

    def _codec(self) -> Codec:
        """The codec of this face: it also knows what LangGraph's engine stores, where that is loaded."""
        module = sys.modules.get(f"{_FOREIGN}.types")
        names = () if module is None else _FOREIGN_TYPES
        types = frozenset(found for name in names if isinstance(found := getattr(module, name, None), type))
        return self.codec(types)

    def _get_op(self, config: RunnableConfig) -> LogOp[CheckpointTuple | None]:
        place = self._place(config)
        codec = self._codec()

        def finish(found: Loaded | None) -> CheckpointTuple | None:
            return None if found is None else checkpoint_tuple(found, codec.decode, self.tenant)

        return self._op(
            place.thread,
            lambda: direct.get_checkpoint(self.heads, place, get_checkpoint_id(config)),
            finish=finish,
        )

    def _list_op(
        self,
        config: RunnableConfig | None,
        filter: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> LogOp[Sequence[CheckpointTuple]]:
        configurable: dict[str, Any] = {} if config is None else config["configurable"]
        thread = None if config is None else check_thread_id(configurable["thread_id"])
        tenant = self.tenant_of(configurable.get("checkpoint_tenant"))
        ns: str | None = configurable.get("checkpoint_ns")
        if ns is not None:
            check_namespace(ns)
        only: str | None = configurable.get("checkpoint_id")
        codec = self._codec()
        query = HistoryQuery(None if before is None else get_checkpoint_id(before), limit, filter or {})

        def steps() -> Steps[list[Loaded]]:
            found: list[Loaded] = []
            for place in (yield from direct.namespaces(tenant, thread, self.vault)):
                if ns is not None and place.ns != ns:
                    continue
                if only is None:
                    found += yield from read_history(place, query, codec.decode)
                elif (one := (yield from direct.get_checkpoint(self.heads, place, only))) is not None:
                    if matches(one, query, codec):
                        found.append(one)
            found.sort(key=lambda one: one.id, reverse=True)
            return found if limit is None else found[: max(limit, 0)]

        def finish(found: list[Loaded]) -> Sequence[CheckpointTuple]:
            return [checkpoint_tuple(one, codec.decode, self.tenant) for one in found]

        return self._op(thread or "", steps, finish=finish)

    def _put_op(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, Any],
    ) -> LogOp[RunnableConfig]:
        place = self._place(config)
        codec = self._codec()
        check_names("a channel", *checkpoint["channel_values"], *checkpoint["channel_versions"], *new_versions)
        check_names("a key of metadata", *metadata)
        new = direct.NewCheckpoint(
            id=checkpoint["id"],
            parent_id=get_checkpoint_id(config),
            values=dict(checkpoint["channel_values"]),
            versions=dict(checkpoint["channel_versions"]),
            seen={node: dict(versions) for node, versions in checkpoint["versions_seen"].items()},
            updated=checkpoint.get("updated_channels"),
            metadata=get_checkpoint_metadata(config, metadata),
            new_versions=dict(new_versions),
            extra={"v": checkpoint["v"], "ts": checkpoint["ts"]},
        )
        stored = config_of(place, checkpoint["id"], self.tenant)
        return self._op(
            place.thread,
            lambda: direct.put_checkpoint(self.heads, place, new, codec),
            kind="put",
            finish=lambda _: stored,
        )

    def _put_writes_op(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> LogOp[None]:
        place = self._place(config)
        check_names("task_path", task_path)
        check_names("a channel", *(channel for channel, _ in writes))
        task = direct.encode_writes(writes, task_id, task_path, self._codec())
        indexes = [WRITES_IDX_MAP.get(channel, index) for index, (channel, _) in enumerate(writes)]
        replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        checkpoint_id = cast(str, config["configurable"]["checkpoint_id"])
        return self._op(
            place.thread,
            lambda: direct.put_writes(place, checkpoint_id, task, indexes, replaces=replaces),
            kind="put",
        )

    def _verify_op(self, thread: str, report: verify.Report) -> LogOp[verify.Report]:
        return self._op(thread, lambda: verify.verify_thread(self.place(thread), report))

    def _delete_op(self, thread_id: str) -> LogOp[None]:
        thread = check_thread_id(thread_id)
        return self._op(
            thread,
            lambda: upkeep.delete_thread(self.tenant, thread),
            kind="delete",
            finish=lambda _: self.heads.drop(self.tenant, thread),
        )

    def _delete_runs_op(self, run_ids: Sequence[str]) -> LogOp[None]:
        ids = [id_bytes(str(run_id)) for run_id in run_ids]

        def finish(threads: set[str]) -> None:
            for thread in threads:
                self.heads.drop(self.tenant, thread)

        return self._op("", lambda: upkeep.delete_runs(self.tenant, ids, self.vault), kind="delete", finish=finish)

    def _copy_op(self, source_thread_id: str, target_thread_id: str) -> LogOp[None]:
        source, target = check_thread_id(source_thread_id), check_thread_id(target_thread_id)
        return self._op(target, lambda: upkeep.copy_thread(self.place(source), self.place(target)), kind="copy")

    def _retention(self, policy: Retention, **settings: Any) -> RetentionRun:
        return RetentionRun(self._access, self.tenant, policy, **settings)

    def _expiry(self, ttl: ThreadTtl | None, **settings: Any) -> Work[RetentionReport]:
        return expiry(self._access, self.tenant, ttl or ThreadTtl(), **settings)

    def _access(self, tenant: str) -> Access:
        saver = self if tenant == self.tenant else self.with_tenant(tenant)

        def forget(thread: str) -> None:
            saver.heads.drop(tenant, thread)

        return Access(saver.place, saver._op, forget)

    def _prune_work(
        self,
        thread_ids: Sequence[str],
        strategy: str,
        keep_last: int | None,
        older_than: timedelta | datetime | None,
    ) -> Work[object]:
        if strategy == "delete":
            return self._delete_work([self._delete_op(thread_id) for thread_id in thread_ids])
        if strategy != "keep_latest":
            raise ValueError(f"strategy is {strategy!r}, not 'keep_latest' or 'delete'")
        if keep_last is None and older_than is None:
            keep_last = 1
        policy = Retention(keep_last=keep_last, older_than=older_than)
        names = [check_thread_id(thread_id) for thread_id in thread_ids]
        return self._retention(policy, thread_ids=names, is_strict=True).work()

    def _delete_work(self, ops: Sequence[LogOp[None]]) -> Work[None]:
        yield from ops

    def _reencryption(self, thread_ids: Sequence[str] | None) -> Work[int]:
        names = None if thread_ids is None else [check_thread_id(thread_id) for thread_id in thread_ids]
        changed = yield from reencryption(self.place, self._op, names)
        tenant: str | None = self.tenant
        while names is None and not self.tenant:  # a saver that is bound to no tenant covers all
            tenant = yield self._op("", lambda after=tenant: rules.next_tenant(after))
            if tenant is None:
                break
            saver = self.with_tenant(tenant)
            changed += yield from reencryption(saver.place, saver._op, None)
        return changed

    def _names(self, thread_id: str | None) -> Sequence[str]:
        if thread_id is not None:
            return [check_thread_id(thread_id)]
        return self.run(self._op("", lambda: direct.thread_names(self.tenant)))

    def _place(self, config: RunnableConfig) -> Place:
        configurable = config["configurable"]
        tenant = self.tenant_of(configurable.get("checkpoint_tenant"))
        return self.place(check_thread_id(configurable["thread_id"]), configurable.get("checkpoint_ns") or "", tenant)

    def _freed(self) -> None:
        """Called after rows were removed: a backend may give space back."""

    async def _afreed(self) -> None:
        self._freed()


_both: dict[tuple[type, type], type] = {}


def _also(own: type, other: type) -> type:
    """A class that is both, for isinstance only; nothing is ever an instance of it."""
    if (own, other) not in _both:
        _both[own, other] = type(own.__name__, (own, other), {"__module__": own.__module__})
    return _both[own, other]
