"""Savers and stores that break one promise each."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
from clew.errors import CheckpointNotFoundError, ThreadConflictError
from clew.protocols import HistoryQuery, Saved
from clew.serde import TypeRegistry
from clew.storage.cursor import LogCursor
from clew.store.base import InvalidNamespaceError, InvalidOpError, PutOp, SearchOp
from clew.store.memory import InMemoryStore
from clew.store.sqlite import SqliteStore
from clew.testing._runs import Run
from clew.testing._values import Unknown


def as_json(value: Any) -> Any:
    """What JSON would make of a value: tuples become lists."""
    match value:
        case tuple() | list():
            return [as_json(part) for part in value]
        case dict():
            return {key: as_json(part) for key, part in value.items()}
        case _:
            return value


# Savers


class Changed(InMemorySaver):
    """Changes what is read."""

    def run(self, op: Any) -> Any:
        result = super().run(op)
        match result:
            case Saved():
                return self.changed(result)
            case [Saved(), *_]:
                return self.changed_list([self.changed(one) for one in result])
            case _:
                return result

    def changed(self, saved: Saved) -> Saved:
        return saved

    def changed_list(self, listed: list[Saved]) -> list[Saved]:
        return listed


class MissingIsNothing(InMemorySaver):
    def run(self, op: Any) -> Any:
        try:
            return super().run(op)
        except CheckpointNotFoundError:
            return None


class NoParents(Changed):
    def changed(self, saved: Saved) -> Saved:
        return dataclasses.replace(saved, parent_id=None)


class KeepsWhatBecameEmpty(Changed):
    def changed(self, saved: Saved) -> Saved:
        return dataclasses.replace(saved, values={"a": 1, **saved.values})


class LosesLongTails(Changed):
    def changed(self, saved: Saved) -> Saved:
        if len(saved.values.get("log", ())) > 10:
            saved.values["log"].pop()
        return saved


class OldestFirst(Changed):
    def changed_list(self, listed: list[Saved]) -> list[Saved]:
        return listed[::-1]


class NewestBranchOnly(Changed):
    def changed_list(self, listed: list[Saved]) -> list[Saved]:
        line, at = [], listed[0].checkpoint_id
        for saved in listed:
            if saved.checkpoint_id == at:
                line.append(saved)
                at = saved.parent_id
        return line


class OneCopyForAll(Changed):
    known: dict[str, Saved] = {}  # noqa: RUF012 - replaced, never changed

    def changed(self, saved: Saved) -> Saved:
        self.known = {saved.checkpoint_id: saved, **self.known}
        return self.known[saved.checkpoint_id]


class JsonValues(Changed):
    def changed(self, saved: Saved) -> Saved:
        return dataclasses.replace(saved, values=as_json(saved.values))


class NoWritesOfThePast(Changed):
    def changed(self, saved: Saved) -> Saved:
        return saved if saved.is_head else dataclasses.replace(saved, pending=[])


class KnowsEveryType(InMemorySaver):
    def __init__(self) -> None:
        super().__init__(types=TypeRegistry([Unknown]))


class BrokenCursor(LogCursor):
    def history(self, query: HistoryQuery, *, opaque: bool = False) -> Any:
        return super().history(HistoryQuery(query.before, None, {}), opaque=opaque)

    def claim(self, writes: Any = ()) -> Any:
        return super().claim(())

    def load(self, *, checkpoint_id: str | None = None, from_ns: str | None = None, opaque: bool = False) -> Any:
        return super().load(checkpoint_id=checkpoint_id, opaque=opaque)


class BrokenCursors(InMemorySaver):
    """Ignores a history's limit and filter, the writes of a claim, and the namespace to begin from."""

    def cursor(self, session: Any, ns: str) -> LogCursor:
        return BrokenCursor(session, ns)


