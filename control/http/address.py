"""Who asks, as far as limits by address go."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope


def address_of(scope: Scope, *, is_behind_fly: bool) -> str:
    """Return the client's address. Only Fly's proxy sets Fly-Client-IP itself; X-Forwarded-For anybody can
    forge."""
    peer = scope["client"][0] if scope["client"] else ""
    return Headers(scope=scope).get("Fly-Client-IP", peer) if is_behind_fly else peer
