"""Commands of the protocol: `{"id", "method", "params"}`, each answered by what it gives or by what is wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError
from starlette.requests import HTTPConnection

from clew.errors import CheckpointNotFoundError, ClewError, ThreadNotFoundError
from clew.server.caller import Caller
from clew.server.errors import ApiError, status_of
from clew.server.formats import checkpoint_json
from clew.server.requests import ProtocolRun
from clew.server.routes.runs import make_run
from clew.storage.runs import RunRow
from clew.threads import Thread

Json = dict[str, Any]
Code = Literal[
    "invalid_argument", "unknown_command", "unknown_error", "no_such_run", "no_such_interrupt", "no_such_checkpoint",
    "no_such_subscription", "permission_denied", "not_supported",
]  # fmt: skip
_LIST_MAX = 1000
_RUN_FIELDS = frozenset(ProtocolRun.model_fields)


class CommandError(Exception):
    """A command cannot be followed; `code` is the protocol's word for why."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


@dataclass(frozen=True, slots=True)
class Command:
    """A command for a thread, and who gives it."""

    request: HTTPConnection
    asks: Caller
    thread_id: str
    id: int
    method: str
    params: Mapping[str, Any]

    async def follow(self) -> Json:
        """Do it; gives the answer. Raises `ThreadNotFoundError`."""
        try:
            follow = _METHODS.get(self.method)
            if follow is None:
                await self.thread()
                raise CommandError("unknown_command", f"there is no command {self.method!r}")
            return {"type": "success", "id": self.id, **(await follow(self))}
        except CommandError as error:
            return refused(self.id, error.code, str(error))
        except ThreadNotFoundError:
            raise
        except ValidationError as error:
            said = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
            return refused(self.id, "invalid_argument", "; ".join(said))
        except ClewError as error:
            status = status_of(error)
            if status >= 500:
                raise
            return refused(self.id, _code(error, status), str(error))

    async def thread(self) -> Thread:
        """The thread; raises `ThreadNotFoundError`."""
        return await self.asks.threads.aget(self.thread_id)

    def text(self, name: str) -> str:
        """A parameter that is a text, and must be there."""
        value = self.params.get(name)
        if not isinstance(value, str) or not value:
            raise CommandError("invalid_argument", f"{self.method} needs a text as {name}")
        return value

    async def run(self, fields: Mapping[str, Any]) -> Json:
        """Make a run; gives what is said of it."""
        body = ProtocolRun.model_validate({**fields, "if_not_exists": "create"})
        run = await make_run(self.request, self.asks, self.thread_id, body)
        return _started(run)


def refused(id: Any, code: Code, message: str) -> Json:
    """The answer to a command that was not followed."""
    return {"type": "error", "id": id, "error": code, "message": message}


def _started(run: RunRow) -> Json:
    return {"result": {"run_id": run.run_id}, "meta": {"applied_through_seq": run.created_at - 10}}


def _code(error: ClewError, status: int) -> Code:
    if isinstance(error, CheckpointNotFoundError):
        return "no_such_checkpoint"
    return "permission_denied" if status == 403 else "unknown_error" if status == 409 else "invalid_argument"


async def _run_start(command: Command) -> Json:
    """Make a run; where questions wait, its input answers them."""
    command.text("assistant_id")
    fields = {key: value for key, value in command.params.items() if key in _RUN_FIELDS}
    if fields.get("command") is None and fields.get("input") is not None:
        try:
            thread = await command.thread()
        except ThreadNotFoundError:
            thread = None
        if thread is not None and thread.status == "interrupted" and await _questions(command, thread):
            fields["command"] = {"resume": fields.pop("input")}
    return await command.run(fields)


async def _input_respond(command: Command) -> Json:
    """Answer questions that wait, and go on."""
    params, thread = command.params, await command.thread()
    given = _listed(params.get("responses") if "responses" in params else [params])
    if not given or not all(isinstance(each, Mapping) for each in given):
        raise CommandError("invalid_argument", "input.respond needs an interrupt_id and a response, or a list of both")
    waiting, answers = await _questions(command, thread), Json()
    for each in given:
        id = each.get("interrupt_id")
        if not isinstance(id, str) or id not in waiting:
            raise CommandError("no_such_interrupt", f"no question {id!r} waits")
        answers[id] = each.get("response")
    said = {"resume": answers, **{key: params[key] for key in ("update", "goto") if params.get(key) is not None}}
    more = {key: params[key] for key in ("config", "metadata") if params.get(key) is not None}
    return await command.run({**more, "assistant_id": _assistant(thread), "command": said})


async def _get_tree(command: Command) -> Json:
    """The graph of the newest run, and what runs inside of it."""
    thread = await command.thread()
    runs = await command.asks.runs.list(command.thread_id, None, 1, 0)
    if not runs:
        raise CommandError("no_such_run", "the thread has no run")
    state = await command.asks.states.read(thread, {}, subgraphs=True)
    status = _status(runs[0], is_asking=bool(state.interrupts))
    root: Json = {"namespace": [], "status": status, "graph_name": runs[0].request["graph_id"]}
    return {"result": {"tree": {**root, "children": _children(state, status)}}}


