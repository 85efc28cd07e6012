"""Classes of the user's own: exact, without running their code, and tolerant of what changed since."""

from __future__ import annotations

import enum
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field, make_dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from pydantic import (
    AnyUrl,
    BaseModel,
    ConfigDict,
    HttpUrl,
    PostgresDsn,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    field_validator,
)
from pydantic import v1 as old_pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from clew.errors import SerializationError
from clew.serde import Codec, TypeRegistry, register
from tests.serde.exact import again


class Colour(enum.Enum):
    RED = 1
    ALIAS = 1  # noqa: PIE796 - an alias on purpose
    ODD = (1, 2)


class Word(str, enum.Enum):  # noqa: UP042 - the older spelling, as users write it
    YES = "yes"


class Number(enum.IntEnum):
    ONE = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int = 0


Pair = namedtuple("Pair", "left right")


class LoosePoint(Point):
    """Without slots: its instances have a __dict__."""


@dataclass
class Plain:
    name: str
    tags: list[str] = field(default_factory=list)
    derived: str = field(init=False)
    never_set: int = field(init=False)
    _note: str = "n"

    def __post_init__(self) -> None:
        self.derived = self.name.upper()
        self.count = 1  # an attribute that is no field

    @cached_property
    def length(self) -> int:
        return len(self.name)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: Frozen | None = None


@dataclass(slots=True)
class SlottedChild(Plain):
    extra: int = 0


class Model(BaseModel):
    a: int
    b: str = "default"
    nested: Model | None = None
    _secret: dict[str, int] = PrivateAttr(default_factory=dict)

    @field_validator("a")
    @classmethod
    def is_small(cls, value: int) -> int:
        if value > 100:
            raise ValueError("too large")
        return value


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    a: int = 0


class Numbers(RootModel[list[int]]):
    pass


class OldModel(old_pydantic.BaseModel):
    a: int
    b: str = "b"


class Text(str):
    pass


class TaggedText(str):
    tag: str


class Count(int):
    pass


class Items(list[int]):
    pass


class Table(dict[str, int]):
    pass


class Bag(Counter[str]):
    pass


class Lists(defaultdict[str, list[int]]):
    pass


class Ordered(OrderedDict[str, int]):
    pass


class Window(deque[int]):
    pass


class Unique(set[int]):
    pass


class Buffer(bytearray):
    pass


class Thing:
    """A plain object whose constructor must not run again."""

    __slots__ = ("__dict__", "__private", "first", "unset")

    def __init__(self, first: int, /) -> None:
        self.first = first
        self.__private = "p"
        self.second = [first]

    def private(self) -> str:
        return self.__private

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


CLASSES = [
    *(Colour, Word, Number, Rights, Point, Pair, LoosePoint, Plain, Frozen, SlottedChild, Model, Open, Numbers),
    *(OldModel, Text, TaggedText, Count, Items, Table, Bag, Lists, Ordered, Window, Unique, Buffer, Thing),
]
CODEC = Codec(TypeRegistry(CLASSES))


@pytest.mark.parametrize(
    "value",
    [
        *(Colour.RED, Colour.ODD, Word.YES, Number.ONE, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)),
        *(Point(1), Point(1, 2), Pair([1], {}), LoosePoint(3), Frozen(1, Frozen(2)), Model(a=1), Open(a=1, more=[1])),
        *(Numbers([1, 2]), Text("t"), Count(2**80), Items([1]), Table(a=1), Bag("aab"), Ordered(b=1, a=2)),
        *(Window([1, 2], 2), Unique({1}), Buffer(b"x")),
    ],
    ids=ascii,
)
def test_instance_comes_back_as_its_class(value: Any) -> None:
    restored = again([value, {"k": value}, [value]], CODEC)[0]

    assert type(restored) is type(value)
    assert restored == value


@pytest.mark.parametrize("member", [Colour.RED, Word.YES, Number.ONE])
def test_enum_member_is_the_same_object(member: enum.Enum) -> None:
    assert again(member, CODEC) is member


def test_str_enum_is_a_key_again() -> None:
    restored = again({Word.YES: 1, "no": 2}, CODEC)

    assert [type(key) for key in restored] == [Word, str]


def test_dataclass_keeps_all_attributes_and_runs_no_code() -> None:
    value = Plain("ada", ["x"])
    value.derived = "changed"
    assert value.length == 3

    restored = again(value, CODEC)

    assert (restored.name, restored.tags, restored.derived, restored.count) == ("ada", ["x"], "changed", 1)
    assert not hasattr(restored, "never_set")
    assert "length" not in vars(restored)


def test_slotted_child_of_a_plain_dataclass_keeps_both_parts() -> None:
    value = SlottedChild("ada", extra=7)

    restored = again(value, CODEC)

    assert (restored.name, restored.extra, restored.derived) == ("ada", 7, "ADA")


