"""What a graph takes and gives, as pydantic models and JSON Schemas, for tools and user interfaces. Needs pydantic."""

from __future__ import annotations

from typing import Any, cast

from clew.errors import MissingExtraError
from clew.graph._schema import ROOT, is_pydantic


def schema_model(builder: Any, schema: Any, name: str) -> Any:
    """A pydantic model with the fields of one of a graph's schemas: the schema itself if it is one already."""
    create_model: Any = _pydantic().create_model
    if is_pydantic(schema):
        return schema
    channels = builder.schema(schema).channels
    if list(channels) == [ROOT]:
        root_model: Any = _pydantic().RootModel
        return create_model(name, __base__=root_model[channels[ROOT].UpdateType])
    return create_model(name, **{key: (channel.UpdateType, None) for key, channel in channels.items()})


def schema_json(builder: Any, schema: Any, name: str) -> dict[str, Any]:
    """The JSON Schema of one of a graph's schemas."""
    pydantic = _pydantic()
    if hasattr(schema, "__total__") and hasattr(schema, "__required_keys__"):
        try:
            return pydantic.TypeAdapter(schema).json_schema()
        except pydantic.PydanticUserError:
            pass  # before Python 3.12 pydantic takes only typing_extensions' TypedDict
    return cast("dict[str, Any]", schema_model(builder, schema, name).model_json_schema())


def _pydantic() -> Any:
    try:
        import pydantic  # late: only tools ask for it
    except ImportError as error:
        raise MissingExtraError("a graph's JSON Schema", "langchain") from error
    return pydantic
