"""Namespaces: the paths that items live under, as tuples of labels.

Invariants: a namespace is never joined into one string that could be split in another way, so ("a", "bc") and
("ab", "c") can never meet; and a prefix matches whole labels only, so ("acme",) never finds ("acme-corp",).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from clew.errors import StorageError

Namespace = tuple[str, ...]

NamespacePath = tuple[str, ...]
"""A namespace to match against, in which the label "*" stands for any one label."""

NamespaceMatchType = Literal["prefix", "suffix"]
"""Whether a `MatchCondition` looks at the first or at the last labels of a namespace."""

RESERVED_ROOTS = frozenset({"langgraph", "clew"})
_WILDCARD = "*"
_END = b"\x00"  # ends every encoded label; labels never hold it
_AFTER_END = b"\x01"
_AFTER_ALL = b"\xff"  # no byte of UTF-8 reaches it


class InvalidNamespaceError(StorageError, ValueError):
    """A namespace is empty, has a reserved first label, or has a label that is not a plain non-empty string."""


class MatchCondition(NamedTuple):
    """One condition on the namespaces that `ListNamespacesOp` lists."""

    match_type: NamespaceMatchType
    """Which end of the namespace `path` is compared with."""
    path: NamespacePath
    """The labels to find there; "*" matches any one label."""


def validate_namespace(namespace: Sequence[str]) -> Namespace:
    """Check a namespace that an item is to be stored under, and give it as a tuple.

    Raises:
        InvalidNamespaceError: It is empty, its first label is reserved, or a label is not allowed.
    """
    labels = validate_labels(namespace)
    if not labels:
        raise InvalidNamespaceError(
            "the namespace of an item is empty", hint="give at least one label, such as ('memories',)"
        )
    if labels[0] in RESERVED_ROOTS:
        raise InvalidNamespaceError(
            f"the first label of namespace {labels!r} is reserved", hint="start the namespace with another label"
        )
    return labels


def validate_labels(namespace: Sequence[str]) -> Namespace:
    """Check the labels of a namespace or of a prefix (which may be empty), and give them as a tuple.

    Raises:
        InvalidNamespaceError: A label is not a string, is empty, or holds a period or a NUL character.
    """
    if isinstance(namespace, str):
        raise InvalidNamespaceError(
            f"the namespace {namespace!r} is a string, not a tuple of labels", hint=f"write ({namespace!r},)"
        )
    labels = tuple(namespace)
    try:
        return _checked(labels)
    except TypeError:  # a label that cannot even be hashed
        return _check(labels)


def _check(labels: Namespace) -> Namespace:
    for label in labels:
        fault = _fault(label)
        if fault is not None:
            raise InvalidNamespaceError(
                f"the label {label!r} of namespace {labels!r} {fault}",
                hint="labels are non-empty strings without '.' and NUL",
            )
    return labels


_checked = lru_cache(maxsize=4096)(_check)  # programs use few namespaces, again and again


def _fault(label: object) -> str | None:
    if not isinstance(label, str):
        return f"is of type {type(label).__name__}"
    if not label:
        return "is empty"
    if "." in label:
        return "contains a period"
    return "contains a NUL character" if "\x00" in label else None


@lru_cache(maxsize=4096)
def encode_namespace(namespace: Namespace) -> bytes:
    """Bytes that sort as the namespace does, and start with the bytes of exactly its prefixes.

    Every label is ended by NUL, which no label holds; lone surrogates are kept.
    """
    return b"".join(label.encode("utf-8", "surrogatepass") + _END for label in namespace)


@lru_cache(maxsize=4096)
def decode_namespace(encoded: bytes) -> Namespace:
    """The namespace that `encode_namespace` made the bytes from."""
    return tuple(label.decode("utf-8", "surrogatepass") for label in encoded.split(_END)[:-1])


def namespace_range(prefix: Namespace) -> tuple[bytes, bytes]:
    """The half-open range of encoded namespaces that are `prefix` or lie under it."""
    encoded = encode_namespace(prefix)
    return encoded, encoded[:-1] + _AFTER_END if encoded else _AFTER_ALL


def literal_prefix(conditions: Sequence[MatchCondition]) -> Namespace:
    """The longest namespace under which everything lies that can match `conditions`."""
    longest: Namespace = ()
    for condition in conditions:
        if condition.match_type == "prefix":
            path = condition.path
            literal = path[: path.index(_WILDCARD)] if _WILDCARD in path else path
            longest = max(longest, tuple(literal), key=len)
    return longest


def namespace_matcher(conditions: Sequence[MatchCondition]) -> Callable[[Namespace], bool]:
    """A function that tells whether a namespace meets every condition."""
    return lambda namespace: all(_matches(condition, namespace) for condition in conditions)


def _matches(condition: MatchCondition, namespace: Namespace) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    labels = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(expected in (_WILDCARD, label) for expected, label in zip(path, labels, strict=True))
