"""A `langgraph_sdk.Auth` as this service asks it: who a request is from, and what they may do.

The class is the users' own import; nothing here imports it. What its handlers get wrong is a 500 that lets nobody
in: an answer that is no answer, an identity that is no text, a filter that cannot be understood.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from fastapi import Request
from starlette.exceptions import HTTPException

from clew.server.errors import ApiError
from clew.server.filters import Filter, filter_of
from clew.server.paths import with_slashes
from clew.server.users import User, user_of

_PARTS = ("_authenticate_handler", "_handlers", "_global_handlers")
_ARGUMENTS = (
    "request", "body", "path", "method", "path_params", "query_params", "headers", "authorization", "scope",
)  # fmt: skip


def is_auth(given: object) -> bool:
    """Whether this is a `langgraph_sdk.Auth`."""
    return all(hasattr(given, part) for part in _PARTS)


class Headers(dict[bytes, bytes]):
    """A request's headers, by bytes in lower case; a name that is a text gives a text, whatever its case."""

    def __getitem__(self, name: Any) -> Any:
        found = super().__getitem__(_bytes(name))
        return found.decode("latin-1") if isinstance(name, str) else found

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_bytes(name))

    def get(self, name: Any, default: Any = None) -> Any:
        """A header, or `default`."""
        return self[name] if name in self else default  # noqa: SIM401 - this is that method


class Handlers:
    """The handlers of a `langgraph_sdk.Auth`."""

    def __init__(self, auth: Any) -> None:
        handler = auth._authenticate_handler
        if handler is None:
            raise ValueError("the Auth has no @auth.authenticate; without one nobody would be known")
        self._auth = auth
        self._wanted = _wanted(handler)
        self._is_async = inspect.iscoroutinefunction(handler)
        self._authenticate: Callable[..., Any] = handler

    async def user(self, request: Request) -> User:
        """Who a request is from; raises what the handler raises, as an answer."""
        only_one(request, "authorization")
        arguments = {name: await _argument(name, request) for name in self._wanted}
        try:
            given: Any
            if self._is_async:
                given = await self._authenticate(**arguments)
            else:
                given = await asyncio.to_thread(self._authenticate, **arguments)
            user = user_of(await given if inspect.isawaitable(given) else given)
        except AssertionError as error:
            raise ApiError(401, "the request is not authenticated") from error
        except self._refusal as error:
            raise _answer(error) from error
        if not user.is_authenticated:
            raise ApiError(401, "the request is not authenticated")
        return user

    async def decide(self, user: User, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
        """Run the one handler that is meant, which may change `value`; gives its filter. Raises 403 if it says no."""
        handler = self._handler(resource, action)
        if handler is None:
            return None
        context = self._auth.types.AuthContext(
            permissions=user.permissions, user=user, resource=resource, action=action
        )
        try:
            said: Any = await handler(ctx=context, value=value)
        except AssertionError as error:
            raise _forbidden() from error
        except self._refusal as error:
            raise _answer(error) from error
        if said is None or said is True:
            return None
        if said is False:
            raise _forbidden()
        if not isinstance(said, Mapping):
            raise TypeError(f"the handler of {resource}.{action} gave a {type(said).__name__}, not a filter or a bool")
        return filter_of(cast("Mapping[str, Any]", said)) if said else None

    @property
    def _refusal(self) -> type[Exception]:
        return self._auth.exceptions.HTTPException

    def _handler(self, resource: str, action: str) -> Callable[..., Awaitable[Any]] | None:
        """The most specific one."""
        for name in ((resource, action), (resource, "*"), ("*", action), ("*", "*")):
            if found := self._auth._handlers.get(name):
                return found[-1]
        return self._auth._global_handlers[-1] if self._auth._global_handlers else None


def only_one(request: Request, name: str) -> str | None:
    """A header that says who asks; raises `ApiError` 400 if there are two of it, since proxies choose differently."""
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise ApiError(400, f"the request has more than one header {name}")
    return found[0] if found else None


def _wanted(handler: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that an authentication handler takes, by name."""
    names: list[str] = []
    for name, parameter in inspect.signature(handler).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in _ARGUMENTS and parameter.kind is not parameter.POSITIONAL_ONLY:
            names.append(name)
        elif parameter.default is parameter.empty:
            raise ValueError(f"@auth.authenticate takes {name!r}, which is none of {', '.join(_ARGUMENTS)}")
    return tuple(names)


async def _argument(name: str, request: Request) -> Any:
    match name:
        case "request":
            return request
        case "body":
            return await _body(request)
        case "path":
            return with_slashes(request.scope["path"])
        case "method":
            return request.method
        case "path_params":
            return {key: with_slashes(part) for key, part in request.path_params.items()}
        case "query_params":
            return dict(request.query_params)
        case "headers":
            return Headers(request.scope["headers"])
        case "authorization":
            return only_one(request, "authorization")
        case _:
            return request.scope


async def _body(request: Request) -> Any:
    content = await request.body()
    try:
        return json.loads(content) if content else {}
    except ValueError:
        return {}


def _answer(refusal: Any) -> HTTPException:
    return HTTPException(
        refusal.status_code, refusal.detail, None if refusal.headers is None else dict(refusal.headers)
    )


def _forbidden() -> ApiError:
    return ApiError(403, "forbidden")


def _bytes(name: Any) -> Any:
    return name.lower().encode("latin-1", "replace") if isinstance(name, str) else name
