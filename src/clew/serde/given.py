"""What a caller gave as `serde=`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clew.serde.codec import Codec

if TYPE_CHECKING:
    from clew.serde.keys import KeyRing


def codec_and_keys(serde: Any) -> tuple[Codec | None, KeyRing | None]:
    """The codec and the keys of a Codec, a JsonPlusSerializer or an EncryptedSerializer; each None where there is none.

    Raises TypeError for anything else.
    """
    keys: KeyRing | None = getattr(serde, "keys", None)
    codec = getattr(serde, "codec", serde)
    if codec is None or isinstance(codec, Codec):
        return codec, keys
    raise TypeError(
        f"serde is a {type(codec).__name__}, neither a clew.serde.Codec nor a JsonPlusSerializer nor an"
        " EncryptedSerializer; register classes with clew.serde.register"
    )