def test_model_is_stored_as_written_not_validated() -> None:
    value = Model(a=1, nested=Model(a=2, b="set"))
    value._secret["k"] = 1
    object.__setattr__(value, "__dict__", {**value.__dict__, "a": 1000})

    restored = again(value, CODEC)

    assert restored.a == 1000
    assert restored.nested == value.nested
    assert restored._secret == {"k": 1}


def test_model_remembers_which_fields_were_set() -> None:
    restored = again([Model(a=1), Model(a=1, b="default"), Open(a=1, more=2), Open()], CODEC)

    assert [model.model_fields_set for model in restored] == [{"a"}, {"a", "b"}, {"a", "more"}, set()]
    assert restored[2].model_extra == {"more": 2}


@pytest.mark.parametrize(
    "value",
    [
        SecretStr("s"),
        SecretBytes(b"s"),
        AnyUrl("https://example.org/a?b=c"),
        HttpUrl("http://example.org"),
        PostgresDsn("postgresql://u:p@host1:1,host2:2/db"),
    ],
    ids=ascii,
)
def test_value_types_of_pydantic_are_always_known(value: object) -> None:
    restored = again({"v": value})["v"]

    assert type(restored) is type(value)
    assert restored == value


def test_pydantic_dataclass_comes_back() -> None:
    @pydantic_dataclass
    class Validated:
        a: int
        b: list[int] = field(default_factory=list)

    restored = again(Validated(1, [2]), Codec(TypeRegistry([Validated])))

    assert restored == Validated(1, [2])


def test_old_style_model_comes_back() -> None:
    value = OldModel(a=1)

    restored = again(value, CODEC)

    assert type(restored) is OldModel
    assert restored == value
    assert restored.__fields_set__ == {"a"}


def test_builtin_subclass_keeps_its_attributes() -> None:
    text = TaggedText("body")
    text.tag = "t"

    restored = again(text, CODEC)

    assert (str(restored), restored.tag) == ("body", "t")


def test_plain_object_keeps_slots_and_attributes() -> None:
    restored = again(Thing(1), CODEC)

    assert (restored.first, restored.second, restored.private()) == (1, [1], "p")
    assert not hasattr(restored, "unset")


def test_lists_subclass_keeps_its_factory() -> None:
    value = Lists(list, a=[1])

    assert again(value, CODEC).default_factory is list


@pytest.mark.parametrize(
    "value", [Text("t"), Count(1), Items(), Table(), Colour.RED, Point(1), Frozen(1), Model(a=1)], ids=ascii
)
def test_unknown_class_is_refused_with_the_registering_call(value: object) -> None:
    name = type(value).__name__

    with pytest.raises(SerializationError) as caught:
        Codec().encode(["ok", value])

    assert str(caught.value) == f"a value of type '{type(value).__module__}.{name}' cannot be stored (at [1])"
    assert caught.value.path == "[1]"
    assert caught.value.hint == f"make it known with clew.serde.register({name}), or name it in the graph's schema"


def test_registered_functions_store_a_class_their_way() -> None:
    class Celsius:
        def __init__(self, degrees: float) -> None:
            self.degrees = degrees

    types = TypeRegistry()
    types.register(Celsius, name="celsius", encode=lambda value: {"d": value.degrees}, decode=lambda c: Celsius(c["d"]))

    restored = again((Celsius(1.5),), Codec(types))

    assert restored[0].degrees == 1.5


def test_failing_encode_function_is_named() -> None:
    types = TypeRegistry()

    def fail(value: object) -> object:
        raise LookupError("no such key")

    types.register(Thing, encode=fail, decode=lambda content: content)

    with pytest.raises(SerializationError, match="its encode function failed: no such key") as caught:
        Codec(types).encode({"a": Thing(1)})

    assert caught.value.path == "['a']"
    assert isinstance(caught.value.__cause__, LookupError)


def test_object_with_hidden_state_needs_functions() -> None:
    class Guarded(threading.local):
        pass

    with pytest.raises(SerializationError, match="from its attributes alone") as caught:
        Codec(TypeRegistry([Guarded])).encode(Guarded())

    assert caught.value.hint == "pass the two functions: clew.serde.register(Guarded, encode=..., decode=...)"


def test_object_with_its_own_pickling_needs_functions() -> None:
    class Own:
        def __reduce__(self) -> Any:
            raise AssertionError("must not be called")

    with pytest.raises(SerializationError, match="from its attributes alone"):
        Codec(TypeRegistry([Own])).encode(Own())


def _versions(before: type, after: type) -> tuple[Codec, Codec]:
    """A codec of the time before a class changed, and one after."""
    codecs = TypeRegistry(), TypeRegistry()
    codecs[0].register(before, name="app:Record")
    codecs[1].register(after, name="app:Record")
    return Codec(codecs[0]), Codec(codecs[1])


