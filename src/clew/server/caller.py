"""What routes are given: the application's parts, as the request's owner may reach them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import AfterValidator

from clew.checkpoint._face import CheckpointSaver
from clew.server.assistants import Assistants
from clew.server.auth import Authenticate, Owner
from clew.server.duties import Duties
from clew.server.errors import ApiError
from clew.server.grants import Action, Grant, GrantedAssistants, GrantedItems, GrantedThreads, Resource
from clew.server.handlers import Handlers
from clew.server.http import HttpSettings
from clew.server.metrics import Metrics
from clew.server.owned_store import owned
from clew.server.paths import with_slashes
from clew.server.registry import Registry
from clew.server.states import States
from clew.server.users import configurable
from clew.storage.threads import Only
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
    handlers: Handlers | None = None
    duties: Duties | None = None

    def store_of(self, owner: Owner) -> BaseStore | None:
        """The store as an owner's graphs see it; None where there is none."""
        return None if self.store is None else owned(self.store, owner.of_items)


@dataclass(frozen=True, slots=True)
class Caller:
    """An application's parts for one owner."""

    service: Service
    owner: Owner

    async def may(self, resource: Resource, action: Action, value: dict[str, Any]) -> Grant:
        """Ask whether the caller may do this; raises `ApiError` 403.

        `value` has what the platform's handlers are shown (`langgraph_sdk.auth.types`), `metadata` always a dict. Go on
        with the grant's: handlers write to `metadata`, rewrite namespaces, and say which things exist for the caller.
        """
        service, owner, only = self.service, self.owner, None
        if service.handlers is not None:
            if owner.user is None:
                raise ApiError(403, "nobody asks, and there are handlers to say what who asks may do")
            only = await service.handlers.decide(owner.user, resource, action, value)
        if resource == "store":
            only = self._of_items(only)
        elif not isinstance(value.get("metadata", {}), dict):
            raise TypeError(f"the handler of {resource}.{action} left metadata that are not a dict")
        threads, assistants = service.threads.of(owner.of_threads, only=only), self._assistants(only)
        return Grant(value, threads, assistants, only)

    def configurable(self) -> dict[str, Any]:
        """What the `configurable` of a run says about its user: JSON, to be stored with the run."""
        return configurable(self.owner.user)

    @property
    def registry(self) -> Registry:
        """The graphs."""
        return self.service.registry

    @property
    def threads(self) -> GrantedThreads:
        """The caller's threads."""
        return GrantedThreads(self.may, self.service.threads.of(self.owner.of_threads))

    @property
    def assistants(self) -> GrantedAssistants:
        """The caller's assistants."""
        return GrantedAssistants(self.may, self._assistants(None))

    @property
    def items(self) -> GrantedItems:
        """The caller's items in the store; raises `ApiError` 404 where there is none."""
        if self.service.store is None:
            raise ApiError(404, "this service has no store", hint="pass store=... to create_app")
        return GrantedItems(self.may, owned(self.service.store, self.owner.of_items))

    @property
    def states(self) -> States:
        """The states of threads that were granted."""
        return States(self.registry, self.service.store_of(self.owner), self.owner.user)

    def _assistants(self, only: Only | None) -> Assistants:
        return self.service.assistants.of(self.owner.user_id, only=only)

    def _of_items(self, only: Only | None) -> None:
        """Items have no metadata. Where they are the owner's own, a filter has nothing to leave out; where they are
        everybody's, it must not be passed over."""
        if only is not None and self.owner.user_id is None:
            raise ApiError(
                403,
                "a handler answers with a filter about items, which have no metadata",
                hint="register @auth.on.store, and have it check or rewrite value['namespace']",
            )


async def _caller(request: Request) -> Caller:
    service: Service = request.app.state.clew
    return Caller(service, await service.authenticate(request))


Asks = Annotated[Caller, Depends(_caller)]
ThreadId = Annotated[str, AfterValidator(with_slashes)]
Text = Annotated[str, AfterValidator(with_slashes)]
