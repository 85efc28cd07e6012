"""What a serializer is to a saver: typed bytes out, and the value back."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = (
    "CipherProtocol",
    "SerializerCompat",
    "SerializerProtocol",
    "UntypedSerializerProtocol",
    "maybe_add_typed_methods",
)


class UntypedSerializerProtocol(Protocol):
    """Values to bytes and back, where the bytes alone say what they are."""

    def dumps(self, obj: Any) -> bytes:
        """The bytes of `obj`."""
        ...

    def loads(self, data: bytes) -> Any:
        """The value that `dumps` was given."""
        ...


@runtime_checkable
class SerializerProtocol(Protocol):
    """Values to a pair of type tag and bytes, and back. The tag is stored beside the bytes."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The type tag and the bytes of `obj`."""
        ...

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value that `dumps_typed` was given."""
        ...


class SerializerCompat(SerializerProtocol):
    """An untyped serializer seen as a typed one: the tag is the name of the value's class, and is not used."""

    def __init__(self, serde: UntypedSerializerProtocol) -> None:
        self.serde = serde

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return type(obj).__name__, self.serde.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return self.serde.loads(data[1])


def maybe_add_typed_methods(serde: SerializerProtocol | UntypedSerializerProtocol) -> SerializerProtocol:
    """`serde` itself if it is typed, else the same seen through `SerializerCompat`."""
    return serde if isinstance(serde, SerializerProtocol) else SerializerCompat(serde)


class CipherProtocol(Protocol):
    """Authenticated encryption of serialized values."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """The cipher's name and the ciphertext."""
        ...

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """The plaintext; raises if the ciphertext was changed."""
        ...
