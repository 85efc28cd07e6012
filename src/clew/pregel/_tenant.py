"""Whose thread a call is about: the tenant that its config names, or that of the run it is made in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew._scope import current
from clew.constants import CONFIG_KEY_CHECKPOINT_TENANT
from clew.ids import tenant_name
from clew.pregel._config import configurable


def tenant_of(config: Mapping[str, Any], saver: Any) -> str | None:
    """The tenant that a config names; inside of a node, the one its run was given; None if nobody named one.

    A saver that is bound to a tenant does not take over that of the run around it.
    """
    given = configurable(config).get(CONFIG_KEY_CHECKPOINT_TENANT)
    if given is not None:
        return tenant_name(given)
    scope = current.get()
    if scope is None or getattr(saver, "tenant", ""):
        return None
    return scope.run.tenant


def open_session(saver: Any, thread_id: str, types: frozenset[type], tenant: str | None) -> Any:
    """A session of `saver` on the thread; a saver that knows no tenants is asked for one only where one is named."""
    if tenant is None:
        return saver.session(thread_id, types=types)
    return saver.session(thread_id, types=types, tenant=tenant)


def shown_tenant(saver: Any, session: Any) -> str | None:
    """The tenant that configs have to name, so that the saver finds the thread again."""
    tenant = getattr(session, "tenant", "")
    return None if tenant == getattr(saver, "tenant", "") else tenant
