"""`clew serve` and `clew dev`: graphs behind the HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import logging
import socket
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from clew.checkpoint._face import CheckpointSaver
from clew.cli import _show as show
from clew.cli import _supervise as supervise
from clew.cli._database import database_in_environment, open_saver, open_store
from clew.cli._problem import CommandError
from clew.cli._run import DEFAULT_DB
from clew.errors import ConfigError, MissingExtraError, UnsafeBindError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from clew.server.config import Config
    from clew.server.deployment import Deployment

FILE = "langgraph.json"
PORT = 2024
MAX_RUNS = 64
_PORTS_TRIED = 50
_DEV_GRACE = 1.0  # seconds

Targets = Annotated[
    list[str] | None, Argument(metavar="[NAME=]MODULE:GRAPH", help="graphs in modules or files: app.py:chat")
]
ConfigFile = Annotated[Path | None, Option("--config", "-c", help=f"a file that says what is served: {FILE}")]
Host = Annotated[str, Option(help="the address to listen on")]
Database = Annotated[str | None, Option("--db", help=f"path or URL of the database (default {DEFAULT_DB})")]
Grace = Annotated[float, Option(min=0, help="seconds for runs and requests to end after SIGTERM")]
Level = Annotated[Literal["debug", "info", "warning", "error"], Option("--log-level", help="what is logged")]
AccessLog = Annotated[bool, Option("--access-log", help="log each request")]
Shared = Annotated[bool, Option("--shared", help="users share what there is; an Auth's handlers say who may do what")]


MaxRuns = Annotated[int, Option(min=0, help="how many runs are executed at once; 0: none, requests only")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for on the command line."""

    targets: Sequence[str]
    config: Path | None
    db: str | None
    grace: float
    log_level: str
    access_log: bool = False
    max_runs: int = MAX_RUNS
    allow_anonymous: bool = False
    shared: bool = False


def serve(
    targets: Targets = None,
    config: ConfigFile = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="the port to listen on; 0: any free one")] = PORT,
    db: Database = None,
    grace: Grace = 20.0,
    log_level: Level = "info",
    access_log: AccessLog = False,
    max_runs: MaxRuns = MAX_RUNS,
    shared: Shared = False,
    allow_anonymous: Annotated[
        bool, Option("--allow-anonymous", help="listen in public without authentication: what is before it asks who")
    ] = False,
    reload: Annotated[bool, Option("--reload", help="start again when files change")] = False,
) -> None:
    """Serve graphs over HTTP, until SIGTERM or Ctrl-C."""
    check_installed()
    wanted = Wanted(
        targets=targets or (),
        config=config or found_config(targets),
        db=db,
        grace=grace,
        log_level=log_level,
        access_log=access_log,
        max_runs=max_runs,
        allow_anonymous=allow_anonymous,
        shared=shared,
    )
    if reload and not supervise.is_supervised():
        with bound(host, port) as listening:
            supervise.run(sys.argv[1:], listening, folders=watched(wanted), grace=grace)
        return
    run(wanted, host, port)


def dev(
    targets: Targets = None,
    config: ConfigFile = None,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, Option(min=0, max=65535, help="the port to listen on; the next free one if it is taken")
    ] = PORT,
    db: Database = None,
    log_level: Level = "info",
    access_log: AccessLog = False,
    shared: Shared = False,
    reload: Annotated[bool, Option("--reload/--no-reload", help="start again when files change")] = True,
    open_browser: Annotated[bool, Option("--open/--no-browser", help="open a chat with the first graph")] = False,
) -> None:
    """Serve graphs while they are written: starts again when files change, says where they are to be seen."""
    check_installed()
    wanted = Wanted(
        targets=targets or (),
        config=config or found_config(targets),
        db=db or DEFAULT_DB,
        grace=_DEV_GRACE,
        log_level=log_level,
        access_log=access_log,
        shared=shared,
    )
    if supervise.is_supervised() or not reload:
        run(wanted, host, port)
        return
    with bound(host, port, or_next=True) as listening:
        from clew.server.running import url_of  # late: needs the extra

        url = f"{url_of(listening)}{prefix_of(wanted)}"
        show_places(url)
        if open_browser:
            supervise.open_when_ready(chat_page(url), f"{url}/ok")
        supervise.run(sys.argv[1:], listening, folders=watched(wanted), grace=_DEV_GRACE)