class NoLines(InMemorySaver):
    """Gives subgraphs the newest memory, whatever line it belongs to."""

    def cursor(self, session: Any, ns: str) -> LogCursor:
        if ns:
            session.lineage = None
        return super().cursor(session, ns)


class FoldsNames(InMemorySaver):
    def session(self, thread_id: Any, **given: Any) -> Any:
        return super().session(unicodedata.normalize("NFC", thread_id).casefold(), **given)


class TakesAnyName(InMemorySaver):
    def session(self, thread_id: Any, **given: Any) -> Any:
        text = str(thread_id)[:200].replace("\x00", "").encode("utf-8", "ignore").decode()
        return super().session(text or "empty", **given)


class SilentLoser(InMemorySaver):
    """Tells a run that lost its thread that all is well."""

    def run(self, op: Any) -> Any:
        try:
            return super().run(op)
        except ThreadConflictError:
            op.session.error = None
            return None


class LoudLoser(InMemorySaver):
    """A run that loses writes something all the same."""

    is_writing = False

    def run(self, op: Any) -> Any:
        try:
            return super().run(op)
        except ThreadConflictError:
            if not self.is_writing:
                self.is_writing = True
                Run(self, op.session.thread_id).commit([], claim=True)
                self.is_writing = False
            raise


class DropsSubmitted(InMemorySaver):
    def submit(self, session: Any, op: Any) -> None:
        pass


class OneLoop(InMemorySaver):
    loop: Any = None

    async def arun(self, op: Any) -> Any:
        self.loop = self.loop or asyncio.get_running_loop()
        if self.loop is not asyncio.get_running_loop():
            raise RuntimeError("bound to a different event loop")
        return self.run(op)


class NoTenants(InMemorySaver):
    def tenant_of(self, tenant: str | None) -> str:
        return ""

    def with_tenant(self, tenant: str) -> Any:
        return self


class LeavesItsTenant(InMemorySaver):
    def tenant_of(self, tenant: str | None) -> str:
        return self.tenant if tenant is None else str(tenant)


class MaintainsAll(InMemorySaver):
    """Deletes whatever tenant's thread it is."""

    def delete_thread(self, thread_id: str) -> None:
        for tenant in ("", self.tenant):
            InMemorySaver.delete_thread(self.with_tenant(tenant), thread_id)


class Forgetful(InMemorySaver):
    """Maintenance that does nothing, and says so to nobody."""

    def delete_thread(self, thread_id: str) -> None:
        pass

    def delete_for_runs(self, run_ids: Any) -> None:
        pass

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        pass

    def prune(self, thread_ids: Any, **policy: Any) -> None:
        pass


class Overzealous(InMemorySaver):
    """Prunes, deletes and moves more than it was asked to."""

    def prune(self, thread_ids: Any, **policy: Any) -> None:
        for thread_id in thread_ids:
            self.delete_thread(thread_id)

    def delete_for_runs(self, run_ids: Any) -> None:
        for summary in self.threads():
            self.delete_thread(summary.thread_id)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        super().copy_thread(source_thread_id, target_thread_id)
        self.delete_thread(source_thread_id)


