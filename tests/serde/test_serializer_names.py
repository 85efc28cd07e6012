"""The field's names for serializers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from clew.checkpoint.serde.base import SerializerCompat, SerializerProtocol, maybe_add_typed_methods
from clew.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from clew.checkpoint.serde.jsonplus import JsonPlusSerializer
from clew.checkpoint.serde.types import ERROR, INTERRUPT, RESUME, SCHEDULED, TASKS, SendProtocol
from clew.errors import CorruptRecordError, SerializationError
from clew.types import Send


@dataclass
class Known:
    a: int

    @dataclass
    class Inside:
        b: int


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (None, "null"),
        (b"x", "bytes"),
        (bytearray(b"x"), "bytearray"),
        ("text", "msgpack"),
        ({"a": (1, {2})}, "msgpack"),
        ([b"x", bytearray(b"y"), None], "msgpack"),
    ],
    ids=ascii,
)
def test_value_and_type_tag_come_back(value: object, tag: str) -> None:
    serializer = JsonPlusSerializer()

    typed = serializer.dumps_typed(value)

    assert typed[0] == tag
    restored = serializer.loads_typed(typed)
    assert (type(restored), restored) == (type(value), value)


def test_class_is_allowed_as_itself_or_by_name() -> None:
    for allowed in (Known, (__name__, "Known")):
        serializer = JsonPlusSerializer(allowed_msgpack_modules=[allowed])

        assert serializer.loads_typed(serializer.dumps_typed(Known(1))) == Known(1)
    nested = JsonPlusSerializer().with_msgpack_allowlist([(__name__, "Known.Inside")])
    assert nested.loads_typed(nested.dumps_typed(Known.Inside(1))) == Known.Inside(1)
    assert nested.with_msgpack_allowlist([]) is nested


def test_other_classes_are_refused_on_both_sides() -> None:
    allowing, strict = JsonPlusSerializer(allowed_msgpack_modules=[Known]), JsonPlusSerializer()

    with pytest.raises(SerializationError, match=r"Known' cannot be stored \(at \['k'\]\)"):
        strict.dumps_typed({"k": Known(1)})
    with pytest.raises(SerializationError, match="Known', which is not known here"):
        strict.loads_typed(allowing.dumps_typed(Known(1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pickle_fallback": True}, "pickle_fallback=True is refused: loading pickled bytes runs whatever code"),
        ({"allowed_msgpack_modules": True}, "allowed_msgpack_modules=True is refused: it would let stored bytes"),
        ({"allowed_msgpack_modules": [("antigravity", "fly")]}, "names 'antigravity.fly', which is not an imported"),
        ({"allowed_msgpack_modules": [("os", "system")]}, "names 'os.system', which is not an imported class"),
    ],
    ids=["pickle", "all", "not imported", "not a class"],
)
def test_unsafe_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        JsonPlusSerializer(**arguments)

    assert message in str(caught.value)


def test_listener_hears_of_refused_classes_until_it_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    typed = JsonPlusSerializer(allowed_msgpack_modules=[Known]).dumps_typed(Known(1))
    heard: list[SerdeEvent] = []

    def failing(event: SerdeEvent) -> None:
        raise RuntimeError("listener")

    stop_failing = register_serde_event_listener(failing)
    stop = register_serde_event_listener(heard.append)
    try:
        with pytest.raises(SerializationError):
            JsonPlusSerializer().loads_typed(typed)
    finally:
        stop_failing()
        stop()
    with pytest.raises(SerializationError):
        JsonPlusSerializer().loads_typed(typed)

    assert heard == [{"kind": "msgpack_blocked", "module": __name__, "name": "Known"}]
    assert "a listener for serializer events failed" in caplog.text


@pytest.mark.parametrize("tag", ["pickle", "json", "msgpack+aes"])
def test_bytes_of_other_serializers_are_refused(tag: str) -> None:
    with pytest.raises(SerializationError, match="cannot be read") as caught:
        JsonPlusSerializer().loads_typed((tag, pickle.dumps([1])))

    assert caught.value.hint is not None
    assert "written by another serializer" in caught.value.hint


def test_damaged_bytes_are_a_typed_error() -> None:
    with pytest.raises(CorruptRecordError):
        JsonPlusSerializer().loads_typed(("msgpack", b"\xc1"))


def test_json_setting_is_accepted_and_settings_read_back() -> None:
    serializer = JsonPlusSerializer(pickle_fallback=False, allowed_json_modules=[("a", "b")])

    assert serializer.pickle_fallback is False
    assert isinstance(serializer, SerializerProtocol)


def test_untyped_serializer_is_seen_as_typed() -> None:
    class Reverse:
        def dumps(self, obj: Any) -> bytes:
            return obj.encode()[::-1]

        def loads(self, data: bytes) -> Any:
            return data[::-1].decode()

    serializer = maybe_add_typed_methods(Reverse())

    assert isinstance(serializer, SerializerCompat)
    assert serializer.dumps_typed("ab") == ("str", b"ba")
    assert serializer.loads_typed(("str", b"ba")) == "ab"
    assert maybe_add_typed_methods(serializer) is serializer


def test_names_of_writes_are_what_savers_expect() -> None:
    assert (ERROR, INTERRUPT, RESUME, SCHEDULED, TASKS) == (
        "__error__",
        "__interrupt__",
        "__resume__",
        "__scheduled__",
        "__pregel_tasks",
    )
    assert isinstance(Send("n", 1), SendProtocol)
