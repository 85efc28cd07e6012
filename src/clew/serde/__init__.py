"""Values to bytes and back: exact, fast, and closed to types nobody named.

Use a `Codec` over a `TypeRegistry`; make a class of your own storable with `register`.
"""

from clew.serde._explain import relocated
from clew.serde.codec import Codec, default_codec
from clew.serde.exceptions import StoredError
from clew.serde.known import known_types
from clew.serde.opaque import Opaque
from clew.serde.registry import TypeRegistry, default_registry, register

__all__ = (
    "Codec",
    "Opaque",
    "StoredError",
    "TypeRegistry",
    "default_codec",
    "default_registry",
    "known_types",
    "register",
    "relocated",
)
