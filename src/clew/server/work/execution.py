"""One run, executed: how it begins, also after its worker was lost in the middle; what it is given; how it ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_type_hints

from clew import _failpoints, telemetry
from clew._langchain import missing_extra
from clew.checkpoint.base import CheckpointTuple
from clew.constants import CONFIG_KEY_UNSAVED, NULL_TASK_ID
from clew.errors import AmbiguousResumeError, ClewError, MissingExtraError, ThreadConflictError, UnknownInterruptError
from clew.pregel._prepare import Options
from clew.pregel._served import Served, run_served
from clew.protocols import Hold
from clew.runtime import ServerInfo
from clew.server.auth import Owner
from clew.server.errors import log
from clew.server.factories import Purpose
from clew.server.formats import encoded
from clew.server.owned_store import owned
from clew.server.protocol.record import MODES
from clew.server.registry import Registry
from clew.server.states import command_of
from clew.server.users import USER, User, with_user
from clew.server.work.queue import RunQueue
from clew.server.work.recorder import Recorder, engine_modes
from clew.server.work.repeated import Chunk, Repeated, shown_by, stored_by
from clew.storage.runs import UNREADABLE, RunRow
from clew.store.base import BaseStore
from clew.types import Command, Interrupt

_TRIES = 3  # after another claim of the thread that was on its way when the run began
_OF_REQUEST = ("langgraph_auth_", "langgraph_request_", "x-", "user-agent")
_OURS = ("__", "langgraph_", "checkpoint_")  # what no context may say in a config
_NOBODY: dict[str, Any] = {USER: None, f"{USER}_id": "", "langgraph_auth_permissions": []}
_KEPT = ("tags", "recursion_limit", "max_concurrency", "run_name")
Json = dict[str, Any]
Show = Callable[[Chunk], None]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and how it leaves its thread; `output` is JSON, `asked` the questions that wait."""

    status: Literal["success", "error", "interrupted"]
    leaves: Literal["idle", "interrupted", "error"]
    output: bytes | None = None
    error: Json | None = None
    asked: tuple[Interrupt, ...] = ()


