"""Vectors and how close they are.

Vectors are float32 in the machine's little-endian packing everywhere, so that every backend and every path gives the
same scores; scores are computed in float64 and rounded to 12 digits, so that the order does not depend on the path.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, assert_never

from clew.store.base.embed import StoreConfigError

Metric = Literal["cosine", "l2", "inner_product"]
Scores = Callable[[bytes, Sequence[bytes], Metric], list[float]]

_DIGITS = 12


def pack_vector(vector: Sequence[float], dims: int) -> bytes:
    """The vector as float32.

    Raises:
        StoreConfigError: It does not have `dims` numbers, or not only finite ones.
    """
    if len(vector) != dims:
        raise StoreConfigError(
            f"the embedding function gave a vector of {len(vector)} numbers, the index has {dims}",
            hint="set 'dims' of the index to the length of the model's vectors",
        )
    try:
        packed = struct.pack(f"<{dims}f", *vector)
    except (struct.error, OverflowError) as error:
        raise StoreConfigError("the embedding function gave a vector with a value float32 cannot hold") from error
    if not all(map(math.isfinite, vector)):
        raise StoreConfigError("the embedding function gave a vector with a value that is not finite")
    return packed


def scores(query: bytes, vectors: Sequence[bytes], metric: Metric) -> list[float]:
    """How close each vector is to the query; higher is closer. All have the same length.

    Cosine similarity (0 where a vector is zero), the negative L2 distance, or the dot product.
    """
    if not vectors:
        return []
    compute = _numpy_scores if _numpy() is not None else python_scores
    return [round(score, _DIGITS) for score in compute(query, vectors, metric)]


def python_scores(query: bytes, vectors: Sequence[bytes], metric: Metric) -> list[float]:
    """The scores without NumPy."""
    unpack = struct.Struct(f"<{len(query) // 4}f").unpack
    wanted = unpack(query)
    length = math.hypot(*wanted)
    found: list[float] = []
    for packed in vectors:
        vector = unpack(packed)
        match metric:
            case "cosine":
                norm = length * math.hypot(*vector)
                found.append(math.fsum(map(float.__mul__, wanted, vector)) / norm if norm else 0.0)
            case "l2":
                found.append(-math.dist(wanted, vector))
            case "inner_product":
                found.append(math.fsum(map(float.__mul__, wanted, vector)))
            case _:
                assert_never(metric)
    return found


def _numpy_scores(query: bytes, vectors: Sequence[bytes], metric: Metric) -> list[float]:
    np = _numpy()
    wanted = np.frombuffer(query, dtype="<f4").astype("f8")
    matrix = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1).astype("f8")
    match metric:
        case "cosine":
            norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(wanted)
            return np.divide(matrix @ wanted, norms, out=np.zeros(len(vectors)), where=norms != 0).tolist()
        case "l2":
            return (-np.linalg.norm(matrix - wanted, axis=1)).tolist()
        case "inner_product":
            return (matrix @ wanted).tolist()
        case _:
            assert_never(metric)


@cache
def _numpy() -> Any:
    try:
        import numpy as np  # late: optional, and slow to import
    except ImportError:
        return None
    return np
