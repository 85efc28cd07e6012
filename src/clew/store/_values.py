"""Values as stored: exact, of known types only, and with a checksum.

Bytes are a format number, a CRC-32 of the rest, and what `clew.serde.Codec` makes of the value.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from clew.errors import CorruptRecordError, SchemaVersionError
from clew.serde import Codec

_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BI")
_codec: Final = Codec()


def save_value(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        SerializationError: A part of it has a type that is not known; the error has the path to it.
    """
    body = _codec.encode(value)
    return _HEADER.pack(_FORMAT, zlib.crc32(body)) + body


def load_value(stored: bytes) -> Any:
    """The value that `save_value` made the bytes of.

    Raises:
        CorruptRecordError: The bytes are damaged.
        SchemaVersionError: A newer clew wrote them.
        SerializationError: They hold a type that is not known here.
    """
    if len(stored) < _HEADER.size:
        raise CorruptRecordError("a stored value is cut short", hint="restore the database from a backup")
    version, checksum = _HEADER.unpack_from(stored)
    if version > _FORMAT:
        raise SchemaVersionError(f"a stored value has format {version}, this clew knows {_FORMAT}", hint="upgrade clew")
    body = stored[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise CorruptRecordError("a stored value fails its checksum", hint="restore the database from a backup")
    return _codec.decode(body)
