"""clew's objects as the JSON that clients read; the one place that knows it.

Messages and other models are their fields, as on the field's platform: a message is
`{"type": "human", "content": ..., "id": ...}`. What JSON has no word for is its text.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python
from starlette.responses import Response

from clew.errors import SerializationError
from clew.server.assistants import Assistant, Version
from clew.storage.crons import CronRow
from clew.storage.runs import RunRow
from clew.store.base import Item, SearchItem
from clew.threads import Thread
from clew.types import StateSnapshot

Json = dict[str, Any]
_OWN_KEYS = ("config", "trace", "webhook", "graph_id")  # who asked is in the first, and a secret may be in the third
_ASKED: Json = {
    "input": None, "command": None, "context": {}, "stream_mode": [], "stream_subgraphs": False, "is_resumable": False,
    "interrupt_before": None, "interrupt_after": None, "durability": "async",
}  # fmt: skip
_JSON: Any = {"by_alias": False, "bytes_mode": "base64", "inf_nan_mode": "null", "timedelta_mode": "float"}


def encoded(value: Any) -> bytes:
    """JSON of anything: numbers that are none become null, bytes URL-safe base64, exceptions their name and message."""
    try:
        return to_json(value, fallback=_other, **_JSON)
    except PydanticSerializationError:
        pass  # a text that UTF-8 cannot hold, for one: slower, and escaped
    try:
        return json.dumps(_plain(value), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SerializationError(f"a value cannot be said in JSON: {error}") from error


def plain(value: Any) -> Any:
    """The same as Python's own lists, dicts, numbers and texts."""
    return json.loads(encoded(value))


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(encoded(value), status, dict(headers or {}), "application/json")


