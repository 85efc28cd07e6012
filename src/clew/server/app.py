"""The application: its parts, its routes, and what is around every request."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from clew.checkpoint._face import CheckpointSaver
from clew.server import errors
from clew.server.assistants import Assistants
from clew.server.auth import Authenticate, authenticator
from clew.server.bodies import IGNORED, NameIgnored
from clew.server.caller import Service
from clew.server.observed import REQUEST_ID, Observed
from clew.server.pages import NEXT, TOTAL
from clew.server.paths import KeepSlashes
from clew.server.registry import Registry
from clew.server.routes import assistants, items, states, system, threads
from clew.store.base import BaseStore
from clew.threads import Threads
from clew.version import __version__

EXPOSED = ("content-location", "location", TOTAL, NEXT, IGNORED, REQUEST_ID)


def create_app(
    graphs: Mapping[str, Any],
    storage: CheckpointSaver,
    *,
    store: BaseStore | None = None,
    auth: Authenticate | Mapping[str, str] | None = None,
    cors_origins: tuple[str, ...] = ("*",),
    **settings: Any,
) -> FastAPI:
    """An application that serves graphs; run it, or mount it in another one.

    `graphs` has a compiled graph, a `StateGraph` or a factory of either by name; each runs on `storage`, a saver of
    clew, and on `store`, whatever it was compiled with. Both are the caller's to close. `auth` is a mapping from API
    keys to user ids, or an async function that gives a request's `Owner`; without it everything belongs to everyone.
    `settings` go to `FastAPI`.
    """
    if not isinstance(storage, CheckpointSaver):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise TypeError(f"storage is a {type(storage).__name__}, not a saver of clew")
    if store is not None and not hasattr(store, "abatch"):
        raise TypeError(f"store is a {type(store).__name__}, not a store of clew")
    registry, now = Registry(graphs, storage), datetime.now(UTC)
    own: dict[str, Any] = {"title": "clew", "version": __version__, "lifespan": _lifespan}
    app = FastAPI(**own | settings)
    app.state.clew = service = Service(
        registry=registry,
        storage=storage,
        store=store,
        threads=Threads(storage),
        assistants=Assistants(storage, registry, now),
        authenticate=authenticator(auth),
        started_at=now,
    )
    for room in (system, assistants, threads, states, items):
        app.include_router(room.router)
    errors.install(app)
    app.add_middleware(NameIgnored)
    app.add_middleware(Observed, metrics=service.metrics)
    app.add_middleware(KeepSlashes)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(cors_origins),
        allow_methods=["*"],
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=list(EXPOSED),
    )
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Set up the tables before the first request; a mounted application does so with the first."""
    service: Service = app.state.clew
    for part in (service.storage, service.store):
        setup = getattr(part, "setup", None)
        if setup is None:
            continue
        if inspect.iscoroutinefunction(setup):
            await setup()
        else:
            await asyncio.to_thread(setup)
    yield
