"""What requests say: the base of their models, and which keys of theirs nobody knows.

A value that cannot be honoured is refused with 422. A key that is not known is let pass, since a newer client may send
it; it is logged, and named in the answer's header `x-clew-ignored`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clew.server.errors import log
from clew.server.pages import LIMIT_MAX

IGNORED = "x-clew-ignored"
_ignored: ContextVar[list[str] | None] = ContextVar("clew_ignored", default=None)

Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX)]
Offset = Annotated[int, Field(ge=0, le=2**31 - 1)]
Json = dict[str, Any]
SortOrder = Literal["asc", "desc"]
IfExists = Literal["raise", "do_nothing"]


class Body(BaseModel):
    """The base of request bodies."""

    model_config = ConfigDict(extra="allow", strict=False)

    def model_post_init(self, context: Any) -> None:
        """Note the keys that the model does not have."""
        noted = _ignored.get()
        if noted is not None and self.model_extra:
            noted.extend(self.model_extra)

    def given(self, *names: str) -> Json:
        """The fields among `names` that the request has, null ones too."""
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


class NameIgnored:
    """ASGI middleware that names the keys that were ignored in a header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        noted: list[str] = []

        async def name(message: Message) -> None:
            if message["type"] == "http.response.start" and noted:
                keys = ", ".join(repr(key)[:60].encode("ascii", "backslashreplace").decode() for key in noted[:20])
                log.warning("%s %s: unknown keys were ignored: %s", scope["method"], scope["path"], keys)
                MutableHeaders(scope=message)[IGNORED] = keys
            await send(message)

        token = _ignored.set(noted)
        try:
            await self.app(scope, receive, name)
        finally:
            _ignored.reset(token)
