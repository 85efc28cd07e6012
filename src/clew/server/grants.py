"""What a caller may do to threads, assistants and items: each method asks first, and does it on what was granted.

The one place where authorization handlers meet what they are about. Routes reach things only through here, so that
none can forget to ask. A thing that a handler's filter excludes is answered as one that never was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast
from uuid import UUID, uuid4

from clew.ids import new_id
from clew.server.assistants import Assistant, Assistants, Filter, Version
from clew.storage.assistants import Said
from clew.storage.threads import Only
from clew.store.base import BaseStore, Item, SearchItem
from clew.threads import Status, Thread, Threads

Json = dict[str, Any]
Labels = tuple[str, ...]
Resource = Literal["threads", "assistants", "crons", "store"]
Action = Literal["create", "read", "update", "delete", "search", "create_run", "put", "get", "list_namespaces"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do to one kind of thing: `value` is what the request says, as an authorization handler left
    it; `threads` and `assistants` are the owner's, those that the handler's filter (`only`) leaves."""

    value: Json
    threads: Threads
    assistants: Assistants
    only: Only | None = None

    @property
    def metadata(self) -> Json:
        """The metadata that the request says, with what the handler wrote to them."""
        return self.value["metadata"]


May = Callable[[Resource, Action, Json], Awaitable[Grant]]


class GrantedThreads:
    """The threads of a caller; `own` are all of the owner's."""

    __slots__ = ("_may", "_own")

    def __init__(self, may: May, own: Threads) -> None:
        self._may = may
        self._own = own

    async def acreate(
        self,
        thread_id: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        if_exists: Literal["raise", "do_nothing"] = "raise",
        **more: Any,
    ) -> Thread:
        """As `Threads.acreate`: threads.create."""
        id = new_id() if thread_id is None else thread_id
        said = {"thread_id": named(id), "metadata": dict(metadata or {}), "if_exists": if_exists}
        grant = await self._may("threads", "create", said)
        return await grant.threads.acreate(id, metadata=grant.metadata, if_exists=if_exists, **more)

    async def aget(self, thread_id: str, action: Literal["read", "update", "delete"] = "read", **value: Any) -> Thread:
        """A thread on which something is to be done; `value` is what else handlers are told."""
        grant = await self._may("threads", action, {"thread_id": named(thread_id), **value})
        return await grant.threads.aget(thread_id)

    async def asearch(self, **wanted: Any) -> Sequence[Thread]:
        """As `Threads.asearch`: threads.search."""
        threads, wanted = await self.sought(**wanted)
        return await threads.asearch(**wanted)

    async def acount(self, **wanted: Any) -> int:
        """As `Threads.acount`: threads.search."""
        threads, wanted = await self.sought(**wanted)
        return await threads.acount(**wanted)

    async def sought(self, *, values: Json | None = None, **wanted: Any) -> tuple[Threads, Json]:
        """The threads among which a caller may search, and what is searched for, as the handler left it. `values` is
        what else handlers are told."""
        said = {key: wanted.get(key) for key in ("status", "limit", "offset", "ids") if key in wanted}
        metadata = dict(wanted.get("metadata") or {})
        grant = await self._may("threads", "search", {**said, "metadata": metadata, "values": values or {}})
        return grant.threads, {**wanted, "metadata": grant.metadata}

    async def aupdate(self, thread_id: str, *, metadata: Mapping[str, Any] | None = None, **changes: Any) -> Thread:
        """As `Threads.aupdate`: threads.update."""
        said = {"thread_id": named(thread_id), "metadata": dict(metadata or {})}
        grant = await self._may("threads", "update", said)
        return await grant.threads.aupdate(thread_id, metadata=grant.metadata or None, **changes)

    async def aown(self, thread_id: str) -> Thread:
        """A thread of the owner's that something was granted on; asks nobody."""
        return await self._own.aget(thread_id)

    async def aset_status(self, thread_id: str, status: Status) -> Thread:
        """Note what a granted change has made of a thread; asks nobody."""
        return await self._own.aupdate(thread_id, status=status, is_active=True)

    async def adelete(self, thread_id: str) -> None:
        """As `Threads.adelete`: threads.delete."""
        grant = await self._may("threads", "delete", {"thread_id": named(thread_id)})
        await grant.threads.adelete(thread_id)

    async def acopy(self, thread_id: str) -> Thread:
        """As `Threads.acopy`: threads.read of the one, threads.create of the other."""
        source = await self._may("threads", "read", {"thread_id": named(thread_id)})
        thread, id = await source.threads.aget(thread_id), new_id()
        said = {"thread_id": named(id), "metadata": dict(thread.metadata), "if_exists": "raise"}
        target = await self._may("threads", "create", said)
        metadata = target.metadata if target.only is None else target.only.made(target.metadata)
        return await source.threads.acopy(thread_id, id, metadata=metadata)


