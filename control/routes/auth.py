"""Sign-in with the shared password."""

from __future__ import annotations

import time

from fastapi import APIRouter, Depends, Request

from control.auth.login_limit import LoginLimit, TooManyTries
from control.auth.tokens import Password
from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.http.caller import address_of
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import SIGN_IN
from control.telemetry import counters
from control.views.schemas.auth import Login, Token


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes under `/api/auth`."""
    router = APIRouter(prefix="/api/auth", tags=["auth"], route_class=SIGN_IN.route)
    password = Password(context.settings.auth_password.get_secret_value())
    limit = LoginLimit(time.monotonic)

    @router.post("", responses=documented(Code.UNAUTHORIZED, Code.INVALID, Code.TOO_MANY_TRIES))
    def sign_in(body: Login, request: Request) -> Token:
        """Exchange the password for a bearer token that lives for 24 hours."""
        address = address_of(request.scope, is_behind_fly=bool(context.settings.fly_app_name))
        try:
            limit.admit(address)
        except TooManyTries as refused:
            counters.LOGINS_REFUSED.labels("too_many_tries").inc()
            raise ControlError(
                Code.TOO_MANY_TRIES,
                f"Too many wrong passwords. Try again in {refused.retry_after_s} s.",
                headers={"Retry-After": str(refused.retry_after_s)},
            ) from None
        if not password.matches(body.password):
            counters.LOGINS_REFUSED.labels("wrong_password").inc()
            raise ControlError(Code.UNAUTHORIZED, "The password is wrong.")
        limit.succeeded(address)
        generation = context.views.token_generation()
        token, expires_at = context.signer.bearer(generation=generation, now=context.clock())
        return Token(token=token, expires_at=expires_at)

    @router.post(
        "/revoke",
        status_code=204,
        dependencies=[Depends(guard)],
        responses=documented(Code.UNAUTHORIZED),
    )
    def revoke() -> None:
        """Revoke every token, ticket and link that was issued so far."""
        context.store.revoke_tokens()

    return router
