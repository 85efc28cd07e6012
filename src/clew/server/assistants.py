"""Assistants: graphs with settings, in versions; the repository over the rules of `clew.storage.assistants`.

Every graph has an assistant by itself, whose id follows from the graph's name. It is not stored: an owner who
changes it has a version of their own from then on, and nobody else sees that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from clew.checkpoint._face import CheckpointSaver
from clew.server.errors import ApiError, not_found
from clew.server.registry import Registry, default_id
from clew.storage import assistants as rules
from clew.storage.assistants import AssistantRow, Said
from clew.storage.operation import LogOp
from clew.storage.query import Steps
from clew.storage.session import LogSession
from clew.storage.thread_lists import contains
from clew.storage.threads import Only

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an assistant."""

    assistant_id: str
    version: int
    created_at: datetime
    said: Said


@dataclass(frozen=True, slots=True)
class Assistant:
    """An assistant with the version in use."""

    id: str
    created_at: datetime
    updated_at: datetime
    current: Version


@dataclass(frozen=True, slots=True)
class Filter:
    """Which assistants are asked for; `name` is looked for whatever its case."""

    metadata: Mapping[str, Any] | None = None
    graph_id: str | None = None
    name: str | None = None

    def fits(self, assistant: Assistant) -> bool:
        """Whether an assistant is one of those."""
        said = assistant.current.said
        return (
            self.graph_id in (None, said.graph_id)
            and (self.name or "").casefold() in said.name.casefold()
            and contains(dict(said.metadata), dict(self.metadata or {}))
        )


class Assistants:
    """The assistants of one owner ("" where there are no users); with `only`, those whose metadata fit."""

    def __init__(
        self,
        storage: CheckpointSaver,
        registry: Registry,
        started_at: datetime,
        user_id: str = "",
        only: Only | None = None,
    ) -> None:
        self._storage = storage
        self._registry = registry
        self._started_at = started_at
        self._user_id = user_id
        self._only = only

    def of(self, user_id: str | None, *, only: Only | None = None) -> Assistants:
        """The same of another owner."""
        return Assistants(self._storage, self._registry, self._started_at, user_id or "", only)

    def id_of(self, name: str) -> str:
        """The id of an assistant that is named by its id or, for the one that each graph has, by the graph's name."""
        return default_id(name) if name in self._registry else name

    async def create(self, id: str | None, said: Said, *, if_exists: Literal["raise", "do_nothing"]) -> Assistant:
        """Make an assistant; raises `ApiError` 404 for an unknown graph, 409 for an id that is taken."""
        self._check_graph(said.graph_id)
        if self._only is not None:
            said = said._replace(metadata=self._only.made(said.metadata))
        id, now = id or str(uuid.uuid4()), _now()
        row = None
        if id not in self._registry.default_ids:
            row = await self._run(lambda: rules.add_assistant(self._root, self._user_id, id, said, now), "assistant")
        if row is not None:
            return _assistant(row)
        if if_exists == "do_nothing":
            return await self.get(id)
        raise ApiError(409, f"assistant {id!r} exists already", hint="choose another id, or if_exists='do_nothing'")

    async def get(self, id: str) -> Assistant:
        """An assistant; raises `ApiError` 404."""
        own = await self._run(lambda: rules.find_assistant(self._root, self._user_id, id), "row")
        row = own or self._default(id)
        if row is None or not self._exists(row.said):
            raise not_found("assistant", id)
        return _assistant(row)

    async def named(self, name: str) -> Assistant:
        """An assistant by its id or, for the one that each graph has, by the graph's name."""
        return await self.get(self.id_of(name))

    async def list(self, wanted: Filter) -> list[Assistant]:
        """Every assistant that fits."""
        rows = await self._run(lambda: rules.list_assistants(self._root, self._user_id))
        own = {row.assistant for row in rows}
        rows += [row for row in self._defaults() if row.assistant not in own]
        return [found for found in map(_assistant, rows) if wanted.fits(found) and self._exists(found.current.said)]

    async def change(self, id: str, changes: Mapping[str, Any]) -> Assistant:
        """Make a new version, and use it; raises `ApiError` 404."""
        if "graph_id" in changes:
            self._check_graph(changes["graph_id"])
        await self._check(id)
        now, default = _now(), self._default(id)
        row = await self._run(
            lambda: rules.change_assistant(self._root, self._user_id, id, changes, now, default), "assistant"
        )
        if row is None:
            raise not_found("assistant", id)
        return _assistant(row)

    async def versions(self, id: str) -> list[Version]:
        """The versions of an assistant, newest first; raises `ApiError` 404."""
        await self._check(id)
        rows = await self._run(lambda: rules.list_versions(self._root, self._user_id, id))
        if not rows:
            return [(await self.get(id)).current]
        return [Version(id, row.version, _time(row.created_at), row.said) for row in rows]

    async def use(self, id: str, version: int) -> Assistant:
        """Have an assistant use one of its versions; raises `ApiError` 404."""
        await self._check(id)
        now = _now()
        row = await self._run(lambda: rules.use_version(self._root, self._user_id, id, version, now), "assistant")
        if row is not None:
            return _assistant(row)
        found = await self.get(id)
        if found.current.version != version:
            raise not_found(f"version {version} of assistant", id)
        return found

    async def delete(self, id: str) -> None:
        """Delete an assistant; one that a graph has by itself is again as it was. Raises `ApiError` 404, and 409
        for one that a graph has by itself and nobody changed."""
        await self._check(id)
        if await self._run(lambda: rules.remove_assistant(self._root, self._user_id, id), "assistant"):
            return
        if id in self._registry.default_ids:
            raise ApiError(409, f"assistant {id!r} belongs to graph {self._registry.default_ids[id]!r} and stays")
        raise not_found("assistant", id)

    @property
    def _root(self) -> Any:
        return self._storage.place("")

    def _exists(self, said: Said) -> bool:
        return self._only is None or self._only.fits(said.metadata)

    async def _check(self, id: str) -> None:
        """Raise `ApiError` 404 for an assistant that does not fit."""
        if self._only is not None:
            await self.get(id)

    def _check_graph(self, graph_id: str) -> None:
        if graph_id not in self._registry:
            raise not_found("graph", graph_id)

    def _defaults(self) -> Iterator[AssistantRow]:
        at = int(self._started_at.timestamp() * 1_000_000)
        for graph_id in self._registry:
            said = Said(graph_id, graph_id, self._registry.descriptions.get(graph_id), {}, {}, {"created_by": "system"})
            yield AssistantRow(default_id(graph_id), 1, 1, at, at, said)

    def _default(self, id: str) -> AssistantRow | None:
        return next((row for row in self._defaults() if row.assistant == id), None)

    async def _run(self, steps: Callable[[], Steps[T]], kind: str = "read") -> T:
        storage = self._storage
        session = LogSession(storage, "", storage.codec(frozenset()), storage.tenant)
        return await storage.arun(LogOp[T](session, steps, kind=kind))


def _assistant(row: AssistantRow) -> Assistant:
    current = Version(row.assistant, row.version, _time(row.updated_at), row.said)
    return Assistant(row.assistant, _time(row.created_at), _time(row.updated_at), current)


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000_000)


def _time(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
