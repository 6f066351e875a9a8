"""The fields of the bodies in the OpenAPI document, and bodies with a made-up value in one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Path = tuple[str, ...]

HERE = "the value comes here"
SOURCE = {"size_bytes": 1000, "duration_s": 1.0, "width": 100, "height": 100}
JOB = {"sources": [{"url": "https://example.com/a.mp4"}], "variations": 1}
BODIES: Mapping[str, dict[str, Any]] = {
    "/api/jobs": JOB,
    "/api/batches": JOB,
    "/api/quote": {"sources": [SOURCE], "variations": 1},
    "/api/uploads": {"name": "a.mp4", "size_bytes": 1, "content_type": "video/mp4"},
    "/api/uploads/{upload_id}/complete": {"parts": [{"number": 1, "etag": "x"}]},
}


def fields(schema: Mapping[str, Any], known: Mapping[str, Any], *kinds: str, at: Path = ()) -> set[Path]:
    """Return the path of each field of one of these types; `[]` is the first of a list."""
    if "$ref" in schema:
        return fields(known[schema["$ref"].rpartition("/")[2]], known, *kinds, at=at)
    inner = [(at, each) for kind in ("anyOf", "oneOf", "allOf") for each in schema.get(kind, ())]
    inner += [((*at, name), each) for name, each in schema.get("properties", {}).items()]
    inner += [((*at, "[]"), schema["items"])] if "items" in schema else []
    found = {path for place, each in inner for path in fields(each, known, *kinds, at=place)}
    return found | ({at} if schema.get("type") in kinds else set())


def with_value(body: Any, path: Path, written: str) -> str:
    """Return the body as JSON with the value, as it is written, at the path."""
    body = inner = json.loads(json.dumps(body))
    for step in path[:-1]:
        inner = inner[0] if step == "[]" else inner.setdefault(step, [None])
    inner[0 if path[-1] == "[]" else path[-1]] = HERE
    return json.dumps(body).replace(json.dumps(HERE), written)
