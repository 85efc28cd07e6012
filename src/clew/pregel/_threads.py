"""Looking at a thread and changing it: states, history, updates. The sync and async methods share every decision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clew._scope import RunScope, current
from clew.constants import CONF, NS_SEP
from clew.drivers.saving import Saving
from clew.drivers.sync import SyncDriver
from clew.engine.program import Program
from clew.engine.project import Address, checkpoint_config, ns_config
from clew.engine.request import Request
from clew.engine.snapshot import planned, snapshot
from clew.engine.update import update
from clew.errors import InvalidThreadIdError, NoSaverError
from clew.ids import check_namespace
from clew.ids import thread_id as checked_thread_id
from clew.pregel._config import Config, configurable, merged, saved_metadata
from clew.pregel._tenant import open_session, shown_tenant, tenant_of
from clew.protocols import HistoryQuery, Saved
from clew.types import StateSnapshot, StateUpdate

if TYPE_CHECKING:
    from clew.pregel.main import Pregel

_PAGE = 64


@dataclass(slots=True)
class _Place:
    """A place on a thread: the graph whose namespace it is, the saver, and an open session."""

    graph: Pregel
    saver: Any
    session: Any
    thread_id: str
    ns: str
    checkpoint_id: str | None
    config: dict[str, Any]

    @property
    def address(self) -> Address:
        return Address(self.thread_id, shown_tenant(self.saver, self.session))


class ThreadMethods:
    """The methods of a compiled graph that read and change threads; all need a checkpointer."""

    __slots__ = ()

    if TYPE_CHECKING:
        program: Program
        checkpointer: Any
        config: dict[str, Any] | None
        name: str
        store: Any
        cache: Any

    # -- reading ---------------------------------------------------------------------------------------------------

    def get_state(self, config: Config, *, subgraphs: bool = False) -> StateSnapshot:
        """The state of a thread: its newest checkpoint, or the one `config` names.

        With `subgraphs`, the tasks that run subgraphs have their snapshots. A thread that was never run gives an
        empty snapshot. Raises `CheckpointNotFoundError` when the checkpoint named is not on the thread.
        """
        place = self._at(config)
        _load_line(place, place.saver.run)
        saved = place.saver.run(place.session.cursor(place.ns).load(checkpoint_id=place.checkpoint_id))
        if saved is None:
            return _nothing(place)
        states = {
            task.id: graph.get_state(_inside(place, task.ns), subgraphs=True) if subgraphs else _inside(place, task.ns)
            for task, graph in _tasks_with_graphs(place, saved)
        }
        return snapshot(place.graph.program, place.address, saved, states, is_live=place.checkpoint_id is None)

    async def aget_state(self, config: Config, *, subgraphs: bool = False) -> StateSnapshot:
        """As `get_state`, under asyncio."""
        place = self._at(config)
        if place.ns:
            await place.saver.arun(place.session.cursor("").load())
        saved = await place.saver.arun(place.session.cursor(place.ns).load(checkpoint_id=place.checkpoint_id))
        if saved is None:
            return _nothing(place)
        states: dict[str, Any] = {}
        for task, graph in _tasks_with_graphs(place, saved):
            inside = _inside(place, task.ns)
            states[task.id] = await graph.aget_state(inside, subgraphs=True) if subgraphs else inside
        return snapshot(place.graph.program, place.address, saved, states, is_live=place.checkpoint_id is None)

    def get_state_history(
        self,
        config: Config,
        *,
        filter: Mapping[str, Any] | None = None,
        before: Config | None = None,
        limit: int | None = None,
    ) -> Iterator[StateSnapshot]:
        """Every checkpoint of a thread, newest first, all branches.

        `filter`: equality on metadata; `before`: the config of a checkpoint, exclusive; `limit`: how many at most.
        Snapshots that come from one call share unchanged items; treat their values as read-only.
        """
        place = self._at(config)
        cursor = place.session.cursor(place.ns)
        for page in _pages(filter, before, limit):
            found: list[Saved] = place.saver.run(cursor.history(page.query))
            for saved in found:
                yield _past(place, saved)
            if not page.goes_on(found):
                return

    async def aget_state_history(
        self,
        config: Config,
        *,
        filter: Mapping[str, Any] | None = None,
        before: Config | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StateSnapshot]:
        """As `get_state_history`, under asyncio."""
        place = self._at(config)
        cursor = place.session.cursor(place.ns)
        for page in _pages(filter, before, limit):
            found: list[Saved] = await place.saver.arun(cursor.history(page.query))
            for saved in found:
                yield _past(place, saved)
            if not page.goes_on(found):
                return

    # -- changing --------------------------------------------------------------------------------------------------

    def update_state(
        self, config: Config, values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> dict[str, Any]:
        """Write `values` as if `as_node` had returned them, and give the config of the checkpoint this makes.

        Goes through the node's reducers and edges; `Overwrite` replaces instead. Without `as_node`, the node that
        wrote last. With the config of a past checkpoint the new one is a fork. `values=None, as_node=END` clears the
        next tasks. Raises `InvalidUpdateError`; the thread is unchanged then.
        """
        return self.bulk_update_state(config, [[StateUpdate(values, as_node, task_id)]])

    async def aupdate_state(
        self, config: Config, values: Any, as_node: str | None = None, task_id: str | None = None
    ) -> dict[str, Any]:
        """As `update_state`, under asyncio."""
        return await self.abulk_update_state(config, [[StateUpdate(values, as_node, task_id)]])

    def bulk_update_state(self, config: Config, supersteps: Sequence[Sequence[StateUpdate]]) -> dict[str, Any]:
        """Apply several supersteps of updates, each a list of `StateUpdate`; see `update_state`."""
        place = self._at(config)
        _load_line(place, place.saver.run)
        scope, saving = _prepared(place)
        driver = SyncDriver(place.graph.program, scope, saving, _show_nothing)
        steps = driver.drive(update(place.graph.program, _request(place), supersteps))  # pyright: ignore[reportArgumentType] - the driver passes the result through
        try:
            while True:
                next(steps)
        except StopIteration as stop:
            return _config_of(place, stop.value)

    async def abulk_update_state(self, config: Config, supersteps: Sequence[Sequence[StateUpdate]]) -> dict[str, Any]:
        """As `bulk_update_state`, under asyncio."""
        from clew.drivers.aio import AsyncDriver  # late: asyncio is not needed to run synchronously

        place = self._at(config)
        if place.ns:
            await place.saver.arun(place.session.cursor("").load())
        scope, saving = _prepared(place)
        driver = AsyncDriver(place.graph.program, scope, saving, _show_nothing)
        made: Any = await driver.finish(update(place.graph.program, _request(place), supersteps))  # pyright: ignore[reportArgumentType] - the driver passes the result through
        return _config_of(place, made)

    # -- subgraphs -------------------------------------------------------------------------------------------------

    def get_subgraphs(self, *, namespace: str | None = None, recurse: bool = False) -> Iterator[tuple[str, Any]]:
        """The compiled graphs that nodes run, by node name; `recurse` goes into them (`outer|inner`)."""
        for name, node in self.program.nodes.items():
            if not node.subgraphs:
                continue
            if namespace is not None and namespace != name and not namespace.startswith(f"{name}{NS_SEP}"):
                continue
            graph = node.subgraphs[0]
            if namespace is None or namespace == name:
                yield name, graph
            if recurse:
                inner = None if namespace is None else namespace[len(name) + 1 :]
                if namespace is None or inner:
                    for inside, found in graph.get_subgraphs(namespace=inner or None, recurse=True):
                        yield f"{name}{NS_SEP}{inside}", found

    async def aget_subgraphs(
        self, *, namespace: str | None = None, recurse: bool = False
    ) -> AsyncIterator[tuple[str, Any]]:
        """As `get_subgraphs`, under asyncio."""
        for found in self.get_subgraphs(namespace=namespace, recurse=recurse):
            yield found

    def clear_cache(self, nodes: Sequence[str] | None = None) -> None:
        """Forget cached results, of all nodes or of those named."""
        if self.cache is not None:
            self.cache.clear(self._cache_namespaces(nodes))

    async def aclear_cache(self, nodes: Sequence[str] | None = None) -> None:
        """As `clear_cache`, under asyncio."""
        if self.cache is not None:
            await self.cache.aclear(self._cache_namespaces(nodes))

    def _cache_namespaces(self, nodes: Sequence[str] | None) -> list[tuple[str, ...]]:
        names = list(self.program.nodes) if nodes is None else list(nodes)
        return [("writes", self.program.nodes[name].cache_identity, name) for name in names]

    # -- addressing ------------------------------------------------------------------------------------------------

    def _at(self, config: Config) -> _Place:
        """Find the place on a thread that `config` addresses, in this graph or in a subgraph of it."""
        own = merged(self.config, config)
        given = configurable(own)
        scope = current.get()
        saver = given.get("__pregel_checkpointer") or self.checkpointer
        if not hasattr(saver, "session"):
            saver = scope.run.saver if scope is not None else None
        if saver is None:
            raise NoSaverError(
                f"no checkpointer set: graph {self.name!r} has no threads to look at",
                hint="compile it with a checkpointer, e.g. builder.compile(checkpointer=InMemorySaver())",
            )
        thread = given.get("thread_id")
        if thread is None:
            raise InvalidThreadIdError(
                "no thread_id was given, so there is no thread to look at",
                hint='pass config={"configurable": {"thread_id": "..."}}',
            )
        thread_id = checked_thread_id(thread)
        ns = given.get("checkpoint_ns") or ""
        check_namespace(ns)
        graph: Any = self
        if ns and "__pregel_checkpointer" not in given:
            graph = self._graph_at(ns)
        if ns and graph.checkpointer is True:
            ns = NS_SEP.join(part.partition(":")[0] for part in ns.split(NS_SEP))
        where: Mapping[str, str] = given.get("checkpoint_map") or {}
        id = given.get("checkpoint_id") or where.get(ns)
        session = open_session(saver, thread_id, graph.program.types, tenant_of(own, saver))
        return _Place(graph, saver, session, thread_id, ns, id, own)

    def _graph_at(self, ns: str) -> Any:
        """The subgraph a namespace belongs to: the one that its node refers to first, or the n-th for `node|n`."""
        graph: Any = self
        parts = ns.split(NS_SEP)
        for part, after in zip(parts, [*parts[1:], ""], strict=True):
            if part.isdigit():
                continue
            name = part.partition(":")[0]
            node = graph.program.nodes.get(name)
            if node is None or not node.subgraphs:
                path = NS_SEP.join(part.partition(":")[0] for part in parts if not part.isdigit())
                raise ValueError(f"subgraph {path} not found in graph {self.name!r}")
            call = int(after) if after.isdigit() else 0
            graph = node.subgraphs[call if call < len(node.subgraphs) else 0]
        return graph


def _load_line(place: _Place, run: Any) -> None:
    """Stand on the thread's line, so that a subgraph's newest state is one that belongs to it."""
    if place.ns:
        run(place.session.cursor("").load())


def _prepared(place: _Place) -> tuple[RunScope, Saving]:
    scope = RunScope(name=place.graph.name, config=place.config)
    scope.thread_id, scope.saver, scope.session = place.thread_id, place.saver, place.session
    scope.tenant = tenant_of(place.config, place.saver)
    scope.cache_tenant = getattr(place.session, "tenant", "")
    scope.store, scope.durability = place.graph.store, "sync"
    return scope, Saving(place.session.cursor(place.ns), "sync")


def _request(place: _Place) -> Request:
    return Request(
        None,
        thread_id=place.thread_id,
        tenant=place.address.tenant,
        ns=place.ns,
        has_saver=True,
        checkpoint_id=place.checkpoint_id,
        metadata=saved_metadata(place.config),
    )


def _show_nothing(_mode: str, _data: Any, _step: int) -> None:
    pass


def _config_of(place: _Place, checkpoint_id: str) -> dict[str, Any]:
    parents: dict[str, str] = {}
    if place.ns:
        known: Mapping[str, str] = place.config[CONF].get("checkpoint_map") or {}
        parents = {ns: id for ns, id in known.items() if ns != place.ns}
    return checkpoint_config(place.address, place.ns, checkpoint_id, parents)


def _inside(place: _Place, ns: str) -> dict[str, Any]:
    return ns_config(place.address, ns)


def _tasks_with_graphs(place: _Place, saved: Saved) -> Iterator[tuple[Any, Any]]:
    if not _has_subgraphs(place):
        return
    _, tasks, _ = planned(place.graph.program, saved)
    for task in tasks.values():
        graph = next((found for found in task.node.subgraphs if found.checkpointer is not False), None)
        if graph is not None:
            yield task, _Reader(graph, place.saver)


class _Reader:
    """A subgraph that reads from its root's saver, at the namespace it is given."""

    __slots__ = ("graph", "saver")

    def __init__(self, graph: Any, saver: Any) -> None:
        self.graph = graph
        self.saver = saver

    def get_state(self, config: Config, *, subgraphs: bool = False) -> StateSnapshot:
        return self.graph.get_state(_with_saver(config, self.saver), subgraphs=subgraphs)

    async def aget_state(self, config: Config, *, subgraphs: bool = False) -> StateSnapshot:
        return await self.graph.aget_state(_with_saver(config, self.saver), subgraphs=subgraphs)


