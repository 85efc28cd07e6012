"""Messages as the protocol has them: a beginning, blocks of content that begin, grow and end, an end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

Json = dict[str, Any]
_GROWS = {"text": "text", "reasoning": "reasoning", "tool_call_chunk": "args", "server_tool_call_chunk": "args"}
_FINAL = {"tool_call_chunk": "tool_call", "server_tool_call_chunk": "server_tool_call"}
_DELTAS = {"text": "text-delta", "reasoning": "reasoning-delta"}


@dataclass(slots=True)
class _Open:
    """A message that is still coming."""

    id: str
    task: str
    blocks: dict[Any, tuple[int, Json]] = field(default_factory=dict[Any, tuple[int, Json]])
    usage: Json = field(default_factory=dict[str, Any])
    metadata: Json = field(default_factory=dict[str, Any])


class Messages:
    """Chunks and whole messages of one run, as events; those of models only."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def take(self, message: Any, metadata: Mapping[str, Any]) -> Iterator[Json]:
        """What a message, or the next chunk of one, is told by."""
        if message.type not in ("ai", "AIMessageChunk"):
            return
        id, task = str(message.id), str(metadata.get("langgraph_checkpoint_ns") or "")
        coming = self._open.get(id)
        if coming is None:
            coming = self._open[id] = _Open(id, task)
            yield {"event": "message-start", "role": "ai", "id": id, "metadata": _metadata(message, metadata)}
        is_chunk = message.type == "AIMessageChunk"
        for key, block in _blocks(message, is_chunk=is_chunk):
            yield from _grown(coming, key, block)
        coming.metadata.update(message.response_metadata or {})
        coming.usage = _sum(coming.usage, message.usage_metadata)
        if not is_chunk or getattr(message, "chunk_position", None) == "last":
            yield from self._finished(coming)

    def finish(self, task: str | None = None) -> Iterator[Json]:
        """The ends of messages that are still open: those of a task, or all."""
        for coming in [*self._open.values()]:
            if task is None or coming.task == task:
                yield from self._finished(coming)

    def _finished(self, coming: _Open) -> Iterator[Json]:
        del self._open[coming.id]
        for index, block in coming.blocks.values():
            yield _said(coming, "content-block-finish", index=index, content=_final(block))
        said: Json = {"metadata": coming.metadata} if coming.metadata else {}
        if coming.usage:
            said["usage"] = coming.usage
        yield _said(coming, "message-finish", **said)


def _grown(coming: _Open, key: Any, block: Json) -> Iterator[Json]:
    """A block of a message, or more of one that is there."""
    kind, grows = block["type"], _GROWS.get(block["type"])
    if key not in coming.blocks:
        index = len(coming.blocks)
        coming.blocks[key] = (index, dict(block))
        start = {name: value for name, value in block.items() if name not in ("args", "data", "value", "output")}
        if grows is not None:
            start[grows] = ""
        elif kind in ("tool_call", "server_tool_call"):
            start["args"] = {}
        yield _said(coming, "content-block-start", index=index, content=start)
    else:
        index, known = coming.blocks[key]
        more = {name: value for name, value in block.items() if value is not None and name != grows}
        if grows is not None:
            more[grows] = (known.get(grows) or "") + (block.get(grows) or "")
        known.update(more)
    if grows is not None and block.get(grows):
        delta = {"type": _DELTAS.get(kind, "tool-call-delta"), grows: block[grows]}
        yield _said(coming, "content-block-delta", index=index, delta=delta)


def _said(coming: _Open, event: str, **data: Any) -> Json:
    """An event of a message. The protocol's have no id; with one, clients tell apart messages that come together."""
    return {"event": event, "message_id": coming.id, **data}


def _blocks(message: Any, *, is_chunk: bool) -> Iterator[tuple[Any, Json]]:
    """The blocks of a message by what they are known by in later chunks."""
    for place, given in enumerate(cast("list[Any]", message.content_blocks)):
        block = dict(given)
        known = block.get("index")
        yield (known if known is not None and is_chunk else (block["type"], place)), block


def _final(block: Json) -> Json:
    """A block that is whole: the arguments of a call to a tool are read, if they can be."""
    kind = block["type"]
    if kind not in _FINAL:
        return block
    rest = {name: value for name, value in block.items() if name not in ("type", "args", "index")}
    try:
        arguments = json.loads(block.get("args") or "{}")
    except json.JSONDecodeError as error:
        return {"type": "invalid_tool_call", **rest, "args": block.get("args"), "error": f"no JSON: {error}"}
    return {"type": _FINAL[kind], **rest, "args": arguments}


def _metadata(message: Any, metadata: Mapping[str, Any]) -> Json:
    """Where a message comes from; the protocol allows plain values only."""
    given: Json = message.response_metadata or {}
    said: Json = {
        "provider": given.get("model_provider") or metadata.get("ls_provider"),
        "model": given.get("model_name") or metadata.get("ls_model_name"),
        "langgraph_node": metadata.get("langgraph_node"),
        "langgraph_step": metadata.get("langgraph_step"),
    }
    return {key: value for key, value in said.items() if value is not None}


def _sum(known: Json, more: Any) -> Json:
    """Counts of tokens, added up; details too."""
    if not more:
        return known
    total = dict(known)
    for key, value in dict(more).items():
        if isinstance(value, int):
            total[key] = total.get(key, 0) + value
        elif isinstance(value, Mapping):
            total[key] = _sum(total.get(key, {}), value)
    return total
