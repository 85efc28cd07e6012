"""What a request for a run says, and the run that it makes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field, field_validator
from starlette.requests import HTTPConnection

from clew import telemetry
from clew.ids import new_id
from clew.server.assistants import Assistant
from clew.server.bodies import Body, Json
from clew.server.errors import ApiError
from clew.server.observed import request_id
from clew.server.states import command_of
from clew.storage.runs import NewRun, Strategy
from clew.storage.threads import ThreadRow
from clew.threads._kept import kept

StreamMode = Literal[
    "values", "updates", "messages", "messages-tuple", "debug", "tasks", "checkpoints", "custom"
]  # fmt: skip
Names = list[str] | Literal["*"]
KEY_MAX = 255
AFTER_MAX = 10 * 365 * 86_400  # seconds


class CheckpointAt(Body):
    """The checkpoint that a run begins from."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    checkpoint_map: dict[str, str] | None = None


class RunCreate(Body):
    """A run to make.

    `langsmith_tracer` and `feedback_keys` are for a tracing service: they are accepted, and nothing comes of them.
    `checkpoint_during` is the old word for `durability`: true is "async", false "exit". `after_seconds` is how long
    the run waits at least. Of runs that wait, those of a higher `priority` start first, but for those of one thread.
    In `config.configurable` the names that begin with `__` or `langgraph_auth_`, and `checkpoint_tenant`, are the
    service's own: what a request says there is dropped.
    """

    assistant_id: str
    input: Any = None
    command: Json | None = None
    config: Json | None = None
    context: Json | None = None
    metadata: Json | None = None
    stream_mode: StreamMode | list[StreamMode] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    checkpoint: CheckpointAt | None = None
    checkpoint_id: str | None = None
    interrupt_before: Names | None = None
    interrupt_after: Names | None = None
    multitask_strategy: Strategy | None = None
    on_disconnect: Literal["cancel", "continue"] | None = None
    on_completion: Literal["delete", "keep"] | None = None
    if_not_exists: Literal["create", "reject"] | None = None
    after_seconds: Annotated[float, Field(ge=0, le=AFTER_MAX)] | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None
    webhook: Annotated[str, Field(max_length=2000)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] | None = None
    strict_resume: bool | None = None
    feedback_keys: Any = None
    langsmith_tracer: Any = None

    @field_validator("config")
    @classmethod
    def _is_config(cls, config: Json | None) -> Json | None:
        for key, kind in (("configurable", dict), ("metadata", dict), ("tags", list), ("recursion_limit", int)):
            if config is not None and config.get(key) is not None and not isinstance(config[key], kind):
                raise ValueError(f"{key} is not a {kind.__name__}")
        inner = cast("Json", (config or {}).get("configurable") or {})
        if not isinstance(inner.get("checkpoint_map") or {}, dict):
            raise ValueError("configurable.checkpoint_map is not a dict")
        limit = (config or {}).get("recursion_limit")
        if limit is not None and limit < 1:
            raise ValueError("recursion_limit is less than 1")
        return config

    @property
    def modes(self) -> list[str]:
        """The stream modes, as a list."""
        given = self.stream_mode
        return ["values"] if given is None else [given] if isinstance(given, str) else list(dict.fromkeys(given))


class ProtocolRun(RunCreate):
    """A run that is started by a command of the protocol for threads: it records what the protocol's channels show."""


def new_run(
    body: RunCreate,
    assistant: Assistant,
    thread_id: str,
    user: Mapping[str, Any],
    *,
    user_id: str,
    metadata: Json | None,
    is_shown: bool,
    is_stateless: bool,
    idempotency_key: str | None,
) -> NewRun:
    """The run that a request makes. `user` is what its `configurable` says of who asks; `is_shown` is whether what it
    streams is for somebody to read."""
    said = assistant.current.said
    at = _checkpoint(body, thread_id)
    if body.command is not None:
        command_of(body.command)  # refuses what is none
    request: Json = {
        "graph_id": said.graph_id,
        "input": None if body.command is not None else body.input,
        "command": body.command,
        "config": _config(dict(said.config), body.config or {}, user),
        "context": {**said.context, **(body.context or {})},
        "stream_mode": body.modes if is_shown else [],
        "stream_subgraphs": body.stream_subgraphs,
        "is_resumable": body.stream_resumable,
        "interrupt_before": body.interrupt_before,
        "interrupt_after": body.interrupt_after,
        "durability": body.durability or {True: "async", False: "exit", None: None}[body.checkpoint_during],
        "strict_resume": body.strict_resume,
        "webhook": body.webhook,
        "after_seconds": body.after_seconds,
        "trace": telemetry.carried(),
        **at,
    }
    if isinstance(body, ProtocolRun):
        modes = ["values", "updates", "tasks", "custom"]  # streams of the run itself have these
        request |= {"is_protocol": True, "is_resumable": True, "stream_mode": modes, "stream_subgraphs": True}
    return NewRun(
        run_id=new_id(),
        assistant_id=assistant.id,
        request={
            key: value
            for key, value in request.items()
            if value is not None and (key == "input" or value not in ({}, False))
        },
        metadata=kept(metadata) if metadata else {},
        user_id=user_id,
        strategy=body.multitask_strategy or "enqueue",
        priority=body.priority or 0,
        after=int((body.after_seconds or 0) * 1_000_000),
        idempotency_key=idempotency_key,
        is_ephemeral=is_stateless and body.on_completion != "keep",
        marks={"graph_id": said.graph_id, "assistant_id": assistant.id},
    )


def new_thread(thread_id: str, user_id: str, metadata: Json | None = None) -> ThreadRow:
    """The row of a thread that is made for a run."""
    now = time.time_ns() // 1000
    return ThreadRow(thread_id, user_id, "idle", 0, now, now, now, None, None, None, None, None, metadata or {})


def key_of(request: HTTPConnection, user_id: str, number: int | None = None) -> str | None:
    """The key under which a request that is sent again makes no second run: the header `idempotency-key`, of a user;
    `number` is the run's in a batch."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > KEY_MAX:
        raise ApiError(422, f"an idempotency key is a text of 1 to {KEY_MAX} characters")
    return json.dumps([user_id, key] if number is None else [user_id, key, number])


def _checkpoint(body: RunCreate, thread_id: str) -> Json:
    at = body.checkpoint
    if at is not None and at.thread_id not in (None, thread_id):
        raise ApiError(422, f"the checkpoint belongs to thread {at.thread_id!r}, and the run to {thread_id!r}")
    said: Json = {} if at is None else {k: v for k, v in at.model_dump().items() if v and k in _ADDRESS}
    return {**said, "checkpoint_id": body.checkpoint_id} if body.checkpoint_id else said


_ADDRESS = ("checkpoint_ns", "checkpoint_id", "checkpoint_map")


def _config(own: Json, given: Json, user: Mapping[str, Any]) -> Json:
    """The assistant's config with the request's over it, and who asks over both."""
    inner: dict[str, Json] = {
        key: {**cast("Json", own.get(key) or {}), **cast("Json", given.get(key) or {})}
        for key in ("configurable", "metadata")
    }
    id = request_id.get()
    said = {key: value for key, value in inner["configurable"].items() if not key.startswith(_OURS)}
    inner["configurable"] = {**said, **user}
    if id is not None:
        inner["configurable"]["langgraph_request_id"] = id
    tags: list[Any] = [*(own.get("tags") or []), *(given.get("tags") or [])]
    return {**own, **given, **inner, **({"tags": tags} if tags else {})}


_OURS = ("langgraph_auth_", "checkpoint_tenant", "__")  # who asks, whose database it is, and the engine's own words