def check_installed() -> None:
    """Raise MissingExtraError if what the service needs is not there."""
    importlib.import_module("clew.server")  # late: needs the extra, and takes its time
    if importlib.util.find_spec("uvicorn") is None:
        raise MissingExtraError("serving", "server")


def found_config(targets: Sequence[str] | None) -> Path | None:
    """The configuration file of the working folder, where no graph is named; raises CommandError if there is none."""
    if targets:
        return None
    if Path(FILE).is_file():
        return Path(FILE)
    raise CommandError(
        "there is nothing to serve", hint=f"name graphs (clew serve app.py:chat), or a file: --config {FILE}"
    )


def watched(wanted: Wanted) -> list[Path]:
    """The folders whose files are watched: the working one, the file's, and those that it names."""
    folders = {Path.cwd()}
    if wanted.config is not None:
        base = wanted.config.resolve().parent
        local = [each for each in getattr(said(wanted), "dependencies", ()) if each.startswith((".", "/"))]
        folders |= {base, *((base / each).resolve() for each in local)}
    return [each for each in folders if not any(each != other and each.is_relative_to(other) for other in folders)]


def prefix_of(wanted: Wanted) -> str:
    """What every path of the service starts with."""
    return getattr(getattr(said(wanted), "http", None), "mount_prefix", "")


def said(wanted: Wanted) -> Config | None:
    """What the configuration file says, for the parent of the process that serves; that one says what is wrong."""
    from clew.server.configfile import read_config  # late: needs the extra

    try:
        return None if wanted.config is None else read_config(wanted.config)
    except ConfigError:
        return None


@contextlib.contextmanager
def bound(host: str, port: int, *, or_next: bool = False) -> Iterator[socket.socket]:
    """A socket on that address; with `or_next` on the next free port, if that one is taken."""
    from clew.server.running import bind  # late: needs the extra

    last = min(port + _PORTS_TRIED, 65535) if or_next and port else port
    for number in range(port, last + 1):
        try:
            found = bind(host, number)
        except OSError as error:
            if number < last:
                continue
            problem = f"{host}:{number} cannot be listened on: {error.strerror}"
            raise CommandError(problem, hint="choose another one with --port") from error
        with found:
            yield found
        return


def run(wanted: Wanted, host: str, port: int) -> None:
    """Serve in this process."""
    show_log(wanted.log_level, has_access=wanted.access_log)
    deployment = loaded(wanted)
    try:
        auth = checked_auth(deployment, host, wanted)
    except UnsafeBindError as error:
        if not supervise.is_supervised():
            raise
        show.show_error(str(error), error.__notes__)
        raise SystemExit(supervise.HOPELESS) from error
    asyncio.run(run_until_signalled(wanted, deployment, auth, host, port))


def loaded(wanted: Wanted) -> Deployment:
    """What is served; what of it has no effect is said."""
    from clew.server.deployment import from_file, from_targets  # late: needs the extra

    if wanted.targets and wanted.config is not None:
        raise CommandError("graphs and --config exclude each other", hint="put the graphs into the file")
    deployment = from_file(wanted.config) if wanted.config is not None else from_targets(wanted.targets)
    for notice in deployment.notices:
        show.notes.print(f"note: {notice}", style="dim")
    return deployment