def nothing(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(status_code=status)


def thread_json(thread: Thread, *, with_ttl: bool = False) -> Json:
    """A thread; `values` and `interrupts` are those of one that has no state, and `error` of one that did not fail."""
    said: Json = {
        "thread_id": thread.id,
        "created_at": _time(thread.created_at),
        "updated_at": _time(thread.updated_at),
        "state_updated_at": _time(thread.last_message_at or thread.created_at),
        "metadata": thread.metadata,
        "config": {},
        "status": thread.status,
        "values": None,
        "interrupts": {},
        "error": None,
        "user_id": thread.user_id or None,
        "title": thread.title,
        "last_message_at": _time(thread.last_message_at),
        "archived": thread.archived,
    }
    if with_ttl and thread.ttl_minutes is not None:
        active_at = thread.last_message_at or thread.created_at
        said["ttl"] = {
            "strategy": thread.ttl_strategy or "delete",
            "ttl_minutes": thread.ttl_minutes,
            "expires_at": _time(active_at + timedelta(minutes=thread.ttl_minutes)),
        }
    return said


def with_state(thread: Json, snapshot: StateSnapshot) -> Json:
    """A thread with what its newest checkpoint holds."""
    if checkpoint_json(snapshot.config)["checkpoint_id"] is None:
        return thread
    asked = {task.id: list(task.interrupts) for task in snapshot.tasks if task.interrupts}
    said = {**thread, "values": snapshot.values, "interrupts": asked}
    if snapshot.created_at is not None:
        said["state_updated_at"] = snapshot.created_at
    return said


def state_json(snapshot: StateSnapshot) -> Json:
    """The state of a thread at a checkpoint."""
    checkpoint, parent = checkpoint_json(snapshot.config), checkpoint_json(snapshot.parent_config)
    return {
        "values": snapshot.values,
        "next": list(snapshot.next),
        "tasks": [_task(task) for task in snapshot.tasks],
        "metadata": snapshot.metadata or {},
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent if snapshot.parent_config else None,
        "interrupts": list(snapshot.interrupts),
        "checkpoint_id": checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent["checkpoint_id"],
    }


def checkpoint_json(config: Mapping[str, Any] | None) -> Json:
    """Which checkpoint a config names."""
    given: Mapping[str, Any] = (config or {}).get("configurable") or {}
    said: Json = {
        "thread_id": given.get("thread_id"),
        "checkpoint_ns": given.get("checkpoint_ns") or "",
        "checkpoint_id": given.get("checkpoint_id"),
    }
    if given.get("checkpoint_map"):
        said["checkpoint_map"] = given["checkpoint_map"]
    return said


def assistant_json(assistant: Assistant) -> Json:
    """An assistant with the version in use."""
    return {**version_json(assistant.current), "updated_at": _time(assistant.updated_at)} | {
        "created_at": _time(assistant.created_at)
    }


def version_json(version: Version) -> Json:
    """One version of an assistant."""
    said = version.said
    return {
        "assistant_id": version.assistant_id,
        "graph_id": said.graph_id,
        "config": said.config,
        "context": said.context,
        "metadata": said.metadata,
        "name": said.name,
        "description": said.description,
        "version": version.version,
        "created_at": _time(version.created_at),
    }


def config_json(run: RunRow) -> Json:
    """The config that a run was asked for, without who asked."""
    config: Json = run.request.get("config") or {}
    held: Mapping[str, Any] = config.get("configurable") or {}
    shown = {key: value for key, value in held.items() if not key.startswith(("__", "langgraph_"))}
    return {**config, "configurable": shown}


def run_json(run: RunRow) -> Json:
    """A run. What it gave is its thread's state, or its stream's."""
    request, config = run.request, config_json(run)
    own = {"graph_id": request.get("graph_id"), "assistant_id": run.assistant_id}
    named = {**own, "run_id": run.run_id, "thread_id": run.thread}
    asked = {**_ASKED, **{key: value for key, value in request.items() if key not in _OWN_KEYS}}
    return {
        "run_id": run.run_id,
        "thread_id": run.thread,
        "assistant_id": run.assistant_id,
        "created_at": _micros(run.created_at),
        "updated_at": _micros(run.updated_at),
        "ended_at": _micros(run.ended_at),
        "status": run.status,
        "metadata": {**own, **run.metadata},
        "kwargs": {**asked, "config": {**config, "configurable": {**config["configurable"], **named}}},
        "multitask_strategy": run.strategy,
        "attempt": run.attempt,
        "error": run.error,
    }


def cron_json(cron: CronRow) -> Json:
    """A cron. `error` says why its last run was not made."""
    return {
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread,
        "on_run_completed": cron.on_run_completed,
        "end_time": _micros(cron.end_time),
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "created_at": _micros(cron.created_at),
        "updated_at": _micros(cron.updated_at),
        "payload": {**cron.payload, "assistant_id": cron.assistant_id, "schedule": cron.schedule},
        "user_id": cron.user_id or None,
        "next_run_date": _micros(cron.next_at),
        "metadata": cron.metadata,
        "enabled": bool(cron.enabled),
        "error": cron.error,
    }


def item_json(item: Item) -> Json:
    """An item of the store; one that was searched for has its score."""
    return {**item.dict(), "score": item.score} if isinstance(item, SearchItem) else item.dict()


def selected(said: Json, names: Sequence[str] | None) -> Json:
    """The fields that were asked for; `values.<key>` is one key of the values."""
    if not names:
        return said
    chosen = {name: said[name] for name in said if name in names}
    values = said.get("values")
    keys = [name.removeprefix("values.") for name in names if name.startswith("values.")]
    if keys and "values" not in chosen and isinstance(values, Mapping):
        held = cast("Mapping[str, Any]", values)
        chosen["values"] = {key: held[key] for key in keys if key in held}
    return chosen


def _task(task: Any) -> Json:
    state = task.state
    is_config = isinstance(state, dict)
    return {
        "id": task.id,
        "name": task.name,
        "path": task.path,
        "error": task.error if task.error is None or isinstance(task.error, str) else repr(task.error),
        "interrupts": list(task.interrupts),
        "checkpoint": checkpoint_json(cast("Json", state)) if is_config else None,
        "state": None if state is None or is_config else state_json(state),
        "result": task.result,
    }


def _micros(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at / 1_000_000, UTC).isoformat()


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _other(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, BaseException):
        return {"error": type(value).__name__, "message": str(value)}
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    return str(value)


def _plain(value: Any) -> Any:
    """As `encoded`, for values with texts that UTF-8 cannot hold."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.urlsafe_b64encode(value).decode()
        case Mapping():
            return {_key(key): _plain(held) for key, held in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(held) for held in cast("Sequence[Any]", value)]
        case _ if hasattr(value, "model_dump"):
            return _plain(value.model_dump())
        case _:
            held = to_jsonable_python(value, by_alias=False, serialize_unknown=True)
            return held if held is None or isinstance(held, str | int) else _plain(held)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(key)
