"""NumPy arrays and scalars, of any dtype whose items are bytes in place (so none of Python objects).

Kept: dtype with byte order and field layout, shape, C or Fortran order. NumPy is imported only when a value of it
exists, or when bytes hold one.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, cast

from clew.serde import rules
from clew.serde.rules import Pack, Refused, Rule


def writer(cls: type) -> Rule | None:
    """The rule for `numpy.ndarray` itself and NumPy's scalar types; None for others, as subclasses of ndarray."""
    import numpy as np  # late: optional dependency, loaded if a value of it exists

    if cls is np.ndarray:
        return reader(rules.ARRAY)
    if issubclass(cls, np.generic):
        return reader(rules.SCALAR)
    return None


@cache
def reader(code: int) -> Rule:
    """The rule for the code of an array or a scalar; `Refused` if NumPy is not installed."""
    try:
        importlib.import_module("numpy")  # late: optional dependency
    except ImportError as error:
        raise Refused(
            "stored bytes hold a numpy array, and numpy is not installed", hint="install it with: pip install numpy"
        ) from error
    if code == rules.ARRAY:
        return Rule(code, _array_content, _array)
    return Rule(code, _scalar_content, _scalar)


def _array_content(value: Any, pack: Pack) -> Any:
    is_fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    order = "F" if is_fortran else "C"
    return [_dtype_content(value.dtype), [*value.shape], order, value.tobytes(order)]


def _array(content: Any) -> Any:
    import numpy as np  # late: optional dependency

    description, shape, order, data = content
    dtype = _dtype(description)
    if dtype.itemsize == 0:
        return np.empty(shape, dtype, order=order) if not data else _refuse_size()
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order=order)  # a bytearray, so that it can be written


def _scalar_content(value: Any, pack: Pack) -> Any:
    return [_dtype_content(value.dtype), value.tobytes()]


def _scalar(content: Any) -> Any:
    import numpy as np  # late: optional dependency

    description, data = content
    dtype = _dtype(description)
    if dtype.itemsize == 0:
        return dtype.type()
    if len(data) != dtype.itemsize:
        _refuse_size()
    return np.frombuffer(data, dtype)[0]


def _dtype_content(dtype: Any) -> Any:
    """A description of `dtype` in plain types: NumPy's type string, or the fields with their places."""
    if dtype.hasobject or dtype.kind in "TO" or not (dtype.isbuiltin == 1 or dtype.kind in "VMmSUfiucb"):
        raise Refused(
            f"a numpy array of dtype {str(dtype)!r} cannot be stored", hint="convert it to a list, or to a fixed dtype"
        )
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _dtype_content(base), "shape": [*shape]}
    if dtype.names is None:
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names]
    return {
        "names": [*dtype.names],
        "formats": [_dtype_content(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": [field[2] if len(field) > 2 else None for field in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _dtype(description: Any) -> Any:
    import numpy as np  # late: optional dependency

    if isinstance(description, str):
        dtype = np.dtype(description)
    elif "base" in description:
        dtype = np.dtype((_dtype(description["base"]), tuple(description["shape"])))
    else:
        parts = {**description, "formats": [_dtype(item) for item in description["formats"]]}
        is_aligned = parts.pop("aligned")
        dtype = np.dtype(cast("Any", parts), align=cast("Any", is_aligned))
    if dtype.hasobject:
        raise Refused("stored bytes hold a numpy array of Python objects, which is never restored")
    return dtype


def _refuse_size() -> Any:
    raise Refused("a stored numpy value does not have the size its dtype says")
