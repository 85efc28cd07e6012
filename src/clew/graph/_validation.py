"""Checking what is written to a pydantic state: each written field is validated after its reducer.

Invariant: the stored value stays as written; validation only refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from clew.errors import InvalidUpdateError


class FieldValidator:
    """Validates one field at a time against its annotation and constraints, in the model's own mode."""

    def __init__(self, schema: type[BaseModel]) -> None:
        self._schema = schema
        self._adapters: dict[str, TypeAdapter[Any]] = {}

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InvalidUpdateError` when `value` is not valid for field `name`; unknown fields pass."""
        field = self._schema.model_fields.get(name)
        if field is None:
            return
        adapter = self._adapters.get(name)
        if adapter is None:
            adapter = self._adapters[name] = self._adapter(field)
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = "".join(f"[{part!r}]" for part in first["loc"])
            raise InvalidUpdateError(
                f"the value written to field '{name}'{place} is not valid for {self._schema.__name__}: {first['msg']}",
                hint=f"got {value!r}",
            ) from error

    def _adapter(self, field: Any) -> TypeAdapter[Any]:
        annotation: Any = field.annotation
        if field.metadata:
            kept = [
                item for item in field.metadata if not callable(item) or hasattr(item, "__get_pydantic_core_schema__")
            ]
            for item in kept:
                annotation = Annotated[annotation, item]
        config = cast("Mapping[str, Any]", self._schema.model_config)
        own = {key: config[key] for key in ("arbitrary_types_allowed", "strict") if key in config}
        try:
            return TypeAdapter(annotation, config=own or None)  # pyright: ignore[reportArgumentType] - a subset of ConfigDict
        except Exception:
            return TypeAdapter(annotation)  # a model's own config cannot be overridden
