"""Keys: how they are given, what is wrong with them, and what is made from them."""

from __future__ import annotations

import base64
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.serde.base import SerializerProtocol
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.errors import CorruptRecordError, EncryptionError, InvalidKeyError, MissingKeyError, PlaintextError
from clew.serde.keys import KeyRing
from tests.encryption.backends import KEY, OTHER_KEY


def test_the_format_is_what_its_description_says() -> None:
    place = ("step", "", "thread")
    envelope = KeyRing({"2026-11": KEY}).seal(b"record", place)

    header, body = envelope[:9], envelope[9:]
    assert header[0] == 0x21
    assert body[:8] == b"\x07" + b"2026-11"
    salt, nonce, ciphertext = body[8:20], body[20:32], body[32:]
    records = HKDF(SHA256(), 32, b"clew", b"clew: records").derive(KEY)
    own = HKDFExpand(SHA256(), 32, salt).derive(records)
    context = b"\x93\xa4step\xa0\xa6thread"
    assert AESGCM(own).decrypt(nonce, ciphertext, context) == b"record"
    assert len(ciphertext) == len(b"record") + 16


def test_two_records_share_nothing_random() -> None:
    ring = KeyRing({"a": KEY})

    randoms = {ring.seal(b"", ())[11:35] for _ in range(1000)}

    assert len(randoms) == 1000
    assert len({random[:12] for random in randoms}) == len({random[12:] for random in randoms}) == 1000


def test_hashes_depend_on_key_place_and_content() -> None:
    ring, other = KeyRing({"a": KEY}), KeyRing({"a": OTHER_KEY})

    hashes = [
        ring.keyed_hash(("spill", "", "t"), b"x"),
        ring.keyed_hash(("spill", "", "u"), b"x"),
        ring.keyed_hash(("spill", "", "t"), b"y"),
        other.keyed_hash(("spill", "", "t"), b"x"),
    ]

    assert len(set(hashes)) == 4
    assert ring.keyed_hash(("spill", "", "t"), b"x") == hashes[0]


@pytest.mark.parametrize(
    ("keys", "current", "message"),
    [
        ({}, None, "no key was given"),
        ({"a": b"short"}, None, "key 'a' has 5 bytes, not 32"),
        ({"a": KEY + b"x"}, None, "key 'a' has 33 bytes, not 32"),
        ({"a": KEY.decode()}, None, "key 'a' is of type str, not bytes"),
        ({"": KEY}, None, "the key id '' is not a text of 1 to 64 bytes"),
        ({"x" * 65: KEY}, None, "is not a text of 1 to 64 bytes"),
        ({7: KEY}, None, "the key id 7 is not a text of 1 to 64 bytes"),
        ({"a": KEY, "b": OTHER_KEY}, None, "2 keys were given, and none of them is the current one"),
        ({"a": KEY}, "b", "the current key 'b' is not among the keys"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(keys: Any, current: str | None, message: str) -> None:
    with pytest.raises(InvalidKeyError, match=message) as error:
        EncryptedSerializer(keys, current=current)

    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, EncryptionError)
    assert KEY.hex() not in str(error.value)


def test_a_cipher_of_ones_own_is_refused() -> None:
    with pytest.raises(TypeError, match="could not bind a record to its place"):
        EncryptedSerializer(AESGCM(KEY))  # type: ignore[arg-type]


def test_keys_do_not_show() -> None:
    one = EncryptedSerializer({"2026-11": KEY, "2026-05": OTHER_KEY}, current="2026-11")

    assert repr(one) == "EncryptedSerializer(KeyRing(2026-05, 2026-11; current 2026-11))"


def test_ids_are_made_from_keys_where_none_is_given() -> None:
    first = EncryptedSerializer.from_key(KEY)
    rotated = EncryptedSerializer.from_key(OTHER_KEY, old=[KEY])
    data = first.dumps_typed("x")

    assert rotated.loads_typed(data) == "x"
    assert rotated.keys.current != first.keys.current
    with pytest.raises(MissingKeyError) as error:
        first.loads_typed(rotated.dumps_typed("x"))
    assert error.value.key_id == rotated.keys.current


@pytest.mark.parametrize(
    ("text", "current"),
    [
        (f"new:{OTHER_KEY.hex()},old:{KEY.hex()}", "new"),
        (f"new:{base64.b64encode(OTHER_KEY).decode()} old:{base64.b64encode(KEY).decode()}", "new"),
        (f"old:{KEY.hex()}", "old"),
    ],
)
def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, current: str) -> None:
    monkeypatch.setenv("CLEW_ENCRYPTION_KEYS", text)
    expected = EncryptedSerializer({"new": OTHER_KEY, "old": KEY}, current=current)

    found = EncryptedSerializer.from_env()

    assert found.keys.current == current
    assert expected.loads_typed(found.dumps_typed([1])) == [1]


def test_a_key_from_the_environment_needs_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY.hex())

    found = EncryptedSerializer.from_env("MY_KEY")

    assert EncryptedSerializer.from_key(KEY).loads_typed(found.dumps_typed(1)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the environment variable CLEW_ENCRYPTION_KEYS is not set"),
        ("", "the environment variable CLEW_ENCRYPTION_KEYS is not set"),
        ("a:no*key", "key 'a' in the environment variable CLEW_ENCRYPTION_KEYS is neither hexadecimal nor base64"),
        ("a:AAAA", "key 'a' has 3 bytes, not 32"),
    ],
)
def test_keys_that_the_environment_has_wrong(monkeypatch: pytest.MonkeyPatch, text: str | None, message: str) -> None:
    monkeypatch.delenv("CLEW_ENCRYPTION_KEYS", raising=False)
    if text is not None:
        monkeypatch.setenv("CLEW_ENCRYPTION_KEYS", text)

    with pytest.raises(InvalidKeyError, match=message):
        EncryptedSerializer.from_env()