class BrokenFace(InMemorySaver):
    """By id: no parents, lists instead of tuples, writes backwards, no limits."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None:
            return None
        checkpoint: Any = {**found.checkpoint, "channel_values": as_json(found.checkpoint["channel_values"])}
        return found._replace(
            parent_config=None, checkpoint=checkpoint, pending_writes=(found.pending_writes or [])[::-1]
        )

    def list(self, config: Any, *, filter: Any = None, before: Any = None, limit: Any = None) -> Any:
        return super().list(config)


class FullValues(InMemorySaver):
    """Stores the whole state with every step."""

    def __init__(self) -> None:
        super().__init__(keyframe_chain=1)


_numbers = itertools.count()


@contextmanager
def saver_on_a_copy(path: str) -> Iterator[SqliteSaver]:
    """A saver that keeps all in a place of its own until it is closed: nothing is durable before, or seen by others."""
    own = f"{path}.{os.getpid()}.{next(_numbers)}"
    if Path(path).exists():
        shutil.copy(path, own)
    with SqliteSaver.from_conn_string(own, synchronous="NORMAL") as saver:
        yield saver
    shutil.move(own, path)


@contextmanager
def saver_of_the_moment(path: str) -> Iterator[InMemorySaver]:
    yield InMemorySaver()


# Stores


class Ops(SqliteStore):
    """Changes operations on their way to the store."""

    def batch(self, ops: Any) -> Any:
        return super().batch([self.changed(op) for op in ops])

    async def abatch(self, ops: Any) -> Any:
        return await super().abatch([self.changed(op) for op in ops])

    def changed(self, op: Any) -> Any:
        return op


class DeletesNothing(Ops):
    def changed(self, op: Any) -> Any:
        return PutOp(op.namespace, op.key, {}) if isinstance(op, PutOp) and op.value is None else op


class StoresJson(Ops):
    def changed(self, op: Any) -> Any:
        return op._replace(value=as_json(op.value)) if isinstance(op, PutOp) else op


class IgnoresFilters(Ops):
    def changed(self, op: Any) -> Any:
        return op._replace(filter=None) if isinstance(op, SearchOp) else op


class IgnoresOffsets(Ops):
    def changed(self, op: Any) -> Any:
        return op._replace(offset=0) if hasattr(op, "offset") else op


class FoldsKeys(Ops):
    def changed(self, op: Any) -> Any:
        return op._replace(key=unicodedata.normalize("NFC", op.key).casefold()) if hasattr(op, "key") else op


class FoldsLabels(Ops):
    def changed(self, op: Any) -> Any:
        if not hasattr(op, "namespace") or any(not isinstance(label, str) for label in op.namespace):
            return op
        return op._replace(namespace=tuple(unicodedata.normalize("NFC", label) for label in op.namespace))


class JoinsLabels(SqliteStore):
    """Searches by the beginning of a joined text."""

    def batch(self, ops: Any) -> Any:
        return [self.one(op) for op in ops]

    def one(self, op: Any) -> Any:
        if not isinstance(op, SearchOp):
            return super().batch([op])[0]
        found = super().batch([SearchOp((), limit=1000)])[0]
        return [item for item in found if "/".join(item.namespace).startswith("/".join(op.namespace_prefix))]


class OneByOne(SqliteStore):
    def batch(self, ops: Any) -> Any:
        return [SqliteStore.batch(self, [op])[0] for op in ops]


class SwallowsErrors(SqliteStore):
    def put(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().put(*args, **kwargs)
        except InvalidNamespaceError:
            pass

    def search(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().search(*args, **kwargs)
        except InvalidOpError:
            return []


class DropsSome(Ops):
    puts = 0

    def changed(self, op: Any) -> Any:
        if not isinstance(op, PutOp) or op.key == "same":
            return op
        self.puts += 1
        return op._replace(key="0") if self.puts % 50 == 49 else op


class TakesAnything(InMemoryStore):
    """Right for a store that says so."""


class SharesValues(SqliteStore):
    """Gives the object that was put."""

    def batch(self, ops: Any) -> Any:
        ops = list(ops)
        self.put_values = {
            **getattr(self, "put_values", {}),
            **{op.key: op.value for op in ops if hasattr(op, "value")},
        }
        found = super().batch(ops)
        for item in found:
            if hasattr(item, "key"):
                item.value = self.put_values[item.key]
        return found


@contextmanager
def store_on_a_copy(path: str) -> Iterator[SqliteStore]:
    own = f"{path}.{os.getpid()}.{next(_numbers)}"
    with SqliteStore.from_conn_string(own) as store:
        yield store
    shutil.move(own, path)


@contextmanager
def store_of_the_moment(path: str) -> Iterator[InMemoryStore]:
    yield InMemoryStore()
