"""Who sends a request: the client's address, or the attempt whose runner it is."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import Scope

from control.auth.tokens import Signer
from runner.contract import ATTEMPTS_PATH

_RUNNER = re.compile(rf"{ATTEMPTS_PATH}/([^/]+)/")


def address_of(scope: Scope, *, is_behind_fly: bool) -> str:
    """Return the client's address.

    Behind Fly it is Fly-Client-IP, which only Fly's proxy can set. Any client can forge X-Forwarded-For.
    """
    peer = scope["client"][0] if scope["client"] else ""
    return Headers(scope=scope).get("Fly-Client-IP", peer) if is_behind_fly else peer


def attempt_of(scope: Scope, signer: Signer) -> str | None:
    """Return the attempt whose runner sends the request, or None if the token of that attempt is missing."""
    address = _RUNNER.match(scope["path"])
    kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    if address is None or kind.lower() != "bearer":
        return None
    return address[1] if signer.is_attempt_token(token.strip(), address[1]) else None
