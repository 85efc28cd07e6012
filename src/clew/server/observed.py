"""What is seen of every request: its id, how long its answer took, and a line in the log for who wants one.

A request keeps the id that its `x-request-id` has, or gets one; the answer says it, and so does what is logged. The
line is at INFO on the logger `clew.server.access`, with the same facts as fields of its record. What no route foresaw
is answered here, so that such an answer has the headers of every other.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from contextvars import ContextVar
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clew import telemetry
from clew.server.errors import unforeseen
from clew.server.metrics import Metrics

REQUEST_ID = "x-request-id"
CLIENT_LEFT = 499  # no answer: who asked went away before it began
access = logging.getLogger("clew.server.access")
request_id: ContextVar[str | None] = ContextVar("clew_request_id", default=None)

_HEADER = REQUEST_ID.encode()
_SOUND = re.compile(rb"[!-~]{1,128}")


class Observed:
    """ASGI middleware that sees each request from its beginning to the last byte of its answer.

    Invariant: next to the routes' own, whose scope it shares: the router notes there which route it was.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id, status, failure = _id_of(scope), 0, None

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, id.encode())]
            await send(message)

        began = perf_counter()
        token = request_id.set(id)
        span = telemetry.request_began(scope)
        try:
            await self.app(scope, receive, note)
        except asyncio.CancelledError:
            status = status or CLIENT_LEFT
            raise
        except Exception as error:
            failure = error
            if status:
                raise  # the answer had begun: the server can only break it off
            await unforeseen(scope, error, id)(scope, receive, note)
        finally:
            request_id.reset(token)
            route = getattr(scope.get("route"), "path", None)
            if span is not None:
                span.end(route, status or CLIENT_LEFT, failure)
            self._ended(scope, id, route or "unmatched", status or CLIENT_LEFT, perf_counter() - began)

    def _ended(self, scope: Scope, id: str, route: str, status: int, seconds: float) -> None:
        self.metrics.request_ended(scope["method"], route, status, seconds)
        if access.isEnabledFor(logging.INFO):
            facts = {"method": scope["method"], "route": route, "status": status, "seconds": seconds, "request_id": id}
            access.info("%s %r %d %.1f ms %s", scope["method"], scope["path"], status, seconds * 1e3, id, extra=facts)


def _id_of(scope: Scope) -> str:
    """The id that a request came with, if it can be written anywhere, or a new one."""
    for name, value in scope["headers"]:
        if name == _HEADER and _SOUND.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex
