"""The reference of the API as one HTML page, made from the OpenAPI document. PURE.

It has no script and one style sheet, which the page's policy names by its hash. So it needs no build, no
package and no foreign origin, and nothing in the document can run in a browser. Swagger UI and Scalar bring
one to three megabytes of script and need a policy that allows inline styles.

One file, since it is one document from its head to its end.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
nav ul { columns: 18rem; padding-left: 1rem; }
section { border-top: 1px solid #8886; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
td { border-bottom: 1px solid #8883; }
pre { overflow-x: auto; padding: .75rem; background: #8881; border-radius: .4rem; }
code, pre { font: .9em ui-monospace, monospace; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEX = "0123456789abcdef0123456789abcdef"
_BY_NAME: Mapping[str, Any] = {  # what examples show for the fields of these names
    **{
        f"{noun}_id": f"{prefix}_{_HEX}"
        for noun, prefix in (("batch", "bat"), ("job", "job"), ("source", "src"))
    },
    "output_id": f"out_{_HEX}",
    "poster_output_id": f"out_{_HEX}",
    "poster_output_ids": f"out_{_HEX}",
    "upload_id": f"upl_{_HEX}",
    "attempt_id": f"job_{_HEX}-1",
    "name": "ad.mp4",
    "source_names": "ad.mp4",
    "url": "https://example.com/...",
    "status": "running",
    "state": "running",
    "percent": 45.0,
    "strength": 1.0,
    "cost_usd": 0.0123,
}
_INTERNAL = "runner"  # the tag of what machines call

Schema = Mapping[str, Any]


def with_summaries(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the first sentence that describes each operation as its summary."""
    for _, _, operation in _operations(document):
        text = operation.get("description", "")
        first, _, rest = text.partition("\n\n")
        operation["summary"] = " ".join(first.split())
        operation.pop("description", None)
        if rest:
            operation["description"] = rest
    return document


def page(document: Schema) -> str:
    """Return the page."""
    by_tag: dict[str, list[tuple[str, str, Schema]]] = defaultdict(list)
    for method, path, operation in _operations(document):
        if operation["tags"][0] != _INTERNAL:
            by_tag[operation["tags"][0]].append((method, path, operation))
    links = "".join(
        f"<h3>{escape(tag.capitalize())}</h3><ul>{''.join(map(_link, operations))}</ul>"
        for tag, operations in by_tag.items()
    )
    body = "".join(
        f"<h2>{escape(tag.capitalize())}</h2>{''.join(_section(document, *each) for each in operations)}"
        for tag, operations in by_tag.items()
    )
    listed = document["components"]["schemas"]["Code"]["enum"]
    codes = ", ".join(f"<code>{escape(code)}</code>" for code in listed)
    title = escape(f"{document['info']['title']} API {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>JSON over HTTP. <code>POST /api/auth</code> gives a token; send it as"
        " <code>Authorization: Bearer TOKEN</code>. The same reference for programs is"
        ' <a href="/openapi.json">/openapi.json</a>. Times are RFC 3339 in UTC, sizes bytes, durations'
        " seconds, money USD.</p><p>Every error has the body"
        ' <code>{"error": {"code": "...", "message": "..."}}</code> with one of these codes: '
        f"{codes}.</p><nav>{links}</nav>{body}</body></html>"
    )


