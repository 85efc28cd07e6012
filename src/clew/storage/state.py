"""The state of a namespace in encoded form: what a cursor compares the next step with, and what replaying rows gives.

Invariant: a `State` that was handed out is never changed again, so that cursors and the cache of heads share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clew.storage.delta import apply, full
from clew.storage.plain import PLAIN, PlainStep, plain_metadata, unpack_plain
from clew.storage.records import StepRecord
from clew.storage.values import Delta, Value, encode_value, state_hash

_MASK = (1 << 64) - 1


@dataclass(slots=True)
class State:
    """One checkpoint in encoded form. `size` counts the bytes of all values, `since` those of the differences that
    were stored since the last keyframe, which is at `key_seq`."""

    values: Mapping[str, Value] = field(default_factory=dict[str, Value])
    versions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    metadata: Value | None = None
    updated: Sequence[str] | None = None
    owner: bytes = b""
    extra: Mapping[str, Any] | None = None
    id: bytes | None = None
    created_at: int = 0
    key_seq: int = 0
    since: int = 0
    size: int = 0
    hash: int = 0

    def full(self) -> State:
        """The state itself; see `Recent.full`."""
        return self


class Recent:
    """The state after a plain step, worked out when somebody asks for it. `size` is that of the last one that was."""

    __slots__ = ("_before", "_body", "_state", "created_at", "id", "key_seq", "since", "size")

    def __init__(self, before: State | Recent, body: bytes) -> None:
        self._before: State | Recent | None = before
        self._body = body
        self._state: State | None = None
        self.id: bytes | None = None
        self.created_at = 0
        self.key_seq = 0
        self.since = 0
        self.size = before.size

    def full(self) -> State:
        """The state; safe to ask for on several threads."""
        steps: list[PlainStep] = []
        node: State | Recent = self
        while isinstance(node, Recent):
            before, known = node._before, node._state  # in this order: `_before` goes when `_state` has come
            if known is None:
                assert before is not None, "a state that is not known has one before it"
                steps.append(unpack_plain(node._body))
                node = before
            else:
                node = known
        if not steps:
            return node
        state = self._state = self._after(node, steps[::-1])
        self._before = None
        self.size = state.size
        return state

    def _after(self, base: State, steps: Sequence[PlainStep]) -> State:
        new: dict[str, Any] = {}
        versions, seen, values = dict(base.versions), dict(base.seen), dict(base.values)
        for step in steps:
            new.update(step.values)
            for name in step.gone:
                new.pop(name, None)
                values.pop(name, None)
            versions.update(step.versions)
            seen.update(step.seen)
        for name, value in new.items():
            values[name] = encode_value(value, PLAIN, values.get(name))
        last = steps[-1]
        return State(
            values,
            versions,
            seen,
            plain_metadata(last.metadata, base.metadata),
            last.updated,
            last.owner,
            None,
            self.id,
            self.created_at,
            self.key_seq,
            self.since,
            sum(value.size for value in values.values()),
            state_hash(values),
        )


EMPTY = State()


class Replay:
    """Rebuilds states from the rows of one branch, in order. What it returns from `state` stays as it is."""

    __slots__ = ("_hash", "_record", "_row", "_seen", "_since", "_versions", "metadata", "values")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.metadata: Value | None = None
        self._versions: dict[str, Any] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._since = 0
        self._hash = 0
        self._record: StepRecord | None = None
        self._row: tuple[int, bytes, int] = (0, b"", 0)

    def step(
        self, record: StepRecord, *, key_seq: int, is_keyframe: bool, id: bytes, created_at: int, size: int
    ) -> None:
        """Go on by one row; `size` is the length of its body."""
        if is_keyframe:
            self.values.clear()
            self._versions, self._seen, self.metadata, self._since = {}, {}, None, 0
        else:
            self._since += size
        for name, delta in record.deltas.items():
            self.values[name] = apply(self.values.get(name), delta)
        for name in record.gone:
            self.values.pop(name, None)
        self._versions.update(record.versions)
        self._seen.update(record.seen)
        if record.metadata is not None:
            self.metadata = apply(self.metadata, record.metadata)
        self._record = record
        self._row = (key_seq, id, created_at)

    def state(self) -> State:
        """The state after the last step."""
        record = self._record
        assert record is not None, "a replay has at least one step"
        key_seq, id, created_at = self._row
        return State(
            values=dict(self.values),
            versions=dict(self._versions),
            seen=dict(self._seen),
            metadata=self.metadata,
            updated=record.updated,
            owner=record.owner,
            extra=record.extra,
            id=id,
            created_at=created_at,
            key_seq=key_seq,
            since=self._since,
            size=sum(value.size for value in self.values.values()),
            hash=state_hash(self.values) if record.state_hash is None else record.state_hash,
        )

    def is_intact(self) -> bool:
        """Whether the values are those whose fingerprint was stored."""
        return self._record is not None and self._record.state_hash in (None, state_hash(self.values))


def moved_hash(hash: int, name: str, old: Value | None, new: Value | None) -> int:
    """The fingerprint of a state in which channel `name` went from `old` to `new`."""
    if old is not None:
        hash -= old.share(name)
    if new is not None:
        hash += new.share(name)
    return hash & _MASK


def keyframe(state: State, *, writes: StepRecord) -> StepRecord:
    """The record that holds all of `state`, with the writes of `writes`."""
    return StepRecord(
        deltas=full_values(state.values),
        gone=[],
        versions=dict(state.versions),
        seen={node: dict(versions) for node, versions in state.seen.items()},
        updated=state.updated,
        metadata=None if state.metadata is None else full(state.metadata),
        writes=writes.writes,
        owner=state.owner,
        state_hash=state.hash,
        extra=writes.extra,
    )


def full_values(values: Mapping[str, Value]) -> dict[str, Delta]:
    """Every value in full."""
    return {name: full(value) for name, value in values.items()}
