"""The application: its parts, its routes, and what is around every request."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from clew.checkpoint._face import CheckpointSaver
from clew.checkpoint.memory import InMemorySaver
from clew.server import errors
from clew.server.assistants import Assistants
from clew.server.auth import Authenticate, authenticator
from clew.server.beside import lifespan_of, put_beside
from clew.server.bodies import IGNORED, NameIgnored
from clew.server.caller import Service
from clew.server.duties import Duties, DutySettings
from clew.server.handlers import Handlers, is_auth
from clew.server.http import HttpSettings, Room
from clew.server.metrics import Metrics
from clew.server.observed import REQUEST_ID, Observed
from clew.server.openapi import describe_errors, describe_security
from clew.server.pages import NEXT, TOTAL
from clew.server.paths import Below, KeepSlashes
from clew.server.registry import Registry
from clew.server.routes import assistants, crons, items, protocol, runs, sockets, states, streams, system, threads
from clew.server.sizes import BodyLimit
from clew.server.work.queue import RunQueue
from clew.server.work.signals import Signals
from clew.server.work.worker import Worker, WorkSettings
from clew.store.base import BaseStore
from clew.threads import Threads
from clew.version import __version__

EXPOSED = ("content-location", "location", TOTAL, NEXT, IGNORED, REQUEST_ID)
ROOMS: Mapping[Room, tuple[APIRouter, ...]] = {  # those that are asked most come first: routes are tried in turn
    "runs": (runs.router, crons.router),
    "threads": (states.router, threads.router, streams.router, protocol.router, sockets.router),
    "assistants": (assistants.router,),
    "store": (items.router,),
    "meta": (system.meta,),
}


def create_app(
    graphs: Mapping[str, Any],
    storage: CheckpointSaver,
    *,
    store: BaseStore | None = None,
    auth: Authenticate | Mapping[str, str] | Any = None,
    shared: bool = False,
    http: HttpSettings | None = None,
    work: WorkSettings | None = None,
    duties: DutySettings | None = None,
    descriptions: Mapping[str, str] | None = None,
    **settings: Any,
) -> FastAPI:
    """An application that serves graphs; run it, or mount it in another one.

    `graphs` has a compiled graph, a `StateGraph` or a factory of either by name; each runs on `storage`, a saver of
    clew, and on `store`, whatever it was compiled with. Both are the caller's to close. `auth` is a
    `langgraph_sdk.Auth`, a mapping from API keys to user ids, or an async function that gives a request's `Owner`;
    without it everything belongs to everyone. With it, what a user makes is that user's, unless `shared`: then all
    belongs to the installation, and who may do what is for the handlers of the `Auth` to say. `http` says which rooms
    it has, and what is around them, `descriptions` what graphs are for, `work` how this process works on runs, and
    `duties` what is done in the background. `settings` go to `FastAPI`.
    """
    if not isinstance(storage, CheckpointSaver):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise TypeError(f"storage is a {type(storage).__name__}, not a saver of clew")
    if store is not None and not hasattr(store, "abatch"):
        raise TypeError(f"store is a {type(store).__name__}, not a store of clew")
    if isinstance(storage, InMemorySaver):
        raise TypeError(
            "storage is an InMemorySaver, which keeps no runs; the same in SQLite is SqliteSaver(':memory:')"
        )
    handlers = Handlers(auth) if is_auth(auth) else None
    registry, now, http = Registry(graphs, storage, descriptions), datetime.now(UTC), http or HttpSettings()
    own: dict[str, Any] = {"title": "clew", "version": __version__, "lifespan": _lifespan}
    if "meta" in http.disabled:
        own["openapi_url"] = None
    app = FastAPI(**own | settings)
    metrics, known = Metrics(), Assistants(storage, registry, now)
    background = Duties(storage, known, duties, metrics, store)
    worker = Worker(RunQueue(storage), registry, store, metrics, Signals(storage), work or WorkSettings())
    background.made_run = worker.signals.work
    worker.on_told = partial(background.wake, "webhooks")
    app.state.clew = Service(
        registry=registry,
        storage=storage,
        store=store,
        threads=Threads(storage),
        assistants=known,
        authenticate=authenticator(auth, handlers, is_shared=shared),
        started_at=now,
        worker=worker,
        duties=background,
        http=http,
        metrics=metrics,
        handlers=handlers,
    )
    for router in (system.router, *(each for room in ROOMS if room not in http.disabled for each in ROOMS[room])):
        app.include_router(router)
    errors.install(app)
    describe_errors(app)
    app.add_middleware(NameIgnored)
    app.add_middleware(BodyLimit, limit=http.max_body)
    app.add_middleware(Observed, metrics=metrics)
    app.add_middleware(KeepSlashes)
    _surround(app, http)
    return app


def _surround(app: FastAPI, http: HttpSettings) -> None:
    """Put around the application what `http` says; what comes last is the outermost."""
    if http.app is not None:
        put_beside(app, http.app, authenticates=http.authenticates_app)
    if http.security is not None:
        describe_security(app, http.security)
    if http.mount_prefix:
        app.add_middleware(Below, prefix=http.mount_prefix)
    if (cors := http.browsers) is not None:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors.allow_origins,
            allow_origin_regex=cors.allow_origin_regex,
            allow_methods=cors.allow_methods,
            allow_headers=cors.allow_headers,
            allow_credentials=cors.allow_credentials,
            allow_private_network=True,
            expose_headers=(*EXPOSED, *cors.expose_headers),
            max_age=cors.max_age,
        )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[Mapping[str, Any]]:
    """Set up the tables before the first request; a mounted application does so with the first."""
    service: Service = app.state.clew
    await service.start()
    try:
        async with lifespan_of(service.http.app) as state:
            yield state
    finally:
        await service.drain()
