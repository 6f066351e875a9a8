"""The caller's own data of a source: a JSON object that batch, manifest and webhook show again. PURE.

A file of its own: the command line checks lists of videos with it, and must start quickly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

DATA_BYTES_MAX = 4096  # as JSON with ASCII letters only, the longest form that a client can send
DEPTH_MAX = 16


def why_refused(data: Mapping[str, Any]) -> str | None:
    """Return why this data cannot be kept, as a sentence without a subject, or None if it can."""
    if _is_deeper(data, DEPTH_MAX):
        return f"is nested more than {DEPTH_MAX} levels deep"
    try:
        size = len(json.dumps(data, separators=(",", ":"), allow_nan=False))
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    except (TypeError, ValueError):
        return "holds a value that JSON does not have, such as NaN"
    if size > DATA_BYTES_MAX:
        return f"has {size} bytes as JSON; at most {DATA_BYTES_MAX} are kept"
    return None


def _is_deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels == 0 or any(
        _is_deeper(each, levels - 1) for each in inner if isinstance(each, Mapping | list)
    )