class GrantedAssistants:
    """The assistants of a caller; `own` are all of the owner's."""

    __slots__ = ("_may", "_own")

    def __init__(self, may: May, own: Assistants) -> None:
        self._may = may
        self._own = own

    async def create(self, id: str | None, said: Said, *, if_exists: Literal["raise", "do_nothing"]) -> Assistant:
        """As `Assistants.create`: assistants.create."""
        id = id or str(uuid4())
        value = {"assistant_id": named(id), **said._asdict(), "metadata": dict(said.metadata), "if_exists": if_exists}
        grant = await self._may("assistants", "create", value)
        return await grant.assistants.create(id, said._replace(metadata=grant.metadata), if_exists=if_exists)

    async def get(self, id: str) -> Assistant:
        """As `Assistants.get`: assistants.read."""
        return await (await self._reading(id)).assistants.get(id)

    async def named(self, name: str) -> Assistant:
        """As `Assistants.named`: assistants.read."""
        return await self.get(self._own.id_of(name))

    async def list(self, wanted: Filter, **page: Any) -> Sequence[Assistant]:
        """As `Assistants.list`: assistants.search."""
        value = {"graph_id": wanted.graph_id, "metadata": dict(wanted.metadata or {}), **page}
        grant = await self._may("assistants", "search", value)
        return await grant.assistants.list(replace(wanted, metadata=grant.metadata))

    async def change(self, id: str, changes: Mapping[str, Any]) -> Assistant:
        """As `Assistants.change`: assistants.update."""
        grant = await self._updating(id, {**changes, "metadata": dict(changes.get("metadata") or {})})
        metadata = {"metadata": grant.metadata} if grant.metadata or "metadata" in changes else {}
        return await grant.assistants.change(id, {**changes, **metadata})

    async def versions(self, id: str) -> Sequence[Version]:
        """As `Assistants.versions`: assistants.read."""
        return await (await self._reading(id)).assistants.versions(id)

    async def use(self, id: str, version: int) -> Assistant:
        """As `Assistants.use`: assistants.update."""
        return await (await self._updating(id, {"version": version})).assistants.use(id, version)

    async def delete(self, id: str) -> None:
        """As `Assistants.delete`: assistants.delete."""
        grant = await self._may("assistants", "delete", {"assistant_id": named(id)})
        await grant.assistants.delete(id)

    async def _reading(self, id: str) -> Grant:
        return await self._may("assistants", "read", {"assistant_id": named(id), "metadata": {}})

    async def _updating(self, id: str, value: Json) -> Grant:
        return await self._may("assistants", "update", {"metadata": {}, **value, "assistant_id": named(id)})


class GrantedItems:
    """The items of a caller. Handlers rewrite the namespace, and answers show it as they left it."""

    __slots__ = ("_inner", "_may")

    def __init__(self, may: May, inner: BaseStore) -> None:
        self._may = may
        self._inner = inner

    async def aput(self, namespace: Labels, key: str, value: Json, index: Any = None, *, ttl: Any) -> None:
        """As `BaseStore.aput`: store.put."""
        said = {"namespace": namespace, "key": key, "value": value, "index": index}
        granted = await self._may("store", "put", said)
        await self._inner.aput(labels(granted), granted.value["key"], granted.value["value"], index, ttl=ttl)

    async def aget(self, namespace: Labels, key: str, *, refresh_ttl: bool | None = None) -> Item | None:
        """As `BaseStore.aget`: store.get."""
        granted = await self._may("store", "get", {"namespace": namespace, "key": key})
        return await self._inner.aget(labels(granted), granted.value["key"], refresh_ttl=refresh_ttl)

    async def adelete(self, namespace: Labels, key: str) -> None:
        """As `BaseStore.adelete`: store.delete."""
        granted = await self._may("store", "delete", {"namespace": namespace, "key": key})
        await self._inner.adelete(labels(granted), granted.value["key"])

    async def asearch(self, namespace: Labels, *, filter: Json | None, **how: Any) -> Sequence[SearchItem]:
        """As `BaseStore.asearch`: store.search."""
        granted = await self._may("store", "search", {"namespace": namespace, "filter": filter, **how})
        return await self._inner.asearch(labels(granted), **how, filter=granted.value["filter"])

    async def alist_namespaces(self, *, prefix: Labels, suffix: Labels, **how: Any) -> Sequence[Labels]:
        """As `BaseStore.alist_namespaces`: store.list_namespaces, in which the prefix is called a namespace."""
        said = {"namespace": prefix or None, "suffix": suffix or None, **how}
        granted = await self._may("store", "list_namespaces", said)
        return await self._inner.alist_namespaces(
            prefix=labels(granted), suffix=tuple(granted.value["suffix"] or ()), **how
        )


def named(id: str) -> UUID | str:
    """An id as handlers are told it: a UUID, as on the platform, where it is one."""
    try:
        found = UUID(id)
    except ValueError:
        return id
    return found if str(found) == id else id


def labels(granted: Grant) -> Labels:
    """The namespace that a handler left; raises `TypeError` for what is none."""
    given: Any = granted.value["namespace"]
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or not all(isinstance(part, str) for part in cast("Sequence[Any]", given)):
        raise TypeError(f"a handler left a namespace that is {given!r}, not a tuple of texts")
    return tuple(cast("Sequence[str]", given))