class Execution:
    """Executes runs of an application's graphs for one worker."""

    def __init__(self, queue: RunQueue, registry: Registry, store: BaseStore | None, owner: str) -> None:
        self._queue = queue
        self._registry = registry
        self._store = store
        self._owner = owner

    async def run(self, run: RunRow, recorder: Recorder, hold: Hold | None = None) -> Ending:
        """Run to the end; gives how it ended. Raises only what stops the worker from going on with it."""
        if UNREADABLE in run.request:
            return Ending("error", "error", error={"error": "UnreadableRunError", "message": run.request[UNREADABLE]})
        began = dict(run.began or {})
        conflict: BaseException | None = None
        for attempt in range(_TRIES):
            try:
                return await self._run(run, recorder, began, hold, is_repeated=run.is_repeated or attempt > 0)
            except ThreadConflictError as error:
                # Another claim came first: of a worker that was thought lost, or of somebody who uses the thread
                # without the service. What is stored decides how to go on, if the run is still this worker's.
                log.info("run %s lost thread %r, attempt %d: %s", run.run_id, run.thread, attempt + 1, error)
                if not await self._queue.holds(run, self._owner):
                    raise
                conflict = error
        assert conflict is not None, "every try has failed"
        return Ending("error", "error", error=said(conflict))

    async def left(self, run: RunRow) -> Literal["idle", "interrupted"]:
        """How a run that was stopped leaves its thread: with something to do, or not."""
        try:
            async with self._registry.open(run.request["graph_id"], None, {}) as graph:
                state = await graph.aget_state({"configurable": {"thread_id": run.thread}})
        except Exception:
            return "interrupted"
        return "interrupted" if state.next else "idle"

    async def _run(
        self, run: RunRow, recorder: Recorder, began: Json, hold: Hold | None, *, is_repeated: bool
    ) -> Ending:
        request = run.request
        config, user = config_of(run), _user(run)
        owner = Owner(run.user_id or None, user=user)
        store = None if self._store is None else owned(self._store, owner.of_items)
        purpose = Purpose("threads.create_run", user, request.get("context"))
        try:
            async with self._registry.open(request["graph_id"], store, config, purpose) as graph:
                _failpoints.hit("run.opened")
                given = await self._given(graph, run, config, began, is_repeated=is_repeated)
                show = await self._repeated(graph, run, recorder) if is_repeated else recorder.show
                with telemetry.joined(request.get("trace")):
                    served = await self._served(graph, run, given, config, show, hold)
            return _ending(run, served)
        except ThreadConflictError:
            raise
        except (UnknownInterruptError, AmbiguousResumeError) as error:  # the thread is as it was
            return Ending("error", await self.left(run), error=said(error))
        except Exception as error:
            _log(run, error)
            return Ending("error", "error", error=said(error))

    async def _repeated(self, graph: Any, run: RunRow, recorder: Recorder) -> Show:
        """What shows a run that is gone on with."""
        await recorder.settled()
        repeated = Repeated(recorder.show, await shown_by(self._queue, run))
        repeated.catch_up(await stored_by(graph, run))
        return repeated.show

    async def _served(self, graph: Any, run: RunRow, given: Any, config: Json, show: Show, hold: Hold | None) -> Served:
        request = run.request
        modes = engine_modes(request.get("stream_mode") or ())
        if request.get("is_protocol"):
            modes = list(MODES)
            config = {**config, "callbacks": tool_handlers(show)}
        options = Options(
            context=context_of(graph, request.get("context"), config),
            stream_mode=modes,
            interrupt_before=request.get("interrupt_before"),
            interrupt_after=request.get("interrupt_after"),
            durability=request.get("durability"),
            subgraphs=bool(request.get("stream_subgraphs")),
            is_quiet=not modes,
        )
        if not options.subgraphs:
            return await run_served(
                graph, given, config, options, lambda chunk: show(((), *chunk)),
                guard=(run.run_id, self._owner, run.epoch), hold=hold, server_info=_server_info(run),
            )  # fmt: skip
        return await run_served(
            graph, given, config, options, show,
            guard=(run.run_id, self._owner, run.epoch), hold=hold, server_info=_server_info(run),
        )  # fmt: skip

    async def _given(self, graph: Any, run: RunRow, config: Json, began: Json, *, is_repeated: bool) -> Any:
        """What the graph is given: what was asked for or, where that is stored already, nothing more."""
        request = run.request
        command = None if request.get("command") is None else command_of(request["command"])
        if not is_repeated:
            if command is None:
                return request.get("input")
            await self._note_beginning(graph, run, command, began)
            return command
        found = await self._newest(run)
        if found is not None and found.metadata.get("run_id") == run.run_id:
            config["configurable"].pop("checkpoint_id", None)
            return None
        if command is None:
            return request.get("input")
        return _rest_of(command, began, found) if began else command

    async def _note_beginning(self, graph: Any, run: RunRow, command: Command[Any], began: Json) -> None:
        """Keep what a command finds, so that a worker which takes over can tell whether it was accepted."""
        found = await self._newest(run)
        began.update(head=_head(found), writes=_null_writes(found))
        if command.resume is not None and not isinstance(command.resume, dict):
            state = await graph.aget_state({"configurable": {"thread_id": run.thread}})
            if len(state.interrupts) == 1:
                began["interrupt"] = state.interrupts[0].id
        await self._queue.begin(run, self._owner, began)

    async def _newest(self, run: RunRow) -> CheckpointTuple | None:
        return await self._queue.storage_of(run).aget_tuple({"configurable": {"thread_id": run.thread}})


def tool_handlers(show: Show) -> list[Any]:
    """What tells of calls to tools; nothing without langchain-core, as there are no tools then."""
    try:
        from clew.server.protocol.tools import ToolHandler  # late: imports langchain-core
    except ModuleNotFoundError as error:
        if isinstance(missing_extra(error, "channel tools"), MissingExtraError):
            return []
        raise
    loop = asyncio.get_running_loop()

    def on_loop(chunk: Any) -> None:
        if threading.get_ident() == own:
            show(chunk)
        else:
            loop.call_soon_threadsafe(show, chunk)

    own = threading.get_ident()
    return [ToolHandler(on_loop)]


