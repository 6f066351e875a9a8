"""Answers of the API that are made up from the schema of their model: whole, whatever fields they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

AT = "2026-11-26T12:00:00Z"


def answer(model: type[BaseModel], **known: Any) -> dict[str, Any]:
    """Return an answer of this model with the known fields, and an example for each other field."""
    schema = model.model_json_schema(mode="serialization")
    return {**example(schema, schema.get("$defs", {})), **known}


def example(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, nulls: bool = True) -> Any:
    """Return a value of a JSON schema; `nulls`: null wherever it may be."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rpartition("/")[2]], definitions, nulls=nulls)
    if "anyOf" in schema:
        ways = [way for way in schema["anyOf"] if (way.get("type") == "null") is nulls] or schema["anyOf"]
        return example(ways[0], definitions, nulls=nulls)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object"):
        case "object":
            fields = schema.get("properties", {})
            return {name: example(field, definitions, nulls=nulls) for name, field in fields.items()}
        case "array":
            return [example(schema.get("items", {}), definitions, nulls=nulls)]
        case "string":
            return {"date-time": AT, "date": AT[:10]}.get(schema.get("format", ""), "text")
        case kind:
            return {"integer": 1, "number": 1.5, "boolean": True, "null": None}[kind]
