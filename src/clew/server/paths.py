"""Paths whose parts hold a slash, and paths that all start with a prefix.

A thread's id may hold a slash, and a client sends it as `%2F`. Servers decode a path before it is matched. So such a
slash is put under another character until the part it belongs to is known.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = "\ue0f0"  # of the private use area
_ENCODED = re.compile(rb"%2[fF]")


class KeepSlashes:
    """ASGI middleware that keeps encoded slashes apart from those between the parts of a path."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        raw = scope.get("raw_path") or b""
        if _ENCODED.search(raw):
            path = _ENCODED.sub(quote(_SLASH).encode(), raw.partition(b"?")[0])
            scope = {**scope, "path": unquote(path.decode("latin-1"))}
        await self.app(scope, receive, send)


class Below:
    """ASGI middleware for an application whose paths all start with `prefix`."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, 404 where its path is another one."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif f"{route_path(scope)}/".startswith(f"{self._prefix}/"):
            await self.app({**scope, "root_path": scope.get("root_path", "") + self._prefix}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)


def route_path(scope: Scope) -> str:
    """A request's path, without what comes before the application's own."""
    return scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))


def with_slashes(part: str) -> str:
    """A part of a path as the client meant it."""
    return part.replace(_SLASH, "/")
