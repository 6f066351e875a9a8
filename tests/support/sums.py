"""What a report says of the bytes of a file."""

from __future__ import annotations

import hashlib
from typing import Any
from zlib import crc32


def facts(content: bytes) -> dict[str, Any]:
    """Return the size and the sums of a stored file, as messages of runners name them."""
    return {
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
        "crc32": crc32(content),
    }