def config_of(run: RunRow) -> Json:
    """The config that a run's graph is called with."""
    request = run.request
    given = cast("Json", request.get("config") or {})
    names = {"graph_id": request["graph_id"], "assistant_id": run.assistant_id}
    own = {**names, "run_id": run.run_id, "thread_id": run.thread}
    context = cast("Json", request.get("context") or {})
    mirrored = {key: value for key, value in context.items() if not key.startswith(_OURS)}
    asked = with_user(given.get("configurable") or {})
    # Metadata are shown: a context may hold secrets, and who asked, with which headers, is not for them to tell.
    unsaved = [key for key in mirrored if key not in asked]
    unsaved += [key for key in (*_NOBODY, *asked) if key.startswith(_OF_REQUEST)]
    configurable: Json = {**_NOBODY, **mirrored, **asked, **own, CONFIG_KEY_UNSAVED: unsaved}
    for key in ("checkpoint_id", "checkpoint_ns", "checkpoint_map"):
        if request.get(key):
            configurable[key] = request[key]
    if request.get("strict_resume") and not run.is_repeated:
        configurable["__pregel_strict_resume"] = True
    config: Json = {
        "configurable": configurable,
        "metadata": {**run.metadata, **(given.get("metadata") or {}), **names, "run_attempt": run.attempt},
        "run_id": run.run_id,
    }
    config.update((key, given[key]) for key in _KEPT if given.get(key))
    return config


def context_of(graph: Any, given: Any, config: Json) -> Any:
    """The context of a run: the request's or, as on the field's platform, what its `configurable` says of the graph's
    context schema, with the schema's defaults; None where that makes none."""
    schema: Any = getattr(graph, "context_schema", None)
    if given or schema is None or not isinstance(schema, type):
        return given or None
    fields = _fields(schema)
    held = {key: value for key, value in config["configurable"].items() if key in fields and not key.startswith(_OURS)}
    try:
        return graph.coerce_context(held)
    except (TypeError, ValueError):
        if held:
            raise
        return None  # it has fields that must be given, and none was


def _fields(schema: type) -> Mapping[str, Any]:
    try:
        return get_type_hints(schema)
    except Exception:  # a name that cannot be resolved; what is inherited is not seen then
        return getattr(schema, "__annotations__", {})


def said(error: BaseException) -> Json:
    """An error as the field's protocol says it."""
    try:
        message = str(error)
    except Exception:
        message = "its message cannot be made"
    # A lone surrogate or a NUL character would keep the run from ending: databases store neither.
    return {"error": type(error).__name__, "message": message.encode("utf-8", "replace").decode().replace("\0", "�")}


def _ending(run: RunRow, served: Served) -> Ending:
    outcome = served.outcome
    if outcome.status == "failed" and outcome.error is not None:
        _log(run, outcome.error)
        return Ending("error", "error", error=said(outcome.error))
    leaves = "idle" if outcome.status == "done" else "interrupted"
    return Ending("success", leaves, encoded(served.output), asked=tuple(outcome.interrupts))


def _rest_of(command: Command[Any], began: Mapping[str, Any], found: CheckpointTuple | None) -> Any:
    """What is left of a command on a thread whose newest checkpoint the run has not made."""
    if _head(found) == began.get("head") and _null_writes(found) > began.get("writes", 0):
        return None  # its update and its answers were accepted together
    if began.get("interrupt") is not None:
        return Command(update=command.update, goto=command.goto, resume={began["interrupt"]: command.resume})
    return command


def _head(found: CheckpointTuple | None) -> str | None:
    return None if found is None else found.checkpoint["id"]


def _null_writes(found: CheckpointTuple | None) -> int:
    return sum(task == NULL_TASK_ID for task, *_ in (found.pending_writes or ())) if found is not None else 0


def _server_info(run: RunRow) -> ServerInfo:
    return ServerInfo(run.assistant_id, run.request["graph_id"], cast("Any", _user(run)))


def _user(run: RunRow) -> User | None:
    """Who asked for a run, as it was said then."""
    config = cast("Json", run.request.get("config") or {})
    held = cast("Json", config.get("configurable") or {})
    return None if held.get(USER) is None else User(held[USER])


def _log(run: RunRow, error: BaseException) -> None:
    shown, words = None if isinstance(error, ClewError) else error, said(error)
    log.warning(
        "run %s on thread %r failed: %s: %s", run.run_id, run.thread, words["error"], words["message"], exc_info=shown
    )
