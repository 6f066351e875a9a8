"""Checks who calls: a bearer token, or a ticket on the routes where the API allows one."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from control.auth.tokens import Link
from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.http.threads import API

_bearer = HTTPBearer(auto_error=False, scheme_name="client token")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
Ticket = Annotated[str | None, Query(max_length=200)]
LinkTicket = Annotated[str | None, Query(alias="ticket", max_length=2000)]  # may name 10,000 outputs


class Guard:
    """A route dependency that accepts clients with a valid bearer token and answers 401 to all others."""

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def __call__(self, credentials: Credentials) -> None:
        """Do what `require` does, as a dependency of a route that accepts nothing else."""
        await API.run(self.require, credentials)

    def require(self, credentials: HTTPAuthorizationCredentials | None) -> None:
        """Raise ControlError unauthorized unless the request has a valid token."""
        if credentials is None or not self.is_good(credentials.credentials):
            raise ControlError(
                Code.UNAUTHORIZED,
                "Sign in first: POST /api/auth with the password gives a token.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def or_ticket(self, credentials: Credentials, ticket: str | None, *batch_ids: str) -> None:
        """Accept a valid read ticket of one of the batches too. Raises ControlError unauthorized."""
        now, generation = self._context.clock(), self._context.views.token_generation()
        signer = self._context.signer
        if ticket is None or not any(
            signer.is_ticket(ticket, batch_id, generation=generation, now=now) for batch_id in batch_ids
        ):
            self.require(credentials)

    def or_viewer(self, credentials: Credentials, ticket: str | None, batch_id: str) -> None:
        """Accept a read ticket of the batch, or of its share link. Raises ControlError unauthorized."""
        if not self.is_shared(ticket, batch_id):
            self.or_ticket(credentials, ticket, batch_id)

    def or_link(self, credentials: Credentials, ticket: str | None, id_: str) -> Link | None:
        """Accept a download ticket of this job or batch too. Return its content, or None without a ticket.

        The ticket may have expired: the caller checks that. Raises ControlError unauthorized.
        """
        generation = self._context.views.token_generation()
        link = self._context.signer.read_link(ticket, id_, generation=generation) if ticket else None
        if link is None:
            self.require(credentials)
        return link

    def is_shared(self, ticket: str | None, batch_id: str) -> bool:
        """Return whether this is a valid ticket of the batch's share link."""
        share = self._context.views.share_of(batch_id) if ticket else None
        if ticket is None or share is None:
            return False
        return self._context.signer.is_share_ticket(ticket, batch_id, share, now=self._context.clock())

    def is_good(self, token: str) -> bool:
        """Return whether this is a valid bearer token."""
        generation = self._context.views.token_generation()
        return self._context.signer.is_bearer(token, generation=generation, now=self._context.clock())
