"""What the engine's chunks become in a run whose thread is streamed: named events, each as it is shown later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from clew.server.protocol.messages import Messages

Json = dict[str, Any]
Namespace = tuple[str, ...]
MODES = ("values", "updates", "messages", "tasks", "checkpoints", "custom")  # of the engine, with subgraphs
HIDDEN = "."  # begins the names of what streams of runs do not show


class Record:
    """One run's. Gives `(name, data)`; a name is the event's, and behind a bar each its namespace."""

    def __init__(self) -> None:
        self._messages = Messages()
        self._running: dict[Namespace, str] = {}

    def take(self, ns: Namespace, mode: str, data: Any) -> Iterator[tuple[str, Any]]:
        """What a chunk of the engine's stream becomes."""
        yield from self._begun(ns)
        match mode:
            case "messages":
                message, metadata = data
                for said in self._messages.take(message, metadata):
                    yield _named(".messages", ns), said
            case "tools":
                yield _named(".tools", ns), data
            case "checkpoints":
                yield _named(".checkpoints", ns), _checkpoint(data)
            case "tasks":
                for said in self._messages.finish(_task_ns(ns, data)) if _is_result(data) else ():
                    yield _named(".messages", ns), said
                yield _named("tasks", ns), data
                if _is_result(data):
                    yield from self._ended((*ns, f"{data['name']}:{data['id']}"), data)
            case _:
                yield _named(mode, ns), data

    def finish(self) -> Iterator[tuple[str, Any]]:
        """What is still open when the run ends."""
        for said in self._messages.finish():
            yield ".messages", said
        for ns in sorted(self._running, key=len, reverse=True):
            yield _named(".lifecycle", ns), {"event": "failed", "graph_name": self._running[ns]}
        self._running.clear()

    def _begun(self, ns: Namespace) -> Iterator[tuple[str, Any]]:
        """Subgraphs begin with the first thing that is heard of them, or of one inside of them."""
        for depth in range(1, len(ns) + 1):
            part = ns[:depth]
            if part not in self._running:
                name, _, task = part[-1].partition(":")
                self._running[part] = name
                said = {"event": "started", "graph_name": name, "namespace": list(part), "trigger_call_id": task}
                yield _named(".lifecycle", part), said

    def _ended(self, ns: Namespace, result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        name = self._running.pop(ns, None)
        if name is None:
            return
        said: Json = {"event": "completed", "graph_name": name}
        if result.get("interrupts"):
            said["event"] = "interrupted"
        elif result.get("error"):
            said |= {"event": "failed", "error": str(result["error"])}
        yield _named(".lifecycle", ns), said


def _named(name: str, ns: Sequence[str]) -> str:
    return "|".join((name, *ns))


def _is_result(data: Mapping[str, Any]) -> bool:
    return "result" in data


def _task_ns(ns: Namespace, data: Mapping[str, Any]) -> str:
    """What messages of a task's node have as `langgraph_checkpoint_ns`."""
    return "|".join((*ns, f"{data['name']}:{data['id']}"))


def _checkpoint(data: Mapping[str, Any]) -> Json:
    """A checkpoint as the protocol has it: where it is in the thread's tree, and not what is in it."""
    metadata = cast("Json", data.get("metadata") or {})
    said: Json = {"id": _id(data.get("config")), "step": metadata.get("step"), "source": metadata.get("source")}
    parent = _id(data.get("parent_config"))
    return {**said, "parent_id": parent} if parent else said


def _id(config: Any) -> Any:
    configurable: Json = cast("Json", config or {}).get("configurable") or {}
    return configurable.get("checkpoint_id")
