"""Signing in with the shared password."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from control.api.guard import Guard
from control.auth import same_password
from control.errors import Code, ControlError, documented
from control.parts import Parts
from control.shapes import Login, Token


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the routes under `/api/auth`."""
    router = APIRouter(prefix="/api/auth", tags=["auth"])

    @router.post("", responses=documented(Code.UNAUTHORIZED, Code.INVALID))
    def sign_in(body: Login) -> Token:
        """Exchange the password for a bearer token that lives for 24 hours."""
        if not same_password(body.password, parts.settings.auth_password.get_secret_value()):
            raise ControlError(Code.UNAUTHORIZED, "The password is wrong.")
        generation = parts.views.token_generation()
        token, expires_at = parts.signer.bearer(generation=generation, now=parts.clock())
        return Token(token=token, expires_at=expires_at)

    @router.post(
        "/revoke",
        status_code=204,
        dependencies=[Depends(guard)],
        responses=documented(Code.UNAUTHORIZED),
    )
    def revoke() -> None:
        """Make every token issued so far stop working."""
        parts.store.revoke_tokens()

    return router
