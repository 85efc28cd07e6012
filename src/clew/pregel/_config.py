"""Reading the config a user passes: merging, thread and checkpoint addressing, and what goes into metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from clew._langchain import merge_callbacks
from clew.constants import CONF, CONFIG_KEY_UNSAVED, DEFAULT_RECURSION_LIMIT
from clew.errors import InvalidUpdateError

Config = Mapping[str, Any]
_ORIGIN = ("source", "step", "parents")  # where a checkpoint comes from: the engine's to say, and nobody else's
_NOT_METADATA = frozenset(
    (
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "checkpoint_map",
        "checkpoint_tenant",
        *_ORIGIN,
        "langgraph_step",
        "langgraph_node",
        "langgraph_triggers",
        "langgraph_path",
        "langgraph_checkpoint_ns",
    )
)


def configurable(config: Config | None) -> Mapping[str, Any]:
    """The part of a config that addresses a thread and holds what users put there; empty if there is none."""
    given: Mapping[str, Any] = (config.get(CONF) if config else None) or {}
    return given


def merged(*configs: Config | None) -> dict[str, Any]:
    """One config of several, later ones first in precedence; metadata, tags, callbacks and configurable are joined."""
    result: dict[str, Any] = {}
    for config in configs:
        if not config:
            continue
        for key, value in config.items():
            if value is None:
                continue
            if key in ("metadata", CONF) and isinstance(value, Mapping):
                result[key] = {**result.get(key, {}), **value}
            elif key == "tags":
                result[key] = [*result.get(key, ()), *(tag for tag in value if tag not in result.get(key, ()))]
            elif key == "callbacks":
                result[key] = merge_callbacks(result.get(key), value)
            else:
                result[key] = value
    return result


def recursion_limit(config: Config) -> int:
    """The number of supersteps a run may take; at least 1."""
    limit = config.get("recursion_limit")
    if limit is None:
        limit = int(
            os.environ.get("CLEW_DEFAULT_RECURSION_LIMIT")
            or os.environ.get("LANGGRAPH_DEFAULT_RECURSION_LIMIT")
            or DEFAULT_RECURSION_LIMIT
        )
    if limit < 1:
        raise ValueError("recursion_limit must be at least 1")
    return limit


def saved_metadata(config: Config) -> dict[str, Any]:
    """What of a config is stored with each checkpoint: the run id, and scalars users put into it."""
    saved: dict[str, Any] = {}
    for source in (config.get(CONF), config.get("metadata")):
        given: Mapping[str, Any] = source or {}
        unsaved = given.get(CONFIG_KEY_UNSAVED, ())
        for key, value in given.items():
            if key in _NOT_METADATA or key in unsaved or key.startswith("__"):
                continue
            if isinstance(value, (str, int, float, bool)):
                saved[key] = value
    if config.get("run_id") is not None:
        saved["run_id"] = str(config["run_id"])
    return saved


def shown_metadata(config: Config) -> dict[str, Any]:
    """Metadata of task events: what users put into the config, without the library's own keys."""
    given: Mapping[str, Any] = config.get("metadata") or {}
    return {key: value for key, value in given.items() if key not in _NOT_METADATA or key in _ORIGIN}


def as_names(value: Any, what: str, known: Mapping[str, Any]) -> Any:
    """Breakpoint names as given, after checking that each is a node."""
    if value is None:
        return ()
    if value == "*":
        return "*"
    names = (value,) if isinstance(value, str) else tuple(value)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidUpdateError(
            f"{what} names {unknown[0]!r}, which is not a node", hint=f"the graph's nodes are {', '.join(known)}"
        )
    return names
