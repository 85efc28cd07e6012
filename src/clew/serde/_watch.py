"""Who is told when stored bytes name a class that is not known."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, TypedDict

_log: Final = logging.getLogger("clew.serde")


class SerdeEvent(TypedDict):
    """A class that was named in stored bytes and not restored."""

    kind: Literal["msgpack_blocked"]
    module: str
    name: str


Listener = Callable[[SerdeEvent], None]
_listeners: tuple[Listener, ...] = ()


def register_serde_event_listener(listener: Listener) -> Callable[[], None]:
    """Call `listener` whenever stored bytes name a class that is not known; returns what ends it.

    The listener runs on the reading thread, before the error is raised. What it raises is logged, not passed on.
    """
    global _listeners
    _listeners = (*_listeners, listener)

    def unregister() -> None:
        global _listeners
        _listeners = tuple(other for other in _listeners if other is not listener)

    return unregister


def tell_blocked(stored_name: str) -> None:
    """Tell the listeners of the class called `stored_name` in bytes."""
    module, _, name = stored_name.rpartition(":")
    for listener in _listeners:
        try:
            listener({"kind": "msgpack_blocked", "module": module, "name": name})
        except Exception:
            _log.warning("a listener for serializer events failed", exc_info=True)
