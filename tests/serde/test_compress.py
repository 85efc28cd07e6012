"""The envelope of a record: small, checked, and not a bomb."""

from __future__ import annotations

import random
import threading

import pytest
import xxhash
import zstandard

from clew.errors import CorruptRecordError, SchemaVersionError
from clew.serde import compress

RECORDS = [b"", b"x", b"short", b"text " * 100, random.Random(1).randbytes(1000), b"a" * 2_000_000]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(len(record)))
def test_record_comes_back(record: bytes) -> None:
    assert compress.unpack(compress.pack(record)) == record


def test_compression_is_used_only_where_it_helps() -> None:
    sizes = [len(compress.pack(record)) - len(record) for record in RECORDS]

    assert sizes[:3] == [9, 9, 9]
    assert sizes[3] < -400
    assert sizes[4] == 9


@pytest.mark.parametrize("record", [b"", b"a short record", b"text " * 40], ids=["empty", "plain", "compressed"])
def test_any_flipped_bit_is_found(record: bytes) -> None:
    envelope = compress.pack(record)

    for position in range(len(envelope) * 8):
        damaged = bytearray(envelope)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(CorruptRecordError, match="does not match its checksum"):
            compress.unpack(bytes(damaged))


def test_any_truncation_and_any_addition_is_found() -> None:
    envelope = compress.pack(b"text " * 40)

    for length in range(len(envelope)):
        with pytest.raises(CorruptRecordError):
            compress.unpack(envelope[:length])
    with pytest.raises(CorruptRecordError):
        compress.unpack(envelope + b"\0")


def sealed(head: int, body: bytes) -> bytes:
    return bytes((head,)) + xxhash.xxh3_64_digest(body, head) + body


def test_newer_format_says_so() -> None:
    with pytest.raises(SchemaVersionError, match=r"format 2 \(flags 1\); this clew reads up to 1") as caught:
        compress.unpack(sealed(0x12, b"whatever"))

    assert caught.value.hint == "upgrade clew to the version that wrote it"


def test_bomb_is_refused_by_its_declared_size() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(b"\0" * (compress.MAX_INFLATED + 1))

    with pytest.raises(CorruptRecordError, match="declares 67108865 bytes when decompressed; at most 67108864"):
        compress.unpack(sealed(0x11, bomb))


def test_frame_without_a_declared_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 10_000_000)

    with pytest.raises(CorruptRecordError, match="declares -1 bytes"):
        compress.unpack(sealed(0x11, frame))


@pytest.mark.parametrize("body", [b"", b"not a frame", zstandard.compress(b"x" * 500)[:-3]], ids=range(3))
def test_damaged_frame_with_a_good_checksum_is_a_typed_error(body: bytes) -> None:
    with pytest.raises(CorruptRecordError, match=r"cannot be decompressed|declares"):
        compress.unpack(sealed(0x11, body))


def test_frame_that_lies_about_its_size_is_a_typed_error() -> None:
    frame = bytearray(zstandard.compress(b"x" * 500))
    frame[5] ^= 1  # the low byte of the declared size

    with pytest.raises(CorruptRecordError):
        compress.unpack(sealed(0x11, bytes(frame)))


def test_more_than_one_frame_is_a_typed_error() -> None:
    frame = zstandard.compress(b"x" * 500)

    with pytest.raises(CorruptRecordError, match="cannot be decompressed"):
        compress.unpack(sealed(0x11, frame + frame))


def test_large_records_are_stored_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "MAX_INFLATED", 1000)

    assert len(compress.pack(b"a" * 1001)) == 1010
    assert compress.unpack(compress.pack(b"a" * 1001)) == b"a" * 1001


def test_threads_do_not_disturb_each_other() -> None:
    records = [bytes([number]) * 5000 for number in range(8)]
    failures: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            if compress.unpack(compress.pack(records[number])) != records[number]:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
