"""What the bodies of rows are wrapped in: each belongs to its row, and with keys nobody else can read it.

Every body that is written or read passes through the vault of its `Place`. `Plain` binds a step to its row by its
checksum; `Sealed` encrypts every body, and authenticates tenant, thread, namespace, position and kind with it.

Invariant: what a vault opens is, byte for byte, what it sealed for the same row, or a typed error.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from clew.serde.compress import pack, unpack
from clew.storage.bound import bind, unbound

if TYPE_CHECKING:
    from clew.serde.keys import KeyRing
    from clew.storage.log import Place, StepRow, Waiting


class Vault(Protocol):
    """How bodies are kept. A step's and a task's are given and got as envelopes (`clew.serde.compress`).

    `keys` is None where bodies are the same wherever their row is, so that rows can be copied as they are."""

    @property
    def keys(self) -> KeyRing | None: ...

    def seal_step(self, place: Place, row: StepRow) -> StepRow:
        """`row` as it is stored."""
        ...

    def open_step(self, place: Place, row: StepRow) -> bytes:
        """The envelope in a stored row."""
        ...

    def seal_task(self, place: Place, row: Waiting) -> bytes:
        """The body of a pending row as it is stored. The row's epoch is not looked at."""
        ...

    def open_task(self, place: Place, row: Waiting) -> bytes:
        """The envelope in a stored pending row."""
        ...

    def content_hash(self, place: Place, content: bytes) -> bytes:
        """The name of a large leaf in its thread: 16 bytes that nobody can make collide on purpose."""
        ...

    def seal_spill(self, place: Place, hash: bytes, content: bytes) -> bytes:
        """The body of the row that keeps a large leaf."""
        ...

    def open_spill(self, place: Place, hash: bytes, body: bytes) -> bytes:
        """The leaf in a stored row."""
        ...


class Plain:
    """Without keys: checksums alone."""

    keys: KeyRing | None = None

    def seal_step(self, place: Place, row: StepRow) -> StepRow:
        return bind(row)

    def open_step(self, place: Place, row: StepRow) -> bytes:
        return unbound(row)

    def seal_task(self, place: Place, row: Waiting) -> bytes:
        return row.body

    def open_task(self, place: Place, row: Waiting) -> bytes:
        return row.body

    def content_hash(self, place: Place, content: bytes) -> bytes:
        return hashlib.blake2b(content, digest_size=16).digest()

    def seal_spill(self, place: Place, hash: bytes, content: bytes) -> bytes:
        return pack(content)

    def open_spill(self, place: Place, hash: bytes, body: bytes) -> bytes:
        return unpack(body)


PLAIN = Plain()


class Sealed:
    """With keys. What is not encrypted is refused, unless the keys' owner said that it is to be accepted for now."""

    def __init__(self, keys: KeyRing) -> None:
        self.keys: KeyRing | None = keys
        self._seal = keys.seal
        self._open = keys.open
        self._hash = keys.keyed_hash

    def seal_step(self, place: Place, row: StepRow) -> StepRow:
        return row._make((*row[:8], self._seal(row.body, _step(place, row))))

    def open_step(self, place: Place, row: StepRow) -> bytes:
        opened = self._open(row.body, _step(place, row))
        return unbound(row) if opened is None else opened

    def seal_task(self, place: Place, row: Waiting) -> bytes:
        return self._seal(row.body, _task(place, row))

    def open_task(self, place: Place, row: Waiting) -> bytes:
        opened = self._open(row.body, _task(place, row))
        return row.body if opened is None else opened

    def content_hash(self, place: Place, content: bytes) -> bytes:
        return self._hash(("spill", place.tenant, place.thread), content)

    def seal_spill(self, place: Place, hash: bytes, content: bytes) -> bytes:
        return self._seal(pack(content), _spill(place, hash))

    def open_spill(self, place: Place, hash: bytes, body: bytes) -> bytes:
        opened = self._open(body, _spill(place, hash))
        return unpack(body if opened is None else opened)


def _step(place: Place, row: StepRow) -> tuple[Any, ...]:
    """What a step's body is bound to; see `clew.storage.bound.bind` for `key_seq`."""
    is_keyframe = row.key_seq == row.seq
    return ("step", *place[:3], row.branch, row.seq, is_keyframe, *row[3:8])


def _task(place: Place, row: Waiting) -> tuple[Any, ...]:
    return ("task", *place[:3], row.branch, row.seq, row.task_id)


def _spill(place: Place, hash: bytes) -> tuple[Any, ...]:
    return ("spill", place.tenant, place.thread, hash)
