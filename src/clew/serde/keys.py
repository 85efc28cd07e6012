"""A ring of keys: what is stored is encrypted with the current one, and older ones still decrypt.

AES-256-GCM from the `cryptography` package (extra `encryption`). A record begins with 24 random bytes: the first 12
derive the record's own key from the ring's (HKDF-Expand with SHA-256), the last 12 are the nonce. So the number of
records is no concern: with one key for all of them, random nonces of 96 bits would have to end after 2**32 records
(NIST SP 800-38D, section 8.3); like this, 2**80 records share a key and a nonce with a chance below 2**-32. AES-GCM-SIV
would do with less care for nonces, but OpenSSL has it from 3.2 on only, and a file must be readable everywhere.

Invariants: of what is encrypted, only its length and the id of its key can be seen; it decrypts in the place that it
was encrypted for, and nowhere else; keys never appear in a message or a repr.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any, Final

import ormsgpack

from clew.errors import CorruptRecordError, InvalidKeyError, MissingExtraError, MissingKeyError, PlaintextError
from clew.serde.compress import encrypted_body, key_id, seal_encrypted

KEY_SIZE: Final = 32
_ID_MAX: Final = 64  # bytes
_SALT: Final = 12
_NONCE: Final = 12
_TAG: Final = 16
_HASH: Final = 16
_MAKE_ONE: Final = "make one with os.urandom(32)"

Place = tuple[Any, ...]  # what a record is bound to: its purpose first, then texts, numbers and bytes


class KeyRing:
    """Keys by id, of which `current` encrypts. `accepts_plaintext` is for the time of a migration."""

    __slots__ = ("_ciphers", "_hash_key", "_sealing", "accepts_plaintext", "current")

    def __init__(
        self, keys: Mapping[str, bytes], current: str | None = None, *, accepts_plaintext: bool = False
    ) -> None:
        """`current` may be left out where there is one key.

        Raises:
            InvalidKeyError: A key has not 32 bytes, an id is empty or too long, or `current` is not among the keys.
            MissingExtraError: The package `cryptography` is not installed.
        """
        self.current = _checked(keys, current)
        self.accepts_plaintext = accepts_plaintext
        self._ciphers = {id.encode(): _Cipher(key) for id, key in keys.items()}
        self._sealing = (self._header(self.current), self._ciphers[self.current.encode()])
        self._hash_key = _derived(keys[self.current], b"clew: names")

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(sorted(id.decode() for id in self._ciphers))}; current {self.current})"

    def seal(self, record: bytes, place: Place) -> bytes:
        """The encrypted envelope of `record`, which opens only with the same `place`."""
        header, cipher = self._sealing
        return seal_encrypted(header + cipher.encrypt(record, ormsgpack.packb(place)))

    def open(self, envelope: bytes, place: Place) -> bytes | None:
        """The record in an envelope that `seal` made for `place`; None for one that is not encrypted.

        Raises:
            CorruptRecordError: It was changed, or belongs to another place.
            MissingKeyError: Its key is not on the ring.
            PlaintextError: It is not encrypted, and the ring does not accept that.
        """
        if not isinstance(envelope, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - a damaged row says otherwise
            raise CorruptRecordError(f"a stored record is a {type(envelope).__name__}, not bytes")
        body = encrypted_body(envelope)
        if body is None:
            if self.accepts_plaintext:
                return None
            raise PlaintextError(
                "a stored record is not encrypted, and a key is set",
                hint="if it was written before there was a key, open the database with accept_plaintext=True and call"
                " reencrypt()",
            )
        start = 1 + body[0]
        cipher = self._ciphers.get(body[1:start])
        if cipher is None:
            id = key_id(body)
            raise MissingKeyError(
                f"a stored record is encrypted with key {id!r}, which was not given",
                hint="give that key too, as one that decrypts only",
                key_id=id,
            )
        return cipher.decrypt(body[start:], ormsgpack.packb(place), key_id(body))

    def is_current(self, envelope: bytes) -> bool:
        """Whether an envelope is encrypted with the current key; one that is damaged is as good as not."""
        return envelope[9 : 9 + len(self._sealing[0])] == self._sealing[0] and encrypted_body(envelope) is not None

    def keyed_hash(self, place: Place, content: bytes = b"") -> bytes:
        """16 bytes that stand for `content` at a place; who has no key can neither compare nor guess it by them."""
        return hashlib.blake2b(ormsgpack.packb(place) + content, key=self._hash_key, digest_size=_HASH).digest()

    @staticmethod
    def _header(id: str) -> bytes:
        name = id.encode()
        return bytes((len(name),)) + name


class _Cipher:
    """One key, and the cipher that each record has of its own."""

    __slots__ = ("_aead", "_invalid", "_key")

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.exceptions import InvalidTag  # late: an optional dependency
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "cryptography":
                raise
            raise MissingExtraError("encryption at rest", "encryption") from None
        self._aead = AESGCM
        self._invalid = InvalidTag
        self._key = _derived(key, b"clew: records")

    def encrypt(self, record: bytes, context: bytes) -> bytes:
        random = os.urandom(_SALT + _NONCE)
        return random + self._of(random).encrypt(random[_SALT:], record, context)

    def decrypt(self, body: bytes, context: bytes, id: str) -> bytes:
        if len(body) < _SALT + _NONCE + _TAG:
            raise CorruptRecordError(f"an encrypted record of {len(body)} bytes is shorter than its header")
        try:
            return self._of(body).decrypt(body[_SALT : _SALT + _NONCE], body[_SALT + _NONCE :], context)
        except self._invalid:
            raise CorruptRecordError(
                f"an encrypted record does not authenticate with key {id!r}: it was changed or moved here from another"
                " place, or the key is not the one it was encrypted with"
            ) from None

    def _of(self, random: bytes) -> Any:
        return self._aead(_expanded(self._key, random[:_SALT]))


def _derived(key: bytes, purpose: bytes) -> bytes:
    """HKDF with SHA-256 (RFC 5869): a key for one purpose."""
    return _expanded(hmac.digest(b"clew", key, "sha256"), purpose)


def _expanded(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand with SHA-256, whose first block is all that is needed."""
    return hmac.digest(key, info + b"\x01", "sha256")


def checked_key(key: bytes, name: str) -> bytes:
    """`key` itself; raises `InvalidKeyError` unless it is bytes of the right number."""
    if not isinstance(key, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - user data
        raise InvalidKeyError(f"{name} is of type {type(key).__name__}, not bytes", hint=_MAKE_ONE)
    if len(key) != KEY_SIZE:
        raise InvalidKeyError(f"{name} has {len(key)} bytes, not {KEY_SIZE}", hint=_MAKE_ONE)
    return key


def _checked(keys: Mapping[str, bytes], current: str | None) -> str:
    """The id of the current key, after a look at all of them."""
    if not keys:
        raise InvalidKeyError("no key was given", hint=_MAKE_ONE)
    for id, key in keys.items():
        if not isinstance(id, str) or not 0 < len(id.encode("utf-8", "replace")) <= _ID_MAX:  # pyright: ignore[reportUnnecessaryIsInstance] - user data
            raise InvalidKeyError(f"the key id {id!r} is not a text of 1 to {_ID_MAX} bytes", hint="such as '2026-11'")
        checked_key(key, f"key {id!r}")
    if current is None:
        if len(keys) > 1:
            raise InvalidKeyError(
                f"{len(keys)} keys were given, and none of them is the current one",
                hint="say which one encrypts with current=...",
            )
        return next(iter(keys))
    if current not in keys:
        raise InvalidKeyError(f"the current key {current!r} is not among the keys", key_id=current)
    return current
