"""A stored value whose type this process does not know, carried as bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Opaque:
    """What `Codec.decode(..., opaque=True)` gives for a value it cannot restore; it encodes to the very same bytes.

    `code` is the stored type code, `type_name` the name in the bytes (or a description of the code), `payload` the
    value's own bytes.
    """

    code: int
    type_name: str
    payload: bytes

    def __repr__(self) -> str:
        return f"<{self.type_name}: {len(self.payload)} bytes>"