def checked_auth(deployment: Deployment, host: str, wanted: Wanted) -> Any:
    """Who may use the service; raises UnsafeBindError where everybody may, and everybody can."""
    from clew.server.auth import api_keys_from_env, check_bindable  # late: needs the extra

    auth = deployment.auth if deployment.auth is not None else api_keys_from_env()
    if not wanted.allow_anonymous:
        try:
            check_bindable(host, auth)
        except UnsafeBindError as error:
            error.add_note("--allow-anonymous does it all the same, for what is behind something that asks who it is")
            raise
    return auth


async def run_until_signalled(wanted: Wanted, deployment: Deployment, auth: Any, host: str, port: int) -> None:
    from clew.server.running import Limits, Running, url_of  # late: needs the extra

    db = wanted.db or database_in_environment() or DEFAULT_DB
    async with opened_saver(db, deployment, str(wanted.config)) as saver:
        with open_store(db, index=deployment.index, ttl=deployment.item_ttl) as store:
            app = made_app(wanted, deployment, auth, saver, store)
            with supervise.listening() or bound(host, port) as listening:
                place = f"{url_of(listening)}{deployment.http.mount_prefix}"
                running = Running(
                    app,
                    limits=Limits(wanted.grace),
                    drain=app.state.clew.drain,
                    ready=lambda: show.show_fact("serving", f"{', '.join(deployment.graphs)} on {place}"),
                )
                supervise.end_with_parent()
                await running.serve([listening])


def made_app(wanted: Wanted, deployment: Deployment, auth: Any, saver: CheckpointSaver, store: Any) -> FastAPI:
    """The application; raises ConfigError for what it does not take of a file."""
    from clew.server import DutySettings, WorkSettings, create_app  # late: needs the extra

    try:
        return create_app(
            deployment.graphs,
            saver,
            store=store,
            auth=auth,
            shared=wanted.shared,
            http=deployment.http,
            descriptions=deployment.descriptions,
            duties=DutySettings(webhooks=deployment.webhooks, ttl=deployment.ttl),
            work=WorkSettings(max_runs=wanted.max_runs),
        )
    except (TypeError, ValueError) as error:
        if wanted.config is None:
            raise
        raise ConfigError(str(wanted.config), [str(error)]) from error


@contextlib.asynccontextmanager
async def opened_saver(db: str, deployment: Deployment, file: str) -> AsyncGenerator[CheckpointSaver]:
    """The saver that the configuration names, or the database's."""
    if deployment.saver is None:
        with open_saver(db, must_exist=False, classes=deployment.classes) as saver:
            yield saver
        return
    made: Any = deployment.saver() if callable(deployment.saver) else deployment.saver
    async with contextlib.AsyncExitStack() as stack:
        if inspect.isawaitable(made):
            made = await made
        if hasattr(made, "__aenter__"):
            made = await stack.enter_async_context(made)
        elif hasattr(made, "__enter__"):
            made = stack.enter_context(made)
        if not isinstance(made, CheckpointSaver):
            problem = f"checkpointer.path: it gives a {type(made).__name__}, not a saver of clew"
            raise ConfigError(file, [problem], hint="such as clew.checkpoint.postgres.PostgresSaver")
        yield made


def show_log(level: str, *, has_access: bool) -> None:
    """Log to standard error, of the service's own doings what `level` says, of others' what matters."""
    form = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    logging.basicConfig(format=form, level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("clew").setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel("DEBUG" if level == "debug" else "WARNING")
    logging.getLogger("clew.server.access").setLevel("INFO" if has_access else "WARNING")


def show_places(url: str) -> None:
    """Where what is served can be seen."""
    for label, place in {
        "API": url,
        "docs": f"{url}/docs",
        "chat": chat_page(url),
        "studio": f"https://smith.langchain.com/studio/?baseUrl={url}",
    }.items():
        show.show_fact(label, place)


def chat_page(url: str) -> str:
    """The field's chat page, on a service."""
    return f"https://agentchat.vercel.app/?apiUrl={url}"
