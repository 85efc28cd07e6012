"""JSON Schemas of what a graph takes and gives, for tools and user interfaces. Needs pydantic."""

from __future__ import annotations

from typing import Any, cast

from clew.errors import MissingExtraError
from clew.graph._schema import ROOT, is_pydantic


def schema_json(builder: Any, schema: Any, name: str) -> dict[str, Any]:
    """The JSON Schema of one of a graph's schemas."""
    try:
        from pydantic import TypeAdapter, create_model  # late: only tools ask for it
    except ImportError as error:
        raise MissingExtraError("a graph's JSON Schema", "langchain") from error

    if is_pydantic(schema):
        return schema.model_json_schema()
    if hasattr(schema, "__total__") and hasattr(schema, "__required_keys__"):
        return TypeAdapter(schema).json_schema()
    read = builder.schema(schema)
    if list(read.channels) == [ROOT]:
        return {**TypeAdapter(read.channels[ROOT].UpdateType).json_schema(), "title": name}
    fields = {key: (channel.UpdateType, None) for key, channel in read.channels.items()}
    return cast("Any", create_model)(name, **fields).model_json_schema()  # the fields are made at run time
