"""Stream mode "messages": chat models' tokens as they come, and the messages that nodes return.

langchain-core tells a handler what models do; the handler here passes it on with the metadata of the node the model
ran in. Invariant: a message is emitted once, whether it was streamed as chunks, returned by a node, or both; it is
known by its id, and one that a node received is not new when the node returns it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, TypeVar, cast
from uuid import UUID, uuid4

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.tracers._streaming import _StreamingCallbackHandler  # the marker by which models decide to stream

from clew.constants import NS_SEP, PUSH, TAG_HIDDEN, TAG_NOSTREAM
from clew.types import Command

T = TypeVar("T")

Emit: TypeAlias = Callable[[tuple[str, ...], tuple[Any, dict[str, Any]]], None]
Place: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]


class MessagesStreamHandler(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """A langchain-core callback handler that emits `(message or chunk, metadata)` with its graph's namespace.

    `emit(ns, (message, metadata))` is called on the thread or task that produced the message. Without `subgraphs`,
    only messages of the root graph and of the graph at `parent_ns` (where the handler was made) are emitted. Models
    tagged "nostream" are left out. `watch_nodes` says whether what nodes return is emitted too, when they end;
    without it the engine does that by calling `finish_node` when their writes are durable.
    """

    run_inline = True  # a token must reach the stream before the model goes on, in order

    def __init__(
        self, emit: Emit, *, subgraphs: bool = False, parent_ns: tuple[str, ...] | None = None, watch_nodes: bool = True
    ) -> None:
        self.emit = emit
        self.subgraphs = subgraphs
        self.parent_ns = parent_ns
        self.watch_nodes = watch_nodes
        self.seen: set[str] = set()
        self._places: dict[UUID, Place] = {}

    def push(self, metadata: Mapping[str, Any], message: BaseMessage) -> None:
        """Emit `message` as coming from the node that `metadata` names, even if it was seen before."""
        ns = graph_namespace(metadata)
        if self._covers(ns):
            self._emit((ns, dict(metadata)), message)

    def finish_node(self, metadata: Mapping[str, Any], update: Any, emit: Emit | None = None) -> None:
        """Emit the messages in what a node returned that have not been seen yet; `emit` stands in for the handler's."""
        ns = graph_namespace(metadata)
        if self._covers(ns):
            self._emit_new((ns, dict(metadata)), update, emit)

    def _covers(self, ns: tuple[str, ...]) -> bool:
        return self.subgraphs or not ns or ns == self.parent_ns

    def _emit(self, place: Place, message: BaseMessage, emit: Emit | None = None) -> None:
        if message.id is None:
            message.id = str(uuid4())
        self.seen.add(message.id)
        (emit or self.emit)(place[0], (message, place[1]))

    def _emit_new(self, place: Place, update: Any, emit: Emit | None = None) -> None:
        for message in new_messages(update, self.seen):
            self._emit(place, message, emit)

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:
        """Leave a run's output as it is; the marker this class inherits asks for the method."""
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:
        """Leave a run's output as it is."""
        return output

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember where the model runs, if it runs in a node that is covered."""
        if not metadata or "langgraph_checkpoint_ns" not in metadata or TAG_NOSTREAM in (tags or ()):
            return
        ns = graph_namespace(metadata)
        if self._covers(ns):
            own_tags = [tag for tag in tags or () if not tag.startswith("seq:step")]
            self._places[run_id] = (ns, {**metadata, "tags": own_tags} if own_tags else metadata)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        """Emit the chunk."""
        if isinstance(chunk, ChatGenerationChunk) and (place := self._places.get(run_id)):
            self._emit(place, chunk.message)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Emit the whole message of a model that did not stream."""
        place = self._places.pop(run_id, None)
        if place is None or not response.generations or not response.generations[0]:
            return
        generation = response.generations[0][0]
        if isinstance(generation, ChatGeneration):
            self._emit_new(place, generation.message)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the model's run."""
        self._places.pop(run_id, None)

    def on_chain_start(
        self,
        serialized: dict[str, Any],
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """If the run is a node's: what it receives is not new."""
        if not metadata or kwargs.get("name") != metadata.get("langgraph_node") or TAG_HIDDEN in (tags or ()):
            return
        ns = graph_namespace(metadata)
        if self._covers(ns):
            self.seen.update(message.id for message in _messages_in(inputs) if message.id is not None)
            if self.watch_nodes:
                self._places[run_id] = (ns, metadata)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Emit what the node returned."""
        if place := self._places.pop(run_id, None):
            self._emit_new(place, outputs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the node's run."""
        self._places.pop(run_id, None)


def graph_namespace(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The namespace of the graph that the node named by `metadata` belongs to.

    A node's own namespace ends with its own segment, and that of a task called by a node nests under its caller's.
    Such a call's path is `("__pregel_push", <caller's path>, <index>, True)`.
    """
    segments = tuple(cast("str", metadata.get("langgraph_checkpoint_ns") or "").split(NS_SEP))
    own = 1
    path = metadata.get("langgraph_path", ())
    while len(path) == 4 and path[0] == PUSH and path[-1] is True:
        own += 1
        path = path[1]
    return segments[:-own]


def new_messages(update: Any, seen: set[str]) -> list[BaseMessage]:
    """The messages in `update` whose ids `seen` does not have, in order, each once; `seen` is not changed.

    `update` is what a node may return: a message, a list, a state (dict, dataclass or pydantic model) whose fields
    hold messages or lists of them, a `Command`, a list of these, or a list of `(channel, value)` pairs.
    """
    found: list[BaseMessage] = []
    ids: set[str] = set()
    for message in _messages_returned(update):
        if message.id is None or (message.id not in seen and message.id not in ids):
            found.append(message)
            if message.id is not None:
                ids.add(message.id)
    return found


def _messages_returned(update: Any) -> Iterator[BaseMessage]:
    if isinstance(update, Command):
        yield from _messages_returned(cast("Any", update.update))
    elif isinstance(update, BaseMessage):
        yield update
    elif _is_list(update):
        for item in cast("Sequence[Any]", update):
            if isinstance(item, Command):
                yield from _messages_returned(cast("Any", item.update))
            elif isinstance(item, BaseMessage):
                yield item
            else:
                yield from _messages_in({item[0]: item[1]} if _is_pair(item) else item)
    else:
        yield from _messages_in(update)


def _is_pair(item: Any) -> bool:
    """Whether `item` is a channel's name and a value."""
    return isinstance(item, tuple) and len(cast("tuple[Any, ...]", item)) == 2


def _messages_in(state: Any) -> Iterator[BaseMessage]:
    """The messages in the fields of a state, or in lists that its fields hold."""
    for value in _field_values(state):
        if isinstance(value, BaseMessage):
            yield value
        elif _is_list(value):
            for item in cast("Sequence[Any]", value):
                if isinstance(item, BaseMessage):
                    yield item


def _field_values(state: Any) -> list[Any]:
    if isinstance(state, Mapping):
        return list(cast("Mapping[Any, Any]", state).values())
    if isinstance(state, BaseMessage):
        return []
    if is_dataclass(state) and not isinstance(state, type):
        return [getattr(state, field.name) for field in fields(state)]
    model_fields: Any = getattr(cast("Any", type(state)), "model_fields", ())
    return [getattr(state, name) for name in model_fields]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def push(message: Any, config: Mapping[str, Any]) -> None:
    """Emit `message` on every stream of messages among the callbacks of a node's `config`."""
    callbacks = config.get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []
    for handler in handlers:
        if isinstance(handler, MessagesStreamHandler):
            handler.push(config.get("metadata") or {}, message)