def example(document: Schema, schema: Schema, name: str = "") -> Any:
    """Return a value that fits a schema: its own example, or one made from its parts."""
    if "$ref" in schema:
        return example(document, _resolved(document, schema), name)
    if "examples" in schema:
        return schema["examples"][0]
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return example(document, next(c for c in choices if c.get("type") != "null"), name)
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {key: example(document, each, key) for key, each in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [example(document, schema["items"], name)]
    return _simple(schema, name)


def _simple(schema: Schema, name: str) -> Any:
    kind = str(schema.get("type"))
    if name in _BY_NAME and kind in ("string", "number"):
        return _BY_NAME[name]
    if kind == "integer":
        return max(1, int(schema.get("minimum", 1)))
    instants = {"date-time": "2026-11-26T09:30:00Z", "date": "2026-11-26"}
    return {"number": 1.5, "boolean": True, "string": instants.get(schema.get("format", ""), "...")}.get(kind)


def _operations(document: Schema) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _resolved(document: Schema, schema: Schema) -> Schema:
    found: Schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def _anchor(method: str, path: str) -> str:
    return re.sub(r"\W+", "-", f"{method}{path}").strip("-").lower()


def _link(operation: tuple[str, str, Schema]) -> str:
    method, path, _ = operation
    return f'<li><a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a></li>'


def _section(document: Schema, method: str, path: str, operation: Schema) -> str:
    paragraphs = [operation["summary"], *filter(None, operation.get("description", "").split("\n\n"))]
    return (
        f'<section id="{_anchor(method, path)}"><h3><code>{method} {escape(path)}</code></h3>'
        + "".join(f"<p>{_prose(text)}</p>" for text in paragraphs)
        + _parameters(operation)
        + _fields(document, operation)
        + f"<h4>Example</h4><pre>{escape(_curl(document, method, path, operation))}</pre>"
        + _answers(document, operation)
        + "</section>"
    )


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(f"<tr>{''.join(f'<td>{each}</td>' for each in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if rows else ""


def _parameters(operation: Schema) -> str:
    rows = [
        (
            f"<code>{escape(p['name'])}</code>",
            p["in"],
            escape(_kind(p["schema"])),
            _prose(p.get("description", "")),
        )
        for p in operation.get("parameters", ())
    ]
    return _table(("Parameter", "In", "Type", ""), rows)


def _body(operation: Schema) -> tuple[str, Schema] | None:
    content = operation.get("requestBody", {}).get("content", {})
    return next(((kind, each["schema"]) for kind, each in content.items()), None)


def _fields(document: Schema, operation: Schema) -> str:
    found = _body(operation)
    if found is None:
        return ""
    schema = found[1]
    if options := schema.get("anyOf"):
        schema = options[0]
    schema = _resolved(document, schema) if "$ref" in schema else schema
    required = schema.get("required", ())
    rows = [
        (f"<code>{escape(name)}</code>", escape(_kind(each)), "required" if name in required else "optional")
        for name, each in schema.get("properties", {}).items()
    ]
    return _table(("Field", "Type", ""), rows)


def _kind(schema: Schema) -> str:
    """Return the type of a value in words, with its limits."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_kind(each) for each in choices if each.get("type") != "null")
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    limits = [
        f"{words} {schema[key]:,}"
        for key, words in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in schema
    ]
    if "maxLength" in schema:
        limits.append(f"up to {schema['maxLength']} characters")
    return " ".join([str(schema.get("format") or schema.get("type", "anything")), *limits])


def _curl(document: Schema, method: str, path: str, operation: Schema) -> str:
    """Return the call as a line for a shell, with the addresses and the token as docs/api.md names them."""
    filled = re.sub(r"\{(\w+)\}", lambda found: _filled(path, found[1]), path)
    option = {"GET": "", "HEAD": "--head "}.get(method, f"-X {method} ")
    lines = [f"curl {option}$URL{filled}"]
    if operation.get("security"):
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if found := _body(operation):
        sent = json.dumps(example(document, found[1]), ensure_ascii=False)
        lines += ["-H 'Content-Type: application/json'", f"-d '{sent}'"]
    return " \\\n  ".join(lines)


def _filled(path: str, name: str) -> str:
    if name == "id":
        name = "job_id" if path.startswith("/api/jobs") else "batch_id"
    return str(_BY_NAME[name])


def _answers(document: Schema, operation: Schema) -> str:
    rows, shown = [], ""
    for status, answer in sorted(operation["responses"].items()):
        rows.append((f"<code>{status}</code>", _prose(answer.get("description", ""))))
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if status < "300" and schema:
            value = json.dumps(example(document, schema), indent=2, ensure_ascii=False)
            shown += f"<details><summary>Answer {status}</summary><pre>{escape(value)}</pre></details>"
    return f"<h4>Answers</h4>{_table(('Status', ''), rows)}{shown}"
