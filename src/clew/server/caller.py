"""What routes are given: the application's parts, as the request's owner may reach them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request
from pydantic import AfterValidator

from clew.server.assistants import Assistant, Assistants
from clew.server.auth import Owner
from clew.server.errors import ApiError, not_found
from clew.server.grants import Action, Grant, GrantedAssistants, GrantedItems, GrantedThreads, Resource
from clew.server.owned_store import owned
from clew.server.paths import with_slashes
from clew.server.registry import Registry
from clew.server.runs import Runs
from clew.server.service import Service
from clew.server.states import States
from clew.server.users import configurable
from clew.storage.threads import Only


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

    async def assistant(self, name: str) -> Assistant:
        """An assistant to run, by its id or its graph's name; raises `ApiError` 404. The one that each graph has by
        itself can be run by whoever may make runs."""
        if name not in self.registry:
            try:
                name = str(UUID(name))
            except ValueError:
                raise not_found("assistant", name) from None
        own = self._assistants(None)
        if (id := own.id_of(name)) in self.registry.default_ids:
            return await own.get(id)
        return await self.assistants.get(id)

    @property
    def runs(self) -> Runs:
        """The owner's runs."""
        return Runs(self.service.worker, self.owner.user_id)

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
        return States(self.registry, self.service.store_of(self.owner), self.owner.user, self.runs.failure)

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
    if not service.is_started:
        await service.start()
    return Caller(service, await service.authenticate(request))


Asks = Annotated[Caller, Depends(_caller)]
ThreadId = Annotated[str, AfterValidator(with_slashes)]
Text = Annotated[str, AfterValidator(with_slashes)]
