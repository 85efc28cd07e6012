"""NumPy arrays and scalars, of every dtype whose items are bytes in place."""

from __future__ import annotations

import numpy as np
import pytest

from clew.errors import SerializationError
from clew.serde import Codec
from tests.serde.exact import again

_ALIGNED = np.dtype([("a", "i1"), ("b", "f8")], align=True)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).astype(dtype).reshape(2, 3)
        for dtype in ("i1", "<u2", ">i4", "u8", "f2", "f4", ">f8", "c8", "c16", "?", "g")
    ]
    + [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(10)[::-2],
        np.array(5),
        np.array(["a", "longer"]),
        np.array([b"a", b"bc"]),
        np.array(["", ""], dtype="U0"),
        np.empty((0, 3)),
        np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
        np.array([1, 2], dtype="m8[ns]"),
        np.array([(1, 2.5)], dtype=_ALIGNED),
        np.array([(1, (2, 3))], dtype=[("a", ">i4"), ("b", "i2", (2,))]),
        np.array([np.nan, -0.0, np.inf]),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}-{array.strides}",
)
def test_array_keeps_dtype_shape_and_order(array: np.ndarray) -> None:
    restored = again({"a": [array]})["a"][0]

    assert (restored.dtype, restored.shape) == (array.dtype, array.shape)
    assert restored.tobytes() == array.tobytes()
    if array.flags.f_contiguous or array.flags.c_contiguous:
        assert restored.flags.f_contiguous == array.flags.f_contiguous
    assert restored.flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64(1.5),
        np.float32(-0.0),
        np.int8(-1),
        np.bool_(True),
        np.str_("text"),
        np.bytes_(b"x"),
        np.complex64(1j),
        np.datetime64("2020-01-01T00:00"),
        np.timedelta64(5, "s"),
        np.array([(1, 2.5)], dtype=_ALIGNED)[0],
    ],
    ids=repr,
)
def test_scalar_keeps_its_type(scalar: np.generic) -> None:
    restored = again([scalar])[0]

    assert type(restored) is type(scalar)
    assert (restored.dtype, restored.tobytes()) == (scalar.dtype, scalar.tobytes())


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.array([{}]), "object"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "StringDType()"),
        (np.zeros(1, dtype=[("a", "O")]), "[('a', 'O')]"),
    ],
    ids=["object", "string", "field"],
)
def test_array_of_python_objects_is_refused_with_its_path(array: np.ndarray, name: str) -> None:
    with pytest.raises(SerializationError) as caught:
        Codec().encode({"rows": [array]})

    assert str(caught.value) == f"a numpy array of dtype {name!r} cannot be stored (at ['rows'][0])"
    assert caught.value.hint == "convert it to a list, or to a fixed dtype"


def test_array_subclass_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"numpy\.ma\.(core\.)?MaskedArray"):
        Codec().encode(np.ma.array([1]))


@pytest.mark.parametrize(
    "payload",
    [
        ["|O", [1], "C", b"\0" * 8],
        ["<f8", [2**40], "C", b"\0" * 8],
        ["<f8", [3], "C", b"\0" * 8],
        ["nonsense", [1], "C", b""],
        ["<U0", [2**60], "C", b"x"],
        ["<f8", [1], "C"],
        {"names": []},
    ],
    ids=ascii,
)
def test_forged_array_is_a_typed_error(payload: object) -> None:
    import ormsgpack

    from clew.serde import rules

    data = ormsgpack.packb(ormsgpack.Ext(rules.ARRAY, ormsgpack.packb(payload)))

    with pytest.raises(SerializationError):
        Codec().decode(data)
