"""Bytes nobody trusts: whatever they hold, the outcome is a value or a typed error, and no code of theirs runs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import ormsgpack
import pytest

from clew.errors import CorruptRecordError, SerializationError, StorageError
from clew.serde import Codec, Opaque, TypeRegistry, rules
from tests.serde.exact import again


def extension(code: int, content: Any) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(content)))


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("os", "getenv"), ("builtins", "eval"), ("subprocess", "Popen"), ("clew.serde.codec", "Codec")],
)
def test_named_type_is_never_imported_or_called(module: str, name: str) -> None:
    data = extension(rules.NAMED, [f"{module}:{name}", {}])

    with pytest.raises(SerializationError) as caught:
        Codec().decode(data)

    assert str(caught.value) == f"stored bytes hold a value of type '{module}:{name}', which is not known here"
    assert caught.value.hint == (f"make it known with clew.serde.register({name}), or name it in the graph's schema")


def test_reading_an_unknown_type_imports_nothing() -> None:
    program = (
        "import sys\n"
        "from clew.serde import Codec\n"
        "codec = Codec()\n"
        "codec.encode((1,))\n"
        "before = set(sys.modules)\n"
        "try: codec.decode(bytes.fromhex(sys.argv[1]))\n"
        "except Exception as error: pass\n"
        "new = {name for name in set(sys.modules) - before if not name.startswith('clew')}\n"
        "sys.exit(str(new) if 'antigravity' in new or 'this' in new else 0)\n"
    )
    data = extension(rules.NAMED, ["this:s", {}]) + b""

    result = subprocess.run(
        [sys.executable, "-c", program, data.hex()],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )

    assert (result.returncode, result.stdout) == (0, "")


def test_user_dict_that_looks_like_a_constructor_stays_a_dict() -> None:
    value = {"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["true"], "kwargs": {"secret": 1}}

    assert again([value, {"lc": 1, "type": "secret", "id": ["HOME"]}])[0] == value


def test_extension_codes_of_other_writers_are_refused() -> None:
    """What `ormsgpack`-based stores of other libraries mean by these codes is a constructor call."""
    for code in range(128):
        for content in (["os", "getenv", "HOME"], ["os", "getenv", ["HOME"]], ["os", "getenv", {"key": "HOME"}, "x"]):
            try:
                value = Codec().decode(extension(code, content))
            except StorageError:
                continue
            assert os.environ["HOME"] not in repr(value)


def test_exception_class_outside_the_table_is_refused() -> None:
    for name in ("print", "object", "subprocess:CalledProcessError", "clew.errors:ErrorCode", 7, None):
        with pytest.raises(SerializationError):
            Codec().decode(extension(rules.EXCEPTION, [name, ["x"], {}]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\xa5abc",
        b"\xa2\xff\xfe",
        b"\x81\x01\x02",
        b"\x01\x01",
        b"\x90\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xdd\x0f\xff\xff\xff" * 500,
        b"\x91" * 1_000_000,
        b"\x81\xa1a" * 1_000_000,
        b"\xc7\x03\x07\x91\x01\x01",
        b"\xd4\x07\xc1",
    ],
    ids=lambda data: f"{data[:8].hex()}-{len(data)}",
)
def test_malformed_bytes_are_a_typed_error(data: bytes) -> None:
    for opaque in (False, True):
        if opaque and data[:1] in (b"\xc7", b"\xd4"):
            continue  # the payload is malformed, not the envelope: carried as it is
        with pytest.raises(CorruptRecordError, match="stored bytes cannot be parsed"):
            Codec().decode(data, opaque=opaque)


def test_every_truncation_is_a_typed_error() -> None:
    codec = Codec()
    data = codec.encode({"a": [1, (2, {3: "x"}), {"é"}], "when": ValueError("x")})

    for length in range(len(data)):
        with pytest.raises(StorageError):
            codec.decode(data[:length])


def test_length_headers_allocate_nothing() -> None:
    program = (
        "import resource\n"
        "from clew.serde import Codec\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "for marker in (0xdd, 0xdf, 0xc6, 0xdb, 0xc9):\n"
        "    try: Codec().decode(bytes([marker]) + b'\\xff\\xff\\xff\\xff\\x01')\n"
        "    except Exception as error: assert type(error).__name__ == 'CorruptRecordError', error\n"
        "print('alive')\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True
    )

    assert result.stdout == "alive\n", result.stderr


def nested_extensions(levels: int, containers: int) -> bytes:
    payload = b"\xc0"
    for _ in range(levels):
        body = b"\x91" * containers + payload
        payload = ormsgpack.packb(ormsgpack.Ext(rules.TUPLE, body))
    return payload


@pytest.mark.parametrize(
    ("levels", "containers"), [(4, 1000), (8, 900), (16, 1000), (64, 1000), (99, 32), (101, 1), (3000, 1), (3000, 40)]
)
def test_depth_bomb_in_extensions_does_not_overflow_the_stack(levels: int, containers: int) -> None:
    outcome: list[str] = []

    def read() -> None:
        for opaque in (False, True):
            try:
                Codec().decode(nested_extensions(levels, containers), opaque=opaque)
                outcome.append("value")
            except StorageError as error:
                outcome.append(type(error).__name__)

    in_small_stack(read)

    assert len(outcome) == 2


def in_small_stack(work: Callable[[], None]) -> None:
    """Run on a thread with the 8 MB stack that most systems give, whatever this one gives."""
    before = threading.stack_size(8 * 1024 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)


@pytest.mark.parametrize(
    ("code", "content"),
    [
        (rules.NAMED, None),
        (rules.NAMED, []),
        (rules.NAMED, [5]),
        (rules.NAMED, [["os", "system"]]),
        (rules.PAIRS, [1]),
        (rules.PAIRS, [[], 1]),
        (rules.PAIRS, [{}, 1]),
        (rules.TEXT, "text"),
        (rules.TEXT, b"\xff"),
        (rules.INTEGER, "x"),
        (rules.SET, [[]]),
        (rules.COUNTER, 5),
        (rules.DEQUE, [[1], -1]),
        (rules.DEFAULTDICT, ["eval", {}]),
        (rules.DEFAULTDICT, ["os:system", {}]),
        (rules.DATETIME, "yesterday"),
        (rules.DATETIME, ["2020-01-01", 7, None]),
        (rules.ZONEINFO, "../../etc/passwd"),
        (rules.ZONEINFO, "/etc/passwd"),
        (rules.ZONEINFO, "Nowhere/Land"),
        (rules.UUID, b"short"),
        (rules.DECIMAL, "one"),
        (rules.FRACTION, [1, 0]),
        (rules.PATH, ["Popen", "x"]),
        (rules.PATTERN, ["(", 0]),
        (rules.IP, ["IPv4Address", "999"]),
        (rules.SINGLETON, "quit"),
        (rules.RANGE, [1, 2, 0]),
        (rules.EXCEPTION, ["ValueError"]),
        (rules.EXCEPTION, ["UnicodeDecodeError", ["too few"], {}]),
        (rules.STORED_ERROR, "x"),
        (rules.MEMORYVIEW, [b"abc", "Q", [9], True]),
        (rules.SCALAR, ["<f8", b"123"]),
        (64, {"content": 1, "no such field": 2, "-": 3}),
        (64, [{}, 5]),
        (64, 5),
        (127, {}),
    ],
    ids=ascii,
)
def test_forged_content_is_a_typed_error_or_a_plain_value(code: int, content: object) -> None:
    codec = Codec()
    data = extension(code, content)

    carried = codec.decode(data, opaque=True)
    if type(carried) is Opaque:
        with pytest.raises(StorageError):
            codec.decode(data)
        assert codec.encode(carried) == data
    else:
        assert code == 64
        assert type(carried).__name__ == "HumanMessage"


def test_unknown_types_are_carried_as_they_are() -> None:
    class Mine:
        def __init__(self) -> None:
            self.text = "x"

    knowing, other = Codec(TypeRegistry([Mine])), Codec()
    data = knowing.encode({"a": [Mine(), (1, {Mine: 1}.keys().__len__())], "b": {"deep": (Mine(),)}, 3: Mine()})

    carried = other.decode(data, opaque=True)

    name = f"{Mine.__module__}:{Mine.__qualname__}"
    assert type(carried["a"][0]) is Opaque
    assert carried["a"][0].type_name == name
    assert repr(carried["a"][0]).startswith(f"<{name}: ")
    assert type(carried["b"]["deep"][0]) is Opaque
    assert other.encode(carried) == data
    assert type(knowing.decode(other.encode(carried))[3]) is Mine


def test_opaque_value_may_be_in_a_set_or_a_key() -> None:
    class Mine(str):
        pass

    knowing, other = Codec(TypeRegistry([Mine])), Codec()
    data = knowing.encode([{Mine("a"), Mine("b")}, {Mine("k"): 1}])

    assert other.encode(other.decode(data, opaque=True)) == data


def test_opaque_carries_payloads_that_nest_too_deeply() -> None:
    codec = Codec()
    data = nested_extensions(200, 1)

    with pytest.raises(SerializationError, match="nest"):
        codec.decode(data)
    assert codec.encode(codec.decode(data, opaque=True)) == data


def test_constructor_is_not_run_when_reading() -> None:
    class Loud:
        def __init__(self) -> None:
            raise AssertionError("must not run")

        def __setstate__(self, state: object) -> None:
            raise AssertionError("must not run")

    types = TypeRegistry()
    types.register(Loud, name="app:Loud", encode=lambda value: None, decode=lambda content: "made by decode")

    assert Codec(types).decode(extension(rules.NAMED, ["app:Loud", None])) == "made by decode"


def test_big_integers_are_not_read_from_digits() -> None:
    """Python limits reading integers from text; ours are bytes, so no size is refused."""
    value = 1 << 200_000

    assert again(value) == value
