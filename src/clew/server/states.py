"""The states of threads: read, searched and written through the graph that a thread belongs to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, cast

from clew.errors import ClewError, StorageError
from clew.server.errors import ApiError, log
from clew.server.factories import Access, Purpose
from clew.server.formats import checkpoint_json, thread_json, with_state
from clew.server.registry import Registry
from clew.server.users import User
from clew.threads import Status, Thread
from clew.types import Command, Send, StateSnapshot, StateUpdate

Json = dict[str, Any]
_ADDRESS = ("checkpoint_ns", "checkpoint_id", "checkpoint_map")


class States:
    """The states of threads; a thread belongs to the graph that its metadata names, or to the only one there is.
    `failure` gives what a thread's newest run failed with."""

    def __init__(
        self,
        registry: Registry,
        store: Any,
        user: User | None,
        failure: Callable[[str], Awaitable[Json | None]],
    ) -> None:
        self._registry = registry
        self._store = store
        self._user = user
        self._failure = failure

    def graph_id(self, thread: Thread) -> str | None:
        """The name of a thread's graph; None if it has none here."""
        named = thread.metadata.get("graph_id")
        return named if named in self._registry else self._registry.only

    async def read(self, thread: Thread, checkpoint: Mapping[str, Any], *, subgraphs: bool = False) -> StateSnapshot:
        """The state of a thread at a checkpoint; of a thread without a graph an empty one."""
        graph_id = self.graph_id(thread)
        if graph_id is None:
            return StateSnapshot({}, (), _config(thread, {}), None, None, None, (), ())
        if (bound := self._registry.bound(graph_id)) is not None:
            with _answered():
                return await bound.aget_state(_config(thread, checkpoint), subgraphs=subgraphs)
        async with self._graph(thread) as graph:
            return await graph.aget_state(_config(thread, checkpoint), subgraphs=subgraphs)

    async def history(
        self, thread: Thread, checkpoint: Mapping[str, Any], *, before: str | None, limit: int, filter: Json | None
    ) -> list[StateSnapshot]:
        """The newest `limit` checkpoints of a thread, newest first."""
        if self.graph_id(thread) is None:
            return []
        earlier = None if before is None else {"configurable": {"checkpoint_id": before}}
        async with self._graph(thread) as graph:
            found = graph.aget_state_history(_config(thread, checkpoint), filter=filter, before=earlier, limit=limit)
            return [snapshot async for snapshot in found]

    async def update(
        self, thread: Thread, checkpoint: Mapping[str, Any], supersteps: Sequence[Sequence[StateUpdate]]
    ) -> tuple[Json, Status]:
        """Write to the state; gives the checkpoint that this makes, and the thread's status after it."""
        if self.graph_id(thread) is None:
            raise ApiError(
                400, f"thread {thread.id!r} belongs to no graph", hint="name one in its metadata, as graph_id"
            )
        async with self._graph(thread, "threads.update") as graph:
            made = await graph.abulk_update_state(_config(thread, checkpoint), supersteps)
            after = await graph.aget_state(_config(thread, {}))
        return checkpoint_json(made), "interrupted" if after.next else "idle"

    async def shown(self, thread: Thread, *, with_ttl: bool = False) -> Json:
        """A thread with its values and the questions that wait.

        A state that cannot be read is an error of that thread; lists go on.
        """
        said = thread_json(thread, with_ttl=with_ttl)
        try:
            if thread.status == "error":
                said["error"] = await self._failure(thread.id)
            return with_state(said, await self.read(thread, {}))
        except Exception as error:
            log.warning("the state of thread %r cannot be read: %s", thread.id, error)
            if not isinstance(error, StorageError):
                log.debug("why the state of thread %r cannot be read", thread.id, exc_info=error)
            return {**said, "error": {"error": type(error).__name__, "message": str(error)}}

    @contextlib.asynccontextmanager
    async def _graph(self, thread: Thread, access: Access = "threads.read") -> AsyncGenerator[Any]:
        graph_id = self.graph_id(thread)
        assert graph_id is not None, "asked for before"
        purpose = Purpose(access, self._user)
        async with self._registry.open(graph_id, self._store, _config(thread, {}), purpose) as graph:
            with _answered():
                yield graph


@contextlib.contextmanager
def _answered() -> Generator[None]:
    """Answer what a request got wrong: a namespace of no subgraph, values that a reducer refuses."""
    try:
        yield
    except ClewError:
        raise
    except (ValueError, TypeError) as error:
        raise ApiError(422, str(error)) from error


def update_of(given: Mapping[str, Any]) -> StateUpdate:
    """One update of a superstep, `{"values", "command", "as_node"}`."""
    command = given.get("command")
    values: Any = given.get("values") if command is None else command_of(command)
    return StateUpdate(values, given.get("as_node"))


def command_of(given: Mapping[str, Any]) -> Command[Any]:
    """A command as JSON has it; `goto` is a node, `{"node", "input"}`, or a list of both."""
    unknown = set(given) - {"update", "resume", "goto"}
    if unknown:
        raise ApiError(422, f"a command has no {sorted(unknown)[0]!r}")
    goto: Any = given.get("goto") or []
    targets = cast("list[Any]", goto) if isinstance(goto, list) else [goto]
    update = _pairs(given.get("update"))
    return Command(update=update, resume=given.get("resume"), goto=[_target(each) for each in targets])


def _pairs(update: Any) -> Any:
    """An update; as a list of `[channel, value]`, which says a channel more than once, it becomes one of tuples."""
    if not isinstance(update, list):
        return update
    each = cast("list[Any]", update)
    is_pairs = all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in each)  # pyright: ignore[reportUnknownArgumentType]
    return [tuple(pair) for pair in each] if is_pairs else each


def _target(given: Any) -> Any:
    match given:
        case str():
            return given
        case {"node": str() as node}:
            return Send(node, given.get("input"))
        case _:
            raise ApiError(422, "a target of goto is a node's name or {node, input}")


def _config(thread: Thread, checkpoint: Mapping[str, Any]) -> Json:
    address = {key: checkpoint[key] for key in _ADDRESS if checkpoint.get(key)}
    return {"configurable": {"thread_id": thread.id, "checkpoint_ns": "", **address}}