def _with_saver(config: Config, saver: Any) -> dict[str, Any]:
    return {CONF: {**config[CONF], "__pregel_checkpointer": saver}}


def _nothing(place: _Place) -> StateSnapshot:
    config = ns_config(place.address, place.ns) if place.ns else place.config
    return StateSnapshot({}, (), dict(config), None, None, None, (), ())


def _has_subgraphs(place: _Place) -> bool:
    return any(node.subgraphs for node in place.graph.program.nodes.values())


def _past(place: _Place, saved: Saved) -> StateSnapshot:
    states: dict[str, Any] = {}
    if _has_subgraphs(place):
        _, tasks, _ = planned(place.graph.program, saved)
        states = {task.id: _inside(place, task.ns) for task in tasks.values() if task.node.subgraphs}
    return snapshot(place.graph.program, place.address, saved, states, is_live=False)


class _Page:
    """One query of a paged history."""

    __slots__ = ("query", "remaining")

    def __init__(self, query: HistoryQuery, remaining: int | None) -> None:
        self.query = query
        self.remaining = remaining

    def goes_on(self, found: Sequence[Saved]) -> bool:
        """Whether there may be more after what was found; moves the query on."""
        if self.query.limit is None or len(found) < self.query.limit:
            return False
        if self.remaining is not None:
            self.remaining -= len(found)
            if self.remaining <= 0:
                return False
        limit = _PAGE if self.remaining is None else min(_PAGE, self.remaining)
        self.query = HistoryQuery(found[-1].checkpoint_id, limit, self.query.filter)
        return True


def _pages(filter: Mapping[str, Any] | None, before: Config | None, limit: int | None) -> Iterator[_Page]:
    first = configurable(before).get("checkpoint_id")
    query = HistoryQuery(first, limit, filter or {})  # refuses what makes no sense
    if limit is not None and limit <= 0:
        return
    page = _Page(replace(query, limit=_PAGE if limit is None else min(_PAGE, limit)), limit)
    while True:
        yield page