@pytest.mark.parametrize("size", [16, 24, 32])
def test_the_fields_name_reads_the_fields_variable(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "k" * size)

    found = EncryptedSerializer.from_pycryptodome_aes()

    assert EncryptedSerializer.from_pycryptodome_aes(key=b"k" * size).loads_typed(found.dumps_typed("x")) == "x"


def test_the_fields_name_refuses_other_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidKeyError, match="the AES key has 5 bytes, not 16, 24 or 32"):
        EncryptedSerializer.from_pycryptodome_aes(key=b"short")
    monkeypatch.delenv("LANGGRAPH_AES_KEY", raising=False)
    with pytest.raises(InvalidKeyError, match="LANGGRAPH_AES_KEY is not set"):
        EncryptedSerializer.from_pycryptodome_aes()


def test_it_is_a_serializer_like_any_other() -> None:
    one = EncryptedSerializer.from_key(KEY)
    value = {"a": [1, 2.5, None, b"x", {"secret"}], "b": (1, "two")}

    tag, data = one.dumps_typed(value)

    assert isinstance(one, SerializerProtocol)
    assert tag == "clew+aes256gcm"
    assert b"secret" not in data
    assert one.loads_typed((tag, data)) == value


def test_a_serializer_that_is_bound_reads_its_own_place_only() -> None:
    one = EncryptedSerializer.from_key(KEY)
    data = one.bound_to("cache", "a").dumps_typed("x")

    assert one.bound_to("cache", "a").loads_typed(data) == "x"
    for other in (one, one.bound_to("cache", "b")):
        with pytest.raises(CorruptRecordError):
            other.loads_typed(data)


def test_what_another_serializer_wrote_is_read_while_migrating_only() -> None:
    with pytest.raises(PlaintextError):
        EncryptedSerializer.from_key(KEY).loads_typed(("msgpack", b"\x01"))

    assert EncryptedSerializer.from_key(KEY, accept_plaintext=True).loads_typed(("msgpack", b"\x01")) == 1


def test_a_serializer_keeps_its_keys_when_it_learns_a_class() -> None:
    one = EncryptedSerializer.from_key(KEY).with_msgpack_allowlist([KeyedValue])

    assert EncryptedSerializer.from_key(KEY).loads_typed(one.dumps_typed("x")) == "x"
    assert one.codec.types is not EncryptedSerializer.from_key(KEY).codec.types


class KeyedValue:
    """A class of the user's."""


def test_without_the_package_the_error_names_the_command() -> None:
    program = """
import sys
sys.modules["cryptography"] = None
from clew.checkpoint.serde.encrypted import EncryptedSerializer
from clew.errors import MissingExtraError
try:
    EncryptedSerializer.from_key(bytes(32))
except MissingExtraError as error:
    print(error, "|", error.hint)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == (
        "encryption at rest needs a package that is not installed | install it with: pip install 'clew[encryption]'"
    )


def test_a_saver_without_a_key_loads_no_cryptography() -> None:
    program = """
import sys
from clew.checkpoint.memory import InMemorySaver
from clew.checkpoint.sqlite import SqliteSaver
print([name for name in sys.modules if name.startswith(("cryptography", "clew.serde.keys"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_saver_has_to_have_a_key_to_encrypt_with() -> None:
    with pytest.raises(EncryptionError, match="the saver has no key to encrypt with"):
        InMemorySaver().reencrypt()