def test_gained_dataclass_field_takes_its_default() -> None:
    old = make_dataclass("Record", ["a"])
    new = make_dataclass("Record", ["a", ("b", int, 5), ("c", list, field(default_factory=list))])
    before, after = _versions(old, new)

    restored = after.decode(before.encode(old(1)))

    assert (restored.a, restored.b, restored.c) == (1, 5, [])


def test_gained_dataclass_field_without_default_is_a_clear_error() -> None:
    old, new = make_dataclass("Record", ["a"]), make_dataclass("Record", ["a", "b"])
    before, after = _versions(old, new)

    with pytest.raises(SerializationError, match="lacks the field 'b', which the class now requires") as caught:
        after.decode(before.encode(old(1)))

    assert caught.value.hint == "give the field a default"


def test_lost_slot_is_dropped() -> None:
    old, new = make_dataclass("Record", ["a", "b"], slots=True), make_dataclass("Record", ["a"], slots=True)
    before, after = _versions(old, new)

    assert after.decode(before.encode(old(1, 2))) == new(1)


def test_model_fields_may_come_and_go() -> None:
    class Old(BaseModel):
        a: int
        gone: int = 3

    class New(BaseModel):
        a: int
        gained: list[int] = []
        _private: int = PrivateAttr(default=9)

    before, after = _versions(Old, New)

    restored = after.decode(before.encode(Old(a=1)))

    assert restored.model_dump() == {"a": 1, "gained": []}
    assert restored.model_fields_set == {"a"}
    assert restored._private == 9


def test_named_tuple_may_gain_fields_with_defaults_only() -> None:
    old = namedtuple("Record", "a")
    new = namedtuple("Record", "a b", defaults=[2])
    before, after = _versions(old, new)

    assert after.decode(before.encode(old(1))) == new(1, 2)
    with pytest.raises(SerializationError, match="has 2 items, the class has 1"):
        before.decode(after.encode(new(1, 2)))


def test_lost_enum_member_is_a_clear_error() -> None:
    before, after = _versions(enum.Enum("Record", "A B"), enum.Enum("Record", "A"))
    member = next(iter(before.types.shape_named("app:Record").cls))  # pyright: ignore

    assert after.decode(before.encode(member)).name == "A"
    with pytest.raises(SerializationError, match="the stored enum member 'B' is not in"):
        after.decode(before.encode(before.types.shape_named("app:Record").cls["B"]))  # pyright: ignore


def test_registering_is_process_wide_and_seen_by_derived_registries() -> None:
    derived = Codec(TypeRegistry([Point], parent=None).extended([Pair]))
    codec = Codec()
    with pytest.raises(SerializationError):
        codec.encode(_Late())

    register(_Late)
    try:
        assert type(again(_Late(), codec)) is _Late
        assert type(again(Pair(1, Point(2)), derived)) is Pair
    finally:
        from clew.serde import default_registry

        default_registry._by_class.pop(_Late)
        default_registry._by_name.pop(f"{__name__}:_Late")


class _Late:
    pass


def test_extended_registry_is_the_same_for_the_same_types() -> None:
    base = TypeRegistry()

    assert base.extended([Point, Pair]) is base.extended([Pair, Point])
    assert base.extended([]) is base
    assert Point not in base


def test_two_known_classes_of_one_name_are_refused_when_stored() -> None:
    twins = [type("Twin", (), {}), type("Twin", (), {})]
    codec = Codec(TypeRegistry(twins))

    with pytest.raises(SerializationError, match="several known classes have this name"):
        codec.encode(twins[0]())


def test_taken_name_is_refused_and_a_redefinition_is_not() -> None:
    types = TypeRegistry()
    types.register(Point, name="p")

    with pytest.raises(ValueError, match="the name 'p' is taken by the class"):
        types.register(Pair, name="p")
    first, second = (type("Again", (), {"__module__": "m"}) for _ in range(2))
    types.register(first)
    types.register(second)
    assert first not in types
    assert second in types


def test_half_a_pair_of_functions_is_refused() -> None:
    with pytest.raises(ValueError, match="needs both encode= and decode="):
        TypeRegistry().register(Point, encode=list)


def test_register_is_a_decorator() -> None:
    from clew.serde import default_registry

    @register(name="tests:Decorated")
    class Decorated:
        pass

    try:
        assert Decorated in default_registry
    finally:
        default_registry._by_class.pop(Decorated)
        default_registry._by_name.pop("tests:Decorated")


def test_stored_name_is_module_and_qualified_name() -> None:
    assert f"{sys.modules[__name__].__name__}:Point".encode() in CODEC.encode(Point(1))
