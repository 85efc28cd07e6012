"""What routes are given: the application's parts, as the request's owner may reach them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from pydantic import AfterValidator

from clew.checkpoint._face import CheckpointSaver
from clew.server.assistants import Assistants
from clew.server.auth import Authenticate, Owner
from clew.server.errors import ApiError
from clew.server.http import HttpSettings
from clew.server.metrics import Metrics
from clew.server.owned_store import owned
from clew.server.paths import with_slashes
from clew.server.registry import Registry
from clew.server.states import States
from clew.store.base import BaseStore
from clew.threads import Threads


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one application; on `app.state.clew`."""

    registry: Registry
    storage: CheckpointSaver
    store: BaseStore | None
    threads: Threads
    assistants: Assistants
    authenticate: Authenticate
    started_at: datetime
    http: HttpSettings = field(default_factory=HttpSettings)
    metrics: Metrics = field(default_factory=Metrics)


Resource = Literal["threads", "assistants", "crons", "store"]
Action = Literal["create", "read", "update", "delete", "search", "create_run", "put", "get", "list_namespaces"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do to one kind of thing: `value` is what the request says, as an authorization handler left it;
    `threads` are the owner's, those for which it is allowed."""

    value: dict[str, Any]
    threads: Threads


@dataclass(frozen=True, slots=True)
class Caller:
    """An application's parts for one owner."""

    service: Service
    owner: Owner

    async def may(self, resource: Resource, action: Action, value: dict[str, Any]) -> Grant:
        """Ask whether the caller may do this; raises `ApiError` 403.

        `value` has what the platform's handlers are shown (`langgraph_sdk.auth.types`), `metadata` always a dict. Go on
        with the grant's: handlers write to `metadata` and rewrite namespaces.
        """
        return Grant(value, self.threads)

    def configurable(self) -> dict[str, Any]:
        """What the `configurable` of a run says about its user: JSON, to be stored with the run."""
        user_id = self.owner.user_id
        if user_id is None:
            return {}
        user = {"identity": user_id, "display_name": user_id, "is_authenticated": True, "permissions": list[str]()}
        return {
            "langgraph_auth_user": {**self.owner.claims, **user},
            "langgraph_auth_user_id": user_id,
            "langgraph_auth_permissions": user["permissions"],
        }

    @property
    def registry(self) -> Registry:
        """The graphs."""
        return self.service.registry

    @property
    def threads(self) -> Threads:
        """The owner's threads."""
        return self.service.threads.of(self.owner.of_threads)

    @property
    def assistants(self) -> Assistants:
        """The owner's assistants."""
        return self.service.assistants.of(self.owner.user_id)

    @property
    def store(self) -> BaseStore:
        """The owner's items; raises `ApiError` 404 where there is no store."""
        if self.service.store is None:
            raise ApiError(404, "this service has no store", hint="pass store=... to create_app")
        return owned(self.service.store, self.owner.of_items)

    @property
    def states(self) -> States:
        """The states of the owner's threads."""
        return States(self.registry, None if self.service.store is None else self.store)


async def _caller(request: Request) -> Caller:
    service: Service = request.app.state.clew
    return Caller(service, await service.authenticate(request))


Asks = Annotated[Caller, Depends(_caller)]
ThreadId = Annotated[str, AfterValidator(with_slashes)]
Text = Annotated[str, AfterValidator(with_slashes)]
