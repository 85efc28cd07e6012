"""Paths whose parts hold a slash: a thread's id may, and a client sends it as `%2F`.

Servers decode a path before it is matched. So such a slash is put under another character until the part it belongs to
is known.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

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


def with_slashes(part: str) -> str:
    """A part of a path as the client meant it."""
    return part.replace(_SLASH, "/")
