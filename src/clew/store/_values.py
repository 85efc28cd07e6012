"""Values as stored: exact, of known types only, in the envelope that every record of clew has."""

from __future__ import annotations

from typing import Any

from clew.serde import default_codec
from clew.serde.compress import pack, unpack


def save_value(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        SerializationError: A part of it has a type that is not known; the error has the path to it.
    """
    return pack(default_codec().encode(value))


def load_value(stored: bytes) -> Any:
    """The value that `save_value` made the bytes of.

    Raises:
        CorruptRecordError: The bytes are damaged.
        SchemaVersionError: A newer clew wrote them.
        SerializationError: They hold a type that is not known here.
    """
    return default_codec().decode(unpack(stored))
