"""What runs have recorded, as events of the protocol; and which of them a subscription is about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, field_validator

from clew.server.bodies import Body
from clew.server.formats import encoded
from clew.server.work.feeds import End
from clew.server.work.stamps import AT
from clew.server.work.thread_feeds import ASKED, ENDED, INPUT, Shown

CHANNELS = (
    "values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom",
)  # fmt: skip
_AS_THEY_ARE = {
    "values": "values", "tasks": "tasks", ".messages": "messages", ".tools": "tools", ".lifecycle": "lifecycle",
    ".checkpoints": "checkpoints",
}  # fmt: skip


class Subscription(Body):
    """Which events are sent: of these channels; in these namespaces and below, `depth` levels at most; those numbered
    higher than `since` (without it: from the run on that is going on)."""

    channels: Annotated[list[str], Field(min_length=1, max_length=100)]
    namespaces: Annotated[list[list[str]], Field(max_length=1000)] | None = None
    depth: Annotated[int, Field(ge=0)] | None = None
    since: Annotated[int, Field(ge=0, le=2**53)] | None = None

    @field_validator("channels")
    @classmethod
    def _are_channels(cls, channels: list[str]) -> list[str]:
        for channel in channels:
            if channel not in CHANNELS and not (channel.startswith("custom:") and len(channel) > len("custom:")):
                raise ValueError(f"there is no channel {channel!r}; there are {', '.join(CHANNELS)} and custom:NAME")
        return channels

    def covers(self, event: Event) -> bool:
        """Whether an event is sent."""
        if event.channel not in self.channels and not (
            event.channel.startswith("custom:") and "custom" in self.channels
        ):
            return False
        return not self.namespaces or any(self._is_below(event.namespace, prefix) for prefix in self.namespaces)

    def wants(self, channel: str) -> bool:
        """Whether events of a channel may be sent at all."""
        return any(each.partition(":")[0] == channel for each in self.channels)

    def _is_below(self, ns: Sequence[str], prefix: Sequence[str]) -> bool:
        if len(prefix) > len(ns) or (self.depth is not None and len(ns) - len(prefix) > self.depth):
            return False
        return all(
            part in (own, own.partition(":")[0] if ":" not in part else own)
            for part, own in zip(prefix, ns, strict=False)
        )


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the protocol; `data` is JSON."""

    seq: int
    millis: int
    channel: str
    namespace: Sequence[str]
    data: bytes

    @property
    def method(self) -> str:
        """What kind of event it is."""
        return "input.requested" if self.channel == "input" else self.channel.partition(":")[0]

    def encoded(self) -> bytes:
        """The event as JSON."""
        head = b'{"type":"event","event_id":"%d","seq":%d,"method":"%s","params":{"namespace":%s,"timestamp":%d,"data":'
        method = self.method.encode()
        return head % (self.seq, self.seq, method, encoded(list(self.namespace)), self.millis) + self.data + b"}}"


def event_of(shown: Shown, wanted: Subscription) -> Event | None:
    """What is sent for something that a run has recorded; None: nothing, to this subscriber."""
    name, *ns = shown.name.split("|")
    said = _lifecycle(shown) if name in (AT, ENDED) else _said(name, shown.data, wanted)
    if said is None:
        return None
    event = Event(shown.seq, shown.millis, said[0], ns, said[1])
    return event if wanted.covers(event) else None


def _said(name: str, data: bytes, wanted: Subscription) -> tuple[str, bytes] | None:
    if name in _AS_THEY_ARE:
        return _AS_THEY_ARE[name], data
    if name == INPUT:
        asked = json.loads(data)
        return "input", encoded({**asked, "payload": asked["value"]})
    if name == "updates" and wanted.wants("updates"):
        return _update(data)
    if name == "custom" and wanted.wants("custom"):
        return _custom(data)
    return None


def _update(data: bytes) -> tuple[str, bytes] | None:
    """An update of one node; questions are told by the channel for input."""
    found: Any = json.loads(data)
    found.pop("__interrupt__", None)
    found.pop("__metadata__", None)
    if not found:
        return None
    if len(found) > 1:
        return "updates", encoded({"values": found})
    (node, values), *_ = found.items()
    return "updates", encoded({"node": node, "values": values})


def _custom(data: bytes) -> tuple[str, bytes]:
    """What a node wrote; under a channel of its own if it is a dict that has a name."""
    found: Any = json.loads(data)
    match found:
        case {"name": str() as name, **rest} if name:
            said = {"name": name, "payload": rest["payload"] if set(rest) == {"payload"} else rest}
            return f"custom:{name}", encoded(said)
        case _:
            return "custom", b'{"payload":' + data + b"}"


def _lifecycle(shown: Shown) -> tuple[str, bytes]:
    """A run's own beginning and end."""
    said: dict[str, Any] = {"event": "running"}
    if shown.end is not None:
        said = _ended(shown.end, is_asking=shown.data == ASKED)
    return "lifecycle", encoded({**said, "graph_name": shown.run.request["graph_id"], "run_id": shown.run.run_id})


def _ended(end: End, *, is_asking: bool) -> dict[str, Any]:
    """How a run ended. One that was stopped has failed: it does not go on, and nobody is to wait for it."""
    if end.error is not None:
        return {"event": "failed", "error": str(end.error.get("message") or end.error.get("error"))}
    if end.status != "success":
        return {"event": "failed", "error": "the run was stopped" if end.status else "the run was taken back"}
    return {"event": "interrupted" if is_asking else "completed"}
