"""`EncryptedSerializer`: what makes a saver, a store or a cache keep everything of the user's encrypted.

A saver or store that is given one as `serde=` encrypts each of its rows for the place that the row has; see
`clew.serde.keys` for how. Whatever has no rows of its own to bind may use it as any serializer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

from clew.checkpoint.serde.base import SerializerProtocol
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.errors import InvalidKeyError
from clew.serde import Codec
from clew.serde.compress import pack, unpack
from clew.serde.keys import KEY_SIZE, KeyRing, checked_key

__all__ = ("EncryptedSerializer",)

KEYS_VARIABLE: Final = "CLEW_ENCRYPTION_KEYS"
_AES_VARIABLE: Final = "LANGGRAPH_AES_KEY"
_AES_SIZES: Final = (16, 24, 32)
_TAG: Final = "clew+aes256gcm"


class EncryptedSerializer(SerializerProtocol):
    """Serializes with `serde` and encrypts with AES-256-GCM; needs the extra `encryption`.

    `keys` are 32 bytes each, by ids that are stored beside what they encrypt. `current` names the one that encrypts
    (it may be left out where there is one key); the others only decrypt, until `saver.reencrypt()` has made them
    superfluous. With `accept_plaintext`, what was stored before there was a key can be read, too: use it to migrate,
    since who can write to the database can else not put unencrypted data there.

    Raises `InvalidKeyError` for keys that cannot be used, and `MissingExtraError` without the package `cryptography`.
    """

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        current: str | None = None,
        serde: JsonPlusSerializer | None = None,
        accept_plaintext: bool = False,
    ) -> None:
        if not isinstance(keys, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - user data
            raise TypeError(
                f"keys is a {type(keys).__name__}, not a mapping of ids to bytes: a cipher of one's own is not taken,"
                " since it could not bind a record to its place"
            )
        self._serde = JsonPlusSerializer() if serde is None else serde
        self.keys = KeyRing(keys, current, accepts_plaintext=accept_plaintext)
        self._place: tuple[Any, ...] = ("value",)

    @classmethod
    def from_key(
        cls,
        key: bytes,
        *,
        old: Sequence[bytes] = (),
        serde: JsonPlusSerializer | None = None,
        accept_plaintext: bool = False,
    ) -> Self:
        """With one key that encrypts, and older ones that decrypt; their ids are made from the keys."""
        keys = {_id_of(one): one for one in (*old, key)}
        return cls(keys, current=_id_of(key), serde=serde, accept_plaintext=accept_plaintext)

    @classmethod
    def from_env(
        cls,
        variable: str = KEYS_VARIABLE,
        *,
        serde: JsonPlusSerializer | None = None,
        accept_plaintext: bool = False,
    ) -> Self:
        """With the keys in an environment variable, separated by spaces or commas; the first one encrypts.

        Each is 32 bytes in hexadecimal or base64, with or without an id before it: `2026-11:q83vEj...`.
        """
        text = os.environ.get(variable, "")
        keys = dict(_parsed(part, variable) for part in text.replace(",", " ").split())
        if not keys:
            raise InvalidKeyError(
                f"the environment variable {variable} is not set",
                hint="""make a key with: python -c "import secrets; print(secrets.token_hex(32))\"""",
            )
        return cls(keys, current=next(iter(keys)), serde=serde, accept_plaintext=accept_plaintext)

    @classmethod
    def from_pycryptodome_aes(
        cls, serde: JsonPlusSerializer | None = None, *, key: bytes | None = None, accept_plaintext: bool = False
    ) -> Self:
        """With one key of 16, 24 or 32 bytes, by default the text in the environment variable LANGGRAPH_AES_KEY.

        The name is LangGraph's, so that its programs run unchanged. pycryptodome is not used, and what LangGraph has
        encrypted cannot be read: the format and the cipher's mode are clew's own. A shorter key is stretched to 32
        bytes, which does not make it stronger.
        """
        if key is None:
            text = os.environ.get(_AES_VARIABLE)
            if text is None:
                raise InvalidKeyError(
                    f"the environment variable {_AES_VARIABLE} is not set", hint="set it, or give key=..."
                )
            key = text.encode()
        if len(key) not in _AES_SIZES:
            raise InvalidKeyError(f"the AES key has {len(key)} bytes, not 16, 24 or 32", hint="use os.urandom(32)")
        stretched = key if len(key) == KEY_SIZE else hashlib.sha256(b"clew: short key" + key).digest()
        return cls.from_key(stretched, serde=serde, accept_plaintext=accept_plaintext)

    @property
    def codec(self) -> Codec:
        """What encodes and decodes; savers and stores given this serializer use it."""
        return self._serde.codec

    def __repr__(self) -> str:
        return f"EncryptedSerializer({self.keys!r})"

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[type | tuple[str, ...]]) -> EncryptedSerializer:
        """A serializer with the same keys that also knows the classes in `extra_allowlist`."""
        return self._with(serde=self._serde.with_msgpack_allowlist(extra_allowlist))

    def bound_to(self, *place: str | int | bytes | None) -> EncryptedSerializer:
        """A serializer whose bytes can be read again only by one that is bound to the same place."""
        return self._with(place=("value", *place))

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """A tag and encrypted bytes; raises `SerializationError` for a type that is not known."""
        return _TAG, self.keys.seal(pack(self.codec.encode(obj)), self._place)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that `dumps_typed` was given.

        Raises `CorruptRecordError` for bytes that were changed or moved, `MissingKeyError` for those of another key,
        and `PlaintextError` for those that are not encrypted, unless `accept_plaintext` was set.
        """
        tag, stored = data
        if tag != _TAG and self.keys.accepts_plaintext:
            return self._serde.loads_typed(data)
        record = self.keys.open(bytes(stored), self._place)
        return self.codec.decode(unpack(stored if record is None else record))

    def _with(
        self, *, serde: JsonPlusSerializer | None = None, place: tuple[Any, ...] | None = None
    ) -> EncryptedSerializer:
        other = object.__new__(type(self))
        other._serde = self._serde if serde is None else serde
        other._place = self._place if place is None else place
        other.keys = self.keys
        return other


def _id_of(key: bytes) -> str:
    """An id that tells keys apart and says nothing about them."""
    return hashlib.blake2b(checked_key(key, "the key"), digest_size=4, person=b"clew: key id").hexdigest()


def _parsed(part: str, variable: str) -> tuple[str, bytes]:
    id, separator, text = part.rpartition(":")
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_SIZE else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        named = f"key {id!r}" if separator else "a key"
        raise InvalidKeyError(
            f"{named} in the environment variable {variable} is neither hexadecimal nor base64"
        ) from None
    return (id if separator else _id_of(key)), key
