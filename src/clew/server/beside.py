"""A user's own application beside the service's, on the same port.

Its routes are looked at first, so that they may stand for the service's; its middleware, exception handlers and
lifespan are around both. One documentation shows all routes. Its requests find the service's parts as the service's own
do, on `app.state.clew`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any, cast

from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clew.errors import ClewError
from clew.server.errors import answer_to
from clew.server.paths import route_path

_LEFT_BY_ROUTING = ("router", "route", "endpoint", "path_params", "fastapi")


class Beside:
    """ASGI middleware of the service that asks a user's application first."""

    def __init__(self, app: ASGIApp, service: FastAPI, users: Starlette, authenticates: bool) -> None:
        self.app = app
        self._service = service
        self._users = users
        self._authenticates = authenticates
        own = users.router.routes
        own[:] = [route for route in own if not isinstance(route, _Service)]  # of an application before
        documents = {service.openapi_url, service.docs_url, service.redoc_url, service.swagger_ui_oauth2_redirect_url}
        own.insert(0, _Service(self._go_on, documents - {None}))
        own.append(_Service(self._go_on, None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or one message of the server."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        heard = _Heard(receive)
        if not self._authenticates or self._is_services(scope) or await self._is_welcome(scope, heard, send):
            await self._users(scope, heard.again, send)

    def _is_services(self, scope: Scope) -> bool:
        """Whether no route of the user's is meant; the service asks itself who asks."""
        return next((isinstance(route, _Service) for route in self._users.router.routes if _fits(route, scope)), True)

    async def _is_welcome(self, scope: Scope, heard: _Heard, send: Send) -> bool:
        """Whether the request is from somebody who may use the service; if not, it is answered."""
        is_http = scope["type"] == "http"
        asked = {**scope, "type": "http", "method": scope.get("method", "GET"), "app": self._service}
        request = Request(asked, heard.once if is_http else _nothing)
        try:
            await self._service.state.clew.authenticate(request)
        except (ClewError, HTTPException) as error:
            if is_http:
                await (await answer_to(request, error))(scope, heard.again, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return False
        return True

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """With the service, as if the user's application had not been asked."""
        left = {key: value for key, value in scope.items() if key not in _LEFT_BY_ROUTING}
        await self.app({**left, "app": self._service}, receive, send)


class _Heard:
    """What the server says, for two who want to hear it: an authentication may read a request's body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()

    async def once(self) -> Message:
        """The next message, kept for the other one."""
        message = await self._receive()
        self._kept.append(message)
        return message

    async def again(self) -> Message:
        """The next message, from the first on."""
        return self._kept.popleft() if self._kept else await self._receive()


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


class _Service(BaseRoute):
    """A route of the user's application that leads to the service: for some paths, or (None) for all."""

    def __init__(self, app: ASGIApp, paths: set[Any] | None) -> None:
        self._app = app
        self._paths = paths

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        is_meant = scope["type"] in ("http", "websocket") and (self._paths is None or route_path(scope) in self._paths)
        return (Match.FULL if is_meant else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _fits(route: BaseRoute, scope: Scope) -> bool:
    match, _ = route.matches(dict(scope))
    return match is not Match.NONE


def put_beside(service: FastAPI, users: Any, *, authenticates: bool) -> None:
    """Have `service` ask `users`, an application of Starlette's or FastAPI's, first; raises TypeError for another."""
    if not isinstance(users, Starlette):
        raise TypeError(f"http.app is a {type(users).__name__}, not an application of Starlette or FastAPI")
    users.state.clew = service.state.clew
    service.add_middleware(cast("Any", Beside), service=service, users=users, authenticates=authenticates)
    if isinstance(users, FastAPI):
        _document(service, users)


@contextlib.asynccontextmanager
async def lifespan_of(users: Starlette | None) -> AsyncGenerator[Mapping[str, Any]]:
    """The lifespan of a user's application, if there is one; gives what requests find in their `state`."""
    if users is None:
        yield {}
        return
    async with users.router.lifespan_context(users) as state:
        yield state or {}


def _document(service: FastAPI, users: FastAPI) -> None:
    """Have the service's documentation show the user's routes, too."""
    alone = service.openapi

    def together() -> dict[str, Any]:
        own, theirs = alone(), users.openapi()
        paths = own.get("paths", {}) | theirs.get("paths", {})
        kinds = {*own.get("components", {}), *theirs.get("components", {})}
        components = {
            kind: theirs.get("components", {}).get(kind, {}) | own.get("components", {}).get(kind, {}) for kind in kinds
        }
        return {**own, "paths": paths, "components": components}

    service.openapi = together  # as FastAPI's documentation says