async def _state_get(command: Command) -> Json:
    """The state, or some keys of it."""
    thread = await command.thread()
    ns = "|".join(_namespace(command))
    state = await command.asks.states.read(thread, {"checkpoint_ns": ns} if ns else {})
    keys = _listed(command.params.get("keys"))
    values: Any = state.values
    if keys is not None and isinstance(values, Mapping):
        values = {key: value for key, value in cast("Json", values).items() if key in keys}
    result: Json = {"values": values}
    at = checkpoint_json(state.config)
    if at["checkpoint_id"] is not None:
        result["checkpoint"] = {"id": at["checkpoint_id"], "ns": at["checkpoint_ns"]}
    return {"result": result}


async def _list_checkpoints(command: Command) -> Json:
    """Checkpoints, newest first."""
    thread = await command.thread()
    limit: Any = command.params.get("limit", 10)
    if not isinstance(limit, int) or not 1 <= limit <= _LIST_MAX:
        raise CommandError("invalid_argument", f"limit is a number from 1 to {_LIST_MAX}")
    ns, before = "|".join(_namespace(command)), command.params.get("before")
    at = {"checkpoint_ns": ns} if ns else {}
    found = await command.asks.states.history(thread, at, before=before, limit=limit, filter=None)
    checkpoints = [
        {
            "id": checkpoint_json(state.config)["checkpoint_id"],
            "timestamp": state.created_at,
            "step": (state.metadata or {}).get("step"),
            "metadata": state.metadata,
        }
        for state in found
    ]
    return {"result": {"checkpoints": checkpoints}}


async def _state_fork(command: Command) -> Json:
    """Run again from a checkpoint, with another input or as it was."""
    thread = await command.thread()
    await command.asks.states.read(thread, {"checkpoint_id": command.text("checkpoint_id")})
    said = {key: command.params[key] for key in ("input", "config") if command.params.get(key) is not None}
    fields = {**said, "assistant_id": _assistant(thread), "checkpoint_id": command.text("checkpoint_id")}
    made = await command.run(fields)
    return {**made, "result": {**made["result"], "thread_id": command.thread_id}}


async def _not_supported(command: Command) -> Json:
    await command.thread()
    raise CommandError("not_supported", f"{command.method} is not for this connection")


_METHODS: Mapping[str, Callable[[Command], Awaitable[Json]]] = {
    "run.start": _run_start,
    "input.respond": _input_respond,
    "agent.getTree": _get_tree,
    "state.get": _state_get,
    "state.listCheckpoints": _list_checkpoints,
    "state.fork": _state_fork,
    "input.inject": _not_supported,
    "subscription.subscribe": _not_supported,
    "subscription.unsubscribe": _not_supported,
    "subscription.reconnect": _not_supported,
}


async def _questions(command: Command, thread: Thread) -> set[str]:
    state = await command.asks.states.read(thread, {})
    return {question.id for question in state.interrupts}


def _assistant(thread: Thread) -> str:
    """The assistant that ran last on a thread, or its graph."""
    said = thread.metadata.get("assistant_id") or thread.metadata.get("graph_id")
    if not isinstance(said, str):
        raise CommandError("no_such_run", "no assistant has run on the thread")
    return said


def _namespace(command: Command) -> list[str]:
    given = _listed(command.params.get("namespace") or [])
    if given is None or not all(isinstance(part, str) for part in given):
        raise CommandError("invalid_argument", "a namespace is a list of texts")
    return given


def _listed(given: Any) -> list[Any] | None:
    return cast("list[Any]", given) if isinstance(given, list) else None


def _status(run: RunRow, *, is_asking: bool) -> str:
    if not run.is_over:
        return "running"
    if run.status == "success":
        return "interrupted" if is_asking else "completed"
    return "failed"


def _children(state: Any, status: str) -> list[Json]:
    """Subgraphs that have begun and not ended."""
    found: list[Json] = []
    for task in state.tasks:
        if task.state is None or isinstance(task.state, dict):
            continue
        ns = str(checkpoint_json(task.state.config)["checkpoint_ns"]).split("|")
        own = "interrupted" if task.interrupts else "failed" if task.error is not None else status
        found.append({"namespace": ns, "status": own, "graph_name": task.name, "children": _children(task.state, own)})
    return found


def parsed(given: Any) -> tuple[int, str, Mapping[str, Any]]:
    """The id, the method and the parameters of a command; raises `ApiError` 400 for what is none."""
    said = cast("Json", given) if isinstance(given, dict) else {}
    id, method = said.get("id"), said.get("method")
    params: Any = {} if said.get("params") is None else said["params"]
    if isinstance(id, int) and not isinstance(id, bool) and isinstance(method, str) and isinstance(params, dict):
        return id, method, cast("Json", params)
    raise ApiError(400, "a command has a number as id, a text as method, and an object as params")
