"""Values as stored: exact, of known types only, in the envelope that every record of clew has.

With keys, a value is encrypted for its item: it opens under its own tenant, namespace and key, and nowhere else.
"""

from __future__ import annotations

from typing import Any

from clew.errors import EncryptionError
from clew.serde import default_codec
from clew.serde.compress import pack, unpack
from clew.serde.given import codec_and_keys


class Values:
    """How one store keeps its values, those of one tenant; `serde` is what the store was given."""

    __slots__ = ("_codec", "_serde", "_tenant", "keys")

    def __init__(self, serde: Any = None, tenant: str = "") -> None:
        codec, self.keys = codec_and_keys(serde)
        self._codec = default_codec() if codec is None else codec
        self._serde = serde
        self._tenant = tenant

    def of_tenant(self, tenant: str) -> Values:
        """The same for another tenant."""
        return Values(self._serde, tenant)

    def save(self, ns: bytes, key: bytes, value: Any) -> bytes:
        """The bytes of a value of the item with this encoded namespace and key.

        Raises:
            SerializationError: A part of it has a type that is not known; the error has the path to it.
        """
        return self.seal(ns, key, pack(self._codec.encode(value)))

    def load(self, ns: bytes, key: bytes, stored: bytes) -> Any:
        """The value that `save` made the bytes of.

        Raises:
            CorruptRecordError: The bytes are damaged, or were encrypted for another item.
            EncryptionError: Their key was not given, or they are not encrypted and there is a key.
            SchemaVersionError: A newer clew wrote them.
            SerializationError: They hold a type that is not known here.
        """
        return self._codec.decode(unpack(self.open(ns, key, stored)))

    def seal(self, ns: bytes, key: bytes, envelope: bytes) -> bytes:
        """An envelope as it is stored."""
        return envelope if self.keys is None else self.keys.seal(envelope, self._place(ns, key))

    def open(self, ns: bytes, key: bytes, stored: bytes) -> bytes:
        """The envelope that `seal` was given."""
        opened = None if self.keys is None else self.keys.open(stored, self._place(ns, key))
        return stored if opened is None else opened

    def rekeyed(self, ns: bytes, key: bytes, stored: bytes) -> bytes | None:
        """What is stored, encrypted with the current key; None if it is.

        Raises:
            EncryptionError: There is no key at all, or not the one that it needs.
        """
        if self.keys is None:
            raise EncryptionError(
                "the store has no key to encrypt with", hint="give it serde=EncryptedSerializer(...) when it is made"
            )
        return None if self.keys.is_current(stored) else self.seal(ns, key, self.open(ns, key, stored))

    def _place(self, ns: bytes, key: bytes) -> tuple[Any, ...]:
        return ("item", self._tenant, ns, key)
