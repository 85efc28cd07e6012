"""What the bodies of rows are wrapped in: each belongs to its row, and with keys nobody else can read it.

Every body that is written or read passes through the vault of its `Place`. `Plain` binds a step to its row by its
checksum.

Invariant: what a vault opens is, byte for byte, what it sealed for the same row, or a typed error.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from clew.serde.compress import pack, unpack
from clew.storage.bound import bind, unbound

if TYPE_CHECKING:
    from clew.storage.log import Place, StepRow, Waiting


class Vault(Protocol):
    """How bodies are kept. A step's and a task's are given and got as envelopes (`clew.serde.compress`)."""

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
