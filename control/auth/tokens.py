"""Tokens and tickets: none is stored. All but those of share links are HMACs by TOKEN_SECRET.

Must never log or return a secret, and must compare only in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

BEARER_LIFE = timedelta(hours=24)
TICKET_LIFE = timedelta(hours=1)


@dataclass(frozen=True)
class Link:
    """The content of a download ticket. It may have expired; then the archive often has too."""

    tag: str  # the ETag of the archive without quotes; "" if its batch or job was still live
    expires_at: datetime
    chosen: frozenset[int] | None = None  # the positions of outputs; None: the whole archive


def new_share() -> str:
    """Return the random token of a new share link."""
    return secrets.token_urlsafe(32)


def share_sha256(token: str) -> str:
    """Return what is stored of the token of a share link."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _written(link: Link) -> str:
    """Return an archive's ETag, before it the bits of the chosen positions: 10,000 take 1,700 characters."""
    if link.chosen is None:
        return link.tag
    bits = sum(1 << position for position in link.chosen)
    packed = bits.to_bytes(max(link.chosen) // 8 + 1, "little")
    return f"{base64.urlsafe_b64encode(packed).decode().rstrip('=')}~{link.tag}"


def _chosen(packed: str) -> frozenset[int]:
    bits = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    return frozenset(8 * n + bit for n, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1)


class Signer:
    """Makes and checks the five kinds of token. The previous secret still verifies, for rotation.

    A bearer token becomes invalid when the password changes.
    """

    def __init__(self, secret: str, previous: str | None = None, *, password: str = "") -> None:
        self._secrets = [secret.encode(), *([previous.encode()] if previous else [])]
        self._era = hashlib.sha256(password.encode(errors="replace")).hexdigest()

    def bearer(self, *, generation: int, now: datetime) -> tuple[str, datetime]:
        """Return a bearer token and when it expires. A newer generation revokes it."""
        expires_at = (now + BEARER_LIFE).replace(microsecond=0)
        return self._stamp(f"bearer|{generation}|{self._era}", expires_at), expires_at

    def is_bearer(self, token: str, *, generation: int, now: datetime) -> bool:
        """Return whether `token` is a valid bearer token of this generation."""
        return self._is_stamp(token, f"bearer|{generation}|{self._era}", now)

    def ticket(self, batch_id: str, *, generation: int, now: datetime) -> str:
        """Return a read ticket for use in a URL. It opens only the events and outputs of one batch."""
        return self._stamp(f"ticket|{generation}|{batch_id}", now + TICKET_LIFE)

    def is_ticket(self, ticket: str, batch_id: str, *, generation: int, now: datetime) -> bool:
        """Return whether `ticket` is a valid read ticket of this batch and generation."""
        return self._is_stamp(ticket, f"ticket|{generation}|{batch_id}", now)

    def share_ticket(self, batch_id: str, share: str, *, expires_at: datetime) -> str:
        """Return a ticket for the outputs and the ZIP of a batch, for use in a URL.

        `share` is the stored hash of the share link; the ticket ends with that link.
        """
        return self._stamp(f"share|{batch_id}|{share}", expires_at)

    def is_share_ticket(self, ticket: str, batch_id: str, share: str, *, now: datetime) -> bool:
        """Return whether `ticket` is a valid ticket of this share link."""
        return self._is_stamp(ticket, f"share|{batch_id}|{share}", now)

    def link(self, id_: str, link: Link, *, generation: int) -> str:
        """Return a ticket for the archive of a job or batch, for use in a URL. A newer generation ends it."""
        what = _written(link)
        return f"{what}.{self._stamp(f'link|{generation}|{id_}|{what}', link.expires_at)}"

    def read_link(self, ticket: str, id_: str, *, generation: int) -> Link | None:
        """Return the content of a ticket for the archive of this job or batch, or None if it is not one."""
        what, _, stamp = ticket.partition(".")
        expiry = self._expiry(stamp, f"link|{generation}|{id_}|{what}")
        if expiry is None:
            return None
        packed, is_chosen, tag = what.rpartition("~")
        return Link(tag, datetime.fromtimestamp(expiry, UTC), _chosen(packed) if is_chosen else None)

    def attempt_token(self, attempt_id: str) -> str:
        """Return the token of an attempt. Always the same, so a repeated create call sends the same env."""
        return self._mac(self._secrets[0], f"attempt|{attempt_id}")

    def is_attempt_token(self, token: str, attempt_id: str) -> bool:
        """Return whether `token` belongs to the attempt. Only the store knows whether the attempt is live."""
        return self._any(token, f"attempt|{attempt_id}")

    def _stamp(self, what: str, expires_at: datetime) -> str:
        expiry = str(int(expires_at.timestamp()))
        return f"{expiry}.{self._mac(self._secrets[0], f'{what}|{expiry}')}"

    def _is_stamp(self, stamp: str, what: str, now: datetime) -> bool:
        expiry = self._expiry(stamp, what)
        return expiry is not None and now.timestamp() < expiry

    def _expiry(self, stamp: str, what: str) -> int | None:
        """Return when a stamp expires (it may have), or None if this signer did not make it."""
        expiry, _, mac = stamp.partition(".")
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 11):
            return None
        return int(expiry) if self._any(mac, f"{what}|{expiry}") else None

    def _any(self, mac: str, what: str) -> bool:
        given = mac.encode(errors="replace")
        return any(hmac.compare_digest(self._mac(secret, what).encode(), given) for secret in self._secrets)

    @staticmethod
    def _mac(secret: bytes, what: str) -> str:
        return hmac.new(secret, what.encode(), hashlib.sha256).hexdigest()


class Password:
    """The shared password. A comparison is expensive on purpose: 16 MiB and about 40 ms of a core.

    It always runs on the same two threads, since malloc keeps this memory for each thread that has used it.
    """

    def __init__(self, password: str) -> None:
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="password")
        self._salt = os.urandom(16)
        self._password = password

    def matches(self, given: str) -> bool:
        """Return whether `given` is the password."""
        return hmac.compare_digest(self._threads.submit(self._scrypt, given).result(), self._digest)

    @cached_property
    def _digest(self) -> bytes:
        """Made by the first comparison: most starts of a control that sleeps see none."""
        return self._threads.submit(self._scrypt, self._password).result()

    def _scrypt(self, text: str) -> bytes:
        return hashlib.scrypt(text.encode(errors="replace"), salt=self._salt, n=2**14, r=8, p=1)
