"""The tables of assistants: graphs with settings, in versions. Rules over named queries; no I/O.

Invariant: every rule is about one owner's assistants; those of another do not exist. A version never changes.

An owner has few of them, so that lists are read whole and filtered by who asked for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from clew.serde.compress import pack, unpack
from clew.storage.log import Place, Waiting
from clew.storage.query import Query, Row, Steps


class Said(NamedTuple):
    """What a version of an assistant says."""

    graph_id: str
    name: str
    description: str | None
    config: Mapping[str, Any]
    context: Mapping[str, Any]
    metadata: Mapping[str, Any]


class AssistantRow(NamedTuple):
    """An assistant with the version in use; `top` is the newest. Times in microseconds since 1970."""

    assistant: str
    version: int
    top: int
    created_at: int
    updated_at: int
    said: Said


class VersionRow(NamedTuple):
    """One version of an assistant."""

    version: int
    created_at: int
    said: Said


def add_assistant(root: Place, user_id: str, id: str, said: Said, now: int) -> Steps[AssistantRow | None]:
    """Make an assistant; None if there is one."""
    added = yield Query("assistant_add", (root.tenant, user_id, id, now))
    if not added[0][0]:
        return None
    yield from _add_version(root, user_id, id, 1, said, now)
    return AssistantRow(id, 1, 1, now, now, said)


def find_assistant(root: Place, user_id: str, id: str) -> Steps[AssistantRow | None]:
    """An assistant, or None."""
    rows = yield Query("assistant_get", (root.tenant, user_id, id))
    return _read(root, user_id, rows[0]) if rows else None


def list_assistants(root: Place, user_id: str) -> Steps[list[AssistantRow]]:
    """Every assistant of an owner."""
    rows = yield Query("assistant_list", (root.tenant, user_id))
    return [_read(root, user_id, row) for row in rows]


def change_assistant(
    root: Place, user_id: str, id: str, changes: Mapping[str, Any], now: int, unless_there: AssistantRow | None = None
) -> Steps[AssistantRow | None]:
    """Make a new version, in which `metadata` is merged with that before; None if there is no such assistant.

    `unless_there` is stored first, if nothing is: an assistant that every graph has, until its owner changes it.
    """
    row = yield from find_assistant(root, user_id, id)
    if row is None and unless_there is not None:
        row = yield from add_assistant(root, user_id, id, unless_there.said, unless_there.created_at)
    if row is None:
        return None
    fields = dict(changes)
    if "metadata" in fields:
        fields["metadata"] = {**row.said.metadata, **fields["metadata"]}
    said, top = row.said._replace(**fields), row.top + 1
    yield from _add_version(root, user_id, id, top, said, now)
    yield Query("assistant_set", (root.tenant, user_id, id, top, top, now))
    return row._replace(version=top, top=top, updated_at=now, said=said)


def list_versions(root: Place, user_id: str, id: str) -> Steps[list[VersionRow]]:
    """The versions of an assistant, newest first."""
    rows = yield Query("assistant_version_list", (root.tenant, user_id, id))
    return [VersionRow(row[0], row[1], _open(root, user_id, id, row[0], row[2])) for row in rows]


def use_version(root: Place, user_id: str, id: str, version: int, now: int) -> Steps[AssistantRow | None]:
    """Have an assistant use one of its versions; None if there is no such version."""
    row = yield from find_assistant(root, user_id, id)
    if row is None:
        return None
    for found in (yield from list_versions(root, user_id, id)):
        if found.version == version:
            yield Query("assistant_set", (root.tenant, user_id, id, version, row.top, now))
            return row._replace(version=version, updated_at=now, said=found.said)
    return None


def remove_assistant(root: Place, user_id: str, id: str) -> Steps[bool]:
    """Delete an assistant with its versions; gives whether there was one."""
    removed = yield Query("assistant_remove", (root.tenant, user_id, id))
    yield Query("assistant_version_remove", (root.tenant, user_id, id))
    return bool(removed[0][0])


def rekey_assistants(root: Place) -> Steps[int]:
    """Put every version that is not under the current key under it; gives how many."""
    keys, changed = root.vault.keys, 0
    assert keys is not None, "only asked where there is a key"
    for user_id, id, version, body in (yield Query("assistant_body_list", (root.tenant,))):
        if not keys.is_current(body):
            kept = _kept(root, user_id, id, version, _open(root, user_id, id, version, body))
            yield Query("assistant_body_set", (root.tenant, user_id, id, version, kept))
            changed += 1
    return changed


def _add_version(root: Place, user_id: str, id: str, version: int, said: Said, now: int) -> Steps[None]:
    kept = _kept(root, user_id, id, version, said)
    yield Query("assistant_version_add", (root.tenant, user_id, id, version, now, kept))


def _read(root: Place, user_id: str, fields: Row) -> AssistantRow:
    *rest, body = fields
    return AssistantRow._make((*rest, _open(root, user_id, fields[0], fields[1], body)))


def _kept(root: Place, user_id: str, id: str, version: int, said: Said) -> bytes:
    body = pack(json.dumps(said).encode())
    return root.vault.seal_task(root.of(id), Waiting(0, version, _task(user_id), 0, body))


def _open(root: Place, user_id: str, id: str, version: int, body: bytes) -> Said:
    envelope = root.vault.open_task(root.of(id), Waiting(0, version, _task(user_id), 0, body))
    return Said._make(json.loads(unpack(envelope)))


def _task(user_id: str) -> bytes:
    """The name under which a sealed body is bound to its owner."""
    return b"assistant of " + user_id.encode()
